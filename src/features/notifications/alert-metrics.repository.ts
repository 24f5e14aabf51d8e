import { Injectable } from '@nestjs/common';
import { type LimitOverrides, effectiveLimits } from '../../core/tenancy/tenant-limits.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { ALERT_METRICS, type AlertMetric, METRICS, type Reading } from './alert-rules.js';

const BYTES_A_MIB = 1024 * 1024;
/** Of fewer requests, one that fails says nothing of the rest. */
const FEWEST_REQUESTS = 10;

interface Row {
  users: number;
  documents: number;
  kbs: number;
  storageBytes: number;
  limits: LimitOverrides;
  apiCalls: number;
  llmTokens: number;
  queries: number;
  recentCalls: number;
  recentFailures: number;
  credits: number;
  lastGrant: number | null;
}

/** What alerts watch, of the transaction's tenant. */
@Injectable()
export class AlertMetricsRepository {
  /** Everything in one query: an alert more costs nothing. */
  async read(tx: Tx, now: Date): Promise<Record<AlertMetric, Reading>> {
    const { month, hour, hourBefore } = windowsOf(now);
    const rows: Row[] = await tx.query(
      `SELECT c.users::float8 AS users, c.documents::float8 AS documents, c.kbs::float8 AS kbs,
              c.storage_bytes::float8 AS "storageBytes", c.limits,
              of_month.calls AS "apiCalls", of_month.tokens AS "llmTokens", of_hour.queries,
              recent.calls AS "recentCalls", recent.failures AS "recentFailures",
              coalesce(a.balance, 0)::float8 AS credits, a.last_grant::float8 AS "lastGrant"
       FROM tenant_counters c
       LEFT JOIN credit_accounts a ON a.tenant_id = c.tenant_id
       CROSS JOIN (SELECT coalesce(sum(calls) FILTER (WHERE kind <> 'job'), 0)::float8 AS calls,
                          coalesce(sum(input_tokens + output_tokens), 0)::float8 AS tokens
                   FROM usage_totals WHERE grain = 'day' AND at >= $1) AS of_month
       CROSS JOIN (SELECT coalesce(sum(calls), 0)::float8 AS queries
                   FROM usage_totals WHERE grain = 'hour' AND at >= $2 AND kind = 'query') AS of_hour
       CROSS JOIN (SELECT coalesce(sum(calls), 0)::float8 AS calls, coalesce(sum(failures), 0)::float8 AS failures
                   FROM usage_totals WHERE grain = 'hour' AND at >= $3 AND kind <> 'job') AS recent`,
      [month, hour, hourBefore],
    );
    return toReadings(rows[0] as Row);
  }
}

/** All in UTC, as the limits are. */
function windowsOf(now: Date): { month: Date; hour: Date; hourBefore: Date } {
  const hour = new Date(now);
  hour.setUTCMinutes(0, 0, 0);
  return {
    month: new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1)),
    hour,
    hourBefore: new Date(hour.getTime() - 3_600_000),
  };
}

function toReadings(row: Row): Record<AlertMetric, Reading> {
  const limits = { ...effectiveLimits(row.limits), last_grant: row.lastGrant };
  const values: Record<AlertMetric, number> = {
    users: row.users,
    documents: row.documents,
    kbs: row.kbs,
    storage: row.storageBytes / BYTES_A_MIB,
    api_calls: row.apiCalls,
    queries_per_hour: row.queries,
    llm_tokens: row.llmTokens,
    credits: row.credits,
    failure_rate: row.recentCalls < FEWEST_REQUESTS ? 0 : (100 * row.recentFailures) / row.recentCalls,
  };
  return Object.fromEntries(
    ALERT_METRICS.map(metric => {
      const { limit } = METRICS[metric];
      return [metric, { value: values[metric], limit: limit && limits[limit] }];
    }),
  ) as Record<AlertMetric, Reading>;
}
