import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant } from './row-level-security.js';

/** What requests with an `Idempotency-Key` have been answered, for as long as they may be sent again. */
export class CreateIdempotencyKeys1763900600000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE idempotency_keys (
        -- SHA-256 of whose key it is, where, and of the key.
        id bytea PRIMARY KEY CHECK (octet_length(id) = 32),
        -- Null: the request belongs to no tenant.
        tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
        -- SHA-256 of the request: the same key with another is refused.
        fingerprint bytea NOT NULL,
        status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'answered', 'not_replayable')),
        lease_owner uuid,
        lease_expires_at timestamptz,
        -- Status, headers and body, sealed.
        answer bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        CHECK ((status = 'running') = (lease_owner IS NOT NULL)),
        CHECK ((status = 'answered') = (answer IS NOT NULL))
      );
      CREATE INDEX idempotency_keys_tenant_id_idx ON idempotency_keys (tenant_id);
      CREATE INDEX idempotency_keys_expires_at_idx ON idempotency_keys (expires_at);
    `);
    await isolateByTenant(runner, 'idempotency_keys');
    // The platform keeps those of no tenant, and sees of the others only what is to be removed.
    await runner.query(`
      CREATE POLICY platform_access ON idempotency_keys FOR ALL TO ${PLATFORM_ROLE}
        USING (tenant_id IS NULL OR expires_at < now()) WITH CHECK (tenant_id IS NULL);
      GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO ${PLATFORM_ROLE};
    `);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
