import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** Addresses of tenants that are told what happens, and what each was told. */
export class CreateWebhooks1763900500000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE webhooks (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        -- May name variables of the tenant.
        url text NOT NULL,
        description text NOT NULL,
        -- Exact names, \`thing.*\`, or \`*\`.
        events text[] NOT NULL,
        -- Sealed, like the one of before and the headers.
        secret bytea NOT NULL,
        previous_secret bytea,
        previous_secret_expires_at timestamptz,
        headers bytea,
        header_names text[] NOT NULL DEFAULT '{}',
        is_active boolean NOT NULL,
        disabled_reason text CHECK (disabled_reason IN ('gone', 'failing')),
        -- Attempts that failed since the last that succeeded.
        consecutive_failures integer NOT NULL DEFAULT 0,
        failing_since timestamptz,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CHECK ((previous_secret IS NULL) = (previous_secret_expires_at IS NULL)),
        CHECK (NOT is_active OR disabled_reason IS NULL),
        UNIQUE (id, tenant_id)
      );
      CREATE INDEX webhooks_tenant_id_idx ON webhooks (tenant_id);

      CREATE TABLE webhook_deliveries (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL,
        webhook_id uuid NOT NULL,
        event_id uuid NOT NULL,
        event_type text NOT NULL,
        payload jsonb NOT NULL,
        -- The delivery whose event this one tells again.
        redelivery_of uuid,
        status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'succeeded', 'failed')),
        attempts integer NOT NULL DEFAULT 0,
        -- Of the last attempt.
        status_code integer,
        response_excerpt text,
        error_code text,
        duration_ms integer,
        next_attempt_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        FOREIGN KEY (webhook_id, tenant_id) REFERENCES webhooks (id, tenant_id) ON DELETE CASCADE
      );
      CREATE INDEX webhook_deliveries_webhook_id_idx ON webhook_deliveries (webhook_id, created_at, id);
      CREATE INDEX webhook_deliveries_created_at_idx ON webhook_deliveries (created_at);

      -- Whose turn it is among a tenant's jobs of a kind.
      CREATE INDEX jobs_tenant_id_kind_idx ON jobs (tenant_id, kind, run_after) WHERE status IN ('queued', 'running');
      -- How many of them are under way, counted for each that is begun, however many wait.
      CREATE INDEX jobs_running_idx ON jobs (tenant_id, kind) WHERE status = 'running';

      GRANT UPDATE (emits_events) ON tenants TO ${TENANT_ROLE};
    `);
    await isolateByTenant(runner, 'webhooks');
    // Old ones are deleted for all tenants at once.
    await isolateByTenant(runner, 'webhook_deliveries', { privileges: 'SELECT, INSERT, UPDATE' });
    // Who is to hear of an event is decided while events of all tenants are taken from the outbox; what they are sent goes
    // in there, and cannot be read again.
    await openToPlatform(runner, 'webhooks', 'SELECT (id, tenant_id, events, is_active)');
    await openToPlatform(
      runner,
      'webhook_deliveries',
      `SELECT (id, status, created_at), INSERT, UPDATE (status, error_code, next_attempt_at, finished_at), DELETE`,
    );
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
