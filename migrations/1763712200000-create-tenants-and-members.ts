import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import { isolateByTenant, openToPlatform } from './row-level-security.js';

export class CreateTenantsAndMembers1763712200000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE tenants (
        id uuid PRIMARY KEY,
        name text NOT NULL UNIQUE,
        display_name text NOT NULL,
        description text NOT NULL DEFAULT '',
        type text NOT NULL DEFAULT 'organization' CHECK (type IN ('organization', 'department', 'project', 'customer')),
        parent_id uuid REFERENCES tenants ON DELETE SET NULL,
        plan_tier text NOT NULL DEFAULT 'free' CHECK (plan_tier IN ('free', 'starter', 'pro', 'enterprise')),
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'erasing')),
        settings jsonb NOT NULL DEFAULT '{}',
        metadata jsonb NOT NULL DEFAULT '{}',
        created_by uuid REFERENCES users ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE INDEX tenants_parent_id_idx ON tenants (parent_id);

      CREATE TABLE members (
        tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
        user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
        joined_at timestamptz NOT NULL DEFAULT now(),
        joined_by uuid REFERENCES users ON DELETE SET NULL,
        PRIMARY KEY (tenant_id, user_id)
      );
      CREATE INDEX members_user_id_idx ON members (user_id);
    `);
    // Name, plan and status are the platform's to change.
    await isolateByTenant(runner, 'tenants', {
      column: 'id',
      privileges: 'SELECT, UPDATE (display_name, description, settings, metadata, updated_at)',
    });
    await openToPlatform(runner, 'tenants', 'SELECT, INSERT, UPDATE, DELETE');
    await isolateByTenant(runner, 'members');
    await openToPlatform(runner, 'members', 'SELECT, INSERT, UPDATE, DELETE');

    // A tenant sees of the users who they are, of its own members only, and nothing of how they sign in.
    await runner.query(`
      CREATE POLICY tenant_members ON users FOR SELECT TO ${TENANT_ROLE}
        USING (EXISTS (SELECT FROM members WHERE members.user_id = users.id));
      GRANT SELECT (id, email, username, display_name, avatar_url, is_active) ON users TO ${TENANT_ROLE};
    `);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
