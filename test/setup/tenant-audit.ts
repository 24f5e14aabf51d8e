import type { DataSource } from 'typeorm';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import type { TestApplication } from './application.js';
import { asSuperuser } from './superuser.js';

export interface StoredAuditEntry {
  action: string;
  actor_id: string | null;
  resource_id: string | null;
  details: Record<string, any>;
}

/** What the chain of a tenant says of a kind of thing, as it is stored, oldest first. @param kind `role`, `grant`, … */
export function tenantAudit(
  app: TestApplication,
  tenantId: string,
  kind: string,
): Promise<StoredAuditEntry[]> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => {
    const { rows } = await client.query(
      `SELECT action, actor_id, resource_id, details FROM audit_entries
       WHERE chain_id = $1 AND resource_type = $2 ORDER BY sequence`,
      [tenantId, kind],
    );
    return rows as StoredAuditEntry[];
  });
}
