import { describe, expect, it } from 'vitest';
import { keywordShareOf, withProximity } from './proximity.js';
import type { Passage, SearchResult } from './retrieval.repository.js';

const passage = (chunk_id: string, text: string, score = 0.5): Passage => ({
  chunk_id,
  kb_id: 'k',
  document_id: 'd',
  document_title: 't',
  text,
  heading: null,
  page: null,
  ordinal: 0,
  score,
  cosine: null,
  bm25: 1,
  graph: null,
  rerank: null,
  matched: [],
  weights: [],
  ordinals: [0],
});

const result = (lexemes: string[], ...passages: Passage[]): SearchResult => ({
  chunk_count: 10,
  terms: lexemes.map(lexeme => ({ lexeme, document_frequency: 1, idf: 2 })),
  passages,
});
const order = (query: string, lexemes: string[], ...texts: string[]) =>
  withProximity(
    result(lexemes, ...texts.map((text, i) => passage(`${i}`, text))),
    query,
    () => 1,
  ).passages.map(({ chunk_id }) => chunk_id);

describe('withProximity', () => {
  it('puts passages first in which words stand near each other, as in the query', () => {
    expect(
      order(
        'What is the efficiency of steam engines?',
        ['effici', 'engin', 'steam'],
        'Engines run. Some of them, as far as anybody can remember, run on hot steam, with a surprisingly good efficiency.',
        'A steam engine turns heat into work.',
      ),
    ).toEqual(['1', '0']);
  });

  it('knows words by their stems', () => {
    const [first, second] = withProximity(
      result(['frame', 'warranti'], passage('0', 'Warranties on frames.'), passage('1', 'Framed waresia.')),
      'frame warranty',
      () => 1,
    ).passages;
    expect(first?.chunk_id).toBe('0');
    expect(first?.score).toBeCloseTo(0.5 + (0.3 * 2 * (2.2 / 2.2)) / (2.2 * 4), 6);
    expect(second?.score).toBe(0.5);
  });

  it('does not count words that stand far apart, in the query or in the passage', () => {
    const far = 'one b c d e f g h two';
    expect(order(far, ['one', 'two'], 'x', 'one two')).toEqual(['0', '1']);
    expect(order('one two', ['one', 'two'], 'x', far)).toEqual(['0', '1']);
  });

  it('changes nothing without a keyword leg, pairs, or words that are known', () => {
    const found = result(['one', 'two'], passage('0', 'one two'));
    expect(withProximity(found, 'one two', () => 0).passages).toEqual(found.passages);
    expect(withProximity(found, '一二', () => 1)).toBe(found);
    const unknown = { ...found, terms: found.terms.map(term => ({ ...term, document_frequency: 0 })) };
    expect(withProximity(unknown, 'one two', () => 1)).toBe(unknown);
  });

  it('scores at most 1, and bears texts and queries of any length', () => {
    const long = 'one two '.repeat(20_000);
    const { passages } = withProximity(result(['one', 'two'], passage('0', long, 0.99)), long, () => 1);
    expect(passages[0]?.score).toBeLessThanOrEqual(1);
    expect(passages[0]?.score).toBeGreaterThan(0.99);
  });

  it('takes the share of the keyword leg from the mode', () => {
    expect([
      keywordShareOf('keyword', 0.4),
      keywordShareOf('vector', 0.4),
      keywordShareOf('hybrid', 0.4),
    ]).toEqual([1, 0, 0.6]);
  });
});
