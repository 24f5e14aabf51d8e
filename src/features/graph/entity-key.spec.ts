import { describe, expect, it } from 'vitest';
import { LONGEST_NAME, entityKey, tidyName } from './entity-key.js';

describe('entityKey', () => {
  it.each([
    ['Acme Corp', 'acme corp'],
    ['ACME  Corp', 'acme corp'],
    ['the Acme\nCorp', 'acme corp'],
    ['“Acme Corp”', 'acme corp'],
    ['Acme Corp.', 'acme corp'],
    ['Acme Corp’s', 'acme corp'],
    ['James’', 'james'],
    ['U.S.A.', 'usa'],
    ['Jean–Luc', 'jean-luc'],
    ['C++', 'c++'],
    ['C#', 'c#'],
    ['Node.js', 'node.js'],
    ['Москва', 'москва'],
    ['ＡＢＣ', 'abc'],
    ['東京大学', '東京大学'],
    ['The', 'the'],
    ['…', ''],
    ['', ''],
  ])('of %j is %j', (name, key) => {
    expect(entityKey(name)).toBe(key);
    expect(entityKey(key)).toBe(key);
  });

  it('is bounded, and text that a database can hold', () => {
    for (const name of [
      'x'.repeat(1e6),
      '\u{1F600}a'.repeat(1e5),
      'a\ud800b',
      'a\0b',
      "'".repeat(1e5),
      's '.repeat(1e5),
    ]) {
      const key = entityKey(name);
      expect(key.length).toBeLessThanOrEqual(LONGEST_NAME);
      expect(key.isWellFormed()).toBe(true);
      expect(key).not.toContain('\0');
      expect(tidyName(name).length).toBeLessThanOrEqual(LONGEST_NAME);
    }
  });
});
