import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE, TENANT_ROLE } from '../src/foundation/database/roles.js';
import { lexicalFunctions } from './lexical-functions.sql.js';
import { isolateByTenant } from './row-level-security.js';

export class CreateRetrievalIndex1763712500000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    for (const statement of lexicalFunctions) await runner.query(statement);
    await runner.query(`
      CREATE TABLE chunks (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        document_id uuid NOT NULL,
        ordinal integer NOT NULL,
        text text NOT NULL,
        heading text,
        page integer,
        start_offset integer NOT NULL,
        end_offset integer NOT NULL,
        token_count integer NOT NULL,
        FOREIGN KEY (document_id, kb_id, tenant_id) REFERENCES documents (id, kb_id, tenant_id) ON DELETE CASCADE,
        UNIQUE (document_id, ordinal),
        UNIQUE (id, tenant_id)
      );
      CREATE INDEX chunks_kb_id_idx ON chunks (kb_id);

      -- Narrow, and kept inline up to a page, so that the exact scan of a knowledge base reads little else than vectors.
      CREATE TABLE chunk_vectors (
        chunk_id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        document_id uuid NOT NULL,
        length integer NOT NULL,
        embedding halfvec NOT NULL,
        lexical sparsevec NOT NULL,
        FOREIGN KEY (chunk_id, tenant_id) REFERENCES chunks (id, tenant_id) ON DELETE CASCADE,
        FOREIGN KEY (document_id, kb_id, tenant_id) REFERENCES documents (id, kb_id, tenant_id) ON DELETE CASCADE
      ) WITH (toast_tuple_target = 8160);
      CREATE INDEX chunk_vectors_kb_id_idx ON chunk_vectors (kb_id);
      CREATE INDEX chunk_vectors_document_id_idx ON chunk_vectors (document_id);

      CREATE TABLE kb_terms (
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        term integer NOT NULL,
        document_frequency integer NOT NULL,
        PRIMARY KEY (kb_id, term),
        FOREIGN KEY (kb_id, tenant_id) REFERENCES knowledge_bases (id, tenant_id) ON DELETE CASCADE
      );
    `);
    for (const table of ['chunks', 'chunk_vectors', 'kb_terms']) await isolateByTenant(runner, table);
    await runner.query(`
      GRANT EXECUTE ON FUNCTION lexeme_dimension(text), bm25_weights(regconfig, text, real), sparsevec_indices(sparsevec)
      TO ${TENANT_ROLE}, ${PLATFORM_ROLE}`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
