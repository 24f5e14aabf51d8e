import type { MigrationInterface, QueryRunner } from 'typeorm';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** Work that is done apart from the request that asked for it. Without a tenant it is the platform's. */
export class CreateJobs1763800500000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE jobs (
        id uuid PRIMARY KEY,
        tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
        kind text NOT NULL,
        -- Who else than its creator may look at it; null: nobody.
        permission text,
        status text NOT NULL DEFAULT 'queued'
          CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
        stage text,
        progress real NOT NULL DEFAULT 0,
        -- What the handler needs, sealed; gone once the job has ended.
        payload bytea,
        result jsonb,
        error_code text,
        error_message text,
        attempts integer NOT NULL DEFAULT 0,
        run_after timestamptz NOT NULL DEFAULT now(),
        lease_owner uuid,
        lease_expires_at timestamptz,
        -- On whose behalf, for the audit.
        actor jsonb NOT NULL,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz
      );
      CREATE INDEX jobs_tenant_id_idx ON jobs (tenant_id);
      CREATE INDEX jobs_unfinished_idx ON jobs (run_after) WHERE status IN ('queued', 'running');
      CREATE INDEX jobs_finished_idx ON jobs (finished_at) WHERE finished_at IS NOT NULL;
    `);
    await isolateByTenant(runner, 'jobs', { privileges: 'SELECT, INSERT' });
    await openToPlatform(runner, 'jobs', 'SELECT, INSERT, UPDATE, DELETE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
