import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication } from '../../src/application.js';
import { IsolationError, checkCatalogue } from '../../src/foundation/database/catalogue-check.js';
import { openDatabase } from '../../src/foundation/database/data-source.js';
import { DEFAULT_LOGIN_ROLE, PLATFORM_ROLE, TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { SERVER, TEST_SECRET } from '../setup/database.js';
import { tried } from '../setup/isolation-cases.js';
import { SeededDatabase } from './seeded-database.js';

let database: SeededDatabase;

beforeAll(async () => {
  database = await SeededDatabase.create();
});
afterAll(() => database?.drop());

describe('T5 the catalogue', () => {
  describe('the check at the start', () => {
    it('passes on a migrated database', async () => {
      await expect(checkCatalogue(database.dataSource)).resolves.toBeUndefined();
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
        'new chunks are not flagged as restricted',
        'DROP TRIGGER chunks_restriction ON chunks',
        /chunks lacks triggers that keep what is restricted flagged.*: chunks_restriction/,
      ],
      [
        '… nor what a document said when it was opened',
        'ALTER TABLE documents DISABLE TRIGGER documents_restriction_of_mentions',
        /documents lacks triggers .*: documents_restriction_of_mentions/,
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
        'the platform reads what tenants write',
        `GRANT SELECT ON chunks TO ${PLATFORM_ROLE}; CREATE POLICY open ON chunks FOR SELECT TO ${PLATFORM_ROLE} USING (true)`,
        /chunks shows .*text.* to enclave_platform or the role that connects/,
      ],
      [
        '… a column more of it than it needs',
        `GRANT SELECT (title) ON documents TO ${PLATFORM_ROLE}`,
        /documents shows title to enclave_platform/,
      ],
      [
        '… or whoever connects does',
        `GRANT SELECT (sealed) ON tenant_variables TO ${DEFAULT_LOGIN_ROLE}`,
        /tenant_variables shows sealed to/,
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
      await database.superuser(statements);
      try {
        const failure = await checkCatalogue(database.dataSource).catch((error: unknown) => error);
        expect(failure).toBeInstanceOf(IsolationError);
        expect((failure as Error).message).toMatch(message);
        tried();
      } finally {
        await database.superuser(...restore);
      }
      await expect(checkCatalogue(database.dataSource)).resolves.toBeUndefined();
    });

    /** Roles belong to the whole server, on which other tests run: this one is nobody else's. */
    const probe = `enclave_probe_${process.pid}`;

    it.each([
      ['bypasses row-level security', 'BYPASSRLS', `${probe} has BYPASSRLS`],
      ['is a superuser', 'SUPERUSER', `${probe} is a superuser`],
    ])('refuses a running role that %s', async (_, attribute, message) => {
      await database.superuser(
        `CREATE ROLE ${probe} LOGIN PASSWORD 'probe' ${attribute}; GRANT ${TENANT_ROLE} TO ${probe}`,
      );
      try {
        await expect(asLogin(probe, checkCatalogue)).rejects.toThrow(message);
        tried();
      } finally {
        await database.superuser(`DROP OWNED BY ${probe}; DROP ROLE ${probe}`);
      }
    });

    it('refuses a running role that may become one that bypasses it', async () => {
      await database.superuser(
        `CREATE ROLE ${probe} LOGIN PASSWORD 'probe' NOINHERIT; CREATE ROLE ${probe}_strong BYPASSRLS;
       GRANT ${TENANT_ROLE}, ${probe}_strong TO ${probe}`,
      );
      try {
        await expect(asLogin(probe, checkCatalogue)).rejects.toThrow(`${probe}_strong has BYPASSRLS`);
        tried();
      } finally {
        await database.superuser(`DROP ROLE ${probe}; DROP ROLE ${probe}_strong`);
      }
    });
  });

  describe('a start', () => {
    const start = async () => {
      const application = await startApplication(database.env, { http: false, jobs: false });
      await application.close();
    };
    const changed = async (statement: string, work: () => Promise<void>, undo: string[]) => {
      await database.superuser(statement);
      await database.close();
      try {
        await work();
        tried();
      } finally {
        await database.open();
        await database.superuser(...undo);
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

    it.skipIf(SERVER)('is refused while the role of tenants has the platform’s privileges', async () => {
      await changed(
        `GRANT ${PLATFORM_ROLE} TO ${TENANT_ROLE}`,
        () =>
          expect(start()).rejects.toThrow('The policy platform_access of the table members does not compare'),
        [`REVOKE ${PLATFORM_ROLE} FROM ${TENANT_ROLE}`],
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
});

/** As the only session of the embedded database, or in one of its own. */
async function asLogin(role: string, work: (as: DataSource) => Promise<void>): Promise<void> {
  const { access, dataSource, env } = database;
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
  const rows = await database.superuser(`
    SELECT format('DO $$ DECLARE kind text := (SELECT CASE relkind WHEN ''v'' THEN ''VIEW'' WHEN ''m'' THEN ''MATERIALIZED VIEW'' ELSE ''TABLE'' END
                                              FROM pg_class WHERE oid = to_regclass(''public.notes''));
                   BEGIN IF kind IS NOT NULL THEN EXECUTE ''DROP '' || kind || '' notes''; END IF; END $$') AS statement
    UNION ALL SELECT 'DROP SCHEMA IF EXISTS elsewhere CASCADE; DROP FUNCTION IF EXISTS titles()'
    UNION ALL SELECT 'REVOKE SELECT (id) ON auth_sessions FROM ${TENANT_ROLE}'
    UNION ALL SELECT format('DROP TRIGGER IF EXISTS %I ON %s; %s; ALTER TABLE %2$s ENABLE TRIGGER %1$I',
                            tgname, tgrelid::regclass, pg_get_triggerdef(oid))
    FROM pg_trigger WHERE tgname IN ('chunks_restriction', 'documents_restriction_of_mentions')
    UNION ALL SELECT 'REVOKE SELECT ON chunks FROM ${PLATFORM_ROLE}; REVOKE SELECT (title) ON documents FROM ${PLATFORM_ROLE}'
    UNION ALL SELECT 'REVOKE SELECT (sealed) ON tenant_variables FROM ${DEFAULT_LOGIN_ROLE}'
    UNION ALL SELECT format('DROP POLICY IF EXISTS open ON %s', name) FROM unnest('{kb_terms,users,chunks}'::text[]) AS name
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
