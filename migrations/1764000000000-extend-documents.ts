import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE } from '../src/foundation/database/roles.js';
import { pickDocument } from './pick-document.sql.js';
import { isolateByTenant, keepTokensToKbs, narrowByGrants, openToPlatform } from './row-level-security.js';

/** Jobs that a tenant of a plan may have worked on at a time. */
const MOST_CONCURRENT_JOBS = { free: 1, starter: 2, pro: 4 };

/** Sources and versions of documents, what their ingestion has done so far, and whose turn it is. */
export class ExtendDocuments1764000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE documents
        -- What it is a version of: new content of the same source replaces the old.
        ADD COLUMN source_id text,
        -- The job that has brought it in, of an import of many.
        ADD COLUMN job_id uuid,
        -- More is earlier, within its tenant.
        ADD COLUMN priority smallint NOT NULL DEFAULT 0,
        -- When a worker was last told to take it.
        ADD COLUMN picked_at timestamptz,
        -- The version whose chunks are searchable; 0: none.
        ADD COLUMN indexed_version integer NOT NULL DEFAULT 0,
        ADD COLUMN warnings jsonb NOT NULL DEFAULT '[]',
        -- A web page has no content until it has been fetched.
        ALTER COLUMN content_sha256 DROP NOT NULL,
        ADD UNIQUE (kb_id, source_id);
      -- A queued document that has a stage is not waiting for a worker, but for the others of its knowledge base.
      CREATE INDEX documents_waiting_idx ON documents (tenant_id, kb_id, interruptions, priority DESC, created_at, id)
        WHERE status = 'queued' AND stage IS NULL;
      CREATE INDEX documents_processing_idx ON documents (tenant_id) WHERE status = 'processing';
      CREATE INDEX documents_picked_idx ON documents (tenant_id) WHERE picked_at IS NOT NULL;
      CREATE INDEX documents_job_id_idx ON documents (job_id) WHERE job_id IS NOT NULL;

      ALTER TABLE knowledge_bases
        ADD COLUMN ingestion_paused boolean NOT NULL DEFAULT false,
        -- The embedding model that all documents are being indexed for anew, until they are swapped at once.
        ADD COLUMN reindexing_to text;
      CREATE INDEX knowledge_bases_reindexing_idx ON knowledge_bases (tenant_id) WHERE reindexing_to IS NOT NULL;

      -- The originals: of each document the one that is searchable, and a newer one that is being ingested.
      CREATE TABLE document_versions (
        document_id uuid NOT NULL,
        version integer NOT NULL,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        storage_key text NOT NULL UNIQUE,
        content_sha256 text NOT NULL,
        size_bytes bigint NOT NULL,
        mime_type text NOT NULL,
        file_name text,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (document_id, version),
        FOREIGN KEY (document_id, kb_id, tenant_id) REFERENCES documents (id, kb_id, tenant_id) ON DELETE CASCADE
      );
      -- No two documents of a knowledge base hold the same content, be it searchable or on its way.
      CREATE UNIQUE INDEX document_versions_content_key ON document_versions (kb_id, content_sha256);

      -- What an ingestion has done so far, so that another attempt goes on from there.
      CREATE TABLE ingestions (
        document_id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        version integer NOT NULL,
        -- Everything that the chunks depend on; another one starts anew.
        fingerprint text NOT NULL,
        embedding_model text NOT NULL,
        -- Whether all chunks stand in staged_chunks.
        split boolean NOT NULL DEFAULT false,
        mime_type text,
        page_count integer NOT NULL DEFAULT 0,
        chunk_count integer NOT NULL DEFAULT 0,
        token_count bigint NOT NULL DEFAULT 0,
        -- What a web page calls itself, and its address.
        title text,
        canonical_url text,
        warnings jsonb NOT NULL DEFAULT '[]',
        UNIQUE (document_id, tenant_id),
        FOREIGN KEY (document_id, kb_id, tenant_id) REFERENCES documents (id, kb_id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX ingestions_kb_id_idx ON ingestions (kb_id);

      CREATE TABLE staged_chunks (
        document_id uuid NOT NULL,
        ordinal integer NOT NULL,
        -- Of the chunk that it becomes.
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        text text NOT NULL,
        heading text,
        page integer,
        start_offset integer NOT NULL,
        end_offset integer NOT NULL,
        token_count integer NOT NULL,
        PRIMARY KEY (document_id, ordinal),
        FOREIGN KEY (document_id, tenant_id) REFERENCES ingestions (document_id, tenant_id) ON DELETE CASCADE
      );

      CREATE TABLE staged_vectors (
        document_id uuid NOT NULL,
        ordinal integer NOT NULL,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        embedding halfvec NOT NULL,
        PRIMARY KEY (document_id, ordinal),
        -- Not to its chunk, whose row is never without the ingestion's either: one index and one look-up a row less.
        FOREIGN KEY (document_id, tenant_id) REFERENCES ingestions (document_id, tenant_id) ON DELETE CASCADE
      );

      -- Whose documents were last taken up when: whoever waits longest is next.
      CREATE TABLE ingestion_turns (
        tenant_id uuid PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
        last_turn_at timestamptz NOT NULL
      );
    `);
    await this.takeOver(runner);
    await this.limitJobs(runner);
    await isolateByTenant(runner, 'document_versions');
    // Readable where its document is.
    await narrowByGrants(runner, 'document_versions', 'document_id IN (SELECT id FROM documents)');
    await keepTokensToKbs(runner, 'document_versions');
    for (const table of ['ingestions', 'staged_chunks', 'staged_vectors']) {
      await isolateByTenant(runner, table);
      // For the system alone.
      await narrowByGrants(runner, table, 'false');
      await keepTokensToKbs(runner, table);
    }
    await isolateByTenant(runner, 'ingestion_turns', { privileges: 'SELECT' });
    await openToPlatform(runner, 'ingestion_turns', 'SELECT, INSERT, UPDATE');
    // Whose document is next is decided across tenants: of what, is not.
    await runner.query(`
      CREATE POLICY platform_picks ON documents FOR UPDATE TO ${PLATFORM_ROLE} USING (true) WITH CHECK (true);
      GRANT SELECT (id, ingestion_paused, reindexing_to) ON knowledge_bases TO ${PLATFORM_ROLE};
      GRANT SELECT (kb_id, stage, priority, picked_at, lease_owner), UPDATE (picked_at, lease_expires_at) ON documents
        TO ${PLATFORM_ROLE};
    `);
    await runner.query(pickDocument);
    await runner.query(`
      REVOKE EXECUTE ON FUNCTION pick_document() FROM PUBLIC;
      GRANT EXECUTE ON FUNCTION pick_document() TO ${PLATFORM_ROLE};
    `);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }

  /** The originals that are there already, where they lie. */
  private async takeOver(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE documents NO FORCE ROW LEVEL SECURITY;
      INSERT INTO document_versions (document_id, version, tenant_id, kb_id, storage_key, content_sha256, size_bytes,
                                     mime_type, file_name, created_by, created_at)
      SELECT id, version, tenant_id, kb_id, tenant_id || '/' || kb_id || '/' || id, content_sha256, size_bytes,
             mime_type, file_name, created_by, created_at
      FROM documents;
      UPDATE documents SET indexed_version = version WHERE chunk_count > 0;
      ALTER TABLE documents FORCE ROW LEVEL SECURITY;
    `);
  }

  private async limitJobs(runner: QueryRunner): Promise<void> {
    const tables = ['plans', 'tenants', 'tenant_counters'];
    for (const table of tables) await runner.query(`ALTER TABLE ${table} NO FORCE ROW LEVEL SECURITY`);
    for (const [plan, most] of Object.entries(MOST_CONCURRENT_JOBS)) {
      await runner.query(`UPDATE plans SET limits = limits || $2::jsonb WHERE name = $1`, [
        plan,
        JSON.stringify({ max_concurrent_jobs: most }),
      ]);
    }
    await runner.query(`
      UPDATE tenant_counters c SET limits = p.limits || t.quotas
      FROM tenants t JOIN plans p ON p.name = t.plan_tier WHERE t.id = c.tenant_id
    `);
    for (const table of tables) await runner.query(`ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`);
  }
}
