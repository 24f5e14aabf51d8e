import { Injectable } from '@nestjs/common';
import { IN_PART, WINDOW_PARTS, windowParameters } from '../../core/usage/usage.repository.js';
import type { UsageWindow } from '../../core/usage/usage-window.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { likePattern, orderBy } from '../../foundation/http/pagination.js';

/** What happened in a time, from the sums of usage. */
const ACTIVITIES = {
  queries: `u.calls * (u.kind = 'query')::integer`,
  failed_queries: `u.failures * (u.kind = 'query')::integer`,
  api_calls: `u.calls * (u.kind <> 'job')::integer`,
  failures: 'u.failures',
  tokens: 'u.input_tokens + u.output_tokens + u.embedding_tokens',
  credits: 'u.credits',
  compute_time_ms: 'u.duration_us / 1000.0',
} as const;
/** What is held, now and before the time began. */
const LEVELS = {
  users: 'users',
  kbs: 'kbs',
  documents: 'documents',
  storage_mb: 'storage_bytes / 1048576.0',
} as const;

export const TENANT_METRICS = [
  'queries',
  'failed_queries',
  'api_calls',
  'failures',
  'tokens',
  'credits',
  'compute_time_ms',
  'active_users',
  'users',
  'kbs',
  'documents',
  'storage_mb',
] as const satisfies ReadonlyArray<keyof typeof ACTIVITIES | keyof typeof LEVELS | 'active_users'>;
export type TenantMetric = (typeof TENANT_METRICS)[number];

export interface TenantValue {
  id: string;
  name: string;
  displayName: string;
  planTier: string;
  status: string;
  value: number;
  /** Null: nothing is known of it. */
  before: number | null;
}

export interface TenantValues {
  items: TenantValue[];
  /** Tenants that the search finds. */
  total: number;
  /** Of all tenants of the installation. */
  platform: { tenants: number; value: number; before: number | null };
}

const SORTED: Record<string, string> = {
  value: 'value',
  change: '(value - before) / nullif(before, 0)',
  name: 'name',
  plan_tier: '"planTier"',
};

/** All tenants side by side, in transactions of the platform. */
@Injectable()
export class PlatformAnalyticsRepository {
  /**
   * @param windows the time in question, and the one before it
   * @param page.pageSize null: all of them
   */
  async list(
    tx: Tx,
    metric: TenantMetric,
    windows: [UsageWindow, UsageWindow],
    page: { sort: string; search?: string; page: number; pageSize: number | null },
  ): Promise<TenantValues> {
    const parameters: unknown[] = [...windowParameters(...windows)];
    const add = (value: unknown) => `$${parameters.push(value)}`;
    const values = valuesOf(metric, () => add(windows[0].from));
    const search = page.search === undefined ? null : add(likePattern(page.search));
    const offset = add((page.page - 1) * (page.pageSize ?? 0));
    const limit = add(page.pageSize);
    const rows: Array<Record<string, unknown>> = await tx.query(
      `WITH measured AS (${values}),
       compared AS (
         SELECT t.id, t.name, t.display_name AS "displayName", t.plan_tier AS "planTier", t.status,
                coalesce(m.value, 0)::float8 AS value, m.before::float8 AS before
         FROM tenants t LEFT JOIN measured m ON m.tenant_id = t.id WHERE t.status <> 'erasing'),
       found AS (SELECT * FROM compared ${search ? `WHERE name ILIKE ${search} OR "displayName" ILIKE ${search}` : ''}),
       listed AS (
         SELECT *, row_number() OVER (ORDER BY ${orderBy(page.sort, SORTED)} NULLS LAST, name) AS row FROM found
         ORDER BY row OFFSET ${offset} LIMIT ${limit})
       SELECT listed.*, platform.*, (SELECT count(*)::int FROM found) AS total
       FROM (SELECT count(*)::int AS tenants, coalesce(sum(value), 0) AS "ofAll", sum(before) AS "ofAllBefore"
             FROM compared) platform
       LEFT JOIN listed ON true ORDER BY listed.row`,
      parameters,
    );
    const { tenants, ofAll, ofAllBefore, total } = rows[0] as {
      tenants: number;
      ofAll: number;
      ofAllBefore: number | null;
      total: number;
    };
    return {
      items: rows.filter(row => row['id'] !== null) as unknown as TenantValue[],
      total,
      platform: { tenants, value: ofAll, before: ofAllBefore },
    };
  }
}

/** `tenant_id`, `value` and `before`, of tenants that have any. @param from adds when the time begins as a parameter */
function valuesOf(metric: TenantMetric, from: () => string): string {
  if (metric === 'active_users') {
    return `SELECT u.tenant_id, count(DISTINCT u.user_id) FILTER (WHERE part.number = 0) AS value,
                   count(DISTINCT u.user_id) FILTER (WHERE part.number = 1) AS before
            FROM ${WINDOW_PARTS} JOIN usage_users u ON ${IN_PART} GROUP BY u.tenant_id`;
  }
  if (metric in ACTIVITIES) {
    const amount = ACTIVITIES[metric as keyof typeof ACTIVITIES];
    return `SELECT u.tenant_id, sum(${amount}) FILTER (WHERE part.number = 0) AS value,
                   sum(${amount}) FILTER (WHERE part.number = 1) AS before
            FROM ${WINDOW_PARTS} JOIN usage_totals u ON ${IN_PART} GROUP BY u.tenant_id`;
  }
  const level = LEVELS[metric as keyof typeof LEVELS];
  // The parts of windows are not needed, but every parameter must have a type.
  return `SELECT c.tenant_id, c.${level} AS value,
                 (SELECT l.${level} FROM usage_levels l
                  WHERE l.tenant_id = c.tenant_id AND l.day < (${from()}::timestamptz AT TIME ZONE 'UTC')::date
                  ORDER BY l.day DESC LIMIT 1) AS before
          FROM tenant_counters c WHERE EXISTS (SELECT FROM ${WINDOW_PARTS})`;
}
