import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import { CURRENT_USER, isolateByTenant, keepTokensToKbs, narrowByGrants } from './row-level-security.js';

/** The API token that acts; NULL where a user or the system does. */
const CURRENT_TOKEN = `(SELECT nullif(current_setting('app.token_id', true), '')::uuid)`;

/**
 * What was asked and found shows whoever sees it something of documents that others may not read: it is for those who have
 * started the evaluation, and those who see everything.
 */
const SEES_DETAILS = `(SELECT current_setting('app.access', true) = 'all')
  OR e.token_id = ${CURRENT_TOKEN}
  OR (${CURRENT_TOKEN} IS NULL AND e.user_id = ${CURRENT_USER})`;

/** Questions that are asked of a knowledge base in several ways, and how well each has answered them. */
export class CreateEvaluations1765000700000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE evaluations (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        kb_id uuid NOT NULL,
        name text NOT NULL,
        -- With whose rights it asks; nobody's where that user or token is gone.
        started_as text NOT NULL CHECK (started_as IN ('user', 'api_token', 'system')),
        user_id uuid REFERENCES users ON DELETE SET NULL,
        token_id uuid,
        -- What it waits for its turn as. No reference: ended jobs are swept away.
        job_id uuid NOT NULL,
        status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        question_count integer NOT NULL CHECK (question_count > 0),
        -- The same for the same questions: such evaluations can be compared.
        question_set text NOT NULL,
        variants jsonb NOT NULL,
        -- What held in the knowledge base when it began.
        settings jsonb NOT NULL,
        -- Questions are asked in a fixed order, each in all variants: this says where it stands, too.
        result_count integer NOT NULL DEFAULT 0,
        -- How many of the last results in a row are missing because a model was not there.
        given_up integer NOT NULL DEFAULT 0,
        -- By variant; null until it has ended.
        figures jsonb,
        error_code text,
        error_message text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        finished_at timestamptz,
        CHECK (user_id IS NULL OR started_as = 'user'),
        CHECK (token_id IS NULL OR started_as = 'api_token'),
        UNIQUE (id, tenant_id),
        FOREIGN KEY (kb_id, tenant_id) REFERENCES knowledge_bases (id, tenant_id) ON DELETE CASCADE,
        FOREIGN KEY (token_id, tenant_id) REFERENCES api_tokens (id, tenant_id) ON DELETE SET NULL (token_id)
      );
      CREATE INDEX evaluations_kb_id_idx ON evaluations (kb_id, created_at);
      CREATE INDEX evaluations_tenant_id_idx ON evaluations (tenant_id);
      CREATE INDEX evaluations_job_id_idx ON evaluations (job_id);
      CREATE INDEX evaluations_token_id_idx ON evaluations (token_id);

      CREATE TABLE evaluation_questions (
        evaluation_id uuid NOT NULL,
        -- From 0.
        position integer NOT NULL,
        tenant_id uuid NOT NULL,
        question jsonb NOT NULL,
        PRIMARY KEY (evaluation_id, position),
        FOREIGN KEY (evaluation_id, tenant_id) REFERENCES evaluations (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX evaluation_questions_tenant_id_idx ON evaluation_questions (tenant_id);

      CREATE TABLE evaluation_results (
        evaluation_id uuid NOT NULL,
        question integer NOT NULL,
        variant integer NOT NULL,
        tenant_id uuid NOT NULL,
        -- Ids and figures: no text of any document.
        outcome jsonb NOT NULL,
        PRIMARY KEY (evaluation_id, question, variant),
        FOREIGN KEY (evaluation_id, tenant_id) REFERENCES evaluations (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX evaluation_results_tenant_id_idx ON evaluation_results (tenant_id);
    `);
    for (const table of ['evaluations', 'evaluation_questions', 'evaluation_results']) {
      await isolateByTenant(runner, table);
    }
    await narrowByGrants(runner, 'evaluations', 'kb_id IN (SELECT id FROM knowledge_bases)');
    await keepTokensToKbs(runner, 'evaluations');
    for (const table of ['evaluation_questions', 'evaluation_results']) {
      // The sub-select shows what is visible of the evaluations alone.
      const condition = `EXISTS (SELECT FROM evaluations e WHERE e.id = ${table}.evaluation_id AND (${SEES_DETAILS}))`;
      await runner.query(`
        CREATE POLICY own_evaluations ON ${table} AS RESTRICTIVE FOR ALL TO ${TENANT_ROLE}
          USING (${condition}) WITH CHECK (${condition});
      `);
    }
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
