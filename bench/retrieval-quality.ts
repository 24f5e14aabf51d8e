/**
 * Quality of retrieval and of extractive answers with the bundled embedding model.
 *
 *   npx tsx bench/retrieval-quality.ts <folder>
 *
 * <folder> is searched, one level deep, for
 * - `*.json`: articles with questions, {title, paragraphs: [{text, questions: [{question, answers[]}]}]};
 * - `corpus.jsonl`, `queries.jsonl`, `qrels.jsonl`: a collection with judgements.
 *
 * Runs on PGlite in memory, or in a schema of its own at DATABASE_ADMIN_URL.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { env, exit } from 'node:process';
import { BundledEmbedding } from '../src/core/models/bundled-embedding.js';
import { storeChunks } from '../test/setup/stored-chunks.js';
import { candidateSentences, extractiveAnswer } from '../src/features/rag-query/extractive-answer.js';
import { RetrievalRepository, type SearchResult } from '../src/features/retrieval/retrieval.repository.js';
import { openRetrievalIndex } from '../test/setup/retrieval-index.js';

interface Question {
  question: string;
  answers: string[];
}
interface Article {
  title: string;
  paragraphs: Array<{ text: string; questions: Question[] }>;
}
type Kb = { tenantId: string; kbId: string };

const folder = process.argv[2];
if (!folder || !existsSync(folder)) {
  console.error(
    'Usage: npx tsx bench/retrieval-quality.ts <folder with articles (*.json) or a collection (corpus.jsonl …)>',
  );
  exit(2);
}
const folders = [
  folder,
  ...readdirSync(folder, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => join(folder, entry.name)),
];

const index = await openRetrievalIndex(env['DATABASE_ADMIN_URL']);
const model = new BundledEmbedding();
const retrieval = new RetrievalRepository();
const vectors = new Map<string, number[]>();
/** Of the result at index `i` in nDCG. */
const discount = (i: number) => 1 / Math.log2(i + 2);
let searches = 0;
let searchMilliseconds = 0;

for (const path of folders) {
  const articles = readdirSync(path)
    .filter(name => name.endsWith('.json'))
    .map(name => JSON.parse(readFileSync(join(path, name), 'utf8')) as Article)
    .filter(article => Array.isArray(article.paragraphs));
  if (articles.length > 0) await questionAnswering(basename(path), articles);
  if (existsSync(join(path, 'corpus.jsonl'))) await collection(path);
}
console.log(
  `${searches} searches, ${(searchMilliseconds / searches).toFixed(2)} ms each (client, without embedding)`,
);
await model.close();
await index.close();

async function questionAnswering(name: string, articles: Article[]): Promise<void> {
  const questionsOf = (article: Article) => article.paragraphs.flatMap(paragraph => paragraph.questions);
  await embed(articles.flatMap(article => article.paragraphs.map(paragraph => paragraph.text)));
  await embed(articles.flatMap(questionsOf).map(({ question }) => question));

  const rows = [];
  for (const article of articles) {
    const kb = await index.createKb();
    const documents = await store(
      kb,
      article.paragraphs.map(({ text }) => ({ title: article.title, text })),
    );
    const own = [];
    for (const [i, paragraph] of article.paragraphs.entries()) {
      for (const question of paragraph.questions) {
        own.push({
          ...(await ask(kb, question)),
          reciprocalRank: await reciprocalRank(kb, question, documents[i]),
        });
      }
    }
    const foreign = [];
    for (const other of articles.filter(candidate => candidate !== article)) {
      for (const question of questionsOf(other)) foreign.push(await ask(kb, question));
    }
    const answerable = own.filter(({ question }) => question.answers.length > 0);
    rows.push({
      article: article.title,
      paragraphs: article.paragraphs.length,
      questions: own.length,
      'MRR@10': mean(own, row => row.reciprocalRank),
      'gold in answer': mean(answerable, row => row.inAnswer),
      'gold in cited passages': mean(answerable, row => row.inPassages),
      'answered, answerable': mean(answerable, row => row.answered),
      'answered, all own': mean(own, row => row.answered),
      'declined, foreign': mean(foreign, row => !row.answered),
    });
  }
  const kb = await index.createKb();
  const paragraphs = articles.flatMap(({ title, paragraphs: list }) =>
    list.map(paragraph => ({ title, ...paragraph })),
  );
  const documents = await store(kb, paragraphs);
  const ranks = [];
  for (const [i, paragraph] of paragraphs.entries()) {
    for (const question of paragraph.questions) ranks.push(await reciprocalRank(kb, question, documents[i]));
  }
  console.log(`\n${name}: one knowledge base an article`);
  console.table(rows);
  console.log(`${name}: all articles in one knowledge base, MRR@10 ${mean(ranks, rank => rank)}`);
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
  await embed([...corpus, ...queries].map(({ text }) => text));
  const kb = await index.createKb();
  const documents = await store(kb, corpus);
  const idOf = new Map(documents.map((document, i) => [document, corpus[i]!.id]));
  const judged = queries.filter(({ id }) => relevant.has(id));
  const gains = [];
  for (const { id, text } of judged) {
    const gold = relevant.get(id)!;
    const { passages } = await search(kb, text);
    const gain = passages.reduce(
      (sum, { document_id }, i) => sum + (gold.has(idOf.get(document_id)!) ? discount(i) : 0),
      0,
    );
    const ideal = Array.from({ length: Math.min(10, gold.size) }, (_, i) => discount(i)).reduce(
      (sum, d) => sum + d,
      0,
    );
    gains.push(gain / ideal);
  }
  console.log(`\n${basename(path)}: ${corpus.length} documents, ${judged.length} queries`);
  console.table([{ 'nDCG@10': mean(gains, gain => gain) }]);
}

/** One document a text, one chunk a document. */
async function store(kb: Kb, texts: Array<{ title: string; text: string }>): Promise<string[]> {
  const ids = [];
  for (const { title, text } of texts) {
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
        embedding: vectors.get(text)!,
      },
    ]);
    ids.push(documentId);
  }
  return ids;
}

async function embed(texts: string[]): Promise<void> {
  const missing = [...new Set(texts)].filter(text => !vectors.has(text));
  const embedded = await model.embedDocuments(missing);
  missing.forEach((text, i) => vectors.set(text, embedded[i]!));
}

async function search({ kbId }: Kb, query: string): Promise<SearchResult> {
  const { fusionWeight } = model;
  const start = performance.now();
  const result = await retrieval.search(index.tx, {
    kb: kbId,
    query,
    embedding: vectors.get(query),
    fusionWeight,
    withTerms: true,
  });
  searchMilliseconds += performance.now() - start;
  searches++;
  return result;
}

async function reciprocalRank(
  kb: Kb,
  { question }: Question,
  documentId: string | undefined,
): Promise<number> {
  const rank = (await search(kb, question)).passages.findIndex(
    ({ document_id }) => document_id === documentId,
  );
  return rank < 0 ? 0 : 1 / (rank + 1);
}

async function ask(kb: Kb, question: Question) {
  const result = await search(kb, question.question);
  const candidates = candidateSentences(result.passages);
  const lexemes = await retrieval.lexemes(
    index.tx,
    kb.kbId,
    candidates.map(({ quote }) => quote),
  );
  const { answered, answer, citations } = extractiveAnswer(result, candidates, lexemes, model.name);
  const cited = new Set(citations.map(({ chunk_id }) => chunk_id));
  const passages = result.passages.filter(({ chunk_id }) => cited.has(chunk_id)).map(({ text }) => text);
  const holdsGold = (text: string) =>
    question.answers.some(gold => text.toLowerCase().includes(gold.toLowerCase()));
  return { question, answered, inAnswer: holdsGold(answer), inPassages: passages.some(holdsGold) };
}

function mean<T>(rows: T[], value: (row: T) => number | boolean): number {
  return Number((rows.reduce((sum, row) => sum + Number(value(row)), 0) / rows.length).toFixed(3));
}
