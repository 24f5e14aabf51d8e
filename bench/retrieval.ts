/**
 * Quality of retrieval and of extractive answers with the bundled embedding model, one way of ranking after the other, on
 * the embedded database and, where DATABASE_ADMIN_URL names one, on a server.
 *
 *   npm run bench -- retrieval <folder> [--vectors <file>] [--only embedded|server] [--graph]
 *
 * <folder> is searched, one level deep, for
 * - `*.json`: articles with questions, {title, paragraphs: [{text, questions: [{question, answers[]}]}]};
 * - `corpus.jsonl`, `queries.jsonl`, `qrels.jsonl`: a collection with judgements.
 *
 * Vectors of the texts are kept in <file>, where one is named: making them takes most of the time. RERANK_BASE_URL and
 * RERANK_MODEL name a rerank model; without one, passages are ranked anew by the sentence of them whose vector is nearest to
 * the question's, which needs nothing but the bundled model. With --graph the names in the texts make a graph, and
 * there are rows of the modes that use it.
 */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { env, exit } from 'node:process';
import { parseArgs } from 'node:util';
import { BundledEmbedding } from '../src/core/models/bundled-embedding.js';
import {
  foundBy,
  mean as meanOf,
  normalisedGainAt,
  reciprocalRankAt,
} from '../src/features/evaluation/metrics.js';
import { extractNames } from '../src/features/graph/name-extractor.js';
import { candidateSentences, extractiveAnswer } from '../src/features/rag-query/extractive-answer.js';
import { sentences } from '../src/features/rag-query/sentences.js';
import { withGraph } from '../src/features/retrieval/graph-fusion.js';
import { GraphSearchRepository } from '../src/features/retrieval/graph-search.repository.js';
import { GraphSearch } from '../src/features/retrieval/graph-search.service.js';
import { keywordShareOf, withProximity } from '../src/features/retrieval/proximity.js';
import { ANSWER_PASSAGES } from '../src/features/retrieval/ranking.js';
import {
  RetrievalRepository,
  type SearchParameters,
  type SearchResult,
} from '../src/features/retrieval/retrieval.repository.js';
import { type SearchMode, graphUseOf } from '../src/features/retrieval/search-mode.js';
import { type RetrievalIndex, openRetrievalIndex } from '../test/setup/retrieval-index.js';
import { storeChunks } from '../test/setup/stored-chunks.js';
import { storeGraph } from '../test/setup/stored-graph.js';
import { rerankEndpoint } from './rerank-endpoint.js';

interface Question {
  question: string;
  answers: string[];
}
interface Article {
  title: string;
  paragraphs: Array<{ text: string; questions: Question[] }>;
}
type Kb = { tenantId: string; kbId: string };
/** A way of ranking. */
type Way = Partial<SearchParameters> & { rerank?: boolean; proximity?: boolean; graph?: SearchMode };

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: { vectors: { type: 'string' }, only: { type: 'string' }, graph: { type: 'boolean' } },
});
const [folder] = positionals;
if (!folder || !existsSync(folder)) {
  console.error(
    'Usage: npm run bench -- retrieval <folder with articles (*.json) or a collection (corpus.jsonl …)>',
  );
  exit(2);
}
const folders = [
  folder,
  ...readdirSync(folder, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => join(folder, entry.name)),
];

const reranker = env['RERANK_BASE_URL']
  ? rerankEndpoint(env['RERANK_BASE_URL'], env['RERANK_MODEL'] ?? '', env['RERANK_API_KEY'])
  : nearestSentences;
const RERANKED_BY = env['RERANK_BASE_URL'] ? (env['RERANK_MODEL'] ?? 'a model') : 'nearest sentence';
const WAYS: Record<string, Way> = {
  'BM25 alone': { mode: 'keyword', proximity: false },
  keyword: { mode: 'keyword' },
  vector: { mode: 'vector' },
  'rank fusion, equal': { fusion: 'rank', fusionWeight: 0.5 },
  'rank fusion': { fusion: 'rank' },
  'score fusion, no proximity': { proximity: false },
  'score fusion (default)': {},
  'score fusion, feedback': { feedback: true },
  [`score fusion, rerank (${RERANKED_BY})`]: { rerank: true },
  ...(options.graph && { mix: { graph: 'mix' }, graph: { graph: 'graph' } }),
};
const DEFAULT = 'score fusion (default)';
const FOREVER = new AbortController().signal;

const model = new BundledEmbedding();
const retrieval = new RetrievalRepository();
// Graphs of names are looked at without a model.
const graphs = new GraphSearch(new GraphSearchRepository(), retrieval, null as never);
const GRAPH = { graph: 'names', graph_model: null, llm_model: null } as const;
const vectors = await readVectors();
const databases = [
  ...(options.only === 'server' ? [] : [{ name: 'embedded (PGlite)', url: undefined }]),
  ...(options.only !== 'embedded' && env['DATABASE_ADMIN_URL']
    ? [{ name: 'server', url: env['DATABASE_ADMIN_URL'] }]
    : []),
];
let index: RetrievalIndex;
let searches = { count: 0, milliseconds: 0 };

for (const { name, url } of databases) {
  console.log(`\n=== ${name}`);
  index = await openRetrievalIndex(url);
  searches = { count: 0, milliseconds: 0 };
  for (const path of folders) {
    const articles = readdirSync(path)
      .filter(file => file.endsWith('.json'))
      .map(file => JSON.parse(readFileSync(join(path, file), 'utf8')) as Article)
      .filter(article => Array.isArray(article.paragraphs));
    if (articles.length > 0) await questionAnswering(basename(path), articles);
    if (existsSync(join(path, 'corpus.jsonl'))) await collection(path);
  }
  const { count, milliseconds } = searches;
  console.log(`${count} searches, ${(milliseconds / count).toFixed(2)} ms each (client, without embedding)`);
  await index.close();
}
await model.close();

async function questionAnswering(name: string, articles: Article[]): Promise<void> {
  const questionsOf = (article: Article) => article.paragraphs.flatMap(paragraph => paragraph.questions);
  await embedTexts(articles.flatMap(article => article.paragraphs.map(paragraph => paragraph.text)));
  await embed(articles.flatMap(questionsOf).map(({ question }) => question));
  const stored = [];
  for (const article of articles) {
    const kb = await index.createKb();
    const documents = await store(
      kb,
      article.paragraphs.map(({ text }) => ({ title: article.title, text })),
    );
    const asked = article.paragraphs.flatMap(({ questions }, i) =>
      questions.map(question => ({ question, document: documents[i] as string })),
    );
    stored.push({ article, kb, asked });
  }
  const whole = await index.createKb();
  const paragraphs = articles.flatMap(({ title, paragraphs: list }) =>
    list.map(paragraph => ({ title, ...paragraph })),
  );
  const documents = await store(whole, paragraphs);
  const askedOfAll = paragraphs.flatMap(({ questions }, i) =>
    questions.map(question => ({ question, document: documents[i] as string })),
  );

  const ways: Record<string, object> = {};
  for (const [way, parameters] of Object.entries(WAYS)) {
    const byArticle: number[][] = [];
    for (const { kb, asked } of stored) byArticle.push(await reciprocalRanks(kb, asked, parameters));
    ways[way] = {
      ...Object.fromEntries(stored.map(({ article }, i) => [article.title, mean(byArticle[i] ?? [])])),
      'MRR@10, a kb an article': mean(byArticle.flat()),
      'MRR@10, one kb': mean(await reciprocalRanks(whole, askedOfAll, parameters)),
    };
  }
  console.log(`\n${name}: ${paragraphs.length} paragraphs, ${askedOfAll.length} questions`);
  console.table(ways);

  const rows = [];
  const all = { own: [] as Asked[], foreign: [] as Asked[] };
  for (const { article, kb, asked } of stored) {
    const own = await inTurn(asked, ({ question }) => ask(kb, question));
    const others = articles.filter(other => other !== article).flatMap(questionsOf);
    const foreign = await inTurn(others, question => ask(kb, question));
    rows.push({ article: article.title, ...figures(own, foreign) });
    all.own.push(...own);
    all.foreign.push(...foreign);
  }
  rows.push({ article: 'all', ...figures(all.own, all.foreign) });
  console.log(`${name}: extractive answers, a knowledge base an article`);
  console.table(rows);
}

interface Asked {
  question: Question;
  answered: boolean;
  /** Whether a gold answer stands in the answer, in what it cites, in the passages that it was made of. */
  inAnswer: boolean;
  inCited: boolean;
  inPassages: boolean;
}

function figures(own: Asked[], foreign: Asked[]) {
  const answerable = own.filter(({ question }) => question.answers.length > 0);
  const unanswerable = own.filter(({ question }) => question.answers.length === 0);
  const share = (asked: Asked[], of: (row: Asked) => boolean) => mean(asked.map(row => Number(of(row))));
  return {
    'with an answer': answerable.length,
    'gold in answer': share(answerable, row => row.inAnswer),
    'gold in cited passages': share(answerable, row => row.inCited),
    'gold in best passages': share(answerable, row => row.inPassages),
    'answered, answerable': share(answerable, row => row.answered),
    'answered, all own': share(own, row => row.answered),
    'declined, foreign': share(foreign, row => !row.answered),
    'declined, no answer': share(unanswerable, row => !row.answered),
  };
}

async function collection(path: string): Promise<void> {
  const lines = <T>(name: string) =>
    readFileSync(join(path, name), 'utf8')
      .split('\n')
      .filter(line => line.trim() !== '')
      .map(line => JSON.parse(line) as T);
  const corpus = lines<{ id: string; title: string; text: string }>('corpus.jsonl')
    .map(({ id, title, text }) => ({ id, title, text: `${title}\n${text}`.trim() }))
    .filter(({ text }) => text !== '');
  const queries = lines<{ id: string; text: string }>('queries.jsonl');
  const relevant = new Map<string, Set<string>>();
  for (const { query_id, doc_id } of lines<{ query_id: string; doc_id: string }>('qrels.jsonl')) {
    relevant.set(query_id, (relevant.get(query_id) ?? new Set()).add(doc_id));
  }
  await embedTexts(corpus.map(({ text }) => text));
  await embed(queries.map(({ text }) => text));
  const kb = await index.createKb();
  const documents = await store(kb, corpus);
  const idOf = new Map(documents.map((document, i) => [document, corpus[i]?.id as string]));
  const judged = queries.filter(({ id }) => relevant.has(id));
  const ways: Record<string, object> = {};
  for (const [way, parameters] of Object.entries(WAYS)) {
    const gains = await inTurn(judged, async ({ id, text }) => {
      const { passages } = await search(kb, text, parameters);
      const found = passages.map(({ document_id }) => idOf.get(document_id) as string);
      const wanted = relevant.get(id) as Set<string>;
      return normalisedGainAt(foundBy(found, wanted), wanted.size, 10);
    });
    ways[way] = { 'nDCG@10': mean(gains) };
  }
  console.log(`\n${basename(path)}: ${corpus.length} documents, ${judged.length} queries`);
  console.table(ways);
}

/** One document a text, one chunk a document. */
async function store(kb: Kb, texts: Array<{ title: string; text: string }>): Promise<string[]> {
  const extractions = options.graph
    ? new Map(texts.map(({ text }) => [text, extractNames(text, 'english')]))
    : null;
  await embed([...(extractions?.values() ?? [])].flatMap(({ entities }) => entities.map(({ name }) => name)));
  return inTurn(texts, async ({ title, text }) => {
    const documentId = await index.createDocument(kb, title);
    await storeChunks(index.tx, { ...kb, documentId }, [
      {
        ordinal: 0,
        text,
        heading: null,
        page: null,
        startOffset: 0,
        endOffset: text.length,
        tokenCount: Math.ceil(text.length / 4),
        embedding: vectors.get(text) as number[],
      },
    ]);
    const extracted = extractions?.get(text);
    if (extracted) await storeGraph(index.tx, { ...kb, documentId }, [extracted], name => vectors.get(name));
    return documentId;
  });
}

async function search(
  { kbId }: Kb,
  query: string,
  { rerank, proximity = true, graph, ...parameters }: Way = WAYS[DEFAULT] as Way,
): Promise<SearchResult> {
  const start = performance.now();
  const { mode = 'hybrid', fusionWeight = model.fusionWeight, fusion } = parameters;
  const use = graphUseOf(graph ?? mode);
  const asked = {
    kb: kbId,
    query,
    embedding: vectors.get(query),
    fusionWeight,
    ...((rerank || use) && { topK: 40 }),
    withTerms: true,
    ...parameters,
  };
  let found: SearchResult = await retrieval.search(index.tx, asked);
  if (use) {
    const embedQuery = () => Promise.resolve(null);
    const plan = await graphs.plan(use, GRAPH, { question: query, embed: embedQuery, signal: FOREVER });
    const searched = { kbId, use, plan, question: query, base: found, parameters: asked };
    found = (await graphs.extend(index.tx, searched)).result;
  }
  const share = keywordShareOf(mode, fusionWeight);
  let result = proximity && fusion !== 'rank' ? withProximity(found, query, () => share) : found;
  if (use) {
    result = withGraph(result, use.alone);
    result.passages = result.passages.slice(0, 10);
  }
  searches.milliseconds += performance.now() - start;
  searches.count++;
  if (!rerank) return result;
  const relevance = await reranker(
    query,
    result.passages.map(({ text }) => text),
  );
  const ranked = result.passages.map((passage, i) => ({ ...passage, score: relevance[i] ?? 0 }));
  return { ...result, passages: ranked.toSorted((a, b) => b.score - a.score).slice(0, 10) };
}

/** Of each text: the cosine of the question and its nearest sentence. */
async function nearestSentences(question: string, texts: string[]): Promise<number[]> {
  const asked = vectors.get(question) as number[];
  return texts.map(text =>
    Math.max(0, ...sentencesOf(text).map(sentence => dotProduct(asked, vectors.get(sentence) as number[]))),
  );
}

function sentencesOf(text: string): string[] {
  return sentences(text).map(({ start, end }) => text.slice(start, end));
}

function dotProduct(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
}

function reciprocalRanks(
  kb: Kb,
  asked: ReadonlyArray<{ question: Question; document: string }>,
  way: Way,
): Promise<number[]> {
  return inTurn(asked, async ({ question: { question }, document }) => {
    const { passages } = await search(kb, question, way);
    const found = passages.map(({ document_id }) => document_id);
    return reciprocalRankAt(foundBy(found, new Set([document])), 10);
  });
}

async function ask(kb: Kb, question: Question): Promise<Asked> {
  const result = await search(kb, question.question);
  const best = result.passages.slice(0, ANSWER_PASSAGES);
  const candidates = candidateSentences(best);
  const lexemes = await retrieval.lexemes(
    index.tx,
    kb.kbId,
    candidates.map(({ quote }) => quote),
  );
  const { answered, answer, citations } = extractiveAnswer(result, candidates, lexemes, model.name);
  const cited = new Set(citations.map(({ chunk_id }) => chunk_id));
  const holdsGold = (text: string) =>
    question.answers.some(gold => text.toLowerCase().includes(gold.toLowerCase()));
  return {
    question,
    answered,
    inAnswer: holdsGold(answer),
    inCited: best.some(({ chunk_id, text }) => cited.has(chunk_id) && holdsGold(text)),
    inPassages: best.some(({ text }) => holdsGold(text)),
  };
}

/** With what ranks them anew. */
async function embedTexts(texts: string[]): Promise<void> {
  await embed(reranker === nearestSentences ? texts.flatMap(text => [text, ...sentencesOf(text)]) : texts);
}

async function embed(texts: string[]): Promise<void> {
  const missing = [...new Set(texts)].filter(text => !vectors.has(text));
  if (missing.length === 0) return;
  const embedded = await model.embedDocuments(missing);
  missing.forEach((text, i) => vectors.set(text, embedded[i] as number[]));
  if (options.vectors) writeFileSync(options.vectors, JSON.stringify([...vectors]));
}

async function readVectors(): Promise<Map<string, number[]>> {
  const known = options.vectors && existsSync(options.vectors) ? readFileSync(options.vectors, 'utf8') : '[]';
  return new Map(JSON.parse(known) as Array<[string, number[]]>);
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

function mean(values: readonly number[]): number {
  return Number((meanOf(values) ?? NaN).toFixed(3));
}
