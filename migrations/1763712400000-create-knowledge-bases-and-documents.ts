import type { MigrationInterface, QueryRunner } from 'typeorm';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

export class CreateKnowledgeBasesAndDocuments1763712400000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    // Foreign keys are checked past row-level security: those that carry the tenant too cannot cross it.
    await runner.query(`
      CREATE TABLE knowledge_bases (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        name text NOT NULL,
        slug text NOT NULL,
        description text NOT NULL DEFAULT '',
        config jsonb NOT NULL DEFAULT '{}',
        embedding_model text,
        text_search_configuration regconfig NOT NULL DEFAULT 'english',
        is_active boolean NOT NULL DEFAULT true,
        document_count integer NOT NULL DEFAULT 0,
        chunk_count integer NOT NULL DEFAULT 0,
        storage_bytes bigint NOT NULL DEFAULT 0,
        -- Lexeme occurrences of all chunks, and the average chunk length that the stored BM25 weights were made with.
        lexeme_count bigint NOT NULL DEFAULT 0,
        reference_length real NOT NULL DEFAULT 0,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (tenant_id, slug),
        UNIQUE (id, tenant_id)
      );
      CREATE UNIQUE INDEX knowledge_bases_name_key ON knowledge_bases (tenant_id, lower(name));

      CREATE TABLE documents (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        title text NOT NULL,
        source text NOT NULL CHECK (source IN ('upload', 'text', 'url', 'api')),
        source_url text,
        file_name text,
        mime_type text NOT NULL,
        size_bytes bigint NOT NULL,
        content_sha256 text NOT NULL,
        version integer NOT NULL DEFAULT 1,
        metadata jsonb NOT NULL DEFAULT '{}',
        status text NOT NULL DEFAULT 'queued'
          CHECK (status IN ('queued', 'processing', 'ready', 'failed', 'cancelled', 'deleting')),
        stage text CHECK (stage IN ('load', 'split', 'embed', 'extract', 'store')),
        progress real NOT NULL DEFAULT 0,
        error_code text,
        error_message text,
        -- Attempts that ended with an error, and those that a dying process cut short.
        attempts integer NOT NULL DEFAULT 0,
        interruptions integer NOT NULL DEFAULT 0,
        run_after timestamptz NOT NULL DEFAULT now(),
        lease_owner uuid,
        lease_expires_at timestamptz,
        chunk_count integer NOT NULL DEFAULT 0,
        token_count integer NOT NULL DEFAULT 0,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        FOREIGN KEY (kb_id, tenant_id) REFERENCES knowledge_bases (id, tenant_id) ON DELETE CASCADE,
        UNIQUE (id, kb_id, tenant_id),
        UNIQUE (kb_id, content_sha256)
      );
      CREATE INDEX documents_kb_id_created_at_idx ON documents (kb_id, created_at, id);
      CREATE INDEX documents_tenant_id_idx ON documents (tenant_id);
      CREATE INDEX documents_unfinished_idx ON documents (run_after) WHERE status IN ('queued', 'processing');
    `);
    await isolateByTenant(runner, 'knowledge_bases');
    await isolateByTenant(runner, 'documents');
    // What the worker needs to find unfinished documents of all tenants: their ids, never their contents or titles.
    await openToPlatform(
      runner,
      'documents',
      'SELECT (id, tenant_id, status, attempts, interruptions, run_after, lease_expires_at, created_at)',
    );
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
