import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENTITIES } from '../../src/app.module.js';
import { type Env, parseEnv } from '../../src/foundation/config/env.js';
import { type DatabaseAccess, openDatabase } from '../../src/foundation/database/data-source.js';
import { DEFAULT_LOGIN_ROLE, PLATFORM_ROLE, TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { runTransaction } from '../../src/foundation/database/transaction.js';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../setup/database.js';
import { tried } from '../setup/isolation-cases.js';
import { asSuperuser } from '../setup/superuser.js';
import { A, B, idOf, seed } from '../setup/tenant-rows.js';

// What SQL that somebody smuggled into a tenant's transaction could still do: nothing here goes through the API.

let database: TestDatabase;
let env: Env;
let access: DatabaseAccess;
let dataSource: DataSource;
/** Those with a tenant's rows. */
let tables: string[];

beforeAll(async () => {
  database = await createTestDatabase();
  // One connection, so that each transaction gets what the one before it left behind.
  env = parseEnv({
    ...database.env,
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    DATABASE_POOL_SIZE: '1',
  });
  access = await openDatabase(env, TEST_SECRET);
  dataSource = access.application(ENTITIES);
  await dataSource.initialize();
  await superuser(seed(A));
  await superuser(seed(B));
  // Statistics hold values of rows.
  await superuser('ANALYZE');
  const rows = await superuser(
    `SELECT table_name AS name FROM information_schema.columns
     WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1`,
  );
  tables = rows.map(({ name }) => name as string);
  expect(tables.length).toBeGreaterThan(40);
});
afterAll(async () => {
  await dataSource?.destroy();
  await access?.close();
  await database?.drop();
});

/** As the role of the tenants, in tenant A, seeing all of it. */
function inTenantA(sql: string, parameters?: unknown[]): Promise<any> {
  tried();
  return runTransaction(
    dataSource,
    `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${A}'; SET LOCAL app.access = 'all'`,
    tx => tx.query(sql, parameters),
  );
}

/** What the database said, and everything that it said beside it. */
async function refusalOf(attempt: Promise<unknown>): Promise<string> {
  try {
    return `not refused: ${JSON.stringify(await attempt)}`;
  } catch (error) {
    const { message, driverError } = error as Error & { driverError?: Record<string, unknown> };
    return [message, driverError?.['detail'], driverError?.['hint'], driverError?.['where']]
      .filter(Boolean)
      .join('\n');
  }
}

async function superuser(statements: string, values?: unknown[]): Promise<Array<Record<string, any>>> {
  return asSuperuser(env, dataSource, async client => {
    const answer: any = await client.query(statements, values);
    return [answer].flat().at(-1).rows;
  });
}

describe('a value that ended its quotes', () => {
  it.each([
    `SELECT 1; SET app.tenant_id = '${B}'`,
    `SELECT 1; SET LOCAL app.tenant_id = '${B}'; SELECT * FROM documents`,
    `SELECT 1; RESET ROLE`,
    `SELECT 1; SET ROLE ${PLATFORM_ROLE}`,
    `SELECT 1; RESET SESSION AUTHORIZATION`,
    `SELECT 1; COMMIT; SET app.tenant_id = '${B}'`,
    `SELECT 1; ROLLBACK; SELECT 1`,
    `SELECT 1; DELETE FROM documents`,
  ])('begins no second statement: %s', async text => {
    for (const parameters of [undefined, []])
      expect(await refusalOf(inTenantA(text, parameters))).toMatch(/multiple commands/);
    expect(await refusalOf(inTenantA(`${text} WHERE $1 = 1`, [1]))).toMatch(/multiple commands|syntax error/);
    const [{ documents }] = await inTenantA('SELECT count(*)::int AS documents FROM documents');
    expect(documents).toBe(1);
  });

  it.each([
    [
      'another tenant',
      `set_config('app.tenant_id', '${B}', true)`,
      /^permission denied for function set_config$/,
    ],
    [
      '… for the next ones too',
      `set_config('app.tenant_id', '${B}', false)`,
      /^permission denied for function set_config$/,
    ],
    [
      'the role of the platform',
      `set_config('role', '${PLATFORM_ROLE}', true)`,
      /^permission denied for function set_config$/,
    ],
    ['no role', `set_config('role', 'none', true)`, /^permission denied for function set_config$/],
    [
      'the user of the session',
      `set_config('session_authorization', 'postgres', false)`,
      /^permission denied for function set_config$/,
    ],
    [
      'another search path',
      `set_config('search_path', 'pg_temp', false)`,
      /^permission denied for function set_config$/,
    ],
    [
      'no row security',
      `set_config('row_security', 'off', true)`,
      /^permission denied for function set_config$/,
    ],
    [
      'the tenant, by our own function',
      `set_local('app.tenant_id', '${B}')`,
      /^This is not set by a function\./,
    ],
    [
      'a role, by our own function',
      `set_local('role', '${PLATFORM_ROLE}')`,
      /^This is not set by a function\./,
    ],
    [
      'the user, by our own function',
      `set_local('session_authorization', 'postgres')`,
      /^This is not set by a function\./,
    ],
    [
      'no knowledge bases, by our own function',
      `set_local('app.kb_ids', '')`,
      /^This is not set by a function\./,
    ],
    [
      'a user of the tenant, by our own function',
      `set_local('app.user_id', '${idOf(A, 'user')}')`,
      /^This is not set by a function\./,
    ],
    [
      'a statement within',
      `query_to_xml('SET app.tenant_id = ''${B}''', true, true, '')`,
      /^(SET is not allowed in a non-volatile function|unsupported XML feature)/,
    ],
    ['a file', `pg_read_file('/etc/passwd')`, /^permission denied for function pg_read_file$/],
    [
      'bytes of a file',
      `pg_read_binary_file('PG_VERSION')`,
      /^permission denied for function pg_read_binary_file$/,
    ],
    ['a folder', `pg_ls_dir('.')`, /^permission denied for function pg_ls_dir$/],
    ['a large object of a file', `lo_import('/etc/passwd')`, /^permission denied for function lo_import$/],
    ['a file of a large object', `lo_export(1, '/tmp/stolen')`, /^permission denied for function lo_export$/],
    ['the settings of the server', `pg_reload_conf()`, /^permission denied for function pg_reload_conf$/],
    [
      'who may connect',
      `(SELECT count(*) FROM pg_hba_file_rules)`,
      /^permission denied for view pg_hba_file_rules$/,
    ],
    ['passwords of roles', `(SELECT count(*) FROM pg_authid)`, /^permission denied for table pg_authid$/],
    ['passwords of users', `(SELECT max(password_hash) FROM users)`, /^permission denied for table users$/],
    [
      'sessions of users',
      `(SELECT count(*) FROM auth_sessions)`,
      /^permission denied for table auth_sessions$/,
    ],
    [
      'tokens for passwords',
      `(SELECT count(*) FROM password_tokens)`,
      /^permission denied for table password_tokens$/,
    ],
    [
      'statistics that hold values',
      `(SELECT count(*) FROM pg_statistic)`,
      /^permission denied for table pg_statistic$/,
    ],
    [
      'sequences of the replication',
      `pg_create_logical_replication_slot('x', 'pgoutput')`,
      /^permission denied to use replication slots/,
    ],
  ])('calls nothing that would be %s', async (_, expression, refusal) => {
    expect(await refusalOf(inTenantA(`SELECT ${expression} AS got FROM documents`))).toMatch(refusal);
    expect(await whereWeAre()).toEqual({ user: DEFAULT_LOGIN_ROLE, tenant: null });
  });

  it('reaches settings through no view either', async () => {
    for (const name of ['role', 'session_authorization', 'row_security', 'search_path', 'work_mem']) {
      const refusal = await refusalOf(
        inTenantA(`UPDATE pg_settings SET setting = 'off' WHERE name = $1`, [name]),
      );
      expect(refusal, name).toMatch(/permission denied/);
    }
  });

  // The embedded database has one session.
  it.runIf(SERVER)('sees nothing of what others ask just now', async () => {
    const asked = superuser(`SELECT pg_sleep(2), '${B}'`);
    const others = `FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query <> ''`;
    await expect
      .poll(() => superuser(`SELECT query ${others} AND query LIKE '%pg_sleep(2)%'`))
      .not.toEqual([]);
    const rows = await inTenantA(`SELECT query ${others}`);
    expect(rows.length).toBeGreaterThan(0);
    for (const { query } of rows) expect(query).toBe('<insufficient privilege>');
    await asked;
  });
});

describe('a statement of the tenant’s role', () => {
  it.each([
    'ALTER TABLE documents DISABLE ROW LEVEL SECURITY',
    'ALTER TABLE documents NO FORCE ROW LEVEL SECURITY',
    'DROP POLICY tenant_isolation ON documents',
    `CREATE POLICY open ON documents TO ${TENANT_ROLE} USING (true)`,
    'DROP TABLE documents CASCADE',
    'TRUNCATE documents CASCADE',
    'TRUNCATE audit_entries',
    'LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE',
    'CREATE TABLE public.stolen AS SELECT * FROM documents',
    'CREATE TABLE stolen (row text)',
    'CREATE VIEW stolen AS SELECT * FROM documents',
    'CREATE SCHEMA stolen',
    'CREATE EXTENSION dblink',
    'CREATE FUNCTION stolen() RETURNS integer LANGUAGE sql AS $$SELECT 1$$',
    'CREATE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$SELECT $1$$',
    'CREATE TRIGGER stolen AFTER INSERT ON documents EXECUTE FUNCTION make_large_vectors()',
    'CREATE RULE stolen AS ON SELECT TO documents DO INSTEAD SELECT 1',
    `ALTER ROLE ${TENANT_ROLE} BYPASSRLS`,
    `ALTER ROLE ${DEFAULT_LOGIN_ROLE} SUPERUSER`,
    `CREATE ROLE stolen`,
    `GRANT ${PLATFORM_ROLE} TO ${TENANT_ROLE}`,
    `GRANT SELECT ON users TO ${TENANT_ROLE}`,
    `ALTER FUNCTION sees_kb(uuid) OWNER TO ${TENANT_ROLE}`,
    `COPY documents TO '/tmp/stolen'`,
    `COPY documents TO PROGRAM 'cat'`,
    `COPY documents FROM PROGRAM 'id'`,
    'UPDATE pg_class SET relrowsecurity = false',
    'DELETE FROM pg_policy',
    `INSERT INTO casbin_rule (ptype, v0, v1, v2) VALUES ('g', '${idOf(A, 'user')}', 'platform_admin', 'platform')`,
    `INSERT INTO casbin_rule (ptype, v0, v1, v2) VALUES ('g', '${idOf(A, 'user')}', 'owner', 'tenant_${B}')`,
    `UPDATE tenants SET id = '${B}'`,
    `UPDATE documents SET tenant_id = '${B}'`,
  ])('is refused: %s', async statement => {
    expect(await refusalOf(inTenantA(statement))).toMatch(
      /^(permission denied|must be owner|new row violates row-level security policy|extension "dblink" is not available)/,
    );
  });

  it('does not switch row security off: it fails instead', async () => {
    await expect(
      runTransaction(
        dataSource,
        `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${A}'`,
        async tx => {
          tried();
          await tx.query('SET LOCAL row_security = off');
          return tx.query('SELECT * FROM documents');
        },
      ),
    ).rejects.toThrow(/affected by row-level security/);
  });

  it('makes nothing that would stand before ours', async () => {
    for (const schema of ['public', 'pg_catalog', 'information_schema']) {
      for (const role of [TENANT_ROLE, PLATFORM_ROLE, DEFAULT_LOGIN_ROLE]) {
        const [{ may }] = (await superuser('SELECT has_schema_privilege($1, $2, $3) AS may', [
          role,
          schema,
          'CREATE',
        ])) as [{ may: boolean }];
        tried();
        expect([role, schema, may]).toEqual([role, schema, false]);
      }
    }
  });

  it('changes no setting of the server', async () => {
    for (const setting of ['row_security', 'session_preload_libraries', 'search_path']) {
      const [row] = await superuser(`SELECT has_parameter_privilege($1, $2, 'ALTER SYSTEM') AS may`, [
        TENANT_ROLE,
        setting,
      ]);
      tried();
      expect([setting, row?.['may']]).toEqual([setting, false]);
    }
  });

  // A database that was cloned from another has privileges of its own.
  it.skipIf(SERVER)('makes no temporary things', async () => {
    for (const statement of [
      'CREATE TEMPORARY TABLE documents (id uuid)',
      'CREATE TEMPORARY VIEW documents AS SELECT 1',
      'CREATE FUNCTION pg_temp.nothing() RETURNS integer LANGUAGE sql AS $$SELECT 1$$',
    ])
      expect(await refusalOf(inTenantA(statement)), statement).toMatch(/permission denied/);
  });
});

describe('a search path of somebody’s own', () => {
  it('changes no policy: those know the functions and tables that they were made with', async () => {
    await superuser(`
      CREATE SCHEMA shadow;
      CREATE FUNCTION shadow.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$SELECT '${B}'$$;
      CREATE FUNCTION shadow.current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT 'all'$$;
      CREATE FUNCTION shadow.sees_kb(uuid) RETURNS boolean LANGUAGE sql AS $$SELECT true$$;
      CREATE FUNCTION shadow.same(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$SELECT true$$;
      CREATE OPERATOR shadow.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = shadow.same);
      CREATE TABLE shadow.kb_grants AS SELECT * FROM public.kb_grants WITH NO DATA;
      CREATE TABLE shadow.document_readers AS SELECT * FROM public.document_readers WITH NO DATA;
      GRANT USAGE ON SCHEMA shadow TO PUBLIC;
      GRANT ALL ON ALL TABLES IN SCHEMA shadow TO PUBLIC`);
    const own: string[] = [];
    try {
      for (const table of tables) {
        const rows = await runTransaction<Array<{ row: string }>>(
          dataSource,
          `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${A}'; SET LOCAL app.access = 'all'; ` +
            'SET LOCAL search_path = shadow, pg_temp, public, pg_catalog',
          tx => tx.query(`SELECT t::text AS row FROM public.${table} t`),
        );
        tried();
        expect(rows.filter(({ row }) => row.includes(B)).length, table).toBe(0);
        if (rows.some(({ row }) => row.includes(A))) own.push(table);
      }
      // With a path that hid everything, nothing of B’s would be seen either.
      expect(own.length).toBeGreaterThan(tables.length / 2);
    } finally {
      await superuser('DROP SCHEMA shadow CASCADE');
    }
  });

  it('changes no function of ours: each says where it looks, and at things of a session last', async () => {
    const functions = await superuser(`
      SELECT p.oid::regprocedure::text AS name, p.proconfig AS settings, p.prosecdef AS "asOwner",
             p.prosqlbody IS NOT NULL AS bound
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
      WHERE p.pronamespace = 'public'::regnamespace AND l.lanname IN ('plpgsql', 'sql')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')`);
    expect(functions.length).toBeGreaterThan(10);
    for (const { name, settings, bound } of functions) {
      tried();
      const path = (settings as string[] | null)?.find(setting => setting.startsWith('search_path='));
      // What is parsed when it is made looks for no name later.
      if (!bound)
        expect([name, path]).toEqual([
          name,
          expect.stringMatching(/^search_path=(public|pg_catalog), ?pg_temp$/),
        ]);
    }
    // Who runs them gets more than they have: there are as few as possible, and none of them is called by a statement.
    expect(new Set(functions.filter(({ asOwner }) => asOwner).map(({ name }) => name))).toEqual(
      new Set([
        'make_large_vectors()',
        'index_large_vectors()',
        'drop_large_vectors()',
        'set_local(text,text)',
      ]),
    );
  });
});

describe('what the database knows of rows beside them', () => {
  it('is not shown: neither most common values nor histograms', async () => {
    const there = await superuser(`SELECT count(*)::int AS count FROM pg_stats WHERE schemaname = 'public'`);
    expect(there[0]?.['count'], 'statistics there are').toBeGreaterThan(0);
    for (const view of ['pg_stats', 'pg_stats_ext', 'pg_stats_ext_exprs'])
      expect(
        await inTenantA(`SELECT * FROM ${view} WHERE schemaname = 'public' AND tablename <> 'migrations'`),
        view,
      ).toEqual([]);
  });
});

describe('a function that tells what it is asked about', () => {
  beforeAll(async () => {
    // As cheap as can be: the planner would like to ask it first.
    await superuser(`
      CREATE FUNCTION tells(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
      BEGIN
        IF $1 LIKE '%${B}%' THEN RAISE EXCEPTION 'told: %', $1; END IF;
        RETURN true;
      END $$`);
  });
  afterAll(() => superuser('DROP FUNCTION tells(text)'));

  it('tells whoever sees it', async () => {
    tried();
    expect(await refusalOf(superuser('SELECT count(*) FROM documents t WHERE tells(t::text)'))).toContain(
      `told: (${idOf(B, 'document')}`,
    );
  });

  it('is asked about rows of one’s own alone, in every table', async () => {
    for (const table of tables) {
      for (const condition of [
        'tells(t::text)',
        `t::text <> '' AND tells(t::text)`,
        // Errors that tell values by themselves.
        `1 / (CASE WHEN t::text LIKE '%${B}%' THEN 0 ELSE 1 END) = 1`,
        `(CASE WHEN t::text LIKE '%${B}%' THEN t::text ELSE '1' END)::integer = 1`,
        `EXISTS (SELECT FROM ${table} o WHERE tells(o::text))`,
      ]) {
        const refusal = await refusalOf(inTenantA(`SELECT count(*) FROM ${table} t WHERE ${condition}`));
        expect(refusal, `${table}: ${condition}`).not.toMatch(/told|division|invalid input/);
        expect(refusal.replaceAll(`'%${B}%'`, ''), `${table}: ${condition}`).not.toContain(B);
      }
    }
  });

  it('is asked about no other row by a join, an index or a limit either', async () => {
    for (const query of [
      `SELECT count(*) FROM documents d JOIN chunks c ON c.document_id = d.id WHERE tells(c.text || c.tenant_id)`,
      `SELECT count(*) FROM documents WHERE id = '${idOf(B, 'document')}' AND tells(tenant_id::text)`,
      `SELECT id FROM documents WHERE tells(tenant_id::text) ORDER BY created_at LIMIT 1`,
      `SELECT tells(tenant_id::text) FROM documents GROUP BY 1`,
      `UPDATE documents SET title = title WHERE tells(tenant_id::text)`,
      `DELETE FROM document_readers WHERE tells(tenant_id::text)`,
      `WITH d AS MATERIALIZED (SELECT * FROM documents WHERE tells(tenant_id::text)) SELECT count(*) FROM d`,
    ])
      expect(await refusalOf(inTenantA(query)), query).not.toContain('told');
  });
});

/** Of the policies as of the grants. */
const INSUFFICIENT_PRIVILEGE = '42501';

describe('a key that is taken by another tenant', () => {
  it('is refused without a word of the row that has it', async () => {
    let taken = 0;
    for (const table of tables) {
      // What the database makes itself is not taken from anybody.
      const columns = (
        await superuser(
          `SELECT quote_ident(attname) AS name FROM pg_attribute
           WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity <> 'a'`,
          [table],
        )
      ).map(({ name }) => name as string);
      const [{ rows }] = (await superuser(`SELECT json_agg(t) AS rows FROM ${table} t WHERE tenant_id = $1`, [
        B,
      ])) as [{ rows: Array<Record<string, unknown>> | null }];
      for (const row of rows ?? []) {
        // All of B's keys, said to be A's; and as B's own.
        for (const tenant of [A, B]) {
          const statement = `INSERT INTO ${table} (${columns.join()})
            SELECT ${columns.join()} FROM json_populate_record(NULL::${table}, $1)`;
          const error = await errorOf(statement, JSON.stringify({ ...row, tenant_id: tenant }));
          if (error?.code === '23505') taken++;
          // PostgreSQL would quote the key.
          if (error?.code === '23505') expect([table, error.detail]).toEqual([table, undefined]);
          if (tenant === B) expect([table, error?.code]).toEqual([table, INSUFFICIENT_PRIVILEGE]);
        }
      }
    }
    expect(taken, 'keys that were taken').toBeGreaterThan(30);
  });
});

describe('what stays possible to whoever writes whole statements', () => {
  // PostgreSQL lets every session choose among its roles, and set what has no owner: the tenant is the process's word.
  it('is another tenant, for this transaction', async () => {
    const seen = await runTransaction<Array<{ tenant_id: string }>>(
      dataSource,
      `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${A}'; SET LOCAL app.access = 'all'`,
      async tx => {
        await tx.query(`SET LOCAL app.tenant_id = '${B}'`);
        return tx.query('SELECT tenant_id FROM documents');
      },
    );
    tried();
    expect(new Set(seen.map(row => row.tenant_id))).toEqual(new Set([B]));
    expect(await whereWeAre()).toEqual({ user: DEFAULT_LOGIN_ROLE, tenant: null });
  });

  it('is how many rows a policy has taken away, of which a plan tells: the number, and nothing of them', async () => {
    let told = 0;
    for (const table of tables) {
      const plan = await inTenantA(`EXPLAIN (ANALYZE, VERBOSE, BUFFERS OFF) SELECT * FROM ${table}`).catch(
        (error: Error) => {
          expect(error.message).toMatch(/permission denied/);
          return [];
        },
      );
      const text = JSON.stringify(plan);
      if (text.includes('Rows Removed by Filter')) told++;
      expect(text, table).not.toContain(B);
    }
    expect(told).toBeGreaterThan(0);
  });

  it('is nothing for the transaction after it, which says its own tenant', async () => {
    await runTransaction(
      dataSource,
      `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${A}'`,
      async tx => {
        await tx.query(`SET SESSION app.tenant_id = '${B}'`);
      },
    );
    const rows = await inTenantA('SELECT tenant_id FROM members');
    expect(rows.filter((row: { tenant_id: string }) => row.tenant_id === B)).toEqual([]);
    await dataSource.query('RESET app.tenant_id');
  });
});

/** What the database says to it, which is taken back in any case. */
async function errorOf(statement: string, row: string): Promise<any> {
  const taken = new Error('Taken back.');
  const attempt = runTransaction(
    dataSource,
    `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${A}'; SET LOCAL app.access = 'all'`,
    async tx => {
      tried();
      await tx.query(statement, [row]);
      throw taken;
    },
  );
  const error = await attempt.catch((thrown: any) => thrown);
  return error === taken ? null : (error.driverError ?? error);
}

async function whereWeAre(): Promise<unknown> {
  const [row] = await dataSource.query(
    `SELECT current_user AS user, nullif(current_setting('app.tenant_id', true), '') AS tenant`,
  );
  return row;
}
