import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** A tenant's day of which its listeners have not been told yet. */
export interface UnannouncedDay {
  tenantId: string;
  /** `2026-01-15`, of UTC. */
  day: string;
}

/** What a day brought. */
export interface DaysUsage extends UnannouncedDay {
  apiCalls: number;
  failedApiCalls: number;
  queries: number;
  failedQueries: number;
  jobs: number;
  activeUsers: number;
  inputTokens: number;
  outputTokens: number;
  embeddingTokens: number;
  credits: number;
}

/** What is written once a day for every tenant, in transactions of the platform. */
@Injectable()
export class UsageLevelsRepository {
  /** How much each tenant holds goes down as the level of today (UTC), as often as it is looked at. */
  async writeLevels(tx: Tx): Promise<void> {
    await tx.query(
      `INSERT INTO usage_levels (tenant_id, day, users, kbs, documents, storage_bytes)
       SELECT tenant_id, (now() AT TIME ZONE 'UTC')::date, users, kbs, documents, storage_bytes FROM tenant_counters
       ORDER BY tenant_id
       ON CONFLICT (tenant_id, day) DO UPDATE
       SET users = excluded.users, kbs = excluded.kbs, documents = excluded.documents,
           storage_bytes = excluded.storage_bytes`,
    );
  }

  /**
   * Takes the next day that is to be told from each of some tenants in which somebody listens; with the transaction.
   *
   * @param last the last day that is over; of those before it a week is caught up on
   */
  async takeUnannounced(tx: Tx, last: string, limit: number): Promise<UnannouncedDay[]> {
    return tx.query(
      `INSERT INTO usage_announcements AS known (tenant_id, day)
       SELECT t.id, $1::date FROM tenants t LEFT JOIN usage_announcements a ON a.tenant_id = t.id
       WHERE t.emits_events AND t.status <> 'erasing' AND (a.day IS NULL OR a.day < $1::date)
         AND t.created_at < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
       ORDER BY t.id LIMIT $2
       ON CONFLICT (tenant_id) DO UPDATE SET day = greatest(known.day + 1, $1::date - 6) WHERE known.day < $1::date
       RETURNING tenant_id AS "tenantId", day::text`,
      [last, limit],
    );
  }

  async usageOf(tx: Tx, days: readonly UnannouncedDay[]): Promise<DaysUsage[]> {
    return tx.query(
      `SELECT d.tenant_id AS "tenantId", d.day::text,
              ${sum('calls', `kind <> 'job'`)} AS "apiCalls", ${sum('failures', `kind <> 'job'`)} AS "failedApiCalls",
              ${sum('calls', `kind = 'query'`)} AS "queries", ${sum('failures', `kind = 'query'`)} AS "failedQueries",
              ${sum('calls', `kind = 'job'`)} AS "jobs", ${sum('input_tokens')} AS "inputTokens",
              ${sum('output_tokens')} AS "outputTokens", ${sum('embedding_tokens')} AS "embeddingTokens",
              ${sum('credits')} AS "credits",
              (SELECT count(*)::int FROM usage_users a
               WHERE a.tenant_id = d.tenant_id AND a.grain = 'day' AND a.at = d.day::timestamp AT TIME ZONE 'UTC')
                AS "activeUsers"
       FROM unnest($1::uuid[], $2::date[]) AS d (tenant_id, day)
       LEFT JOIN usage_totals u
         ON u.tenant_id = d.tenant_id AND u.grain = 'day' AND u.at = d.day::timestamp AT TIME ZONE 'UTC'
       GROUP BY d.tenant_id, d.day ORDER BY d.tenant_id, d.day`,
      [days.map(({ tenantId }) => tenantId), days.map(({ day }) => day)],
    );
  }
}

const sum = (column: string, condition = 'true'): string =>
  `coalesce(sum(u.${column}) FILTER (WHERE ${condition}), 0)::float8`;
