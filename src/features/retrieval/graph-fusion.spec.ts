import { describe, expect, it } from 'vitest';
import { withGraph } from './graph-fusion.js';
import type { Passage, SearchResult } from './retrieval.repository.js';

const passage = (chunk_id: string, score: number, graph: number | null): Passage =>
  ({ chunk_id, score, graph }) as Passage;
const scores = (alone: boolean, ...passages: Passage[]) => {
  const result: SearchResult = { passages, terms: [], chunk_count: passages.length };
  return withGraph(result, alone).passages.map(({ chunk_id, score }) => [chunk_id, Number(score.toFixed(3))]);
};

describe('withGraph', () => {
  it('adds to a score and never takes from it, where others find too', () => {
    expect(scores(false, passage('a', 0.5, 0), passage('b', 0.48, 1), passage('c', 1, 1))).toEqual([
      ['c', 1],
      ['b', 0.532],
      ['a', 0.5],
    ]);
  });

  it('leaves passages of knowledge bases without a graph as they are', () => {
    expect(scores(false, passage('a', 0.5, null), passage('b', 0.2, 0))).toEqual([
      ['a', 0.5],
      ['b', 0.2],
    ]);
  });

  it('gives every fourth place to what the graph alone leads to, in the order of closeness', () => {
    const found = Array.from({ length: 10 }, (_, i) => passage(`found${i}`, 0.9 - i / 20, 0));
    const hops = [passage('near', 0, 0.9), passage('far', 0, 0.4), passage('faint', 0, 0.05)];
    const order = scores(false, ...found, ...hops);
    expect(order.map(([id]) => id).slice(0, 9)).toEqual([
      'found0',
      'found1',
      'found2',
      'near',
      'found3',
      'found4',
      'found5',
      'found6',
      'far',
    ]);
    expect(order.at(-1)?.[0]).toBe('faint');
    const values = order.map(([, score]) => Number(score));
    expect(values).toEqual(values.toSorted((a, b) => b - a));
  });

  it('owes nothing to what stands higher anyway, nor a place that there is not', () => {
    const found = Array.from({ length: 5 }, (_, i) => passage(`found${i}`, 0.9 - i / 20, i === 0 ? 1 : 0));
    expect(
      scores(false, ...found, passage('hop', 0, 0.3))
        .map(([id]) => id)
        .indexOf('hop'),
    ).toBe(3);
    expect(scores(false, passage('a', 0.9, 0), passage('hop', 0, 1)).map(([id]) => id)).toEqual(['a', 'hop']);
  });

  it('has a larger say where nothing else finds', () => {
    expect(scores(true, passage('a', 0.5, 0.2), passage('b', 0.3, 1), passage('c', -0.5, 0))).toEqual([
      ['b', 0.51],
      ['a', 0.41],
      ['c', 0],
    ]);
  });

  it('puts equals in one order', () => {
    expect(scores(false, passage('b', 0.5, 0), passage('a', 0.5, 0)).map(([id]) => id)).toEqual(['a', 'b']);
  });
});
