import type { DataSource } from 'typeorm';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import type { TestApplication } from './application.js';
import { asSuperuser } from './superuser.js';

/** Every row of a tenant, its own and those of its members' accounts, as text by table. */
export function rowsOfTenant(app: TestApplication, tenantId: string): Promise<Record<string, string[]>> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => {
    const { rows: tables } = await client.query<{ name: string }>(
      `SELECT table_name AS name FROM information_schema.columns
       WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1`,
    );
    if (tables.length < 7) throw new Error('The database has no tables of tenants.');
    const conditions: Array<[table: string, condition: string]> = [
      ...tables.map(({ name }): [string, string] => [name, 'tenant_id = $1']),
      ['tenants', 'id = $1'],
      ['users', 'id IN (SELECT user_id FROM members WHERE tenant_id = $1)'],
    ];
    // In one statement: it is asked often.
    const { rows } = await client.query<{ name: string; row: string }>(
      conditions
        .map(
          ([table, condition]) =>
            `SELECT '${table}' AS name, t::text AS row FROM ${table} t WHERE ${condition}`,
        )
        .join(' UNION ALL ')
        .concat(' ORDER BY 1, 2'),
      [tenantId],
    );
    const contents: Record<string, string[]> = Object.fromEntries(conditions.map(([table]) => [table, []]));
    for (const { name, row } of rows) contents[name]?.push(row);
    return contents;
  });
}
