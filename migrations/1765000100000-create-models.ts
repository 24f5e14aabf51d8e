import type { MigrationInterface, QueryRunner } from 'typeorm';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** What an entry says of a model, whoever's it is. */
const MODEL_COLUMNS = `
        provider text NOT NULL,
        model_type text NOT NULL CHECK (model_type IN ('chat', 'embedding', 'rerank', 'asr', 'image2text', 'tts')),
        -- As the provider knows it; of an embedding model also the name of its vectors.
        model_name text NOT NULL,
        display_name text NOT NULL,
        -- Null: the provider's own. A tenant's may name variables.
        api_base text,
        -- Sealed.
        api_key bytea,
        -- Of keys that are long enough to have a secret left.
        api_key_last_four text,
        api_key_variables text[] NOT NULL DEFAULT '{}',
        -- Tokens that prompt and answer have together at most; null: not known.
        max_tokens integer CHECK (max_tokens > 0),
        dimensions integer CHECK (dimensions > 0),
        settings jsonb NOT NULL DEFAULT '{}',
        -- Micro-credits.
        price_per_1k bigint CHECK (price_per_1k BETWEEN 0 AND 9007199254740991),
        used_tokens bigint NOT NULL DEFAULT 0,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()`;

/** Models that tenants bring, those that the platform gives them, and which of them each uses. */
export class CreateModels1765000100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE models (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        ${MODEL_COLUMNS},
        UNIQUE (id, tenant_id)
      );
      CREATE UNIQUE INDEX models_name_key ON models (tenant_id, model_type, lower(display_name));
      CREATE INDEX models_created_by_idx ON models (created_by);

      CREATE TABLE platform_models (
        id uuid PRIMARY KEY,
        ${MODEL_COLUMNS},
        shared_with_all boolean NOT NULL,
        -- Place among the defaults of its type, from 0; null: it is none.
        default_position integer CHECK (default_position >= 0)
      );
      CREATE UNIQUE INDEX platform_models_name_key ON platform_models (model_type, lower(display_name));
      CREATE INDEX platform_models_created_by_idx ON platform_models (created_by);

      -- Whom a model of the platform is shared with that is not shared with all.
      CREATE TABLE platform_model_tenants (
        platform_model_id uuid NOT NULL REFERENCES platform_models ON DELETE CASCADE,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        PRIMARY KEY (platform_model_id, tenant_id)
      );
      CREATE INDEX platform_model_tenants_tenant_id_idx ON platform_model_tenants (tenant_id);

      CREATE TABLE model_defaults (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        model_type text NOT NULL CHECK (model_type IN ('chat', 'embedding', 'rerank', 'asr', 'image2text', 'tts')),
        -- 0 is the default; the others take its place where it fails, in their order.
        position integer NOT NULL CHECK (position >= 0),
        model_id uuid,
        platform_model_id uuid REFERENCES platform_models ON DELETE CASCADE,
        PRIMARY KEY (tenant_id, model_type, position),
        FOREIGN KEY (model_id, tenant_id) REFERENCES models (id, tenant_id) ON DELETE CASCADE,
        CHECK ((model_id IS NULL) <> (platform_model_id IS NULL))
      );
      CREATE INDEX model_defaults_model_id_idx ON model_defaults (model_id, tenant_id);
      CREATE INDEX model_defaults_platform_model_id_idx ON model_defaults (platform_model_id);
    `);
    await isolateByTenant(runner, 'models');
    await isolateByTenant(runner, 'model_defaults');
    await isolateByTenant(runner, 'platform_model_tenants', { privileges: 'SELECT' });
    // What was used is added up for all tenants at once; nothing else of theirs is the platform's business.
    await openToPlatform(runner, 'models', 'SELECT (id, used_tokens), UPDATE (used_tokens)');
    await openToPlatform(runner, 'platform_models', 'SELECT, INSERT, UPDATE, DELETE');
    await openToPlatform(runner, 'platform_model_tenants', 'SELECT, INSERT, DELETE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
