import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { writeDefaultPolicy } from '../src/core/authorization/default-policy.repository.js';
import { parseEnv } from '../src/foundation/config/env.js';
import { type DatabaseAccess, openDatabase } from '../src/foundation/database/data-source.js';
import { migrate } from '../src/foundation/database/migrate.js';

const SECRET = 'a secret that only the benchmarks know, of enough characters';

export const ADMIN = { email: 'admin@enclave.bench', password: 'the admin of all the benchmarks' };

/** A data folder, and on a server a database and a login role, that exist for one benchmark only. */
export interface Installation {
  /** The settings that name it, complete for `main.js`. */
  settings: Record<string, string>;
  /** Connection string of the superuser on its database; null where it is embedded. */
  adminUrl: string | null;
  dataDir: string;
  /** Opens its database in this process. On the embedded database: while no server has it open. */
  open(): Promise<DatabaseAccess>;
  migrate(): Promise<void>;
  remove(): Promise<void>;
}

/** @param serverUrl DATABASE_ADMIN_URL of the server to make a database on; undefined: embedded */
export async function createInstallation(serverUrl: string | undefined): Promise<Installation> {
  const dataDir = mkdtempSync(join(tmpdir(), 'enclave-bench-data-'));
  const name = `enclave_bench_${process.pid}_${Date.now().toString(36)}`;
  const database = serverUrl ? await createDatabase(serverUrl, name) : null;
  const settings: Record<string, string> = {
    PORT: '0',
    DATA_DIR: dataDir,
    JWT_SECRET: SECRET,
    ENCRYPTION_KEY: SECRET,
    PLATFORM_ADMIN_EMAIL: ADMIN.email,
    PLATFORM_ADMIN_PASSWORD: ADMIN.password,
    LOG_LEVEL: 'warn',
    // A benchmark asks for more than any plan or person.
    DEFAULT_PLAN_TIER: 'enterprise',
    RATE_LIMIT_PER_MEMBER_PER_MINUTE: '10000000',
    RATE_LIMIT_PER_ADDRESS_PER_MINUTE: '10000000',
    ...(database && {
      DATABASE_URL: database.url,
      DATABASE_ADMIN_URL: database.adminUrl,
      MIGRATE_ON_START: 'true',
    }),
  };
  const open = () => openDatabase(parseEnv(settings), SECRET);
  return {
    settings,
    adminUrl: database?.adminUrl ?? null,
    dataDir,
    open,
    async migrate() {
      const access = await open();
      await migrate(access, writeDefaultPolicy);
      await access.close();
    },
    async remove() {
      await database?.drop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

async function createDatabase(serverUrl: string, name: string) {
  const admin = (...statements: string[]) =>
    withClient(serverUrl, async client => {
      for (const statement of statements) await client.query(statement);
    });
  await admin(`CREATE DATABASE ${name}`);
  const adminUrl = new URL(serverUrl);
  adminUrl.pathname = `/${name}`;
  const url = new URL(adminUrl);
  // A login role of its own: the default one belongs to whatever else runs on this server.
  url.username = name;
  url.password = SECRET.replaceAll(' ', '-');
  return {
    url: url.href,
    adminUrl: adminUrl.href,
    drop: () => admin(`DROP DATABASE ${name} WITH (FORCE)`, `DROP ROLE IF EXISTS ${name}`),
  };
}

export async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
