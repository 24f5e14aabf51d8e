import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { madeUpRowFindings } from '../../src/foundation/database/made-up-rows.js';
import { TENANT_ROLE } from '../../src/foundation/database/roles.js';
import { tried } from '../setup/isolation-cases.js';
import { SeededDatabase } from './seeded-database.js';

let database: SeededDatabase;
let policies: Array<{
  table: string;
  name: string;
  using: string;
  check: string | null;
  permissive: boolean;
}>;

beforeAll(async () => {
  database = await SeededDatabase.create();
  policies = (await database.superuser(`
    SELECT c.relname AS table, p.polname AS name, pg_get_expr(polqual, c.oid) AS using,
           pg_get_expr(polwithcheck, c.oid) AS check, polpermissive AS permissive
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE '${TENANT_ROLE}'::regrole = ANY (p.polroles) ORDER BY 1, 2`)) as unknown as typeof policies;
});
afterAll(() => database?.drop());

/** Weakens these, looks, and mends them again. @returns for each table what was said of it */
async function look(
  weakened: typeof policies,
  weaker: (condition: string) => string,
): Promise<Map<string, string>> {
  const altered = (how: (condition: string) => string) =>
    weakened.map(
      ({ table, name, using, check }) =>
        `ALTER POLICY ${name} ON ${table} USING (${how(using)}) ${check === null ? '' : `WITH CHECK (${how(check)})`}`,
    );
  try {
    await database.superuser(...altered(weaker));
    const findings = await madeUpRowFindings(database.dataSource);
    tried(weakened.length);
    return new Map(findings.filter(({ ok }) => !ok).map(({ subject, detail }) => [subject, detail]));
  } finally {
    await database.superuser(...altered(condition => condition));
  }
}

const policy = (table: string, name: string) =>
  policies.filter(other => other.table === table && other.name === name);

describe('T5 a row that nobody has written', () => {
  it('is let through by no policy', async () => {
    expect(policies.length).toBeGreaterThan(100);
    const found = await look([], condition => condition);
    expect([...found.values()]).toEqual([]);
    tried(policies.length);
  });

  it('finds out each policy that reads as before and holds for everything', async () => {
    const found = await look(policies, condition => `(${condition}) OR true`);
    for (const { table, name, check } of policies) {
      expect(found.get(table), table).toContain(`${name} (USING)`);
      if (check !== null) expect(found.get(table), table).toContain(`${name} (WITH CHECK)`);
    }
  });

  it.each([
    ['whatever belongs to a knowledge base', 'chunks', 'granted_access', 'kb_id IS NOT NULL'],
    ['whatever is not restricted', 'chunk_vectors', 'granted_access', 'NOT restricted'],
    ['what has a flag', 'graph_entities', 'granted_access', 'open'],
    ['what anybody has said', 'chat_sessions', 'own_chats', 'user_id IS NOT NULL'],
    ['what belongs to some agent', 'chat_sessions', 'token_agents', 'agent_id IS NOT NULL'],
    ['what belongs to some tenant', 'webhooks', 'tenant_isolation', 'tenant_id IS NOT NULL'],
  ])('finds out a policy that also shows %s', async (_, table, name, more) => {
    const found = await look(policy(table, name), condition => `(${condition}) OR (${more})`);
    expect([...found.keys()]).toEqual([table]);
    expect(found.get(table)).toContain(`${name} (USING)`);
  });

  it('finds out a policy that shows everything to whoever has no tenant', async () => {
    const found = await look(
      policy('webhooks', 'tenant_isolation'),
      () =>
        `tenant_id = (SELECT coalesce(nullif(current_setting('app.tenant_id', true), '')::uuid, tenant_id))`,
    );
    expect([...found.keys()]).toEqual(['webhooks']);
  });

  it('finds out one for everybody that opens a table', async () => {
    await database.superuser('CREATE POLICY open ON webhooks USING (true)');
    try {
      const findings = await madeUpRowFindings(database.dataSource);
      tried();
      expect(findings.filter(({ ok }) => !ok)).toMatchObject([
        { subject: 'webhooks', detail: expect.stringContaining('open (USING)') },
      ]);
    } finally {
      await database.superuser('DROP POLICY open ON webhooks');
    }
  });
});
