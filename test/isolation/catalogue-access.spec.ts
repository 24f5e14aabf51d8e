import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_LOGIN_ROLE, PLATFORM_ROLE, TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { type Tx, runTransaction } from '../../src/foundation/database/transaction.js';
import { SERVER } from '../setup/database.js';
import { tried } from '../setup/isolation-cases.js';
import { A, B, idOf } from '../setup/tenant-rows.js';
import { SeededDatabase } from './seeded-database.js';

let database: SeededDatabase;

beforeAll(async () => {
  database = await SeededDatabase.create();
});
afterAll(() => database?.drop());

describe('T5 the catalogue', () => {
  describe('every table with a tenant', () => {
    it('is seeded by this test', async () => {
      for (const table of await tenantTables()) {
        const rows = await database.superuser(
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
            expect(
              await database.asTenant(tenant, tx => tx.query(`SELECT * FROM ${name}`), sees),
              name,
            ).toEqual([]);
            tried();
          }
        }
      }
    });

    it('shows a tenant its own rows alone', async () => {
      for (const { name, column } of await tenantTables()) {
        for (const sees of new Set([accessTo(name), 'all'])) {
          const rows = await database.asTenant(
            A,
            tx => tx.query(`SELECT ${column} AS tenant FROM ${name}`),
            sees,
          );
          expect(new Set(rows.map(row => row['tenant'])), name).toEqual(new Set([A]));
          tried();
        }
      }
    });

    it('keeps what is half ingested, and what users have said, from whoever is nobody in the tenant', async () => {
      for (const name of FOR_THE_SYSTEM) {
        expect(await database.asTenant(A, tx => tx.query(`SELECT * FROM ${name}`)), name).toEqual([]);
        expect(await database.asTenant(A, tx => tx.query(`SELECT * FROM ${name}`), 'all'), name).toHaveLength(
          1,
        );
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
              database.asTenant(A, tx => tx.query(statement), sees),
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
        const before = await database.superuser(
          `SELECT t::text AS row FROM ${name} t WHERE ${column} = '${B}' ORDER BY 1`,
        );
        if (updatable) {
          const changed = await database.asTenant(
            A,
            tx => tx.query(`UPDATE ${name} SET ${updatable[0]} = ${updatable[0]} WHERE ${column} = '${B}'`),
            'all',
          );
          expect(changed[1], name).toBe(0);
        }
        expect(updatable === null, name).toBe([...APPEND_ONLY, ...READ_ONLY].includes(name));
        if (deletable)
          await database.asTenant(A, tx => tx.query(`DELETE FROM ${name} WHERE ${column} = '${B}'`), 'all');
        expect(deletable, name).toBe(![...KEPT, ...APPEND_ONLY, ...READ_ONLY].includes(name));
        expect(
          await database.superuser(
            `SELECT t::text AS row FROM ${name} t WHERE ${column} = '${B}' ORDER BY 1`,
          ),
          name,
        ).toEqual(before);
        tried(2);
      }
    });

    it('refers to other tables of tenants by the tenant too', async () => {
      // Foreign keys are checked past row-level security.
      const keys = await database.superuser(`
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
        const done = database.asTenant(A, tx => tx.query(statement), 'all');
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
      const [row] = await database.superuser(
        `SELECT 'large_vectors_' || replace(kb_id::text, '-', '') || '_' || generation AS name FROM large_indexes
       WHERE tenant_id = '${tenant}'`,
      );
      return row?.['name'] as string;
    };
    const rowOf = (tenant: string) => `VALUES (1, '${tenant}', '${idOf(tenant, 'kb')}', '[1,0]')`;

    it('is its tenant’s alone', async () => {
      await database.superuser(`INSERT INTO ${await table(B)} ${rowOf(B)}`);
      const foreign = await table(B);
      expect(await database.asTenant(B, tx => tx.query(`SELECT * FROM ${foreign}`))).toHaveLength(1);
      for (const tenant of [null, A]) {
        expect(await database.asTenant(tenant, tx => tx.query(`SELECT * FROM ${foreign}`), 'all')).toEqual(
          [],
        );
      }
      for (const tenant of [A, B]) {
        await expect(
          database.asTenant(A, tx => tx.query(`INSERT INTO ${foreign} ${rowOf(tenant)}`), 'all'),
        ).rejects.toThrow(/row-level security|check constraint/);
      }
      await expect(database.asPlatform(tx => tx.query(`SELECT * FROM ${foreign}`))).rejects.toThrow(
        /permission denied/,
      );
      const removed = await database.asTenant(A, tx => tx.query(`DELETE FROM ${foreign}`), 'all');
      expect(removed[1]).toBe(0);
      tried(7);
    });

    it('goes with its knowledge base', async () => {
      const gone = await table(A);
      const [{ there }] = (await database.superuser(
        `SELECT to_regclass('${gone}') IS NOT NULL AS there`,
      )) as any;
      expect(there).toBe(true);
      await database.asTenant(A, tx => tx.query('DELETE FROM large_indexes'), 'all');
      const [{ there: left }] = (await database.superuser(
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
          database.asPlatform(tx => tx.query(statement)),
          statement,
        ).rejects.toThrow(/permission denied/);
        tried();
      }
    });

    it('may do no more than what was reviewed', async () => {
      const rows = await database.superuser(`
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
      await expect(database.asPlatform(tx => tx.query('SELECT title FROM documents'))).rejects.toThrow(
        /permission denied/,
      );
      expect(await database.asPlatform(tx => tx.query('SELECT id FROM documents'))).toHaveLength(2);
      await expect(database.asPlatform(tx => tx.query('DELETE FROM knowledge_bases'))).rejects.toThrow(
        /permission/,
      );
      tried(3);
    });

    it('appends to every audit, and reads its own alone', async () => {
      expect(await database.asPlatform(tx => tx.query('SELECT * FROM audit_entries'))).toEqual([]);
      for (const statement of ['DELETE FROM audit_entries', `UPDATE audit_entries SET action = 'x'`]) {
        await expect(database.asPlatform(tx => tx.query(statement))).rejects.toThrow(/permission denied/);
        tried();
      }
    });

    it('is no way around for a tenant', async () => {
      await expect(database.asTenant(A, tx => tx.query('SELECT password_hash FROM users'))).rejects.toThrow(
        /permission denied/,
      );
      await expect(database.asTenant(A, tx => tx.query('SELECT * FROM auth_sessions'))).rejects.toThrow(
        /permission denied/,
      );
      const users = await database.asTenant(A, tx => tx.query('SELECT id FROM users'));
      expect(users).toEqual([{ id: idOf(A, 'user') }]);
      tried(3);
    });
  });

  describe('a pooled connection', () => {
    const left = async () => {
      const [row] = await database.dataSource.query(
        `SELECT current_user AS user, nullif(current_setting('app.tenant_id', true), '') AS tenant,
              nullif(current_setting('app.user_id', true), '') AS member`,
      );
      return row as Record<string, string | null>;
    };
    const clean = { user: DEFAULT_LOGIN_ROLE, tenant: null, member: null };
    const entering = (work: (tx: Tx) => Promise<unknown>) =>
      runTransaction(
        database.dataSource,
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
      await expect(database.dataSource.query('SELECT * FROM documents')).rejects.toThrow(/permission denied/);
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
  const rows = await database.superuser(`
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
