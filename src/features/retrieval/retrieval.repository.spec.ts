import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RetrievalIndex, openRetrievalIndex } from '../../../test/setup/retrieval-index.js';
import { storeChunks } from '../../../test/setup/stored-chunks.js';
import { metadataCondition } from './metadata-filter.js';
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
    // So that everything with a vector is found.
    defaultCosineThreshold: 0,
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
      { lexeme: 'dragon', document_frequency: 0, idf: expect.closeTo(Math.log(1 + 101.5 / 2.5), 6) },
      { lexeme: 'purr', document_frequency: 1, idf: expect.closeTo(Math.log(1 + 100.5 / 3.5), 6) },
    ]);
    // anim cat purr happi, of (4 + 5 + 3) / 3 on average: the weight is 1 where the text is as long as the average.
    expect(passages).toHaveLength(1);
    expect(passages[0]?.bm25).toBeCloseTo(Math.log(1 + 100.5 / 3.5), 2);
    // "dragon", which the kb does not know, does not lower what the words that it knows are worth.
    expect(passages[0]?.score).toBeCloseTo(passages[0]!.bm25 / (2.2 * Math.log(1 + 100.5 / 3.5)), 6);
  });

  it('ranks by one leg alone where asked to', async () => {
    expect(await titles({ mode: 'vector', embedding: [0, 1] })).toEqual(['fish', 'dogs', 'cats']);
    expect(await titles({ mode: 'keyword', embedding: [0, 1] })).toEqual(['cats', 'dogs']);
    const { passages } = await search({ mode: 'vector', embedding: [0, 1] });
    expect(passages[0]?.score).toBeCloseTo(1, 3);
  });

  it('does not say which words a passage has unless asked to', async () => {
    const { passages, terms } = await search({ embedding: [0, 1], withTerms: false });
    expect(passages.map(passage => passage.document_title)).toEqual(['cats', 'dogs', 'fish']);
    expect(passages.flatMap(passage => passage.matched)).toEqual([]);
    expect(terms.map(({ lexeme }) => lexeme)).toEqual(['cat', 'purr']);
  });

  it('returns no more than top_k', async () => {
    expect(await titles({ embedding: [0, 1], topK: 1 })).toEqual(['cats']);
  });

  it.each([
    ['document ids', () => ({ documentIds: [documents['dogs']!, documents['fish']!] }), ['dogs', 'fish']],
    ['no document id', () => ({ documentIds: [] }), []],
    ['metadata', () => ({ metadata: { contained: { lang: 'en' } } }), ['cats', 'dogs']],
    ['nested metadata', () => ({ metadata: { contained: { tags: ['pet'] } } }), ['cats']],
    ['the start of a time', () => ({ createdAfter: new Date('2024-01-02T00:00:00Z') }), ['dogs', 'fish']],
    ['the end of a time', () => ({ createdBefore: new Date('2024-01-02T00:00:00Z') }), ['cats']],
    ['an empty filter', () => ({}), ['cats', 'dogs', 'fish']],
    ['operators', () => ({ metadata: metadataCondition({ lang: { $ne: 'en' } }) }), ['fish']],
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

  it('leaves out what neither leg has found', async () => {
    expect(await titles({ embedding: [0, 1], cosineThreshold: 0.5 })).toEqual(['cats', 'dogs', 'fish']);
    expect(await titles({ embedding: [0, 1], cosineThreshold: 0.5, query: 'bark' })).toEqual([
      'dogs',
      'fish',
    ]);
    expect(await titles({ embedding: [0, 1], cosineThreshold: 0.9, mode: 'vector' })).toEqual(['fish']);
    await index.tx.query(`UPDATE knowledge_bases SET config = '{"cosine_threshold": 0.9}' WHERE id = $1`, [
      kb.kbId,
    ]);
    expect(await titles({ embedding: [0, 1], mode: 'vector' })).toEqual(['fish']);
    await index.tx.query(`UPDATE knowledge_bases SET config = '{}' WHERE id = $1`, [kb.kbId]);
  });

  it('fuses by rank', async () => {
    const { passages } = await search({ embedding: [0, 1], fusion: 'rank', fusionWeight: 0.5 });
    expect(passages.map(passage => [passage.document_title, passage.score])).toEqual([
      ['cats', expect.closeTo((61 / 61 + 61 / 63) / 2, 5)],
      ['dogs', expect.closeTo(61 / 62, 5)],
      ['fish', expect.closeTo(0.5, 5)],
    ]);
    expect(await titles({ embedding: [0, 1], fusion: 'rank', fusionWeight: 0.5, topK: 1 })).toEqual(['cats']);
  });

  it('finds by words of the best passages where it is asked to', async () => {
    const birds = await index.createKb();
    const texts = ['Kestrels hover above meadows.', 'Falcons hover, too.', 'Stones are heavy.'];
    for (const text of texts) await store(birds, text, text, [1, 0]);
    const parameters = { kb: birds.kbId, query: 'kestrels', mode: 'keyword' as const };
    expect(await titles(parameters)).toEqual(texts.slice(0, 1));
    expect((await titles({ ...parameters, feedback: true })).slice(0, 2)).toEqual(texts.slice(0, 2));
    const { passages } = await search({ ...parameters, feedback: true });
    expect(passages[1]?.bm25).toBe(0);
    expect(passages.every(({ score }) => score > 0 && score <= 1)).toBe(true);
    expect(await titles({ ...parameters, query: '???', feedback: true })).toEqual([]);
  });

  it.each([
    [['at strangers'], ['dogs']],
    [['strangers bark'], []],
    [['barks'], ['dogs']],
    [['Animals'], ['cats', 'dogs']],
    [['at strangers', 'happy'], []],
    [['they are'], ['cats']],
    [['are they'], []],
    [[''], ['cats', 'dogs']],
  ])('keeps to passages in which %j stand', async (phrases, expected) => {
    expect(await titles({ phrases, mode: 'keyword' })).toEqual(expected);
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
    expect(await titles({})).toEqual(['cats', 'dogs']);
    const { passages } = await search({ embedding: [1, 0, 0] });
    expect(passages[0]).toMatchObject({ document_title: 'cats', cosine: null });
    expect(passages.map(passage => passage.document_title)).toEqual(['cats', 'dogs']);
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
      unfinished: false,
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

describe('metadata conditions', () => {
  const METADATA = {
    a: { year: 2020, lang: 'en', tags: ['x', 'y'], owner: { name: 'Ann', city: 'Rome' }, date: '2024-03-01' },
    b: { year: 2022, lang: 'de', tags: ['y'], owner: { name: 'Bo' }, flag: true, 'odd "key" $': 1 },
    c: { year: '2022', lang: null },
    d: {},
  };
  let filtered: typeof kb;

  beforeAll(async () => {
    filtered = await index.createKb();
    for (const [title, metadata] of Object.entries(METADATA))
      await store(filtered, title, 'x', [1, 0], metadata);
  });

  it.each<[Record<string, unknown>, string]>([
    [{ lang: 'en' }, 'a'],
    [{ lang: { $eq: 'en' } }, 'a'],
    [{ lang: { $eq: null } }, 'c'],
    [{ lang: { $ne: 'en' } }, 'bcd'],
    [{ lang: { $in: ['en', 'de', 'fr'] } }, 'ab'],
    [{ lang: { $in: [] } }, ''],
    [{ lang: { $nin: ['en', 'de'] } }, 'cd'],
    [{ lang: { $exists: true } }, 'abc'],
    [{ lang: { $exists: false } }, 'd'],
    [{ year: { $gt: 2020 } }, 'b'],
    [{ year: { $gte: 2020, $lt: 2022 } }, 'a'],
    [{ year: { $lte: 2022 } }, 'ab'],
    [{ year: { $gt: '2021' } }, 'c'],
    [{ date: { $gte: '2024-01-01', $lt: '2024-12-31' } }, 'a'],
    [{ tags: { $eq: 'x' } }, 'a'],
    [{ tags: { $in: ['y'] } }, 'ab'],
    [{ tags: { $ne: 'x' } }, 'bcd'],
    [{ owner: { city: { $exists: false } } }, 'bcd'],
    [{ owner: { name: { $in: ['Ann', 'Bo'] } }, lang: 'de' }, 'b'],
    [{ $or: [{ lang: 'en' }, { flag: true }] }, 'ab'],
    [{ $or: [{ owner: { city: 'Rome' } }, { tags: ['y'], flag: true }] }, 'ab'],
    [{ $and: [{ year: { $gt: 2000 } }, { $not: { lang: 'de' } }] }, 'a'],
    [{ $not: { year: { $gt: 2000 } } }, 'cd'],
    [{ year: { $not: { $gt: 2020 } } }, 'acd'],
    [{ 'odd "key" $': { $gte: 1 } }, 'b'],
    [{ lang: { $eq: 'en" || true || "' } }, ''],
    [{}, 'abcd'],
  ])('%j', async (filter, expected) => {
    const metadata = metadataCondition(filter);
    const found = await titles({ kb: filtered.kbId, embedding: [1, 0], filter: { metadata } });
    expect(found.toSorted().join('')).toBe(expected);
  });
});

describe('languages', () => {
  const found = async (language: string, texts: string[], query: string, phrases: string[] = []) => {
    const made = await index.createKb(language);
    for (const text of texts) await store(made, text, text, [1, 0]);
    return titles({ kb: made.kbId, query, phrases, mode: 'keyword' });
  };
  const TOKYO = '東京都の人口は約千四百万人です。';
  const KYOTO = '京都市は古い都です。';
  const PHONE = 'The 手机 of Ms Wang has two cameras.';

  it('finds words of scripts without spaces, in every language', async () => {
    for (const language of ['cjk', 'english', 'german', 'simple']) {
      expect(await found(language, [TOKYO, KYOTO, PHONE], '東京の人口')).toEqual([TOKYO]);
      expect((await found(language, [TOKYO, KYOTO, PHONE], '京都'))[0]).toEqual(KYOTO);
      expect(await found(language, [TOKYO, KYOTO, PHONE], '手机')).toEqual([PHONE]);
      expect(await found(language, [TOKYO, KYOTO, PHONE], '機')).toEqual([]);
      expect(await found(language, [TOKYO, KYOTO, PHONE], '机')).toEqual([PHONE]);
    }
    const korean = '서울은 대한민국의 수도이다.';
    expect(await found('cjk', [korean, TOKYO], '대한민국')).toEqual([korean]);
    expect(await found('cjk', ['ﾃﾞｰﾀの保存', TOKYO], 'データ')).toEqual(['ﾃﾞｰﾀの保存']);
  });

  it('finds words beside them in another form', async () => {
    expect(await found('cjk', [TOKYO, PHONE], 'camera')).toEqual([PHONE]);
    expect(await found('english', [TOKYO, PHONE], 'camera')).toEqual([PHONE]);
    expect(await found('simple', [TOKYO, PHONE], 'camera')).toEqual([]);
  });

  it('finds their phrases letter by letter', async () => {
    expect(await found('cjk', [TOKYO, KYOTO], '都', ['京都市'])).toEqual([KYOTO]);
  });

  it('stems as the language does', async () => {
    const texts = ['Die Häuser sind alt.', 'Das Haus ist neu.', 'Ein Baum.'];
    expect(await found('german', texts, 'haus')).toHaveLength(2);
    expect(await found('english', texts, 'haus')).toEqual(['Das Haus ist neu.']);
  });

  it('gives the lexemes of sentences as they are indexed', async () => {
    const made = await index.createKb('cjk');
    expect(await repository.lexemes(index.tx, made.kbId, ['手机 cameras'])).toEqual([
      ['camera', '手', '手机', '机'],
    ]);
    expect(
      await repository.lexemesOf(index.tx, [
        { kbId: made.kbId, text: 'cats' },
        { kbId: made.tenantId, text: 'cats' },
      ]),
    ).toEqual([['cat'], []]);
  });
});

describe('RetrievalRepository', () => {
  it('knows the words that begin so', async () => {
    expect(await repository.wordsBeginning(index.tx, kb.kbId, ['s', 'ar', 'pur'])).toEqual([
      'silent',
      'strangers',
      'are',
      'purr',
    ]);
    expect(await repository.wordsBeginning(index.tx, kb.tenantId, ['s'])).toEqual([]);
  });

  it('compares chunks, and reads those around them', async () => {
    const made = await index.createKb();
    const documentId = await index.createDocument(made, 'pages');
    const chunk = (ordinal: number, embedding: number[]) => ({
      ordinal,
      text: `part ${ordinal}`,
      heading: null,
      page: null,
      startOffset: ordinal * 10,
      endOffset: ordinal * 10 + 6,
      tokenCount: 1,
      embedding,
    });
    await storeChunks(
      index.tx,
      { ...made, documentId },
      [0, 1, 2, 3, 4].map(ordinal => chunk(ordinal, ordinal % 2 ? [1, 0] : [0.6, 0.8])),
    );
    const { passages } = await search({ kb: made.kbId, query: 'part', embedding: [1, 0], topK: 2 });
    const [pair] = await repository.similarities(
      index.tx,
      passages.map(({ chunk_id }) => chunk_id),
    );
    expect(pair?.cosine).toBeCloseTo(1, 3);
    const chunks = await repository.chunksIn(index.tx, [
      { documentId, first: 0, last: 1 },
      { documentId, first: 1, last: 2 },
      { documentId, first: 4, last: 9 },
    ]);
    expect(chunks.map(({ ordinal, text, start_offset }) => [ordinal, text, start_offset])).toEqual([
      [0, 'part 0', 0],
      [1, 'part 1', 10],
      [2, 'part 2', 20],
      [4, 'part 4', 40],
    ]);
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
