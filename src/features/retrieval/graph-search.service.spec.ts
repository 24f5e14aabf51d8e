import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MULTI_HOP } from '../../../test/setup/multi-hop.js';
import { type RetrievalIndex, openRetrievalIndex } from '../../../test/setup/retrieval-index.js';
import { storeChunks } from '../../../test/setup/stored-chunks.js';
import { storeGraph } from '../../../test/setup/stored-graph.js';
import type { Extraction } from '../graph/extraction.js';
import { extractNames } from '../graph/name-extractor.js';
import { withGraph } from './graph-fusion.js';
import { GraphSearch } from './graph-search.service.js';
import { GraphSearchRepository } from './graph-search.repository.js';
import type { QuestionKeywordsService } from './question-keywords.service.js';
import { RetrievalRepository, type SearchParameters } from './retrieval.repository.js';
import { type SearchMode, graphUseOf } from './search-mode.js';

const repository = new RetrievalRepository();
const noKeywords = {
  of: () => Promise.reject(new Error('No model makes these graphs.')),
} as unknown as QuestionKeywordsService;
const graphs = new GraphSearch(new GraphSearchRepository(), repository, noKeywords);
const CONFIG = { graph: 'names', graph_model: null, llm_model: null } as const;
let index: RetrievalIndex;
let kb: { tenantId: string; kbId: string };
const documents: Record<string, string> = {};

async function store(into: typeof kb, title: string, texts: string[], extractions?: Extraction[]) {
  const documentId = await index.createDocument(into, title);
  const chunks = texts.map((text, ordinal) => ({
    ordinal,
    text,
    heading: null,
    page: null,
    startOffset: 0,
    endOffset: text.length,
    tokenCount: 1,
    embedding: [0, 1],
  }));
  await storeChunks(index.tx, { ...into, documentId }, chunks);
  const extracted = extractions ?? texts.map(text => extractNames(text, 'english'));
  await storeGraph(index.tx, { ...into, documentId }, extracted, name =>
    name === 'Borealis Systems' ? [0, 1] : [1, 0],
  );
  return documentId;
}

beforeAll(async () => {
  index = await openRetrievalIndex();
  kb = await index.createKb();
  for (const [title, text] of Object.entries(MULTI_HOP.texts))
    documents[title] = await store(kb, title, [text]);
});
afterAll(() => index.close());

async function search(mode: SearchMode, query: string, more: Partial<SearchParameters> = {}, into = kb) {
  const use = graphUseOf(mode);
  const parameters = { kb: into.kbId, query, fusionWeight: 0.2, topK: 20, withTerms: true, ...more };
  if (!use) return { ...(await repository.search(index.tx, parameters)), used: null };
  const embed = () => Promise.resolve(null);
  const plan = await graphs.plan(use, CONFIG, { question: query, embed, signal: AbortSignal.timeout(5_000) });
  const base = await repository.search(index.tx, graphs.first(use, plan, parameters));
  const { result, used } = await graphs.extend(index.tx, {
    kbId: into.kbId,
    use,
    plan,
    question: query,
    base,
    parameters,
  });
  return { ...withGraph(result, use.alone), used };
}
const titlesOf = ({ passages }: { passages: Array<{ document_title: string }> }) =>
  passages.map(passage => passage.document_title);
const titles = async (...asked: Parameters<typeof search>) => titlesOf(await search(...asked));

describe('GraphSearch', () => {
  const { question } = MULTI_HOP;

  it('finds what takes two steps, which a hybrid search does not', async () => {
    expect(await titles('hybrid', question)).not.toContain('headquarters');
    expect((await titles('mix', question)).slice(0, 5)).toEqual(expect.arrayContaining(MULTI_HOP.way));
    expect((await titles('local', question)).slice(0, 2)).toEqual(MULTI_HOP.way);
    expect((await titles('graph', question)).slice(0, 3)).toEqual(expect.arrayContaining(MULTI_HOP.way));
  });

  it('says what has led there, as the texts spell it', async () => {
    const { used, passages } = await search('local', question.toLowerCase());
    expect(used?.entities.slice(0, 2).map(({ name }) => name)).toEqual(['Anna Keller', 'Borealis Systems']);
    const pairs = used?.relations.map(({ source, target }) =>
      [source.name, target.name].toSorted().join(' + '),
    );
    expect(pairs).toContain('Anna Keller + Borealis Systems');
    expect(passages[0]).toMatchObject({ document_title: 'engineer', graph: 1 });
    expect(passages.every(({ graph }) => graph !== null && graph > 0 && graph <= 1)).toBe(true);
  });

  it('adds to a hybrid search, and changes nothing where the graph says nothing', async () => {
    const plain = await search('hybrid', question);
    const mixed = await search('mix', question);
    for (const { chunk_id, score } of plain.passages) {
      const again = mixed.passages.find(passage => passage.chunk_id === chunk_id);
      expect(again?.score).toBeGreaterThanOrEqual(score);
    }
    const foreign = 'What is it that nobody here has heard of?';
    const [before, after] = [await search('hybrid', foreign), await search('mix', foreign)];
    expect(after.passages.map(({ chunk_id, score }) => [chunk_id, score])).toEqual(
      before.passages.map(({ chunk_id, score }) => [chunk_id, score]),
    );
    expect(await titles('local', foreign)).toEqual([]);
  });

  it('goes out from relations in passages about the themes', async () => {
    const found = await search('global', 'Who designed turbines?');
    expect(titlesOf(found)).toEqual(expect.arrayContaining(MULTI_HOP.way));
    expect(titlesOf(found).some(title => title.startsWith('city'))).toBe(false);
  });

  it('keeps to a filter and to phrases, on the last step alone', async () => {
    const only = { filter: { documentIds: [documents['headquarters'] as string] } };
    expect(await titles('local', question, only)).toEqual(['headquarters']);
    expect(await titles('mix', question, only)).toEqual(['headquarters']);
    expect(await titles('local', question, { phrases: ['harbour of Tromsø'] })).toEqual(['headquarters']);
    const metadata = { contained: { lang: 'none' }, path: null, variables: {} } as never;
    expect(await titles('graph', question, { filter: { metadata } })).toEqual([]);
  });

  it('has the scores of the legs, whatever has found a passage', async () => {
    const { passages, terms, chunk_count } = await search('local', 'Borealis Systems harbour', {
      embedding: [0, 1],
    });
    const [best] = passages;
    expect(best).toMatchObject({ document_title: 'headquarters', cosine: expect.closeTo(1, 3) });
    expect(best?.matched).toEqual(expect.arrayContaining(['boreali', 'harbour', 'system']));
    expect(best?.bm25).toBeGreaterThan(0);
    expect(terms.length).toBe(3);
    expect(chunk_count).toBe(42);
    const byRank = await search('mix', question, { fusion: 'rank' });
    expect(byRank.passages.every(({ score }) => score >= 0 && score <= 1)).toBe(true);
    expect(titlesOf(byRank)).toContain('headquarters');
  });

  it('finds an entity by its vector where the question does not name it', async () => {
    const found = await titles('local', 'Whose quay is that?', { embedding: [0, 1] });
    expect(found.slice(0, 2).toSorted()).toEqual(MULTI_HOP.way);
    expect(await titles('local', 'Whose quay is that?')).toEqual([]);
  });

  it('does not mistake a word of many names for a name', async () => {
    expect(await titles('local', 'Who are the Partners?')).toEqual([]);
    expect(await titles('local', 'Where does Keller work?')).toContain('engineer');
  });

  it('stays in its knowledge base', async () => {
    const other = await index.createKb();
    await store(other, 'elsewhere', ['Anna Keller is a painter in Graz.']);
    expect(await titles('local', question)).not.toContain('elsewhere');
    expect(await titles('local', question, {}, other)).toEqual(['elsewhere']);
  });

  it('finds among the many chunks of a hub those that the question is about', async () => {
    const hub = await index.createKb();
    const texts = Array.from({ length: 150 }, (_, i) => `Acme Corp has made product${i} for a long time.`);
    await store(hub, 'products', texts);
    const { passages } = await search('local', 'When did Acme Corp make product137?', {}, hub);
    expect(passages[0]?.text).toContain('product137 ');
    expect(passages.length).toBeLessThanOrEqual(100);
  });

  it('takes what a hostile question may hold', async () => {
    for (const query of [
      "'; DROP TABLE chunks; --",
      '\0',
      '%_\\',
      '{"a":1}',
      'x'.repeat(10_000),
      '名'.repeat(5_000),
    ]) {
      for (const mode of ['local', 'global', 'graph', 'mix'] as const)
        expect((await search(mode, query)).passages, `${mode}: ${query.slice(0, 20)}`).toBeInstanceOf(Array);
    }
  });
});
