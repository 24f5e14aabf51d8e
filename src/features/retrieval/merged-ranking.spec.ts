import { describe, expect, it } from 'vitest';
import { mergedResult } from './merged-ranking.js';
import type { Passage, SearchResult } from './retrieval.repository.js';

const passage = (chunk_id: string, words: Record<string, number>, cosine: number | null = null): Passage => ({
  chunk_id,
  kb_id: chunk_id[0] as string,
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
  matched: Object.keys(words),
  weights: Object.values(words),
  ordinals: [0],
});

function part(
  frequencies: Record<string, number>,
  passages: Passage[],
  embeddingModel = 'one',
): { result: SearchResult; embeddingModel: string; fusionWeight: number } {
  const terms = Object.entries(frequencies).map(([lexeme, document_frequency]) => ({
    lexeme,
    document_frequency,
    idf: 99,
  }));
  return { result: { chunk_count: 100, terms, passages }, embeddingModel, fusionWeight: 0.5 };
}
const order = (result: SearchResult) => result.passages.map(({ chunk_id }) => chunk_id).join(' ');
const keyword = { mode: 'keyword', byRank: false } as const;
const vector = { mode: 'vector', byRank: false } as const;

describe('mergedResult', () => {
  it('leaves one alone', () => {
    const only = part({ a: 1 }, [passage('x1', { a: 1 })]);
    expect(mergedResult([only], keyword)).toBe(only.result);
  });

  it('weighs a word by how rare it is in all of them', () => {
    const result = mergedResult(
      [
        // All that this one knows of the question is a word that the other is full of.
        part({ common: 1, rare: 0 }, [passage('x1', { common: 1.5 })]),
        part({ common: 90, rare: 1 }, [
          passage('y1', { common: 1, rare: 1 }),
          passage('y2', { common: 1.4 }),
        ]),
      ],
      keyword,
    );
    expect(order(result)).toBe('y1 x1 y2');
    expect(result.chunk_count).toBe(200);
    expect(result.terms.map(({ lexeme, document_frequency }) => [lexeme, document_frequency])).toEqual([
      ['common', 91],
      ['rare', 1],
    ]);
    expect(result.passages.every(({ score }) => score > 0 && score < 1)).toBe(true);
  });

  it('compares cosines of one model as they are, and those of two by their best', () => {
    const near = [passage('x1', {}, 0.8), passage('x2', {}, 0.4)];
    const far = [passage('y1', {}, 0.3), passage('y2', {}, 0.1)];
    expect(order(mergedResult([part({}, near), part({}, far)], vector))).toBe('x1 x2 y1 y2');
    const mixed = mergedResult([part({}, near), part({}, far, 'two')], vector);
    expect(order(mixed)).toBe('x1 y1 x2 y2');
    expect(mixed.passages.map(({ cosine }) => cosine)).toEqual([0.8, 0.3, 0.4, 0.1]);
  });

  it('compares scores by rank as they are', () => {
    const first = passage('y1', {}, 0.1);
    const second = { ...passage('x2', {}, 0.9), score: 0.5 };
    expect(
      order(mergedResult([part({}, [second]), part({}, [first])], { mode: 'hybrid', byRank: true })),
    ).toBe('y1 x2');
  });
});
