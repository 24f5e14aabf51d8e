import type { MigrationInterface, QueryRunner } from 'typeorm';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** What a tenant wants to be told of, and what of it has happened. */
export class CreateAlerts1763900700000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE alerts (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        name text NOT NULL,
        metric text NOT NULL CHECK (metric IN
          ('users', 'documents', 'kbs', 'storage', 'api_calls', 'queries_per_hour', 'llm_tokens', 'credits',
           'failure_rate')),
        threshold numeric NOT NULL CHECK (threshold > 0),
        threshold_type text NOT NULL CHECK (threshold_type IN ('percentage_of_quota', 'absolute')),
        actions text[] NOT NULL CHECK (cardinality(actions) > 0
          AND actions <@ ARRAY['email_admins', 'email_members', 'webhook', 'throttle']),
        throttle_to_per_minute integer CHECK (throttle_to_per_minute > 0),
        cooldown_seconds integer NOT NULL CHECK (cooldown_seconds >= 0),
        is_active boolean NOT NULL,
        state text NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'firing')),
        -- Whether anybody was told of this firing, and when it was last told that it fires.
        told boolean NOT NULL DEFAULT false,
        told_at timestamptz,
        last_value numeric,
        last_limit numeric,
        fired_at timestamptz,
        recovered_at timestamptz,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (tenant_id, id),
        CHECK (throttle_to_per_minute IS NOT NULL OR NOT 'throttle' = ANY (actions)),
        CHECK (is_active OR state = 'ok')
      );
      CREATE INDEX alerts_active_idx ON alerts (tenant_id) WHERE is_active;
      CREATE INDEX alerts_created_by_idx ON alerts (created_by);

      CREATE TABLE alert_events (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        alert_id uuid NOT NULL,
        kind text NOT NULL CHECK (kind IN ('fired', 'recovered')),
        value numeric NOT NULL,
        threshold numeric NOT NULL,
        threshold_type text NOT NULL,
        -- What the threshold was a percentage of; null: it was none, or there was no limit.
        limit_value numeric,
        told boolean NOT NULL,
        created_at timestamptz NOT NULL,
        FOREIGN KEY (tenant_id, alert_id) REFERENCES alerts (tenant_id, id) ON DELETE CASCADE
      );
      CREATE INDEX alert_events_alert_id_idx ON alert_events (tenant_id, alert_id, created_at, id);
    `);
    await isolateByTenant(runner, 'alerts');
    await isolateByTenant(runner, 'alert_events');
    // It looks for tenants in which there is something to evaluate, and sees no more of it.
    await openToPlatform(runner, 'alerts', 'SELECT (tenant_id, is_active)');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
