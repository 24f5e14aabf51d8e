import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE, TENANT_ROLE } from '../src/foundation/database/roles.js';
import { lexicalTextFunctions } from './lexical-text.sql.js';

/** The language of a knowledge base, and words of scripts that do not part them. */
export class AddLanguages1765000200000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    for (const statement of lexicalTextFunctions) await runner.query(statement);
    await runner.query(`
      GRANT EXECUTE ON FUNCTION holds_cjk(text), lexical_text(text, boolean) TO ${TENANT_ROLE}, ${PLATFORM_ROLE};

      -- What is asked for; text_search_configuration is what the keyword index is made with, and follows it.
      ALTER TABLE knowledge_bases ADD COLUMN language text NOT NULL DEFAULT 'english';
    `);
    // The owner reads and changes all rows, whatever their tenant.
    const tables = ['chunks', 'chunk_vectors', 'kb_terms', 'knowledge_bases'];
    for (const table of tables) await runner.query(`ALTER TABLE ${table} NO FORCE ROW LEVEL SECURITY`);
    // Chunks that were indexed with a whole run of characters as one word.
    await runner.query(`
      CREATE TEMPORARY TABLE reweighed ON COMMIT DROP AS
        SELECT id, kb_id FROM chunks WHERE holds_cjk(concat_ws(E'\\n', heading, text));
      UPDATE chunk_vectors AS vector SET lexical = bm25.weights, length = bm25.length
      FROM reweighed, chunks AS chunk, knowledge_bases AS kb,
           bm25_weights(kb.text_search_configuration, concat_ws(E'\\n', chunk.heading, chunk.text),
                        kb.reference_length) AS bm25
      WHERE vector.chunk_id = reweighed.id AND chunk.id = reweighed.id AND kb.id = reweighed.kb_id;
      DELETE FROM kb_terms WHERE kb_id IN (SELECT kb_id FROM reweighed);
      INSERT INTO kb_terms (tenant_id, kb_id, term, document_frequency)
        SELECT tenant_id, kb_id, term, count(*) FROM chunk_vectors, sparsevec_indices(lexical) AS term
        WHERE kb_id IN (SELECT kb_id FROM reweighed) GROUP BY tenant_id, kb_id, term;
      UPDATE knowledge_bases AS kb SET lexeme_count = (SELECT sum(length) FROM chunk_vectors WHERE kb_id = kb.id)
      WHERE id IN (SELECT kb_id FROM reweighed);
    `);
    for (const table of tables) await runner.query(`ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
