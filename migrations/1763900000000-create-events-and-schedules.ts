import type { MigrationInterface, QueryRunner } from 'typeorm';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** What has happened and somebody waits to hear of; and when work that recurs is due next. */
export class CreateEventsAndSchedules1763900000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- Whether anybody waits to hear of what happens in the tenant: else nothing is written down for them.
      ALTER TABLE tenants ADD COLUMN emits_events boolean NOT NULL DEFAULT false;

      -- An outbox: written with the change, and gone once its listeners have taken it over.
      CREATE TABLE events (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        type text NOT NULL,
        data jsonb NOT NULL,
        occurred_at timestamptz NOT NULL
      );
      CREATE INDEX events_tenant_id_idx ON events (tenant_id);

      CREATE TABLE job_schedules (
        kind text PRIMARY KEY,
        next_at timestamptz NOT NULL
      );
      CREATE INDEX jobs_kind_idx ON jobs (kind) WHERE status IN ('queued', 'running');
    `);
    await isolateByTenant(runner, 'events', { privileges: 'SELECT, INSERT' });
    await openToPlatform(runner, 'events', 'SELECT, INSERT, UPDATE, DELETE');
    await openToPlatform(runner, 'job_schedules', 'SELECT, INSERT, UPDATE, DELETE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
