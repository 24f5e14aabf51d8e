import { Injectable, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Features } from './feature-flags.js';
import type { ConfigOverrides } from './tenant-config.js';
import type { CurrentTenant } from './tenant-context.js';
import { type LimitOverrides, type Limits, type PlanTier, effectiveLimits } from './tenant-limits.js';
import { PlatformDatabase } from './platform-database.js';

export interface KnownTenant extends CurrentTenant {
  status: 'active' | 'suspended' | 'erasing';
  displayName: string;
  /** Feature flags that the tenant has set itself. */
  features: Partial<Features>;
  /** Fields of the configuration that the tenant has set itself. */
  config: ConfigOverrides;
  /** Types of documents that it takes, as its settings name them; null: all. */
  allowedDocumentTypes: string[] | null;
  planTier: PlanTier;
  /** What holds: the plan's limits, with the tenant's own over them. */
  limits: Limits;
  /** Where false, what goes past a limit is told, and let through. */
  enforceQuotas: boolean;
  /** Requests a minute, while an alert slows the tenant down. */
  throttledTo: number | null;
}

/** Of the change feed: a tenant's row changed. */
export const TENANT_TOPIC = 'tenant';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Finds tenants by id or name, and remembers them until they change. One that is being erased is gone already. */
@Injectable()
export class TenantDirectory implements OnModuleInit {
  private readonly byReference = new LRUCache<string, KnownTenant>({ max: 20_000 });
  private changed = 0;

  constructor(
    private readonly database: PlatformDatabase,
    private readonly changes: ChangeFeed,
  ) {}

  onModuleInit(): void {
    this.changes.subscribe(
      TENANT_TOPIC,
      id => this.forget(id),
      () => this.forget(null),
    );
  }

  /** @param reference id or name */
  async find(reference: string): Promise<KnownTenant | null> {
    const known = this.byReference.get(reference);
    if (known) return known;
    const changedBefore = this.changed;
    const tenant = await this.lookUp(reference);
    if (tenant && changedBefore === this.changed) this.byReference.set(reference, tenant);
    return tenant;
  }

  /** The same, past what is remembered. */
  async lookUp(reference: string): Promise<KnownTenant | null> {
    const column = UUID.test(reference) ? 'id' : 'name';
    const rows: Array<Omit<KnownTenant, 'limits'> & { limits: LimitOverrides }> = await this.database.run(
      tx =>
        tx.query(
          `SELECT t.id, t.name, t.status, t.display_name AS "displayName", t.features, t.config,
                t.settings->'allowed_document_types' AS "allowedDocumentTypes", t.plan_tier AS "planTier", c.limits,
                t.enforce_quotas AS "enforceQuotas", t.throttled_to AS "throttledTo"
         FROM tenants t JOIN tenant_counters c ON c.tenant_id = t.id
         WHERE t.${column} = $1 AND t.status <> 'erasing'`,
          [reference],
        ),
    );
    return rows[0] ? { ...rows[0], limits: effectiveLimits(rows[0].limits) } : null;
  }

  /** Announces that a tenant's row changed in this transaction. */
  async tenantChanged(tx: Tx, id: string): Promise<void> {
    await this.changes.publish(tx, TENANT_TOPIC, id);
  }

  private forget(id: string | null): void {
    this.changed++;
    for (const [reference, tenant] of this.byReference.entries()) {
      if (id === null || tenant.id === id) this.byReference.delete(reference);
    }
  }
}
