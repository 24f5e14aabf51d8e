import { describe, expect, it } from 'vitest';
import { matchesPath } from './web-path-pattern.js';

describe('a pattern of paths', () => {
  it.each([
    ['/docs/*', '/docs/'],
    ['/docs/*', '/docs/a/b.html'],
    ['/*/index.html', '/a/b/index.html'],
    ['*', ''],
    ['/a**b', '/ab'],
    ['/a.b?[c]', '/a.b?[c]'],
    ['*.pdf', '/x.pdf.pdf'],
  ])('%s stands for %s', (pattern, path) => expect(matchesPath(pattern, path)).toBe(true));

  it.each([
    ['/docs/*', '/docs'],
    ['/docs', '/docs/a'],
    ['/a.b', '/axb'],
    ['*.pdf', '/x.pdfs'],
    ['', '/'],
    ['/ab*ba', '/aba'],
    ['/a*b*b', '/ab'],
  ])('%s does not stand for %s', (pattern, path) => expect(matchesPath(pattern, path)).toBe(false));

  it('takes no longer for one that is meant to', () => {
    const started = Date.now();
    expect(matchesPath(`${'*a'.repeat(100)}b`, 'a'.repeat(2000))).toBe(false);
    const path = `/${'a'.repeat(1900)}`;
    for (const pattern of [`*${'a'.repeat(198)}b`, `*b${'a'.repeat(198)}*`]) {
      for (let count = 0; count < 200; count++) expect(matchesPath(pattern, path)).toBe(false);
    }
    expect(Date.now() - started).toBeLessThan(100);
  });
});
