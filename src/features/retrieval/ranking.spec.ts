import { describe, expect, it } from 'vitest';
import { coverage, isAnswerable, termWeights } from './ranking.js';
import type { Passage, SearchResult } from './retrieval.repository.js';

const BUNDLED = 'bundled/universal-sentence-encoder-lite';

const passage = (matched: string[], cosine: number | null = null): Passage => ({
  chunk_id: 'c',
  kb_id: 'k',
  document_id: 'd',
  document_title: 't',
  text: '',
  heading: null,
  page: null,
  ordinal: 0,
  score: 1,
  cosine,
  bm25: 1,
  graph: null,
  rerank: null,
  matched,
  weights: matched.map(() => 1),
  ordinals: [0],
});

const result = (
  chunkCount: number,
  frequencies: Record<string, number>,
  ...passages: Passage[]
): SearchResult => ({
  chunk_count: chunkCount,
  passages,
  terms: Object.entries(frequencies).map(([lexeme, document_frequency]) => ({
    lexeme,
    document_frequency,
    idf: 1,
  })),
});

describe('coverage', () => {
  it('weighs rare words more than common ones', () => {
    const weights = termWeights(result(1000, { rare: 1, common: 900 }));
    expect(coverage(weights, ['rare'])).toBeGreaterThan(0.75);
    expect(coverage(weights, ['rare']) + coverage(weights, ['common'])).toBeCloseTo(1);
  });

  it('counts a lexeme once, and none that the query lacks', () => {
    const weights = termWeights(result(10, { one: 1, two: 1 }));
    expect(coverage(weights, ['one', 'one', 'other'])).toBeCloseTo(0.5);
    expect(coverage(weights, ['one', 'two'])).toBeCloseTo(1);
    expect(coverage(new Map(), ['one'])).toBe(0);
  });
});

describe('isAnswerable', () => {
  it.each([1, 12, 50_000])('does not let one unknown word decide in a kb of %i chunks', chunks => {
    expect(
      isAnswerable(result(chunks, { norman: 1, rollo: 1, locat: 0 }, passage(['norman', 'rollo'])), 'any'),
    ).toBe(true);
    expect(
      isAnswerable(result(chunks, { norman: 1, turbin: 0, warranti: 0 }, passage(['norman'])), 'any'),
    ).toBe(false);
  });

  it('does not add up the words of several passages', () => {
    const frequencies = { one: 1, two: 1, three: 1, four: 1 };
    const passages = Object.keys(frequencies).map(lexeme => passage([lexeme]));
    expect(isAnswerable(result(50, frequencies, ...passages), 'any')).toBe(false);
  });

  it('asks the cosine of a calibrated model alone', () => {
    const unlike = result(50, { one: 1, two: 1 }, passage(['one'], 0.1));
    const alike = result(50, { one: 1, two: 1, three: 1 }, passage(['one'], 0.6));
    expect(isAnswerable(unlike, 'any')).toBe(true);
    expect(isAnswerable(unlike, BUNDLED)).toBe(false);
    expect(isAnswerable(alike, 'any')).toBe(false);
    expect(isAnswerable(alike, BUNDLED)).toBe(true);
  });

  it('judges a keyword search by its words, whatever the model', () => {
    expect(isAnswerable(result(50, { one: 1, two: 1 }, passage(['one', 'two'])), BUNDLED)).toBe(true);
  });

  it('declines without passages, and without words', () => {
    expect(isAnswerable(result(0, { one: 0 }), BUNDLED)).toBe(false);
    expect(isAnswerable(result(5, {}, passage([], 0.99)), BUNDLED)).toBe(false);
  });
});
