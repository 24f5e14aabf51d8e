import type { MigrationInterface, QueryRunner } from 'typeorm';
import { TENANT_ROLE } from '../src/foundation/database/roles.js';
import { openToPlatform } from './row-level-security.js';

/** Accounts without a password yet, proven e-mail addresses, unique user names, and tokens to choose a password with. */
export class ExtendUsers1763800000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await releaseTakenNames(runner);
    await runner.query(`
      ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL, ADD COLUMN email_verified_at timestamptz;
      CREATE UNIQUE INDEX users_username_key ON users (lower(username));
      CREATE INDEX users_created_at_idx ON users (created_at, id);

      CREATE TABLE password_tokens (
        token_hash bytea PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL
      );
      CREATE INDEX password_tokens_user_id_idx ON password_tokens (user_id);
      CREATE INDEX password_tokens_expires_at_idx ON password_tokens (expires_at);
      GRANT SELECT (email_verified_at) ON users TO ${TENANT_ROLE};
    `);
    await openToPlatform(runner, 'password_tokens', 'SELECT, INSERT, UPDATE, DELETE');
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}

/** User names were free until now: of several accounts with one name, the oldest keeps it. */
async function releaseTakenNames(runner: QueryRunner): Promise<void> {
  await runner.query(`
    SET LOCAL ROLE enclave_platform;
    UPDATE users SET username = NULL WHERE id IN (
      SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY lower(username) ORDER BY created_at, id) AS place
                      FROM users WHERE username IS NOT NULL) AS named
      WHERE place > 1);
    RESET ROLE;
  `);
}
