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

/** Owners, admins and the system see all of their tenant; everybody else what is open or granted to them. */
export const SEES_ALL = `(SELECT current_setting('app.access', true) = 'all')`;
/** The cast outside makes it an array to look in, where a bare sub-select would be rows to compare with. */
const CURRENT_GROUPS = `(SELECT nullif(current_setting('app.groups', true), ''))::uuid[]`;
const IS_MINE = `user_id = ${CURRENT_USER} OR group_id = ANY (${CURRENT_GROUPS})`;

/** For the policy of `knowledge_bases`. The sub-select is worked out once a statement, and only where a kb is closed. */
export const KB_IS_VISIBLE = `(visibility = 'tenant' OR id IN (SELECT kb_id FROM kb_grants WHERE ${IS_MINE}))`;

/** For tables with the flag `restricted`. @param document the column with the document's id */
export const DOCUMENT_IS_READABLE = (document: string): string =>
  `(NOT restricted OR ${document} IN (SELECT document_id FROM document_readers WHERE ${IS_MINE}))`;

/** The knowledge bases that the acting API token is kept to; NULL where it is kept to none. */
const TOKEN_KBS = `(SELECT nullif(current_setting('app.kb_ids', true), '')::uuid[])`;

/**
 * Keeps API tokens that are for single knowledge bases to those: a second restrictive policy, beside the one of
 * {@link narrowByGrants}. Both sub-selects are worked out once a statement; the cast that changes nothing makes the second
 * an array to look in. An empty list is a limit too, and opens nothing.
 *
 * @param column where the id of the knowledge base stands
 */
export async function keepTokensToKbs(runner: QueryRunner, table: string, column = 'kb_id'): Promise<void> {
  const condition = `(SELECT nullif(current_setting('app.kb_ids', true), '') IS NULL) OR ${column} = ANY (${TOKEN_KBS}::uuid[])`;
  await runner.query(`
    CREATE POLICY token_kbs ON ${table} AS RESTRICTIVE FOR ALL TO ${TENANT_ROLE}
      USING (${condition}) WITH CHECK (${condition});
  `);
}

/**
 * Narrows what `isolateByTenant` has opened: a restrictive policy, which PostgreSQL adds with AND, so that whatever it
 * says, it cannot show a row of another tenant.
 */
export async function narrowByGrants(runner: QueryRunner, table: string, condition: string): Promise<void> {
  const insert = table === 'knowledge_bases' ? 'true' : `${SEES_ALL} OR (${condition})`;
  await runner.query(`
    CREATE POLICY granted_access ON ${table} AS RESTRICTIVE FOR ALL TO ${TENANT_ROLE}
      USING (${SEES_ALL} OR (${condition})) WITH CHECK (${insert});
  `);
}
