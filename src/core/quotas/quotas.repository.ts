import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { BILLING, USAGE_READ } from '../usage/usage-operation.js';
import type { LimitName, LimitOverrides, PlanTier } from '../tenancy/tenant-limits.js';

/** What a tenant has, as the database counts it. */
export interface TenantCounters {
  users: number;
  kbs: number;
  documents: number;
  storageBytes: number;
  apiTokens: number;
  agents: number;
}

/** What the platform has said of a tenant. */
export interface TenantQuotas {
  planTier: PlanTier;
  quotas: LimitOverrides;
  enforceQuotas: boolean;
  throttledTo: number | null;
}

export interface Overruns {
  tenantId: string;
  planTier: PlanTier;
  overruns: Partial<Record<LimitName, { used: number; max: number }>>;
}

/** Works in either kind of transaction: the tenant is always named. */
@Injectable()
export class QuotasRepository {
  plans(tx: Tx): Promise<Array<{ name: PlanTier; limits: LimitOverrides }>> {
    return tx.query('SELECT name, limits FROM plans ORDER BY position');
  }

  async of(tx: Tx, tenantId: string): Promise<TenantQuotas | null> {
    const rows: TenantQuotas[] = await tx.query(
      `SELECT plan_tier AS "planTier", quotas, enforce_quotas AS "enforceQuotas", throttled_to AS "throttledTo"
       FROM tenants WHERE id = $1 AND status <> 'erasing'`,
      [tenantId],
    );
    return rows[0] ?? null;
  }

  /** Nobody else changes them until the transaction ends; references to the tenant go on. */
  async lock(tx: Tx, tenantId: string): Promise<void> {
    await tx.query('SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE', [tenantId]);
  }

  async replace(tx: Tx, tenantId: string, quotas: LimitOverrides, enforce: boolean): Promise<void> {
    await tx.query(
      'UPDATE tenants SET quotas = $2, enforce_quotas = $3, updated_at = clock_timestamp() WHERE id = $1',
      [tenantId, JSON.stringify(quotas), enforce],
    );
  }

  /** @param perMinute requests; null: no throttle */
  async throttle(tx: Tx, tenantId: string, perMinute: number | null): Promise<void> {
    await tx.query('UPDATE tenants SET throttled_to = $2 WHERE id = $1', [tenantId, perMinute]);
  }

  async counters(tx: Tx, tenantId: string): Promise<TenantCounters> {
    const rows: TenantCounters[] = await tx.query(
      `SELECT users::float8 AS users, kbs::float8 AS kbs, documents::float8 AS documents,
              storage_bytes::float8 AS "storageBytes", api_tokens::float8 AS "apiTokens", agents::float8 AS agents
       FROM tenant_counters WHERE tenant_id = $1`,
      [tenantId],
    );
    return rows[0] ?? { users: 0, kbs: 0, documents: 0, storageBytes: 0, apiTokens: 0, agents: 0 };
  }

  /**
   * The recorded requests of a tenant that its limits count: not those that are always open, nor those of the platform’s
   * people. In a transaction of the platform.
   *
   * @param since the beginning of an hour, where `grain` is that, or of a day
   */
  async callsSince(
    tx: Tx,
    tenantId: string,
    { since, grain, queries }: { since: Date; grain: 'hour' | 'day'; queries: boolean },
  ): Promise<number> {
    const [{ calls }] = await tx.query(
      `SELECT coalesce(sum(calls), 0)::float8 AS calls FROM usage_rollups
       WHERE tenant_id = $1 AND grain = $2 AND at >= $3 AND kind = ANY ($4) AND operation <> ALL ($5)
         AND (token_id IS NOT NULL OR user_id IN (SELECT user_id FROM members WHERE tenant_id = $1))`,
      [tenantId, grain, since, queries ? ['query'] : ['query', 'api'], [USAGE_READ, BILLING]],
    );
    return calls as number;
  }

  /**
   * Writes down that somebody has been told of a limit.
   *
   * @returns false where somebody has been within the last hour
   */
  async markTold(tx: Tx, tenantId: string, limit: LimitName, kbId?: string): Promise<boolean> {
    // In the order in which everybody locks them.
    await tx.query('SELECT FROM tenants WHERE id = $1 FOR KEY SHARE', [tenantId]);
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE tenant_counters SET told_at = jsonb_build_object($2::text, now()) ||
         (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each_text(told_at)
          WHERE key <> $2 AND value::timestamptz > now() - interval '1 hour')
       WHERE tenant_id = $1
         AND coalesce((told_at->>$2)::timestamptz NOT BETWEEN now() - interval '1 hour' AND now(), true)
       RETURNING tenant_id`,
      [tenantId, [limit, kbId].filter(Boolean).join(' ')],
    );
    return rows.length === 1;
  }

  /** Takes what went past limits that are not enforced, with the transaction. */
  async takeOverruns(tx: Tx, most: number): Promise<Overruns[]> {
    const [rows]: [Overruns[]] = await tx.query(
      `UPDATE tenant_counters c SET overruns = '{}'
       FROM (SELECT tenant_id, overruns FROM tenant_counters WHERE overruns <> '{}'
             ORDER BY tenant_id LIMIT $1 FOR UPDATE SKIP LOCKED) taken
       WHERE c.tenant_id = taken.tenant_id
       RETURNING c.tenant_id AS "tenantId", c.plan_tier AS "planTier", taken.overruns`,
      [most],
    );
    return rows;
  }
}
