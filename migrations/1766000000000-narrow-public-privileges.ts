import type { MigrationInterface, QueryRunner } from 'typeorm';
import { PLATFORM_ROLE, TENANT_ROLE } from '../src/foundation/database/roles.js';
import { setLocal } from './set-local.sql.js';

/**
 * Takes from everybody what PostgreSQL lets everybody do, and no statement of this application needs: whoever got a text
 * of theirs into an expression of a statement could leave the tenant with it.
 *
 * Each REVOKE is of the owner's to say. Where whoever migrates owns neither the database nor its functions, as on some
 * managed servers, PostgreSQL answers with a warning, and they stay as they were.
 */
export class NarrowPublicPrivileges1766000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(setLocal);
    await runner.query(`
      REVOKE EXECUTE ON FUNCTION set_local FROM PUBLIC;
      GRANT EXECUTE ON FUNCTION set_local TO ${TENANT_ROLE}, ${PLATFORM_ROLE};
    `);
    // Of functions made before: what they set they set through it, and tables of a session never stand for ours.
    await runner.query(`
      DO $$
      DECLARE
        definition text;
        own regprocedure;
      BEGIN
        FOR definition IN
          SELECT pg_get_functiondef(oid) FROM pg_proc
          WHERE pronamespace = 'public'::regnamespace AND prosrc LIKE '%set_config(%' AND proname <> 'set_local'
        LOOP
          EXECUTE regexp_replace(definition, 'set_config\\(([^;]*), true\\);', 'set_local(\\1);', 'g');
        END LOOP;
        FOR own IN
          SELECT oid::regprocedure FROM pg_proc
          WHERE pronamespace = 'public'::regnamespace AND proconfig @> '{search_path=public}'
        LOOP
          EXECUTE format('ALTER FUNCTION %s SET search_path = public, pg_temp', own);
        END LOOP;
        -- The role, the tenant, and, on the embedded database, the session’s user: settings, all of them.
        GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO CURRENT_USER;
        REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC;
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
      END $$`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations go forward only.');
  }
}
