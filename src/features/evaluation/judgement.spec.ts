import { describe, expect, it } from 'vitest';
import type { EvaluationQuestion } from './evaluation.js';
import { Judgement, type JudgedPassage } from './judgement.js';

const passage = (document: string, text: string, title = `Title of ${document}`): JudgedPassage => ({
  chunk_id: `${document}/${text}`,
  document_id: document,
  document_title: title,
  text,
});

const judge = (question: Partial<EvaluationQuestion>, sources: Record<string, string[]> = {}) =>
  new Judgement(
    { question: '?', relevant: [], answers: [], answerable: null, ...question },
    new Map(Object.entries(sources)),
  );

const FOUND = [
  passage('a', 'Frames are made of steel.'),
  passage('a', 'The warranty lasts ten years.'),
  passage('b', 'Chains are oiled once a month.'),
];

describe('a ranking', () => {
  it('is one of documents where documents are relevant', () => {
    // The second passage is of a document that was there before: b stands at rank 2.
    expect(judge({ relevant: [{ document_id: 'b' }] }).found(FOUND)).toEqual([0, 1]);
    expect(judge({ relevant: [{ document_id: 'A' }, { document_id: 'c' }] }).found(FOUND)).toEqual([1, 0]);
  });

  it('is one of passages where a text is relevant', () => {
    const relevant = [{ text: 'oiled  ONCE a month' }, { document_id: 'a' }];
    expect(judge({ relevant }).found(FOUND)).toEqual([1, 0, 1]);
  });

  it('knows documents by title and source, too', () => {
    expect(judge({ relevant: [{ title: ' title  of B' }] }).found(FOUND)).toEqual([0, 1]);
    const relevant = [{ source: 'handbook/care.md' }];
    expect(judge({ relevant }, { b: ['handbook/care.md', 'https://x.y'] }).found(FOUND)).toEqual([0, 1]);
    expect(judge({ relevant }).found(FOUND)).toEqual([0, 0]);
  });

  it('counts items that are found together', () => {
    const relevant = [{ document_id: 'a' }, { title: 'Title of a' }];
    expect(judge({ relevant }).found(FOUND)).toEqual([2, 0]);
    expect(judge({ relevant }).relevant).toBe(2);
  });

  it('takes a passage for relevant that is a part of a relevant text, unless it is very short', () => {
    const text = 'Wheels are trued every spring. Chains are oiled once a month, and after rain.';
    const part = passage('c', 'Chains are oiled once a month, and after rain.');
    expect(judge({ relevant: [{ text }] }).found([passage('c', 'Wheels'), part])).toEqual([0, 1]);
  });

  it('is judged by the answers where nothing else is known', () => {
    const judgement = judge({ answers: ['Ten years', '120 months'] });
    expect(judgement.relevant).toBe(1);
    expect(judgement.found(FOUND)).toEqual([0, 1, 0]);
    expect(judge({}).relevant).toBe(0);
  });
});

describe('a citation', () => {
  const [, warranty, chains] = FOUND as [JudgedPassage, JudgedPassage, JudgedPassage];

  it('is right where its passage holds an answer, or is of what is relevant', () => {
    const judgement = judge({ answers: ['ten years'], relevant: [{ document_id: 'b' }] });
    expect(judgement.supports(warranty)).toBe(true);
    expect(judgement.supports(chains)).toBe(true);
    expect(judgement.supports(passage('c', 'Nothing of that.'))).toBe(false);
  });
});

describe('an answer', () => {
  it.each([
    ['It lasts TEN\n years. [1]', true],
    ['It lasts １０ years.', false],
    ['', false],
  ])('%j is right: %s', (text, expected) =>
    expect(judge({ answers: ['ten years', 'a decade'] }).holdsAnswer(text)).toBe(expected),
  );

  it('is compared in one way of writing', () => {
    expect(judge({ answers: ['10 years'] }).holdsAnswer('It lasts １０ years.')).toBe(true);
    expect(judge({ answers: ['Größe'] }).holdsAnswer('die Gro\u0308ße')).toBe(true);
  });
});
