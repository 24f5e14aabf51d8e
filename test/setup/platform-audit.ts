import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import type { TestApplication } from './application.js';

/** An entry of the platform's chain. */
export interface PlatformAuditEntry {
  actor_type: string;
  actor_id: string | null;
  action: string;
  resource_id: string | null;
  details: Record<string, unknown>;
  outcome: 'allowed' | 'denied';
}

/** What the platform's chain says of an action, the oldest first. */
export function platformAudit(app: TestApplication, action: string): Promise<PlatformAuditEntry[]> {
  const database = app.application.nest.get(PlatformDatabase, { strict: false });
  return database.run(tx =>
    tx.query(
      `SELECT actor_type, actor_id, action, resource_id, details, outcome FROM audit_entries
       WHERE tenant_id IS NULL AND action = $1 ORDER BY sequence`,
      [action],
    ),
  );
}
