import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ENTITIES } from '../../src/app.module.js';
import { startApplication } from '../../src/application.js';
import { type Env, parseEnv } from '../../src/foundation/config/env.js';
import { IsolationError, checkCatalogue } from '../../src/foundation/database/catalogue-check.js';
import { type DatabaseAccess, openDatabase } from '../../src/foundation/database/data-source.js';
import { DEFAULT_LOGIN_ROLE, PLATFORM_ROLE, TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { type Tx, runTransaction } from '../../src/foundation/database/transaction.js';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../setup/database.js';
import { tried } from '../setup/isolation-cases.js';
import { asSuperuser } from '../setup/superuser.js';
import { A, B, idOf, seed } from '../setup/tenant-rows.js';

let database: TestDatabase;
let env: Env;
let access: DatabaseAccess;
let dataSource: DataSource;

beforeAll(async () => {
  database = await createTestDatabase();
  // One connection, so that each transaction gets what the one before it left behind.
  env = parseEnv({
    ...database.env,
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    DATABASE_POOL_SIZE: '1',
  });
  await open();
  await superuser(seed(A), seed(B));
});
afterAll(async () => {
  await close();
  await database.drop();
});

async function open(): Promise<void> {
  access = await openDatabase(env, TEST_SECRET);
  dataSource = access.application(ENTITIES);
  await dataSource.initialize();
}

async function close(): Promise<void> {
  await dataSource.destroy();
  await access.close();
}

describe('T5 the catalogue', () => {
  describe('the check at the start', () => {
    it('passes on a migrated database', async () => {
      await expect(checkCatalogue(dataSource)).resolves.toBeUndefined();
      tried();
    });

    const policy = (condition: string) => `TO ${TENANT_ROLE} USING (${condition}) WITH CHECK (${condition})`;
    const own = `tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)`;
    it.each([
      ['a policy is gone', 'DROP POLICY tenant_isolation ON chunks', /chunks has no policy/],
      [
        'row-level security is off',
        'ALTER TABLE documents DISABLE ROW LEVEL SECURITY',
        /documents .* switched off/,
      ],
      [
        'it does not bind the owner',
        'ALTER TABLE documents NO FORCE ROW LEVEL SECURITY',
        /documents does not force/,
      ],
      [
        'another policy opens a table',
        `CREATE POLICY open ON kb_terms ${policy('true')}`,
        /open of the table kb_terms/,
      ],
      ['… to everybody', 'CREATE POLICY open ON kb_terms USING (true)', /open of the table kb_terms/],
      [
        '… for reading',
        `CREATE POLICY open ON kb_terms FOR SELECT TO ${TENANT_ROLE} USING (true)`,
        /open of the table kb_terms/,
      ],
      [
        '… by an OR',
        `CREATE POLICY open ON kb_terms ${policy(`${own} OR term = 1`)}`,
        /open of the table kb_terms/,
      ],
      [
        '… by a NOT',
        `CREATE POLICY open ON kb_terms ${policy(`NOT (${own})`)}`,
        /open of the table kb_terms/,
      ],
      [
        'a policy lets foreign rows in',
        `DROP POLICY tenant_isolation ON members;
       CREATE POLICY tenant_isolation ON members TO ${TENANT_ROLE} USING (${own}) WITH CHECK (true)`,
        /tenant_isolation of the table members/,
      ],
      [
        'members are not kept to what is granted to them',
        'DROP POLICY granted_access ON chunk_vectors',
        /chunk_vectors has no restrictive policy/,
      ],
      [
        '… or only when they read',
        `ALTER POLICY granted_access ON documents USING (true)`,
        /documents has no restrictive policy/,
      ],
      [
        '… of evaluations',
        'DROP POLICY granted_access ON evaluations',
        /evaluations has no restrictive policy/,
      ],
      [
        'what an evaluation asked is shown to others',
        'DROP POLICY own_evaluations ON evaluation_questions',
        /evaluation_questions has no restrictive policy/,
      ],
      [
        '… or what it found',
        'ALTER POLICY own_evaluations ON evaluation_results USING (true)',
        /evaluation_results has no restrictive policy/,
      ],
      [
        'tokens are not kept to their knowledge bases',
        'DROP POLICY token_kbs ON chunk_vectors',
        /chunk_vectors has no restrictive policy/,
      ],
      [
        '… nor to their evaluations',
        'DROP POLICY token_kbs ON evaluations',
        /evaluations has no restrictive policy/,
      ],
      [
        'a chat is not its owner’s alone',
        'DROP POLICY own_chats ON chat_sessions',
        /chat_sessions has no restrictive policy/,
      ],
      [
        '… nor what is said in it',
        'ALTER POLICY own_chats ON chat_messages USING (true)',
        /chat_messages has no restrictive policy/,
      ],
      [
        'tokens are not kept to their agents',
        'DROP POLICY token_agents ON agents',
        /agents has no restrictive policy/,
      ],
      [
        'a view shows a table past its policies',
        `CREATE VIEW notes AS SELECT tenant_id, title FROM documents; GRANT SELECT ON notes TO ${TENANT_ROLE}`,
        /view public\.notes may be used by .*REVOKE ALL ON public\.notes FROM PUBLIC, .*enclave_tenant/,
      ],
      [
        '… to everybody',
        'CREATE VIEW notes AS SELECT tenant_id, title FROM documents; GRANT SELECT ON notes TO PUBLIC',
        /view public\.notes may be used by/,
      ],
      [
        '… to the platform',
        `CREATE VIEW notes AS SELECT text FROM chunks; GRANT SELECT ON notes TO ${PLATFORM_ROLE}`,
        /view public\.notes may be used by .*enclave_platform/,
      ],
      [
        '… a column of it',
        `CREATE VIEW notes AS SELECT tenant_id, title FROM documents; GRANT SELECT (title) ON notes TO ${TENANT_ROLE}`,
        /view public\.notes may be used by/,
      ],
      [
        'a materialized view keeps a copy',
        `CREATE MATERIALIZED VIEW notes AS SELECT tenant_id, title FROM documents; GRANT SELECT ON notes TO ${TENANT_ROLE}`,
        /materialized view public\.notes may be used by/,
      ],
      [
        'the tenant of a new table stands in another column',
        `CREATE TABLE notes (owner_tenant uuid); ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE POLICY open ON notes ${policy('true')}; GRANT SELECT ON notes TO ${TENANT_ROLE}`,
        /table public\.notes may be used by/,
      ],
      [
        'a new table is in another schema',
        `CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.notes (tenant_id uuid);
         GRANT USAGE ON SCHEMA elsewhere TO ${TENANT_ROLE}; GRANT SELECT ON elsewhere.notes TO ${TENANT_ROLE}`,
        /table elsewhere\.notes may be used by/,
      ],
      [
        'tenants may read what is the platform’s',
        `GRANT SELECT (id) ON auth_sessions TO ${TENANT_ROLE}`,
        /table public\.auth_sessions may be used by enclave_tenant, .*FROM PUBLIC, enclave_tenant$/m,
      ],
      [
        'a function reads with its owner’s eyes',
        `CREATE FUNCTION titles() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT title FROM documents'`,
        /function public\.titles\(\) may be used by .*REVOKE ALL ON FUNCTION public\.titles\(\) FROM PUBLIC, /,
      ],
      [
        'a table shows rows to nobody',
        `CREATE POLICY open ON users FOR SELECT TO ${TENANT_ROLE} USING (true)`,
        /users shows rows to nobody/,
      ],
      [
        'a new table has none',
        'CREATE TABLE notes (tenant_id uuid); GRANT ALL ON notes TO enclave_tenant',
        /notes .* switched off/,
      ],
      [
        'the running role owns a table',
        `ALTER TABLE kb_terms OWNER TO ${DEFAULT_LOGIN_ROLE}`,
        /kb_terms is owned by the role/,
      ],
      [
        'one of its roles does',
        `ALTER TABLE kb_terms OWNER TO ${TENANT_ROLE}`,
        /kb_terms is owned by the role/,
      ],
    ])('refuses where %s', async (_, statements, message) => {
      const restore = await catalogueOf();
      await superuser(statements);
      try {
        const failure = await checkCatalogue(dataSource).catch((error: unknown) => error);
        expect(failure).toBeInstanceOf(IsolationError);
        expect((failure as Error).message).toMatch(message);
        tried();
      } finally {
        await superuser(...restore);
      }
      await expect(checkCatalogue(dataSource)).resolves.toBeUndefined();
    });

    /** Roles belong to the whole server, on which other tests run: this one is nobody else's. */
    const probe = `enclave_probe_${process.pid}`;

    it.each([
      ['bypasses row-level security', 'BYPASSRLS', `${probe} has BYPASSRLS`],
      ['is a superuser', 'SUPERUSER', `${probe} is a superuser`],
    ])('refuses a running role that %s', async (_, attribute, message) => {
      await superuser(
        `CREATE ROLE ${probe} LOGIN PASSWORD 'probe' ${attribute}; GRANT ${TENANT_ROLE} TO ${probe}`,
      );
      try {
        await expect(asLogin(probe, checkCatalogue)).rejects.toThrow(message);
        tried();
      } finally {
        await superuser(`DROP OWNED BY ${probe}; DROP ROLE ${probe}`);
      }
    });

    it('refuses a running role that may become one that bypasses it', async () => {
      await superuser(
        `CREATE ROLE ${probe} LOGIN PASSWORD 'probe' NOINHERIT; CREATE ROLE ${probe}_strong BYPASSRLS;
       GRANT ${TENANT_ROLE}, ${probe}_strong TO ${probe}`,
      );
      try {
        await expect(asLogin(probe, checkCatalogue)).rejects.toThrow(`${probe}_strong has BYPASSRLS`);
        tried();
      } finally {
        await superuser(`DROP ROLE ${probe}; DROP ROLE ${probe}_strong`);
      }
    });
  });

  describe('a start', () => {
    const start = async () => {
      const application = await startApplication(env, { http: false, jobs: false });
      await application.close();
    };
    const changed = async (statement: string, work: () => Promise<void>, undo: string[]) => {
      await superuser(statement);
      await close();
      try {
        await work();
        tried();
      } finally {
        await open();
        await superuser(...undo);
      }
    };

    it('is refused without a table’s policy', async () => {
      const undo = await catalogueOf();
      await changed(
        'DROP POLICY tenant_isolation ON chunk_vectors',
        () => expect(start()).rejects.toThrow(/table chunk_vectors/),
        undo,
      );
    });

    it.skipIf(SERVER)('is refused while the role of tenants has BYPASSRLS', async () => {
      await changed(
        `ALTER ROLE ${TENANT_ROLE} BYPASSRLS`,
        () => expect(start()).rejects.toThrow(`The role ${TENANT_ROLE} has BYPASSRLS`),
        [`ALTER ROLE ${TENANT_ROLE} NOBYPASSRLS`],
      );
    });
  });

  describe('every table with a tenant', () => {
    it('is seeded by this test', async () => {
      for (const table of await tenantTables()) {
        const rows = await superuser(
          `SELECT ${table.column}::text AS tenant FROM ${table.name} WHERE ${table.column} IN ('${A}', '${B}')`,
        );
        expect(new Set(rows.map(row => row['tenant'])), table.name).toEqual(new Set([A, B]));
        tried();
      }
    });

    it('shows no row without a context, and none to a tenant that does not exist', async () => {
      for (const tenant of [null, '', '0199cccc-0000-7000-8000-000000000001']) {
        // With access to all: else what narrows a tenant's own rows would hide others' as well.
        for (const sees of ['granted', 'all']) {
          for (const { name } of await tenantTables()) {
            expect(await asTenant(tenant, tx => tx.query(`SELECT * FROM ${name}`), sees), name).toEqual([]);
            tried();
          }
        }
      }
    });

    it('shows a tenant its own rows alone', async () => {
      for (const { name, column } of await tenantTables()) {
        for (const sees of new Set([accessTo(name), 'all'])) {
          const rows = await asTenant(A, tx => tx.query(`SELECT ${column} AS tenant FROM ${name}`), sees);
          expect(new Set(rows.map(row => row['tenant'])), name).toEqual(new Set([A]));
          tried();
        }
      }
    });

    it('keeps what is half ingested, and what users have said, from whoever is nobody in the tenant', async () => {
      for (const name of FOR_THE_SYSTEM) {
        expect(await asTenant(A, tx => tx.query(`SELECT * FROM ${name}`)), name).toEqual([]);
        expect(await asTenant(A, tx => tx.query(`SELECT * FROM ${name}`), 'all'), name).toHaveLength(1);
        tried(2);
      }
    });

    it('takes no row of another tenant, new or changed', async () => {
      for (const { name, writable } of await tenantTables()) {
        const columns = writable.join(', ');
        // The tenant's own row, with the other tenant's id wherever its own stands.
        const foreign = `SELECT ${columns} FROM jsonb_populate_record(null::${name}, replace(to_jsonb(t)::text, '${A}', '${B}')::jsonb)`;
        const refused = async (statement: string) => {
          for (const sees of new Set([accessTo(name), 'all'])) {
            await expect(
              asTenant(A, tx => tx.query(statement), sees),
              statement,
            ).rejects.toThrow(
              // Without a policy's name: the tenant's own has refused it, not one that narrows what it shows. Where a
              // tenant has no such privilege at all, it does not come that far.
              ['tenants', 'tenant_counters', ...APPEND_ONLY, ...READ_ONLY].includes(name)
                ? /row-level security policy for table|permission denied/
                : /row-level security policy for table/,
            );
            tried();
          }
        };
        await refused(`INSERT INTO ${name} (${columns}) SELECT f.* FROM ${name} t, LATERAL (${foreign}) f`);
        await refused(`UPDATE ${name} t SET (${columns}) = (${foreign})`);
      }
    });

    it('keeps the rows of another tenant from being changed or deleted', async () => {
      for (const { name, column, updatable, deletable } of await tenantTables()) {
        const before = await superuser(
          `SELECT t::text AS row FROM ${name} t WHERE ${column} = '${B}' ORDER BY 1`,
        );
        if (updatable) {
          const changed = await asTenant(
            A,
            tx => tx.query(`UPDATE ${name} SET ${updatable[0]} = ${updatable[0]} WHERE ${column} = '${B}'`),
            'all',
          );
          expect(changed[1], name).toBe(0);
        }
        expect(updatable === null, name).toBe([...APPEND_ONLY, ...READ_ONLY].includes(name));
        if (deletable)
          await asTenant(A, tx => tx.query(`DELETE FROM ${name} WHERE ${column} = '${B}'`), 'all');
        expect(deletable, name).toBe(![...KEPT, ...APPEND_ONLY, ...READ_ONLY].includes(name));
        expect(
          await superuser(`SELECT t::text AS row FROM ${name} t WHERE ${column} = '${B}' ORDER BY 1`),
          name,
        ).toEqual(before);
        tried(2);
      }
    });

    it('refers to other tables of tenants by the tenant too', async () => {
      // Foreign keys are checked past row-level security.
      const keys = await superuser(`
      SELECT c.conrelid::regclass || ' -> ' || c.confrelid::regclass AS name
      FROM pg_constraint c
      WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace AND c.confrelid <> 'tenants'::regclass
        AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.confrelid AND a.attname = 'tenant_id')
        AND NOT EXISTS (
          SELECT FROM unnest(c.conkey, c.confkey) AS k(own, other)
          JOIN pg_attribute o ON o.attrelid = c.conrelid AND o.attnum = k.own AND o.attname = 'tenant_id'
          JOIN pg_attribute p ON p.attrelid = c.confrelid AND p.attnum = k.other AND p.attname = 'tenant_id')`);
      expect(keys).toEqual([]);
      tried();
    });

    it('refuses a reference into another tenant', async () => {
      const into = async (statement: string) => {
        const done = asTenant(A, tx => tx.query(statement), 'all');
        await expect(done, statement).rejects.toThrow(/foreign key/);
        tried();
      };
      await into(`UPDATE documents SET kb_id = '${idOf(B, 'kb')}', content_sha256 = 'y'`);
      await into(`UPDATE chunks SET document_id = '${idOf(B, 'document')}', ordinal = ordinal + 2`);
      await into(`UPDATE chunk_vectors SET chunk_id = '${idOf(B, 'unused')}'`);
      await into(`UPDATE document_versions SET document_id = '${idOf(B, 'document')}', version = 2`);
      await into(`UPDATE ingestions SET kb_id = '${idOf(B, 'kb')}'`);
      await into(`UPDATE staged_chunks SET document_id = '${idOf(B, 'document')}', ordinal = 2`);
      await into(`UPDATE staged_vectors SET document_id = '${idOf(B, 'document')}', ordinal = 2`);
      await into(`UPDATE kb_terms SET kb_id = '${idOf(B, 'kb')}', term = 2`);
      await into(`UPDATE group_members SET group_id = '${idOf(B, 'group')}'`);
      await into(`UPDATE group_members SET user_id = '${idOf(B, 'user')}'`);
      await into(`UPDATE kb_grants SET kb_id = '${idOf(B, 'kb')}'`);
      await into(`UPDATE kb_grants SET group_id = '${idOf(B, 'group')}'`);
      await into(`UPDATE document_readers SET document_id = '${idOf(B, 'document')}'`);
      await into(`UPDATE document_readers SET user_id = '${idOf(B, 'user')}'`);
      await into(`UPDATE model_defaults SET model_id = '${idOf(B, 'model')}'`);
      await into(`UPDATE large_indexes SET kb_id = '${idOf(B, 'kb')}'`);
      await into(`UPDATE agents SET kb_id = '${idOf(B, 'kb')}', slug = 'other'`);
      await into(`UPDATE chat_sessions SET agent_id = '${idOf(B, 'agent')}'`);
      await into(`UPDATE evaluations SET kb_id = '${idOf(B, 'kb')}'`);
      await into(`UPDATE graph_entities SET kb_id = '${idOf(B, 'kb')}', key = 'other ' || key`);
      const [mine, theirs] = [idOf(A, 'entity'), idOf(B, 'entity')];
      await into(`UPDATE graph_entity_mentions SET entity_id = '${theirs}' WHERE entity_id = '${mine}'`);
      await into(`UPDATE graph_entity_mentions SET chunk_id = '${idOf(B, 'unused')}'`);
      await into(`UPDATE graph_relations SET target_id = '${idOf(B, 'entity')}'`);
      await into(`UPDATE graph_relation_mentions SET relation_id = '${idOf(B, 'relation')}'`);
      await into(`UPDATE graph_relation_mentions SET chunk_id = '${idOf(B, 'unused')}'`);
      await into(`UPDATE staged_extractions SET document_id = '${idOf(B, 'document')}', ordinal = 2`);
      await into(`UPDATE staged_entities SET document_id = '${idOf(B, 'document')}', key = 'other'`);
    });
  });

  describe('the table of vectors of a large knowledge base', () => {
    const table = async (tenant: string) => {
      const [row] = await superuser(
        `SELECT 'large_vectors_' || replace(kb_id::text, '-', '') || '_' || generation AS name FROM large_indexes
       WHERE tenant_id = '${tenant}'`,
      );
      return row?.['name'] as string;
    };
    const rowOf = (tenant: string) => `VALUES (1, '${tenant}', '${idOf(tenant, 'kb')}', '[1,0]')`;

    it('is its tenant’s alone', async () => {
      await superuser(`INSERT INTO ${await table(B)} ${rowOf(B)}`);
      const foreign = await table(B);
      expect(await asTenant(B, tx => tx.query(`SELECT * FROM ${foreign}`))).toHaveLength(1);
      for (const tenant of [null, A]) {
        expect(await asTenant(tenant, tx => tx.query(`SELECT * FROM ${foreign}`), 'all')).toEqual([]);
      }
      for (const tenant of [A, B]) {
        await expect(
          asTenant(A, tx => tx.query(`INSERT INTO ${foreign} ${rowOf(tenant)}`), 'all'),
        ).rejects.toThrow(/row-level security|check constraint/);
      }
      await expect(asPlatform(tx => tx.query(`SELECT * FROM ${foreign}`))).rejects.toThrow(
        /permission denied/,
      );
      const removed = await asTenant(A, tx => tx.query(`DELETE FROM ${foreign}`), 'all');
      expect(removed[1]).toBe(0);
      tried(7);
    });

    it('goes with its knowledge base', async () => {
      const gone = await table(A);
      const [{ there }] = (await superuser(`SELECT to_regclass('${gone}') IS NOT NULL AS there`)) as any;
      expect(there).toBe(true);
      await asTenant(A, tx => tx.query('DELETE FROM large_indexes'), 'all');
      const [{ there: left }] = (await superuser(
        `SELECT to_regclass('${gone}') IS NOT NULL  AS there`,
      )) as any;
      expect(left).toBe(false);
      tried();
    });
  });

  describe('the role of the platform', () => {
    it.each([
      'chunks',
      'chunk_vectors',
      'kb_terms',
      'tenant_variables',
      'document_readers',
      'model_defaults',
      'large_postings',
      'agents',
      'chat_sessions',
      'chat_messages',
      'message_feedback',
      'evaluations',
      'evaluation_questions',
      'evaluation_results',
      'graph_entities',
      'graph_entity_mentions',
      'graph_relations',
      'graph_relation_mentions',
      'staged_extractions',
      'staged_entities',
    ])('may not touch %s', async table => {
      for (const statement of [
        `SELECT FROM ${table}`,
        `DELETE FROM ${table}`,
        `UPDATE ${table} SET tenant_id = tenant_id`,
      ]) {
        await expect(
          asPlatform(tx => tx.query(statement)),
          statement,
        ).rejects.toThrow(/permission denied/);
        tried();
      }
    });

    it('may do no more than what was reviewed', async () => {
      const rows = await superuser(`
        WITH held AS (
          SELECT c.relname AS name, command, string_agg(a.attname, ', ' ORDER BY a.attname) AS columns,
                 has_table_privilege('${PLATFORM_ROLE}', c.oid, command) AS whole
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
               unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS command
          WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND CASE WHEN command IN ('DELETE', 'TRUNCATE', 'TRIGGER') THEN has_table_privilege('${PLATFORM_ROLE}', c.oid, command)
                     ELSE has_column_privilege('${PLATFORM_ROLE}', c.oid, a.attnum, command) END
          GROUP BY c.oid, c.relname, command)
        SELECT format('%s %s%s', rpad(name, 24), command, CASE WHEN NOT whole THEN ' (' || columns || ')' END) AS line
        FROM held ORDER BY name, command`);
      const lines = rows.map(({ line }) => line).join('\n');
      await expect(`${lines}\n`).toMatchFileSnapshot('./__snapshots__/platform-role.txt');
      tried();
    });

    it('sees of documents that they wait, and nothing of what is in them', async () => {
      await expect(asPlatform(tx => tx.query('SELECT title FROM documents'))).rejects.toThrow(
        /permission denied/,
      );
      expect(await asPlatform(tx => tx.query('SELECT id FROM documents'))).toHaveLength(2);
      await expect(asPlatform(tx => tx.query('DELETE FROM knowledge_bases'))).rejects.toThrow(/permission/);
      tried(3);
    });

    it('appends to every audit, and reads its own alone', async () => {
      expect(await asPlatform(tx => tx.query('SELECT * FROM audit_entries'))).toEqual([]);
      for (const statement of ['DELETE FROM audit_entries', `UPDATE audit_entries SET action = 'x'`]) {
        await expect(asPlatform(tx => tx.query(statement))).rejects.toThrow(/permission denied/);
        tried();
      }
    });

    it('is no way around for a tenant', async () => {
      await expect(asTenant(A, tx => tx.query('SELECT password_hash FROM users'))).rejects.toThrow(
        /permission denied/,
      );
      await expect(asTenant(A, tx => tx.query('SELECT * FROM auth_sessions'))).rejects.toThrow(
        /permission denied/,
      );
      const users = await asTenant(A, tx => tx.query('SELECT id FROM users'));
      expect(users).toEqual([{ id: idOf(A, 'user') }]);
      tried(3);
    });
  });

  describe('a pooled connection', () => {
    const left = async () => {
      const [row] = await dataSource.query(
        `SELECT current_user AS user, nullif(current_setting('app.tenant_id', true), '') AS tenant,
              nullif(current_setting('app.user_id', true), '') AS member`,
      );
      return row as Record<string, string | null>;
    };
    const clean = { user: DEFAULT_LOGIN_ROLE, tenant: null, member: null };
    const entering = (work: (tx: Tx) => Promise<unknown>) =>
      runTransaction(
        dataSource,
        `SET LOCAL ROLE ${TENANT_ROLE}; SET LOCAL app.tenant_id = '${A}'; SET LOCAL app.user_id = '${A}'`,
        work,
      );

    beforeEach(async () => {
      await entering(async tx => {
        const [row] = await tx.query(
          `SELECT current_user AS user, current_setting('app.tenant_id') AS tenant`,
        );
        expect(row).toEqual({ user: TENANT_ROLE, tenant: A });
      });
    });
    afterEach(async () => {
      expect(await left()).toEqual(clean);
      await expect(dataSource.query('SELECT * FROM documents')).rejects.toThrow(/permission denied/);
      tried(2);
    });

    it('carries nothing over after success', async () => {
      expect(await left()).toEqual(clean);
    });

    it('nor after an error of the work, or of the database', async () => {
      await expect(entering(() => Promise.reject(new Error('the work failed')))).rejects.toThrow(
        'the work failed',
      );
      expect(await left()).toEqual(clean);
      await expect(entering(tx => tx.query('SELECT 1 / 0'))).rejects.toThrow(/division by zero/);
    });

    it('nor after an error that the work has swallowed', async () => {
      await expect(entering(tx => tx.query('SELECT 1 / 0').catch(() => undefined))).rejects.toThrow(
        /rolled back/,
      );
    });

    it.runIf(SERVER)('nor after a cancelled query', async () => {
      const slow = entering(async tx => {
        await tx.query('SET LOCAL statement_timeout = 50');
        await tx.query('SELECT pg_sleep(10)');
      });
      await expect(slow).rejects.toThrow(/statement timeout/);
    });

    it.runIf(SERVER)('nor after it was cut', async () => {
      await expect(entering(tx => tx.query('SELECT pg_terminate_backend(pg_backend_pid())'))).rejects.toThrow(
        /terminat/,
      );
    });
  });
});

/** Of these a tenant changes no row once it is written. */
const APPEND_ONLY = ['audit_entries', 'jobs', 'events', 'credit_ledger'];
/** These it only reads: the platform writes them. */
const READ_ONLY = [
  'usage_events',
  'usage_rollups',
  'usage_totals',
  'usage_durations',
  'usage_users',
  'usage_levels',
  'usage_announcements',
  'ingestion_turns',
  'platform_model_tenants',
];
/** Texts of documents that nobody may read yet, and what users have said, which is theirs alone. */
const FOR_THE_SYSTEM = [
  'ingestions',
  'staged_chunks',
  'staged_vectors',
  'staged_extractions',
  'staged_entities',
  'chat_sessions',
  'chat_messages',
  'message_feedback',
  'evaluation_questions',
  'evaluation_results',
];
const accessTo = (table: string) => (FOR_THE_SYSTEM.includes(table) ? 'all' : 'granted');
/** Of these it deletes no row. */
const KEPT = [
  'webhook_deliveries',
  'tenants',
  'audit_chains',
  'tenant_counters',
  'credit_accounts',
  'credit_grants',
  'credit_reservations',
  'credit_months',
];

/** @returns the rows of the last statement */
async function superuser(...statements: string[]): Promise<Array<Record<string, string>>> {
  return asSuperuser(env, dataSource, async client => {
    let rows: Array<Record<string, string>> = [];
    for (const statement of statements) rows = (await client.query(statement)).rows as typeof rows;
    return rows;
  });
}

function asTenant(tenant: string | null, work: (tx: Tx) => Promise<any[]>, sees = 'granted') {
  const context = `${tenant === null ? '' : `; SET LOCAL app.tenant_id = '${tenant}'`}; SET LOCAL app.access = '${sees}'`;
  return runTransaction(dataSource, `SET LOCAL ROLE ${TENANT_ROLE}${context}`, work);
}

const asPlatform = (work: (tx: Tx) => Promise<unknown>) =>
  runTransaction(dataSource, `SET LOCAL ROLE ${PLATFORM_ROLE}`, work);

/** As the only session of the embedded database, or in one of its own. */
async function asLogin(role: string, work: (as: DataSource) => Promise<void>): Promise<void> {
  if (env.database.mode === 'server') {
    const url = new URL(access.url as string);
    url.username = role;
    url.password = 'probe';
    const other = (
      await openDatabase({ ...env, database: { ...env.database, url: url.href } }, TEST_SECRET)
    ).application([]);
    await other.initialize();
    try {
      await work(other);
    } finally {
      await other.destroy();
    }
  } else {
    await dataSource.query(`SET SESSION AUTHORIZATION ${role}`);
    try {
      await work(dataSource);
    } finally {
      await dataSource.query(`SET SESSION AUTHORIZATION ${DEFAULT_LOGIN_ROLE}`);
    }
  }
}

/** What brings policies, owners and switches back to how they are now. */
async function catalogueOf(): Promise<string[]> {
  const rows = await superuser(`
    SELECT format('DO $$ DECLARE kind text := (SELECT CASE relkind WHEN ''v'' THEN ''VIEW'' WHEN ''m'' THEN ''MATERIALIZED VIEW'' ELSE ''TABLE'' END
                                              FROM pg_class WHERE oid = to_regclass(''public.notes''));
                   BEGIN IF kind IS NOT NULL THEN EXECUTE ''DROP '' || kind || '' notes''; END IF; END $$') AS statement
    UNION ALL SELECT 'DROP SCHEMA IF EXISTS elsewhere CASCADE; DROP FUNCTION IF EXISTS titles()'
    UNION ALL SELECT 'REVOKE SELECT (id) ON auth_sessions FROM ${TENANT_ROLE}'
    UNION ALL SELECT 'DROP POLICY IF EXISTS open ON kb_terms; DROP POLICY IF EXISTS open ON users'
    UNION ALL SELECT format('ALTER TABLE %s OWNER TO %I; ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
                            c.oid::regclass, pg_get_userbyid(c.relowner))
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relforcerowsecurity
    UNION ALL SELECT format('DROP POLICY IF EXISTS %I ON %s; CREATE POLICY %1$I ON %2$s AS %5$s TO ${TENANT_ROLE} USING (%3$s) WITH CHECK (%4$s)',
                            polname, polrelid::regclass, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid),
                            CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END)
    FROM pg_policy WHERE polname IN ('tenant_isolation', 'granted_access', 'token_kbs', 'own_evaluations', 'own_chats', 'token_agents')
    -- An owner's privileges go with the table.
    UNION ALL SELECT 'GRANT SELECT, INSERT, UPDATE, DELETE ON kb_terms TO ${TENANT_ROLE}'`);
  return rows.map(row => row['statement'] as string);
}

interface TenantTable {
  name: string;
  /** Where the tenant stands: `id` in the register of tenants. */
  column: string;
  writable: string[];
  /** By the tenant's role; null: nothing. */
  updatable: string[] | null;
  deletable: boolean;
}

async function tenantTables(): Promise<TenantTable[]> {
  const rows = await superuser(`
    SELECT c.relname AS name, CASE c.relname WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END AS column,
           json_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '') AS writable,
           json_agg(a.attname ORDER BY a.attnum) FILTER (
             WHERE a.attgenerated = '' AND has_column_privilege('enclave_tenant', c.oid, a.attnum, 'UPDATE')
           ) AS updatable,
           has_table_privilege('enclave_tenant', c.oid, 'DELETE') AS deletable
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname NOT LIKE 'large_vectors_%'
    GROUP BY c.oid, c.relname HAVING c.relname = 'tenants' OR bool_or(a.attname = 'tenant_id') ORDER BY 1`);
  expect(rows.length).toBeGreaterThanOrEqual(17);
  return rows as unknown as TenantTable[];
}
