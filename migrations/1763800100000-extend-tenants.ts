import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

/** What a tenant looks like and how it is configured; its sealed variables; templates to make tenants from. */
export class ExtendTenants1763800100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE tenants
        ADD COLUMN branding jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN features jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN config jsonb NOT NULL DEFAULT '{}';
      GRANT UPDATE (branding, features, config) ON tenants TO ${TENANT_ROLE};
      CREATE INDEX tenants_created_at_idx ON tenants (created_at, id);
      CREATE INDEX tenants_created_by_idx ON tenants (created_by);
      CREATE INDEX tenants_display_name_idx ON tenants (display_name, id);

      CREATE TABLE tenant_variables (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        name text NOT NULL,
        sealed bytea NOT NULL,
        updated_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, name)
      );

      CREATE TABLE tenant_templates (
        name text PRIMARY KEY,
        description text NOT NULL DEFAULT '',
        body jsonb NOT NULL,
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
      );
    `);
    await isolateByTenant(runner, 'tenant_variables');
    await openToPlatform(runner, 'tenant_templates', 'SELECT, INSERT, UPDATE, DELETE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
