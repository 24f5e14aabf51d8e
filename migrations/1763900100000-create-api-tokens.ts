import type { MigrationInterface, QueryRunner } from 'typeorm';
import { isolateByTenant, keepTokensToKbs, openToPlatform } from './row-level-security.js';

/** API tokens with their secrets, and what keeps a token to its knowledge bases. */
export class CreateApiTokens1763900100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE api_tokens (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('live', 'test', 'publishable')),
        scopes text[] NOT NULL,
        -- Null: all that the creator sees. No references: a token whose last knowledge base is gone opens none.
        kb_ids uuid[] CHECK (cardinality(kb_ids) > 0),
        agent_ids uuid[] CHECK (cardinality(agent_ids) > 0),
        allowed_origins text[] NOT NULL DEFAULT '{}',
        rate_limit_per_minute integer NOT NULL DEFAULT 60 CHECK (rate_limit_per_minute > 0),
        -- Micro-credits a calendar month; null: no limit.
        monthly_credit_budget bigint CHECK (monthly_credit_budget >= 0),
        expires_at timestamptz,
        last_used_at timestamptz,
        -- Whose rights it has a part of. Without its creator it is good for nothing.
        created_by uuid REFERENCES users ON DELETE SET NULL,
        is_active boolean NOT NULL DEFAULT true,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (id, tenant_id),
        CHECK (kind <> 'publishable' OR (kb_ids IS NOT NULL AND allowed_origins <> '{}'))
      );
      CREATE UNIQUE INDEX api_tokens_name_key ON api_tokens (tenant_id, lower(name));
      CREATE INDEX api_tokens_created_by_idx ON api_tokens (created_by);

      -- One is good at a time, and others until their overlap with it ends.
      CREATE TABLE api_token_secrets (
        -- The first characters of the secret: what it is looked up by.
        prefix text PRIMARY KEY,
        tenant_id uuid NOT NULL,
        token_id uuid NOT NULL,
        hash bytea NOT NULL CHECK (octet_length(hash) = 32),
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        FOREIGN KEY (token_id, tenant_id) REFERENCES api_tokens (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX api_token_secrets_token_id_idx ON api_token_secrets (token_id);
    `);
    await isolateByTenant(runner, 'api_tokens');
    await isolateByTenant(runner, 'api_token_secrets');
    // Whose token it is, is found before a tenant is entered.
    await openToPlatform(runner, 'api_tokens', 'SELECT, UPDATE (last_used_at)');
    await openToPlatform(runner, 'api_token_secrets', 'SELECT');

    await keepTokensToKbs(runner, 'knowledge_bases', 'id');
    for (const table of [
      'kb_terms',
      'documents',
      'chunks',
      'chunk_vectors',
      'kb_grants',
      'document_readers',
    ]) {
      await keepTokensToKbs(runner, table);
    }
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
