import { describe, expect, it } from 'vitest';
import { readQuery } from './query-syntax.js';

const both = { phrase: true, prefix: true };

describe('readQuery', () => {
  it.each([
    ['how "front wheel" frame*', { text: 'how  front wheel', phrases: ['front wheel'], prefixes: ['frame'] }],
    [
      '„vordere Gabel“ «roue»',
      { text: 'vordere Gabel   roue', phrases: ['vordere Gabel', 'roue'], prefixes: [] },
    ],
    ['an open "quote', { text: 'an open "quote', phrases: [], prefixes: [] }],
    ['a* * **', { text: 'a * **', phrases: [], prefixes: [] }],
    ['Größe* 2024*', { text: '', phrases: [], prefixes: ['größe', '2024'] }],
  ])('reads %j', (query, expected) => {
    const { text, ...rest } = readQuery(query, both);
    expect(rest).toEqual({ phrases: expected.phrases, prefixes: expected.prefixes });
    expect(text.split(/\s+/)).toEqual(expected.text.split(/\s+/));
  });

  it('leaves signs alone that are not asked to count', () => {
    const query = '"front wheel" frame*';
    expect(readQuery(query, {})).toEqual({ text: query, phrases: [], prefixes: [] });
  });

  it('takes no more than ten of each', () => {
    const many = Array.from({ length: 30 }, (_, i) => `"p ${i}" word${i}*`).join(' ');
    const { phrases, prefixes } = readQuery(many, both);
    expect([phrases.length, prefixes.length]).toEqual([10, 10]);
  });
});
