import { describe, expect, it } from 'vitest';
import { diversified, joined, spansOf } from './passage-selection.js';
import type { Passage, StoredChunk } from './retrieval.repository.js';

const passage = (chunk_id: string, score: number, document_id = 'd', ordinal = 0): Passage => ({
  chunk_id,
  kb_id: 'k',
  document_id,
  document_title: 't',
  text: `text of ${chunk_id}`,
  heading: null,
  page: null,
  ordinal,
  score,
  cosine: score,
  bm25: 0,
  graph: null,
  rerank: null,
  matched: [chunk_id],
  weights: [1],
  ordinals: [ordinal],
});
const ids = (passages: Passage[]) => passages.map(({ chunk_id }) => chunk_id).join('');

describe('diversified', () => {
  const passages = [passage('a', 1), passage('b', 0.95), passage('c', 0.6)];
  const similarities = [
    { a: 'a', b: 'b', cosine: 0.99 },
    { a: 'a', b: 'c', cosine: 0.1 },
    { a: 'b', b: 'c', cosine: 0.1 },
  ];

  it('keeps apart what is alike, the more so the smaller lambda is', () => {
    expect(ids(diversified(passages, similarities, 1, 3))).toBe('abc');
    expect(ids(diversified(passages, similarities, 0.5, 3))).toBe('acb');
    expect(ids(diversified(passages, similarities, 0.5, 2))).toBe('ac');
    expect(ids(diversified(passages, [], 0.5, 2))).toBe('ab');
    expect(diversified([], [], 0.5, 2)).toEqual([]);
  });
});

describe('joined', () => {
  const TEXT = 'Zero one two three four five.';
  const chunk = (ordinal: number, start: number, end: number, document_id = 'd'): StoredChunk => ({
    document_id,
    ordinal,
    text: TEXT.slice(start, end),
    start_offset: start,
    end_offset: end,
  });

  it('joins hits that touch, in the order of the document, with the words of all and the scores of the best', () => {
    const hits = [passage('b', 0.9, 'd', 1), passage('x', 0.8, 'e', 4), passage('a', 0.7, 'd', 0)];
    expect(spansOf(hits, 0)).toEqual([
      { documentId: 'd', first: 0, last: 1 },
      { documentId: 'e', first: 4, last: 4 },
    ]);
    const [first, second] = joined(hits, 0, [chunk(0, 0, 12), chunk(1, 9, 18)]);
    expect(first).toMatchObject({
      chunk_id: 'b',
      ordinal: 1,
      ordinals: [0, 1],
      score: 0.9,
      text: TEXT.slice(0, 18),
    });
    expect(first?.matched.toSorted()).toEqual(['a', 'b']);
    // Nothing was read of it.
    expect(second).toEqual(hits[1]);
  });

  it('reads what is before and after, and leaves apart what is apart', () => {
    const hits = [passage('c', 0.9, 'd', 5), passage('a', 0.8, 'd', 0)];
    expect(spansOf(hits, 1)).toEqual([
      { documentId: 'd', first: 4, last: 6 },
      { documentId: 'd', first: 0, last: 1 },
    ]);
    expect(spansOf(hits, 2)).toEqual([{ documentId: 'd', first: 0, last: 7 }]);
  });

  it('puts white space where it stood, and keeps the header of a table', () => {
    const table = { ...chunk(2, 20, 24), text: '| head |\n| --- |\nfour' };
    const [whole] = joined([passage('a', 1, 'd', 1)], 1, [chunk(0, 0, 4), chunk(1, 5, 8), table]);
    expect(whole?.text).toBe('Zero one\n\n| head |\n| --- |\nfour');
    const [apart] = joined([passage('a', 1, 'd', 0)], 1, [chunk(0, 0, 4), chunk(1, 9, 12)]);
    expect(apart?.text).toBe('Zero\n\ntwo');
  });
});
