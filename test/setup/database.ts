import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { writeDefaultPolicy } from '../../src/core/authorization/default-policy.repository.js';
import { parseEnv } from '../../src/foundation/config/env.js';
import { openDatabase } from '../../src/foundation/database/data-source.js';
import { migrate } from '../../src/foundation/database/migrate.js';
import { templateName } from './template-name.js';

/** Set by `npm run test:server`: the same tests on a PostgreSQL server and Redis. */
export const SERVER = process.env['TEST_DATABASE_ADMIN_URL']
  ? { adminUrl: process.env['TEST_DATABASE_ADMIN_URL'], redisUrl: process.env['TEST_REDIS_URL'] as string }
  : null;

export const TEST_SECRET = 'a secret that only the tests know, of enough characters';

/** A migrated database of one's own. */
export interface TestDatabase {
  /** The settings that name it. */
  env: Record<string, string>;
  /** Removes it; nothing may use it any more. */
  drop(): Promise<void>;
}

const TEMPLATE = templateName(join(import.meta.dirname, '../..'));

/** Migrated once for all test files of all runs on the same migrations. */
export async function prepareTemplate(): Promise<void> {
  if (SERVER) await prepareServerTemplate(SERVER.adminUrl);
  else await prepareFolderTemplate();
}

export async function createTestDatabase(): Promise<TestDatabase> {
  return SERVER ? cloneServerTemplate(SERVER) : cloneFolderTemplate();
}

/** Folder of this run, where the global set-up made one. */
function testFolder(): string {
  return process.env['TEST_FOLDER'] ?? tmpdir();
}

/** A global of Node that its types leave to the browser's. */
declare const WebAssembly: { compile(bytes: Uint8Array): Promise<object> };

let compiledPostgres: Promise<object> | undefined;

/**
 * V8 shares the compiled code of equal modules among threads as long as one of them holds it. Otherwise the database
 * thread of each application compiles PGlite, and optimises what runs often, all over again.
 */
async function keepCompiledPostgres(): Promise<void> {
  compiledPostgres ??= WebAssembly.compile(
    readFileSync(
      join(dirname(createRequire(import.meta.url).resolve('@electric-sql/pglite')), 'pglite.wasm'),
    ),
  );
  await compiledPostgres;
}

async function prepareFolderTemplate(): Promise<void> {
  const folder = join(tmpdir(), TEMPLATE);
  if (existsSync(folder)) return;
  const fresh = mkdtempSync(join(tmpdir(), 'enclave-template-'));
  await migrateDatabase({ DATA_DIR: fresh });
  renameSync(fresh, folder);
}

async function cloneFolderTemplate(): Promise<TestDatabase> {
  await keepCompiledPostgres();
  const dataDir = mkdtempSync(join(testFolder(), 'enclave-test-'));
  cpSync(join(tmpdir(), TEMPLATE, 'postgres'), join(dataDir, 'postgres'), { recursive: true });
  return {
    env: { DATA_DIR: dataDir },
    drop: async () => rmSync(dataDir, { recursive: true, force: true }),
  };
}

async function prepareServerTemplate(adminUrl: string): Promise<void> {
  await withAdmin(adminUrl, async admin => {
    await admin.query(`SELECT pg_advisory_lock(hashtext($1))`, [TEMPLATE]);
    const { rowCount } = await admin.query('SELECT 1 FROM pg_database WHERE datname = $1', [TEMPLATE]);
    if (rowCount) return;
    await admin.query(`CREATE DATABASE ${TEMPLATE}_new`);
    await migrateDatabase({ DATABASE_ADMIN_URL: withDatabase(adminUrl, `${TEMPLATE}_new`) });
    await admin.query(`ALTER DATABASE ${TEMPLATE}_new RENAME TO ${TEMPLATE}`);
  });
}

async function cloneServerTemplate({
  adminUrl,
  redisUrl,
}: NonNullable<typeof SERVER>): Promise<TestDatabase> {
  const name = `enclave_test_${process.pid}_${Date.now().toString(36)}`;
  await withAdmin(adminUrl, async admin => {
    // Two files that clone at once would each find the template in use by the other.
    await admin.query(`SELECT pg_advisory_lock(hashtext($1))`, [TEMPLATE]);
    await admin.query(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE}`);
  });
  const dataDir = mkdtempSync(join(testFolder(), 'enclave-test-'));
  const redis = new URL(redisUrl);
  // A database of Redis for each of vitest's processes, of which one runs one file at a time.
  redis.pathname = `/${(Number(process.env['VITEST_POOL_ID'] ?? 1) % 15) + 1}`;
  return {
    env: {
      DATA_DIR: dataDir,
      DATABASE_ADMIN_URL: withDatabase(adminUrl, name),
      MIGRATE_ON_START: 'false',
      REDIS_URL: redis.href,
    },
    drop: async () => {
      rmSync(dataDir, { recursive: true, force: true });
      await withAdmin(adminUrl, admin => admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
    },
  };
}

async function migrateDatabase(settings: Record<string, string>): Promise<void> {
  const env = parseEnv({ ...settings, JWT_SECRET: TEST_SECRET, ENCRYPTION_KEY: TEST_SECRET });
  const access = await openDatabase(env, TEST_SECRET);
  await migrate(access, writeDefaultPolicy);
  await access.close();
}

export async function withAdmin<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}
