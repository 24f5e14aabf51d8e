import { describe, expect, it } from 'vitest';
import { candidateSentences } from '../rag-query/extractive-answer.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import { AgentEvidence } from './agent-evidence.js';

const passage = (id: string, text: string): Passage =>
  ({
    chunk_id: id,
    document_id: `document of ${id}`,
    document_title: `Title of ${id}`,
    text,
    heading: null,
    page: null,
  }) as Passage;

const finding = (...passages: Passage[]) => {
  const candidates = candidateSentences(passages);
  const lexemes = candidates.map(({ quote }) => quote.toLowerCase().match(/\p{L}+/gu) ?? []);
  return { passages, candidates, lexemes, weights: new Map([['years', 1]]) };
};

describe('what an agent has found', () => {
  it('has one number each, however often it is found', () => {
    const evidence = new AgentEvidence(1000, ['a question']);
    const [a, b] = [passage('a', 'Ten years.'), passage('b', 'Thirty days.')];
    const first = evidence.add(finding(a));
    expect(first.numbered).toEqual([{ number: 1, passage: a }]);
    expect(first.text).toBe(`${evidence.mark}\n[1] Title of a\nTen years.\n\n${evidence.mark}`);
    const second = evidence.add(finding(b, a));
    expect(second.numbered.map(({ number }) => number)).toEqual([2, 1]);
    expect(second.text).not.toContain('Ten years.');
    expect(evidence.passages).toEqual([a, b]);
  });

  it('has marks that no document knows', () => {
    const [one, other] = [new AgentEvidence(1, []), new AgentEvidence(1, [])];
    expect(one.mark).toMatch(/^#[0-9a-f]{16}$/);
    expect(one.mark).not.toBe(other.mark);
  });

  it('is as much as there is room for; of the first of all at least its beginning', () => {
    const evidence = new AgentEvidence(200, []);
    const { numbered, text } = evidence.add(
      finding(passage('a', 'word '.repeat(1000)), passage('b', 'Ten years.')),
    );
    expect(numbered.map(({ number }) => number)).toEqual([1]);
    expect(text.length).toBeLessThan(1000);
    expect(evidence.isFull).toBe(true);
    expect(evidence.add(finding(passage('c', 'More.'.repeat(100)))).text).toBe('');
  });

  it('is quoted by its best sentence, under the number of its citation', () => {
    const evidence = new AgentEvidence(1000, []);
    evidence.add(finding(passage('a', 'It is red. It lasts ten years. It is sold.')));
    expect(evidence.citation({ index: 3, passage: 0 })).toMatchObject({
      index: 3,
      chunk_id: 'a',
      quote: 'It lasts ten years.',
    });
  });
});
