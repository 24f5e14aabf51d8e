import { PGlite } from '@electric-sql/pglite';
import { createPgConfig } from '@electric-sql/pglite/node-postgres';
import { vector } from '@electric-sql/pglite-pgvector';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { lexicalFunctions } from '../../migrations/lexical-functions.sql.js';
import { lexicalTextFunctions } from '../../migrations/lexical-text.sql.js';
import { setLocal } from '../../migrations/set-local.sql.js';
import type { Tx } from '../../src/foundation/database/transaction.js';
import { GRAPH_TABLES } from './stored-graph.js';

/** The retrieval index by itself: its tables without tenants and policies, which other tests are about. */
const TABLES = `
CREATE TABLE knowledge_bases (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, slug text, entity_count integer NOT NULL DEFAULT 0, embedding_model text,
  config jsonb NOT NULL DEFAULT '{}', language text NOT NULL DEFAULT 'english',
  updated_at timestamptz NOT NULL DEFAULT now(),
  text_search_configuration regconfig NOT NULL DEFAULT 'english', chunk_count integer NOT NULL DEFAULT 0,
  lexeme_count bigint NOT NULL DEFAULT 0, reference_length real NOT NULL DEFAULT 0,
  restricted_count integer NOT NULL DEFAULT 0, last_chunk_number integer NOT NULL DEFAULT 0, large_generation integer);
CREATE TABLE documents (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, kb_id uuid NOT NULL, title text NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}', created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE chunks (id uuid PRIMARY KEY, tenant_id uuid NOT NULL, kb_id uuid NOT NULL, document_id uuid NOT NULL,
  ordinal integer NOT NULL, text text NOT NULL, heading text, page integer, start_offset integer NOT NULL,
  end_offset integer NOT NULL, token_count integer NOT NULL);
CREATE INDEX ON chunks (document_id, ordinal);
CREATE TABLE chunk_vectors (chunk_id uuid PRIMARY KEY, tenant_id uuid NOT NULL, kb_id uuid NOT NULL,
  document_id uuid NOT NULL, length integer NOT NULL, embedding halfvec NOT NULL, lexical sparsevec NOT NULL,
  number integer NOT NULL DEFAULT 2147483647)
  WITH (toast_tuple_target = 8160);
CREATE INDEX ON chunk_vectors (kb_id, number);
CREATE INDEX ON chunk_vectors (document_id);
CREATE TABLE ingestions (document_id uuid PRIMARY KEY, tenant_id uuid, kb_id uuid, version integer, fingerprint text,
  embedding_model text);
CREATE TABLE staged_chunks (document_id uuid REFERENCES ingestions ON DELETE CASCADE, ordinal integer, id uuid,
  tenant_id uuid, kb_id uuid, text text, heading text, page integer, start_offset integer, end_offset integer,
  token_count integer, PRIMARY KEY (document_id, ordinal));
CREATE TABLE staged_vectors (document_id uuid REFERENCES ingestions ON DELETE CASCADE, ordinal integer, tenant_id uuid,
  kb_id uuid, embedding halfvec, PRIMARY KEY (document_id, ordinal));
CREATE TABLE kb_terms (tenant_id uuid NOT NULL, kb_id uuid NOT NULL, term integer NOT NULL,
  document_frequency integer NOT NULL, PRIMARY KEY (kb_id, term));
CREATE TABLE large_indexes (kb_id uuid NOT NULL, generation integer PRIMARY KEY, stale boolean NOT NULL);`;

export interface RetrievalIndex {
  tx: Tx;
  /** @param language one of PostgreSQL's text search configurations [english] */
  createKb(language?: string): Promise<{ tenantId: string; kbId: string }>;
  createDocument(
    kb: { tenantId: string; kbId: string },
    title: string,
    fields?: { metadata?: Record<string, unknown>; createdAt?: Date },
  ): Promise<string>;
  close(): Promise<void>;
}

/** A retrieval index in memory, or in a schema of its own on the server of `url`. */
export async function openRetrievalIndex(url?: string): Promise<RetrievalIndex> {
  const pglite = url ? null : await PGlite.create({ extensions: { vector } });
  const schema = `retrieval_${uuidv7().replaceAll('-', '')}`;
  const dataSource = new DataSource({
    type: 'postgres',
    installExtensions: false,
    poolSize: 1,
    ...(pglite
      ? { extra: { ...createPgConfig(pglite), max: 1, idleTimeoutMillis: 0 } }
      : { url, extra: { options: `-c search_path=${schema},public` } }),
  });
  await dataSource.initialize();
  const tx = dataSource.createQueryRunner().manager;
  if (url) await tx.query(`CREATE SCHEMA ${schema}`);
  await tx.query('CREATE EXTENSION IF NOT EXISTS vector SCHEMA public');
  for (const statement of [setLocal, ...lexicalFunctions, ...lexicalTextFunctions]) await tx.query(statement);
  await tx.query(TABLES + GRAPH_TABLES);
  return {
    tx,
    async createKb(language = 'english') {
      const kb = { tenantId: uuidv7(), kbId: uuidv7() };
      await tx.query(
        `INSERT INTO knowledge_bases (id, tenant_id, language, text_search_configuration)
         VALUES ($1, $2, $3, $3::text::regconfig)`,
        [kb.kbId, kb.tenantId, language],
      );
      return kb;
    },
    async createDocument({ tenantId, kbId }, title, { metadata = {}, createdAt = new Date() } = {}) {
      const id = uuidv7();
      await tx.query(
        'INSERT INTO documents (id, tenant_id, kb_id, title, metadata, created_at) VALUES ($1, $2, $3, $4, $5, $6)',
        [id, tenantId, kbId, title, metadata, createdAt],
      );
      return id;
    },
    async close() {
      if (url) await tx.query(`DROP SCHEMA ${schema} CASCADE`);
      await dataSource.destroy();
      await pglite?.close();
    },
  };
}
