import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientBase } from 'pg';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { type CurrentTenant, TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../src/core/tenancy/tenant-database.js';
import { PLATFORM_ROLE, TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import type { Tx } from '../../src/foundation/database/transaction.js';
import { type TestApplication, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { SERVER, withAdmin } from '../setup/database.js';
import { tried } from '../setup/isolation-cases.js';
import { asSuperuser } from '../setup/superuser.js';

/** The embedded database has one connection, however many are wanted. */
const CONNECTIONS = SERVER ? 3 : 1;
const TENANTS = ['acme', 'other'] as const;
type Name = (typeof TENANTS)[number];

/** What the door to a tenant's data sets for a transaction: read from it, so that none is forgotten here. */
const SETTINGS = [
  ...new Set(
    readFileSync(join(import.meta.dirname, '../../src/core/tenancy/tenant-database.ts'), 'utf8').match(
      /\bapp\.\w+/g,
    ),
  ),
];

let app: TestApplication;
let dataSource: DataSource;
let tables: string[];
let tenants: Record<Name, CurrentTenant>;
let members: Record<Name, Client>;
/** The role that connections have on their own. */
let login: string;

beforeAll(async () => {
  app = await startTestApplication({ DATABASE_POOL_SIZE: String(CONNECTIONS) });
  dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  const made = {} as Record<Name, CurrentTenant>;
  members = {} as Record<Name, Client>;
  for (const name of TENANTS) {
    made[name] = { id: (await app.createTenant(name)).id, name };
    await app.addText(name, `The warranty of ${name} lasts two years.`, { title: `Of ${name}` });
    members[name] = (await app.createMember(name, 'owner')).client;
  }
  tenants = made;
  tables = await asSuperuser(app.env, dataSource, async client => {
    const { rows } = await client.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_class c
       WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND (c.relname = 'tenants'
         OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'))
         AND has_table_privilege('${TENANT_ROLE}', c.oid, 'SELECT') ORDER BY 1`,
    );
    return rows.map(({ name }) => name);
  });
  [{ login }] = await dataSource.query('SELECT session_user AS login');
});
afterAll(() => app?.close());

afterEach(async () => {
  await expectClean();
  for (const name of TENANTS) await expectOwn(name);
});

const service = <T>(type: new (...parameters: never[]) => T): T =>
  app.application.nest.get<T>(type, { strict: false });
const inTenant = <T>(name: Name, work: (tx: Tx) => Promise<T>): Promise<T> =>
  service(TenantContext).runAsSystem(tenants[name], () => service(TenantDatabase).run(work));
const inPlatform = <T>(work: (tx: Tx) => Promise<T>): Promise<T> =>
  service(TenantContext).runAsSystem(null, () => service(PlatformDatabase).run(work));
const adminUrl = () => (app.env.database.mode === 'server' ? (app.env.database.adminUrl as string) : '');

describe('T5 the application’s own connections', () => {
  it('know what is to be looked for', () => {
    expect(SETTINGS).toEqual(
      expect.arrayContaining(['app.tenant_id', 'app.user_id', 'app.access', 'app.kb_ids']),
    );
    expect(tables.length).toBeGreaterThan(30);
  });

  it('carry nothing over from one tenant to the next, nor to the platform', async () => {
    for (let turn = 0; turn < 10; turn++) {
      for (const name of TENANTS) {
        const rows = await inTenant(name, tx => tx.query('SELECT DISTINCT tenant_id FROM documents'));
        expect(rows).toEqual([{ tenant_id: tenants[name].id }]);
        const seen = await inPlatform(tx => tx.query('SELECT count(*)::int AS tenants FROM tenants'));
        expect(seen).toEqual([{ tenants: 2 }]);
        tried(2);
      }
    }
  });

  it.each([
    ['the work fails', () => Promise.reject(new Error('the work failed')), /the work failed/],
    ['a statement fails', (tx: Tx) => tx.query('SELECT 1 / 0'), /division by zero/],
    ['a value is none', (tx: Tx) => tx.query(`SELECT 'x'::uuid`), /invalid input syntax/],
    ['a table is not there', (tx: Tx) => tx.query('SELECT * FROM no_such_table'), /does not exist/],
    ['a privilege is missing', (tx: Tx) => tx.query('SELECT * FROM auth_sessions'), /permission denied/],
    [
      'a policy refuses a row',
      (tx: Tx) => tx.query(`UPDATE documents SET tenant_id = gen_random_uuid()`),
      /row-level security|permission denied|foreign key/,
    ],
    ['an error is swallowed', (tx: Tx) => tx.query('SELECT 1 / 0').catch(() => undefined), /rolled back/],
    [
      'a savepoint is rolled back',
      async (tx: Tx) => {
        await tx.query('SAVEPOINT before');
        await tx.query('SELECT 1 / 0').catch(() => undefined);
        await tx.query('ROLLBACK TO SAVEPOINT before');
      },
      null,
    ],
    [
      'the transaction was ended in the middle of it',
      async (tx: Tx) => {
        await tx.query('ROLLBACK');
      },
      null,
    ],
    [
      'a cursor is left open',
      async (tx: Tx) => {
        await tx.query('DECLARE left_open CURSOR FOR SELECT * FROM documents');
        await tx.query('FETCH 1 FROM left_open');
      },
      null,
    ],
  ] as Array<[string, (tx: Tx) => Promise<unknown>, RegExp | null]>)(
    'carry nothing over where %s',
    async (_, work, failure) => {
      for (const name of TENANTS) {
        const done = inTenant(name, work);
        if (failure) await expect(done).rejects.toThrow(failure);
        else await done;
        await expectClean();
      }
    },
  );

  it('carry nothing over from requests that fail, in the order in which they come', async () => {
    for (let turn = 0; turn < 3; turn++) {
      const answers = [
        await members.acme.get('/tenants/acme/kbs/docs/documents/none'),
        await members.acme.post('/tenants/acme/kbs/docs/search', { query: '' }),
        await members.other.get('/tenants/acme'),
        await members.acme.post('/tenants/acme/kbs', { name: 'Docs', slug: 'docs' }),
      ];
      expect(answers.map(({ status }) => status)).toEqual([404, 422, 404, 409]);
      await expectClean();
    }
  });

  it('carry nothing over from requests whose client has gone away', async () => {
    const path = (name: Name) => `${app.anonymous.url}/api/v1/tenants/${name}/kbs/docs`;
    for (let turn = 0; turn < 4; turn++) {
      const answers = Array.from({ length: 16 }, async (_, number) => {
        const name = TENANTS[number % 2] as Name;
        const leaves = AbortSignal.timeout(1 + ((number * 7 + turn * 3) % 25));
        const response = await fetch(`${path(name)}/search`, {
          method: 'POST',
          headers: { authorization: `Bearer ${members[name].token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ query: `warranty ${turn} ${number}` }),
          signal: leaves,
        }).catch(() => null);
        const text = await response?.text().catch(() => null);
        // What came in time is one's own.
        const others = TENANTS.filter(other => other !== name).map(other => `Of ${other}`);
        for (const title of others) expect(text ?? '').not.toContain(title);
        tried();
      });
      await Promise.all(answers);
      await expectClean();
    }
  });

  describe.runIf(SERVER)('on a server', () => {
    it('carry nothing over after a statement took too long', async () => {
      const slow = inTenant('acme', async tx => {
        await tx.query('SET LOCAL statement_timeout = 50');
        await tx.query('SELECT pg_sleep(10)');
      });
      await expect(slow).rejects.toThrow(/statement timeout/);
    });

    it('nor after a lock was waited for too long', async () => {
      await withAdmin(adminUrl(), async admin => {
        await admin.query('BEGIN; SELECT * FROM knowledge_bases FOR UPDATE');
        const waits = inTenant('acme', async tx => {
          await tx.query('SET LOCAL lock_timeout = 50');
          await tx.query(`UPDATE knowledge_bases SET description = ''`);
        });
        await expect(waits).rejects.toThrow(/lock timeout/);
        await admin.query('ROLLBACK');
      });
    });

    it('nor after a query was cancelled', async () => {
      const ended = inTenant('acme', tx => tx.query(`SELECT pg_sleep(10) /* to be cancelled */`)).catch(
        (error: unknown) => error,
      );
      await untilRunning('to be cancelled', 'pg_cancel_backend');
      expect(String(await ended)).toMatch(/canceling statement/);
    });

    it('nor after its session was ended in the middle', async () => {
      const ended = inTenant('acme', tx => tx.query(`SELECT pg_sleep(10) /* to be ended */`)).catch(
        (error: unknown) => error,
      );
      await untilRunning('to be ended', 'pg_terminate_backend');
      expect(String(await ended)).toMatch(/terminat|closed/);
    });

    it('nor after all were cut while they were idle', async () => {
      await withAdmin(adminUrl(), admin =>
        admin.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND usename = $1 AND pid <> pg_backend_pid()`,
          [login],
        ),
      );
      // The first ones may meet a connection that is gone.
      await expect
        .poll(async () => (await members.acme.get('/tenants/acme')).status, { timeout: 10_000 })
        .toBe(200);
    });

    it('nor from a request that waits for a lock when its client leaves', async () => {
      await withAdmin(adminUrl(), async admin => {
        await admin.query(`BEGIN; UPDATE knowledge_bases SET description = description`);
        const leaves = new AbortController();
        const waits = fetch(`${app.anonymous.url}/api/v1/tenants/acme/kbs/docs`, {
          method: 'PATCH',
          headers: { authorization: `Bearer ${members.acme.token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ description: 'changed' }),
          signal: leaves.signal,
        }).catch(() => null);
        await sleep(150);
        leaves.abort();
        await waits;
        await expectOwn('other');
        await admin.query('ROLLBACK');
      });
    });

    /** Ends, in one way or the other, the statement with these words as soon as it runs. */
    async function untilRunning(words: string, how: string): Promise<void> {
      await withAdmin(adminUrl(), async admin => {
        for (let waited = 0; waited < 5_000; waited += 20) {
          const { rowCount } = await admin.query(
            `SELECT ${how}(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()`,
            [`%/* ${words} */%`],
          );
          if (rowCount) return;
          await sleep(20);
        }
        throw new Error(`Nothing runs that is ${words}.`);
      });
    }
  });
});

/** Looks at every connection of the pool: whose it is, what is set, and what each table shows to whoever is nobody. */
async function expectClean(): Promise<void> {
  const runners = Array.from({ length: CONNECTIONS }, () => dataSource.createQueryRunner());
  try {
    const connections = (await Promise.all(runners.map(runner => runner.connect()))) as ClientBase[];
    for (const connection of connections) {
      const { rows } = await connection.query(
        `SELECT current_user AS user, session_user AS session, ${SETTINGS.map(
          name => `nullif(current_setting('${name}', true), '') AS "${name}"`,
        ).join(', ')}, (SELECT count(*)::int FROM pg_cursors WHERE name <> '') AS cursors,
         (SELECT count(*)::int FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS locks`,
      );
      expect(rows).toEqual([
        {
          user: login,
          session: login,
          ...Object.fromEntries(SETTINGS.map(name => [name, null])),
          cursors: 0,
          locks: 0,
        },
      ]);
      await expect(connection.query('SELECT FROM documents')).rejects.toThrow(/permission denied/);
      await expectNoRows(connection);
      tried(3);
    }
  } finally {
    await Promise.all(runners.map(runner => runner.release()));
  }
}

async function expectNoRows(connection: ClientBase): Promise<void> {
  await connection.query('BEGIN');
  // With access to all: else what narrows a tenant's own rows would hide others' as well.
  await connection.query(`SET LOCAL ROLE ${TENANT_ROLE}`);
  await connection.query(`SET LOCAL app.access = 'all'`);
  try {
    const { rows } = await connection.query<{ name: string; rows: number }>(
      tables.map(name => `SELECT '${name}' AS name, count(*)::int AS rows FROM ${name}`).join(' UNION ALL '),
    );
    expect(rows.filter(({ rows: count }) => count !== 0)).toEqual([]);
    await connection.query(`SET LOCAL ROLE ${PLATFORM_ROLE}`);
    expect((await connection.query('SELECT FROM audit_entries WHERE tenant_id IS NOT NULL')).rowCount).toBe(
      0,
    );
  } finally {
    await connection.query('ROLLBACK');
  }
}

/** A member still finds what is the tenant's, and that alone. */
async function expectOwn(name: Name): Promise<void> {
  const { status, body } = await members[name].get(`/tenants/${name}/kbs/docs/documents`);
  expect([status, body.items?.map((item: { title: string }) => item.title)]).toEqual([200, [`Of ${name}`]]);
  tried();
}
