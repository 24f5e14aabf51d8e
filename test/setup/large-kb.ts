import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { ENTITIES } from '../../src/app.module.js';
import { ChunksRepository } from '../../src/features/documents/chunks.repository.js';
import type { IndexState } from '../../src/features/retrieval/large-candidates.repository.js';
import {
  RetrievalRepository,
  type SearchParameters,
} from '../../src/features/retrieval/retrieval.repository.js';
import { type Env, parseEnv } from '../../src/foundation/config/env.js';
import { openDatabase } from '../../src/foundation/database/data-source.js';
import { TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { type Tx, runTransaction } from '../../src/foundation/database/transaction.js';
import { TEST_SECRET, createTestDatabase } from './database.js';
import { updateLargeIndex } from './large-index.js';
import { storeChunks } from './stored-chunks.js';
import { asSuperuser } from './superuser.js';

export const DIMENSIONS = 64;
const CHUNKS_PER_DOCUMENT = 100;
const WORDS_PER_CHUNK = 12;
const VOCABULARY = 600;

export interface TestKb {
  tenantId: string;
  kbId: string;
}

/** A migrated database with knowledge bases of made-up texts, seen as the running role sees them. */
export interface LargeKbs {
  env: Env;
  dataSource: DataSource;
  createKb(tenantId?: string): Promise<TestKb>;
  /** In a transaction of the kb's tenant, as the system or, with `settings`, as somebody else. */
  run<T>(kb: TestKb, work: (tx: Tx) => Promise<T>, settings?: Record<string, string>): Promise<T>;
  /** Stores texts as documents. @returns their ids */
  store(kb: TestKb, texts: readonly string[], vectorOf?: (text: string) => number[]): Promise<string[]>;
  deleteDocuments(kb: TestKb, documentIds: readonly string[]): Promise<void>;
  /** @returns the steps that were taken */
  update(kb: TestKb, from: number): Promise<string[]>;
  /** With the index, where `large`. @returns of each passage id and score, and whether the index could be used */
  search(
    kb: TestKb,
    query: string,
    parameters: Partial<SearchParameters>,
  ): Promise<{ ids: string[]; scores: number[]; texts: string[]; index: IndexState | null }>;
  superuser(...statements: string[]): Promise<Array<Record<string, any>>>;
  close(): Promise<void>;
}

/** The same in every run. */
export function madeUpTexts(count: number, seed: number): string[] {
  const random = randomNumbers(seed);
  // A few words in many texts, most in few.
  const word = () => `word${Math.floor(VOCABULARY * random() ** 3)}`;
  return Array.from({ length: count }, () => Array.from({ length: WORDS_PER_CHUNK }, word).join(' '));
}

/** Near each other where texts share words. */
export function vectorOf(text: string, dimensions = DIMENSIONS): number[] {
  const vector = Array.from({ length: dimensions }, () => 0);
  for (const word of text.split(' ')) {
    const random = randomNumbers(Number(word.replace(/\D/g, '')) + 1);
    for (let i = 0; i < dimensions; i++) vector[i] = (vector[i] as number) + random() - 0.5;
  }
  const length = Math.hypot(...vector);
  return vector.map(component => component / length);
}

export async function openLargeKbs(): Promise<LargeKbs> {
  const database = await createTestDatabase();
  const env = parseEnv({ ...database.env, JWT_SECRET: TEST_SECRET, ENCRYPTION_KEY: TEST_SECRET });
  const access = await openDatabase(env, TEST_SECRET);
  const dataSource = access.application(ENTITIES);
  await dataSource.initialize();
  const chunks = new ChunksRepository();
  const retrieval = new RetrievalRepository();

  const kbs: LargeKbs = {
    env,
    dataSource,
    async createKb(tenantId = uuidv7()) {
      const kbId = uuidv7();
      await kbs.superuser(
        `INSERT INTO tenants (id, name, display_name, plan_tier) VALUES ('${tenantId}', 't-${tenantId}', 'Tenant', 'enterprise')
         ON CONFLICT DO NOTHING`,
        `INSERT INTO knowledge_bases (id, tenant_id, name, slug) VALUES ('${kbId}', '${tenantId}', '${kbId}', '${kbId}')`,
      );
      return { tenantId, kbId };
    },
    run(kb, work, settings = { access: 'all' }) {
      const enter = Object.entries({ tenant_id: kb.tenantId, ...settings }).map(
        ([name, value]) => `SET LOCAL app.${name} = '${value}'`,
      );
      return runTransaction(dataSource, [`SET LOCAL ROLE ${TENANT_ROLE}`, ...enter].join('; '), work);
    },
    async store(kb, texts, toVector = vectorOf) {
      const documentIds: string[] = [];
      for (let start = 0; start < texts.length; start += CHUNKS_PER_DOCUMENT) {
        const documentId = uuidv7();
        documentIds.push(documentId);
        await kbs.run(kb, async tx => {
          await tx.query(
            `INSERT INTO documents (id, tenant_id, kb_id, title, source, mime_type, size_bytes, content_sha256, status)
             VALUES ($1, $2, $3, 'A document', 'text', 'text/plain', 1, gen_random_uuid(), 'ready')`,
            [documentId, kb.tenantId, kb.kbId],
          );
          await storeChunks(
            tx,
            { ...kb, documentId },
            texts.slice(start, start + CHUNKS_PER_DOCUMENT).map((text, ordinal) => ({
              ordinal,
              text,
              heading: null,
              page: null,
              startOffset: 0,
              endOffset: text.length,
              tokenCount: WORDS_PER_CHUNK,
              embedding: toVector(text),
            })),
          );
        });
      }
      return documentIds;
    },
    async deleteDocuments(kb, documentIds) {
      await kbs.run(kb, async tx => {
        await chunks.deleteChunks(tx, { documentIds, kbId: kb.kbId });
        await tx.query('DELETE FROM documents WHERE id = ANY ($1::uuid[])', [documentIds]);
      });
    },
    update: (kb, from) =>
      updateLargeIndex(work => kbs.run(kb, work), kb.kbId, {
        from,
        gradually: env.database.mode === 'embedded',
      }),
    async search(kb, query, parameters) {
      const { passages, kb: searched } = await kbs.run(kb, tx =>
        retrieval.search(tx, {
          kb: kb.kbId,
          query,
          embedding: parameters.mode === 'keyword' ? undefined : vectorOf(query),
          fusionWeight: 0.3,
          ...parameters,
        }),
      );
      return {
        ids: passages.map(passage => passage.chunk_id),
        scores: passages.map(passage => passage.score),
        texts: passages.map(passage => passage.text),
        index: searched?.index ?? null,
      };
    },
    superuser: (...statements) =>
      asSuperuser(env, dataSource, async client => {
        let rows: Array<Record<string, any>> = [];
        for (const statement of statements) rows = (await client.query(statement)).rows;
        return rows;
      }),
    async close() {
      await dataSource.destroy();
      await access.close();
      await database.drop();
    },
  };
  return kbs;
}

/** Of the ten best of an exact scan, the share that the index finds: the mean over the questions. */
export async function recallAt10(
  kbs: LargeKbs,
  kb: TestKb,
  questions: readonly string[],
  mode: 'hybrid' | 'vector' | 'keyword',
): Promise<number> {
  let sum = 0;
  for (const question of questions) {
    const exact = await kbs.search(kb, question, { mode });
    const found = await kbs.search(kb, question, { mode, index: 'settled' });
    const best = new Set(found.ids);
    sum += exact.ids.filter(id => best.has(id)).length / Math.max(exact.ids.length, 1);
  }
  return sum / questions.length;
}

/** mulberry32: 0 to 1. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
