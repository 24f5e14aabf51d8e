import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { UsageService } from '../../src/core/usage/usage.service.js';
import type { UsageRow } from '../../src/core/usage/usage-event.js';
import type { TestApplication } from './application.js';

export const usageOf = (app: TestApplication): UsageService =>
  app.application.nest.get(UsageService, { strict: false });

/** Every usage event of a tenant that has been written, the oldest first. */
export function storedUsage(app: TestApplication, tenantId: string): Promise<UsageRow[]> {
  const database = app.application.nest.get(PlatformDatabase, { strict: false });
  return database.run(tx =>
    tx.query('SELECT * FROM usage_events WHERE tenant_id = $1 ORDER BY time, id', [tenantId]),
  );
}
