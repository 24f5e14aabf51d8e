import { describe, expect, it } from 'vitest';
import type { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { WebFault } from './web-fault.js';
import { WebRobots } from './web-robots.js';

const HOST = 'https://example.com';

function robotsOf(contents: string): WebRobots {
  const send = async () => ({ status: 200, headers: {}, url: '', cut: false, body: Buffer.from(contents) });
  return new WebRobots({ send } as unknown as OutboundClient, 'Enclave/1.0 (+https://example.org)');
}

const allows = (contents: string, path: string): Promise<boolean> =>
  robotsOf(contents)
    .requireAllowed(new URL(path, HOST))
    .then(
      () => true,
      (error: unknown) => {
        expect(error).toBeInstanceOf(WebFault);
        return false;
      },
    );

describe('robots.txt', () => {
  it.each<[string, boolean, string, string]>([
    ['for all', false, 'User-agent: *\nDisallow: /a', '/a/b'],
    ['for others', true, 'User-agent: Other\nDisallow: /', '/a'],
    ['for us', false, 'user-agent: *\nAllow: /\n\nUser-Agent: ENCLAVE/2.0 # us\nDisallow: /a # secret', '/a'],
    [
      'for us and others',
      false,
      'User-agent: Other\nUser-agent: Enclave\nUser-agent: More\nDisallow: /',
      '/a',
    ],
    ['for others after us', true, 'User-agent: Enclave\nDisallow: /b\nUser-agent: Other\nDisallow: /a', '/a'],
    [
      'for us again',
      false,
      'User-agent: Enclave\nAllow: /b\nUser-agent: Other\nUser-agent: Enclave\nDisallow: /a',
      '/a',
    ],
    [
      'for us alone, though it says little',
      true,
      'User-agent: Enclave\nCrawl-delay: 5\nUser-agent: *\nDisallow: /',
      '/a',
    ],
    ['for us alone, and is empty', true, 'User-agent: Enclave\nDisallow:\nUser-agent: *\nDisallow: /', '/a'],
    ['for nobody', true, 'Disallow: /\nUser-agent:\nDisallow: /', '/a'],
    ['with stars', false, 'User-agent: *\nDisallow: /**/secret***.html$', '/x/secret/a.html'],
    ['with the longer rule before the shorter', true, 'User-agent: *\nDisallow: /a\nAllow: /a/b', '/a/b'],
    ['in another writing', false, 'User-agent: *\nDisallow: /straße*x', '/stra%c3%9fe/x'],
    ['with a site map', false, 'User-agent: *\nSitemap: https://example.com/s.xml\nDisallow: /a', '/a'],
  ])('%s: allowed is %s', async (_, allowed, contents, path) => {
    expect(await allows(contents, path)).toBe(allowed);
  });

  it.each([
    ['a hundred thousand stars', `Disallow: /${'*'.repeat(100_000)}x`],
    ['stars between letters', `Disallow: /${'*a'.repeat(100_000)}x`],
    [
      'long rules with few stars',
      `Disallow: /${'*aaaaaaaaaaaaaa'.repeat(9)}${'a'.repeat(1000)}x\n`.repeat(400),
    ],
    ['letters that are written in nine', `Disallow: /*${'\u3042'.repeat(600)}\n`.repeat(280)],
    [
      'many robots with many rules',
      `${'User-agent: *\nUser-agent: enclave\n'.repeat(8_000)}${'Disallow: /*a*b\n'.repeat(12_000)}`,
    ],
    [
      'many other robots',
      `${Array.from({ length: 15_000 }, (_, index) => `User-agent: r${index}`).join('\n')}\n${'Disallow: /a\n'.repeat(18_000)}`,
    ],
  ])('of %s keeps nobody waiting', async (_, rules) => {
    const path = `/${'a'.repeat(1990)}`;
    const robots = robotsOf(`User-agent: *\nUser-agent: enclave\nDisallow: /secret\n${rules}`);
    await robots.requireAllowed(new URL('/', HOST));
    const started = performance.now();
    await robots.requireAllowed(new URL(path, HOST));
    expect(performance.now() - started).toBeLessThan(1_000);
    await expect(robots.requireAllowed(new URL('/secret', HOST))).rejects.toBeInstanceOf(WebFault);
  });
});
