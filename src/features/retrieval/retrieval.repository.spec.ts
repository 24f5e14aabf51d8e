import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RetrievalIndex, openRetrievalIndex } from '../../../test/setup/retrieval-index.js';
import { storeChunks } from '../../../test/setup/stored-chunks.js';
import { RetrievalRepository, type SearchParameters } from './retrieval.repository.js';

const repository = new RetrievalRepository();
let index: RetrievalIndex;
let kb: { tenantId: string; kbId: string };
const documents: Record<string, string> = {};

const TEXTS = {
  cats: {
    text: 'Cats purr when they are happy.',
    embedding: [1, 0],
    metadata: { lang: 'en', tags: ['pet'] },
  },
  dogs: { text: 'Dogs bark at strangers and at cats.', embedding: [0.6, 0.8], metadata: { lang: 'en' } },
  fish: { text: 'Fish are silent.', embedding: [0, 1], metadata: { lang: 'de' } },
};

async function store(into: typeof kb, title: string, text: string, embedding: number[], metadata = {}) {
  const createdAt = new Date(`2024-01-0${Object.keys(documents).length + 1}T00:00:00Z`);
  const documentId = await index.createDocument(into, title, { metadata, createdAt });
  await storeChunks(index.tx, { ...into, documentId }, [
    { ordinal: 0, text, heading: 'Animals', page: 3, startOffset: 0, endOffset: 1, tokenCount: 1, embedding },
  ]);
  return documentId;
}

beforeAll(async () => {
  index = await openRetrievalIndex();
  kb = await index.createKb();
  for (const [title, { text, embedding, metadata }] of Object.entries(TEXTS)) {
    documents[title] = await store(kb, title, text, embedding, metadata);
  }
  await store(await index.createKb(), 'elsewhere', 'Cats purr elsewhere.', [1, 0]);
});
afterAll(() => index.close());

const search = (parameters: Partial<SearchParameters>) =>
  repository.search(index.tx, {
    kb: kb.kbId,
    query: 'Why do cats purr?',
    fusionWeight: 0.2,
    withTerms: true,
    ...parameters,
  });

const titles = async (parameters: Partial<SearchParameters>) =>
  (await search(parameters)).passages.map(passage => passage.document_title);

describe('RetrievalRepository.search', () => {
  it('fuses both legs, best first, and only within the kb', async () => {
    const { passages, terms, chunk_count } = await search({ embedding: [0, 1] });
    expect(chunk_count).toBe(3);
    expect(passages.map(passage => passage.document_title)).toEqual(['cats', 'dogs', 'fish']);
    const [cats, dogs, fish] = passages;
    expect(cats).toMatchObject({
      document_id: documents['cats'],
      text: TEXTS.cats.text,
      heading: 'Animals',
      page: 3,
      ordinal: 0,
      matched: ['cat', 'purr'],
    });
    expect([cats, dogs, fish].map(passage => passage?.cosine)).toEqual([
      expect.closeTo(0, 3),
      expect.closeTo(0.8, 3),
      expect.closeTo(1, 3),
    ]);
    const most = 2.2 * terms.reduce((sum, term) => sum + term.idf, 0);
    expect(cats?.score).toBeCloseTo(0.8 * (cats!.bm25 / most), 3);
    expect(dogs?.score).toBeCloseTo(0.2 * 0.8 + 0.8 * (dogs!.bm25 / most), 3);
    expect(fish?.score).toBeCloseTo(0.2, 3);
  });

  it('scores by BM25: idf of the kb times the weight in the chunk', async () => {
    const { terms, passages } = await search({ mode: 'keyword', query: 'purr purrs dragons' });
    expect(terms).toEqual([
      { lexeme: 'dragon', document_frequency: 0, idf: expect.closeTo(Math.log(1 + 3.5 / 0.5), 6) },
      { lexeme: 'purr', document_frequency: 1, idf: expect.closeTo(Math.log(1 + 2.5 / 1.5), 6) },
    ]);
    // anim cat purr happi, of (4 + 5 + 3) / 3 on average: the weight is 1 where the text is as long as the average.
    expect(passages).toHaveLength(1);
    expect(passages[0]?.bm25).toBeCloseTo(Math.log(1 + 2.5 / 1.5), 2);
    // "dragon", which the kb does not know, does not lower what the words that it knows are worth.
    expect(passages[0]?.score).toBeCloseTo(passages[0]!.bm25 / (2.2 * Math.log(1 + 2.5 / 1.5)), 6);
  });

  it('ranks by one leg alone where asked to', async () => {
    expect(await titles({ mode: 'vector', embedding: [0, 1] })).toEqual(['fish', 'dogs', 'cats']);
    expect(await titles({ mode: 'keyword', embedding: [0, 1] })).toEqual(['cats', 'dogs']);
    const { passages } = await search({ mode: 'vector', embedding: [0, 1] });
    expect(passages[0]?.score).toBeCloseTo(1, 3);
  });

  it('says nothing of words unless asked to', async () => {
    const { passages, terms } = await search({ embedding: [0, 1], withTerms: false });
    expect(passages.map(passage => passage.document_title)).toEqual(['cats', 'dogs', 'fish']);
    expect(passages.flatMap(passage => passage.matched)).toEqual([]);
    expect(terms).toEqual([]);
  });

  it('returns no more than top_k', async () => {
    expect(await titles({ embedding: [0, 1], topK: 1 })).toEqual(['cats']);
  });

  it.each([
    ['document ids', () => ({ documentIds: [documents['dogs']!, documents['fish']!] }), ['dogs', 'fish']],
    ['no document id', () => ({ documentIds: [] }), []],
    ['metadata', () => ({ metadata: { lang: 'en' } }), ['cats', 'dogs']],
    ['nested metadata', () => ({ metadata: { tags: ['pet'] } }), ['cats']],
    ['the start of a time', () => ({ createdAfter: new Date('2024-01-02T00:00:00Z') }), ['dogs', 'fish']],
    ['the end of a time', () => ({ createdBefore: new Date('2024-01-02T00:00:00Z') }), ['cats']],
    ['an empty filter', () => ({}), ['cats', 'dogs', 'fish']],
  ])('filters by %s', async (_, filter, expected) => {
    expect(await titles({ embedding: [0, 1], filter: filter() })).toEqual(expected);
  });

  it.each(['Who is it?', '', '???', 'nul\0'])('falls back on the vectors for %j', async query => {
    const { passages } = await search({ query, embedding: [0, 1] });
    expect(passages.map(passage => passage.document_title)).toEqual(['fish', 'dogs', 'cats']);
    expect(passages.every(passage => passage.matched.length === 0 && passage.bm25 === 0)).toBe(true);
  });

  it('survives a question as long as a book', async () => {
    const query = Array.from({ length: 60_000 }, (_, i) => `word${i}`).join(' ');
    expect((await search({ query, embedding: [0, 1] })).passages).toHaveLength(3);
  });

  it('takes words of another script for words that the kb does not know', async () => {
    const { passages, terms } = await search({
      query: '猫はなぜ鳴くのか',
      embedding: [0, 1],
      mode: 'keyword',
    });
    expect(terms.every(term => term.document_frequency === 0)).toBe(true);
    expect(passages).toEqual([]);
  });

  it('falls back on the words without an embedding, or with one of another dimension', async () => {
    expect(await titles({})).toEqual(['cats', 'dogs', 'fish']);
    const { passages } = await search({ embedding: [1, 0, 0] });
    expect(passages[0]).toMatchObject({ document_title: 'cats', cosine: null });
    expect(await titles({ mode: 'vector', embedding: [1, 0, 0] })).toEqual([]);
  });

  it('finds nothing in an empty kb, nor in one that does not exist', async () => {
    const { kbId } = await index.createKb();
    expect((await search({ kb: kbId, embedding: [0, 1] })).passages).toEqual([]);
    expect(await search({ kb: kb.tenantId, embedding: [0, 1] })).toEqual({
      kb: null,
      passages: [],
      terms: [],
      chunk_count: 0,
    });
  });

  it('ranks the only chunk of a kb', async () => {
    const single = await index.createKb();
    await store(single, 'one', 'Cats purr.', [1, 0]);
    const { passages } = await search({ kb: single.kbId, embedding: [1, 0] });
    expect(passages).toHaveLength(1);
    expect(passages[0]?.score).toBeGreaterThan(0.2);
    expect(passages[0]?.score).toBeLessThan(1);
  });
});

describe('RetrievalRepository.lexemes', () => {
  it("gives each text's lexemes in order", async () => {
    expect(await repository.lexemes(index.tx, kb.kbId, ['A cat that purrs', 'the', ''])).toEqual([
      ['cat', 'purr'],
      [],
      [],
    ]);
  });
});
