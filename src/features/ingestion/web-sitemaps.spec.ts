import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { WebFault } from './web-fault.js';
import { WebSitemaps } from './web-sitemaps.js';

const PAGES = 'https://example.com/a\nhttps://example.com/b\n';

function sitemapsOf(content: () => AsyncIterable<Buffer>) {
  const site = { open: 0, read: 0 };
  const outbound = {
    open: async () => {
      site.open++;
      const body = (async function* () {
        for await (const piece of content()) {
          site.read += piece.length;
          yield piece;
        }
      })();
      return { status: 200, headers: {}, url: '', body, close: () => void site.open-- };
    },
  };
  const sitemaps = new WebSitemaps(outbound as unknown as OutboundClient, { userAgent: 'x', timeout: 1000 });
  return { site, sitemaps };
}

async function* pieces(content: Buffer, length = 65_536) {
  for (let at = 0; at < content.length; at += length) yield content.subarray(at, at + length);
}

const read = async (content: Buffer, length?: number) => {
  const { sitemaps } = sitemapsOf(() => pieces(content, length));
  const found: unknown[] = [];
  for await (const one of sitemaps.addresses('https://example.com/s', new AbortController().signal))
    found.push(one);
  return found;
};

describe('a sitemap', () => {
  it('is unpacked once', async () => {
    const all = PAGES.trim().split('\n');
    expect(await read(Buffer.from(PAGES))).toEqual(all);
    expect(await read(gzipSync(PAGES))).toEqual(all);
    expect(await read(gzipSync(PAGES), 1)).toEqual(all);
    let packed = Buffer.from(PAGES);
    for (let level = 0; level < 3; level++) packed = gzipSync(packed);
    await expect(read(packed)).rejects.toMatchObject({
      code: 'fetch_failed',
      message: 'This is no sitemap.',
    });
  });

  it('is closed before its addresses are taken, and read no further than it may go on', async () => {
    const { site, sitemaps } = sitemapsOf(async function* () {
      for (let page = 0; ; page += 1000) {
        const lines = Array.from({ length: 1000 }, (_, index) => `https://example.com/${page + index}\n`);
        yield Buffer.from(lines.join(''));
      }
    });
    let count = 0;
    for await (const found of sitemaps.addresses('https://example.com/s', new AbortController().signal)) {
      expect(found).toBe(`https://example.com/${count++}`);
      expect(site.open).toBe(0);
    }
    expect(count).toBe(50_000);
    expect(site.read).toBeLessThan(3_000_000);
  });

  it('gives what stands before the place where it breaks off', async () => {
    const found: unknown[] = [];
    const reading = async () => {
      const { sitemaps } = sitemapsOf(() =>
        pieces(Buffer.from('<urlset><url><loc>https://a.b/</loc></url>')),
      );
      for await (const one of sitemaps.addresses('https://example.com/s', new AbortController().signal))
        found.push(one);
    };
    await expect(reading()).rejects.toBeInstanceOf(WebFault);
    expect(found).toEqual(['https://a.b/']);
  });

  it('is read no further when nobody wants it any more', async () => {
    const controller = new AbortController();
    const reason = new Error('cancelled');
    const { site, sitemaps } = sitemapsOf(async function* () {
      for (let piece = 0; ; piece++) {
        if (piece === 3) controller.abort(reason);
        yield Buffer.from(' '.repeat(1000));
      }
    });
    await expect(sitemaps.addresses('https://example.com/s', controller.signal).next()).rejects.toBe(reason);
    expect(site.read).toBe(4000);
  });
});
