import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE, TENANT_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant, narrowByGrants, openToPlatform } from './row-level-security.js';

/** Answers that models have given, for equal questions; and by what it is known that a knowledge base is no longer the same. */
export class CreateAnswerCache1765000400000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await this.versionContents(runner);
    await runner.query(`
      CREATE TABLE answer_cache (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        -- SHA-256 of everything that the answer depends on.
        key bytea NOT NULL CHECK (octet_length(key) = 32),
        -- What was asked, and how it was then; of several knowledge bases both in the same order.
        kb_ids uuid[] NOT NULL CHECK (cardinality(kb_ids) > 0),
        content_versions bigint[] NOT NULL CHECK (cardinality(content_versions) = cardinality(kb_ids)),
        -- What the answer was made from. No references: an answer of documents that are gone is seen by nobody.
        document_ids uuid[] NOT NULL,
        answer jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        used_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, key)
      );
      CREATE INDEX answer_cache_expires_at_idx ON answer_cache (expires_at);
    `);
    await isolateByTenant(runner, 'answer_cache');
    // Whoever sees not all of the knowledge bases and documents that an answer is made from does not see the answer.
    await narrowByGrants(
      runner,
      'answer_cache',
      `(SELECT count(*) FROM knowledge_bases WHERE id = ANY (kb_ids)) = cardinality(kb_ids)
       AND (SELECT count(*) FROM documents WHERE id = ANY (document_ids)) = cardinality(document_ids)`,
    );
    const ofToken = `(SELECT nullif(current_setting('app.kb_ids', true), '') IS NULL)
      OR kb_ids <@ (SELECT nullif(current_setting('app.kb_ids', true), '')::uuid[])`;
    await runner.query(`
      CREATE POLICY token_kbs ON answer_cache AS RESTRICTIVE FOR ALL TO ${TENANT_ROLE}
        USING (${ofToken}) WITH CHECK (${ofToken})`);
    // What is too old, too much, or can be found no more is swept away across tenants, without being read.
    await openToPlatform(
      runner,
      'answer_cache',
      'SELECT (tenant_id, key, kb_ids, content_versions, used_at, expires_at), DELETE',
    );
    await runner.query(`GRANT SELECT (content_version) ON knowledge_bases TO ${PLATFORM_ROLE}`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }

  /**
   * `knowledge_bases.content_version` is another after every change of what searches find there. Whoever changes chunks or a
   * document holds the documents' locks before that of their knowledge base, and takes the latter for its statistics anyway.
   */
  private async versionContents(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE knowledge_bases ADD COLUMN content_version bigint NOT NULL DEFAULT 0');
    await runner.query(`
      CREATE FUNCTION version_changed_contents() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      BEGIN
        -- A cascade from the register of tenants: the knowledge bases are going, too.
        IF nullif(current_setting('app.tenant_id', true), '') IS NOT NULL THEN
          UPDATE knowledge_bases SET content_version = content_version + 1
          WHERE id IN (SELECT kb_id FROM changed);
        END IF;
        RETURN NULL;
      END $$`);
    // Who may read a document: a reader who goes is kept from it by the policies.
    for (const table of ['chunks', 'document_readers']) {
      await runner.query(`
        CREATE TRIGGER ${table}_version_in AFTER INSERT ON ${table} REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION version_changed_contents()`);
    }
    await runner.query(`
      CREATE TRIGGER chunks_version_out AFTER DELETE ON chunks REFERENCING OLD TABLE AS changed
      FOR EACH STATEMENT EXECUTE FUNCTION version_changed_contents()`);
    await runner.query(`
      CREATE FUNCTION version_changed_document() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      BEGIN
        UPDATE knowledge_bases SET content_version = content_version + 1 WHERE id = NEW.kb_id;
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER documents_version AFTER UPDATE OF title, metadata, restricted, created_at ON documents
      FOR EACH ROW WHEN (NEW.indexed_version > 0 AND (OLD.title, OLD.metadata, OLD.restricted, OLD.created_at)
                         IS DISTINCT FROM (NEW.title, NEW.metadata, NEW.restricted, NEW.created_at))
      EXECUTE FUNCTION version_changed_document()`);
    await runner.query(`
      CREATE FUNCTION version_reindexed_kb() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
      BEGIN
        NEW.content_version := OLD.content_version + 1;
        RETURN NEW;
      END $$`);
    await runner.query(`
      CREATE TRIGGER knowledge_bases_version BEFORE UPDATE OF text_search_configuration ON knowledge_bases
      FOR EACH ROW WHEN (OLD.text_search_configuration IS DISTINCT FROM NEW.text_search_configuration)
      EXECUTE FUNCTION version_reindexed_kb()`);
  }
}
