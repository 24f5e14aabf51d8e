import type { QueryRunner } from 'typeorm';
import { PLATFORM_ROLE, TENANT_ROLE } from '../src/foundation/database/roles.js';

/** The tenant of the transaction, evaluated once a statement; NULL, which equals nothing, where none is set. */
export const CURRENT_TENANT = `(SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)`;
export const CURRENT_USER = `(SELECT nullif(current_setting('app.user_id', true), '')::uuid)`;

/**
 * Closes a table: row security enabled and forced, one policy for the tenant role on `column`, and the privileges
 * that this role gets at all.
 */
export async function isolateByTenant(
  runner: QueryRunner,
  table: string,
  { column = 'tenant_id', privileges = 'SELECT, INSERT, UPDATE, DELETE' } = {},
): Promise<void> {
  await runner.query(`
    ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE ${table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant_isolation ON ${table} FOR ALL TO ${TENANT_ROLE}
      USING (${column} = ${CURRENT_TENANT}) WITH CHECK (${column} = ${CURRENT_TENANT});
    GRANT ${privileges} ON ${table} TO ${TENANT_ROLE};
  `);
}

/** Opens a table, or some of its columns, to the platform role, which belongs to no tenant. */
export async function openToPlatform(runner: QueryRunner, table: string, privileges: string): Promise<void> {
  const commands = /\b(INSERT|UPDATE|DELETE)\b/.test(privileges) ? 'ALL' : 'SELECT';
  await runner.query(`
    ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE ${table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY platform_access ON ${table} FOR ${commands} TO ${PLATFORM_ROLE}
      USING (true)${commands === 'ALL' ? ' WITH CHECK (true)' : ''};
    GRANT ${privileges} ON ${table} TO ${PLATFORM_ROLE};
  `);
}
