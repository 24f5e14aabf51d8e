import type { DataSource } from 'typeorm';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import type { TestApplication } from './application.js';
import { asSuperuser } from './superuser.js';

export interface StoredEntry {
  action: string;
  actor: string;
  /** Id of what it is about. */
  resource: string;
  details: Record<string, unknown>;
}

/** The entries of a tenant's chain, or of the platform's, as they are stored. @param tenant name; null: the platform */
export function auditOf(app: TestApplication, tenant: string | null): Promise<StoredEntry[]> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => {
    const { rows } = await client.query<StoredEntry>(
      `SELECT action, actor_type AS actor, resource_id AS resource, details FROM audit_entries
       WHERE tenant_id IS NOT DISTINCT FROM (SELECT id FROM tenants WHERE name = $1) ORDER BY sequence`,
      [tenant],
    );
    return rows;
  });
}
