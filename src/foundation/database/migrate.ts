import type { DataSource } from 'typeorm';
import type { DatabaseAccess } from './data-source.js';
import { PLATFORM_ROLE, TENANT_ROLE } from './roles.js';

/** "enclave" in ASCII, as a 56-bit key for pg_advisory_lock: one migration at a time on one database. */
const ADVISORY_LOCK = '28548142441887333';

/** What runs after the migrations, in the same hold of the lock: data that belongs to the code, such as default roles. */
export type AfterMigrations = (dataSource: DataSource) => Promise<void>;

/**
 * Brings the database up to date: tables and policies, the login role, and whatever `after` adds. Safe to call from
 * several processes at once.
 *
 * @returns the names of the migrations that ran
 */
export async function migrate(access: DatabaseAccess, after: AfterMigrations): Promise<string[]> {
  const dataSource = access.administration();
  await dataSource.initialize();
  const runner = dataSource.createQueryRunner();
  try {
    // On the embedded database the data folder is locked already, and a second connection would share the session.
    if (access.url) await runner.query(`SELECT pg_advisory_lock(${ADVISORY_LOCK})`);
    else await runner.release();
    const ran = await dataSource.runMigrations({ transaction: 'each' });
    await createLoginRole(dataSource, access.login);
    await after(dataSource);
    return ran.map(migration => migration.name);
  } finally {
    if (access.url) {
      await runner.query(`SELECT pg_advisory_unlock(${ADVISORY_LOCK})`);
      await runner.release();
    }
    await dataSource.destroy();
  }
}

/** The names of migrations that the database still lacks, as far as the running role can tell. */
export async function pendingMigrations(dataSource: DataSource, known: readonly string[]): Promise<string[]> {
  const [{ exists }] = await dataSource.query(
    `SELECT to_regclass('public.migrations') IS NOT NULL AS exists`,
  );
  if (!exists) return [...known];
  const rows: Array<{ name: string }> = await dataSource.query('SELECT name FROM migrations');
  const done = new Set(rows.map(row => row.name));
  return known.filter(name => !done.has(name));
}

async function createLoginRole(
  dataSource: DataSource,
  { role, password }: { role: string; password: string | null },
): Promise<void> {
  // %I and %L quote; a role that stands already keeps its attributes, which the check at every start looks at.
  const [{ create, alter, grant }] = await dataSource.query(
    `SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOINHERIT', $1::text) AS create,
            format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text) AS alter,
            format('GRANT ${TENANT_ROLE}, ${PLATFORM_ROLE} TO %I', $1::text) AS grant`,
    [role, password],
  );
  await dataSource.query(
    `DO $migrate$ BEGIN ${create}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $migrate$`,
  );
  if (password !== null) await dataSource.query(alter);
  const [{ member }] = await dataSource.query(
    `SELECT pg_has_role($1, '${TENANT_ROLE}', 'MEMBER') AND pg_has_role($1, '${PLATFORM_ROLE}', 'MEMBER') AS member`,
    [role],
  );
  if (!member) await dataSource.query(grant);
  await dataSource.query(`GRANT SELECT ON migrations TO ${TENANT_ROLE}, ${PLATFORM_ROLE}`);
  const [{ read }] = await dataSource.query(
    `SELECT format('GRANT SELECT ON migrations TO %I', $1::text) AS read`,
    [role],
  );
  await dataSource.query(read);
}
