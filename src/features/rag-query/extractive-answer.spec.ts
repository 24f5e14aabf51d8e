import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RetrievalIndex, openRetrievalIndex } from '../../../test/setup/retrieval-index.js';
import { storeChunks } from '../../../test/setup/stored-chunks.js';
import { RetrievalRepository } from '../retrieval/retrieval.repository.js';
import { type ExtractiveAnswer, candidateSentences, extractiveAnswer } from './extractive-answer.js';

const retrieval = new RetrievalRepository();
let index: RetrievalIndex;
let kb: { tenantId: string; kbId: string };

const HANDBOOK = [
  'The office opens at eight.\nVisitors sign the book at the reception. Dogs are welcome on Fridays.',
  'Holidays are requested from the team lead.\n\nEvery employee has thirty days of holidays a year.',
  'Visitors sign the book at the reception. Badges are returned in the evening.',
];

beforeAll(async () => {
  index = await openRetrievalIndex();
  kb = await index.createKb();
  const documentId = await index.createDocument(kb, 'Handbook');
  await storeChunks(
    index.tx,
    { ...kb, documentId },
    HANDBOOK.map((text, ordinal) => ({
      ordinal,
      text,
      heading: null,
      page: ordinal + 1,
      startOffset: 0,
      endOffset: text.length,
      tokenCount: 1,
      embedding: [1, 0],
    })),
  );
});
afterAll(() => index.close());

async function ask(query: string): Promise<ExtractiveAnswer> {
  const result = await retrieval.search(index.tx, {
    kb: kb.kbId,
    query,
    mode: 'keyword',
    fusionWeight: 0,
    withTerms: true,
  });
  const candidates = candidateSentences(result.passages);
  const lexemes = await retrieval.lexemes(
    index.tx,
    kb.kbId,
    candidates.map(candidate => candidate.quote),
  );
  return extractiveAnswer(result, candidates, lexemes, 'any');
}

describe('extractiveAnswer', () => {
  it('quotes the sentence that answers, with its source', async () => {
    const { answered, answer, citations } = await ask(
      'How many days of holiday does an employee have a year?',
    );
    expect(answered).toBe(true);
    expect(answer).toMatch(/^Every employee has thirty days of holidays a year\. \[1\]/);
    expect(citations[0]).toMatchObject({
      index: 1,
      title: 'Handbook',
      page: 2,
      quote: 'Every employee has thirty days of holidays a year.',
    });
  });

  it('quotes verbatim, at most three sentences, each once and with its own marker', async () => {
    const { answer, citations } = await ask('Where do visitors sign the book, and when are badges returned?');
    const quotes = citations.map(citation => citation.quote);
    expect(quotes).toContain('Visitors sign the book at the reception.');
    expect(quotes.length).toBeLessThanOrEqual(3);
    expect(new Set(quotes).size).toBe(quotes.length);
    expect(quotes.every(quote => HANDBOOK.some(text => text.includes(quote)))).toBe(true);
    expect(answer).toBe(quotes.map((quote, i) => `${quote} [${i + 1}]`).join(' '));
  });

  it.each([
    'What does the warranty of the turbine cover?',
    'Which visitors like quantum chromodynamics lectures best?',
    'Who is it?',
  ])('says that it does not know: %s', async question => {
    const { answered, answer, citations } = await ask(question);
    expect({ answered, citations }).toEqual({ answered: false, citations: [] });
    expect(answer).toMatch(/do not seem to answer/);
  });
});
