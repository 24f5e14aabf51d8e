import type { MigrationInterface, QueryRunner } from 'typeorm';
import { openToPlatform } from './row-level-security.js';

export class CreateUsersAndSessions1763712100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE users (
        id uuid PRIMARY KEY,
        email text NOT NULL,
        username text,
        display_name text NOT NULL,
        password_hash text NOT NULL,
        avatar_url text,
        language text NOT NULL DEFAULT 'en',
        timezone text NOT NULL DEFAULT 'UTC',
        is_active boolean NOT NULL DEFAULT true,
        last_login_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE UNIQUE INDEX users_email_key ON users (lower(email));

      CREATE TABLE auth_sessions (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        active_tenant_id uuid,
        refresh_token_hash bytea NOT NULL,
        user_agent text,
        ip text,
        created_at timestamptz NOT NULL DEFAULT now(),
        last_used_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz
      );
      CREATE INDEX auth_sessions_user_id_idx ON auth_sessions (user_id);
    `);
    await openToPlatform(runner, 'users', 'SELECT, INSERT, UPDATE, DELETE');
    await openToPlatform(runner, 'auth_sessions', 'SELECT, INSERT, UPDATE, DELETE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
