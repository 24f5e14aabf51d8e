import type { MigrationInterface, QueryRunner } from 'typeorm';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

export class CreateInvitations1763800200000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE invitations (
        id uuid PRIMARY KEY,
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        email text NOT NULL,
        roles text[] NOT NULL CHECK (cardinality(roles) > 0),
        message text,
        token_hash bytea NOT NULL UNIQUE,
        -- That a pending one has expired is told by the clock; it is written down when another takes its place.
        status text NOT NULL DEFAULT 'pending'
          CHECK (status IN ('pending', 'accepted', 'declined', 'revoked', 'expired')),
        invited_by uuid REFERENCES users ON DELETE SET NULL,
        accepted_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        sent_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        answered_at timestamptz
      );
      CREATE UNIQUE INDEX invitations_pending_key ON invitations (tenant_id, lower(email)) WHERE status = 'pending';
      CREATE INDEX invitations_tenant_id_idx ON invitations (tenant_id, created_at, id);
      CREATE INDEX invitations_email_idx ON invitations (lower(email)) WHERE status = 'pending';

      -- Members are listed in the order in which they joined.
      CREATE INDEX members_joined_at_idx ON members (tenant_id, joined_at, user_id);
    `);
    await isolateByTenant(runner, 'invitations');
    // Whoever holds a token, or is invited, stands outside of the tenant.
    await openToPlatform(runner, 'invitations', 'SELECT, INSERT, UPDATE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
