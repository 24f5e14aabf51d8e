import { Injectable } from '@nestjs/common';
import {
  IN_PART,
  TOTALS,
  totalsOf,
  WINDOW_PARTS,
  windowParameters,
} from '../../core/usage/usage.repository.js';
import type { UsageTotals, UsageWindow } from '../../core/usage/usage-window.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, orderBy } from '../../foundation/http/pagination.js';

export const USAGE_GROUPS = ['kb', 'member', 'token', 'model', 'operation', 'day', 'hour'] as const;
export type UsageGroup = (typeof USAGE_GROUPS)[number];

/** What belongs to one knowledge base, member, token, … */
export interface GroupUsage extends UsageTotals {
  /** An id, a name, a day or an hour; null where the usage has none. */
  key: string | null;
  /** Null where it has no name other than its key, or none that may be seen any more. */
  name: string | null;
  calls: number;
  failures: number;
  durationUs: number;
}

/** Names come from what the principal sees of the tenant: what is deleted or hidden has none. */
const GROUPS: Record<UsageGroup, { key: string; from?: string; names?: { table: string; column: string } }> =
  {
    kb: { key: 'u.kb_id', names: { table: 'knowledge_bases', column: 'name' } },
    member: { key: 'u.user_id', names: { table: 'users', column: 'email' } },
    token: { key: 'u.token_id', names: { table: 'api_tokens', column: 'name' } },
    model: { key: 'u.model' },
    operation: { key: 'u.operation' },
    day: { key: `to_char(u.at AT TIME ZONE 'UTC', 'YYYY-MM-DD')`, from: 'usage_totals' },
    hour: { key: `to_char(u.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:00:00"Z"')`, from: 'usage_totals' },
  };

const SORTED: Record<string, string> = {
  key: 'used.key',
  name: 'coalesce(named.name, used.key::text)',
  calls: 'used.calls',
  api_calls: 'used."apiCalls"',
  queries: 'used.queries',
  failures: 'used.failures',
  tokens: 'used."inputTokens" + used."outputTokens" + used."embeddingTokens"',
  credits: 'used.credits',
  duration: 'used."durationUs"',
};

/** Usage of the context's tenant, taken apart. */
@Injectable()
export class UsageReportRepository {
  /** @param page.pageSize null: all of them */
  async list(
    tx: Tx,
    group: UsageGroup,
    window: UsageWindow,
    page: { sort: string; page: number; pageSize: number | null },
  ): Promise<Page<GroupUsage>> {
    const { key, from = 'usage_rollups', names } = GROUPS[group];
    const order = `${orderBy(page.sort, SORTED)} NULLS LAST`;
    const named = names
      ? `LEFT JOIN (SELECT id, ${names.column} AS name FROM ${names.table}) named ON named.id = used.key`
      : 'CROSS JOIN (SELECT NULL::text AS name) named';
    const rows: Array<{ total: number; used: true | null } & Record<string, string | null>> = await tx.query(
      `WITH used AS (
         SELECT ${key} AS key, true AS used, sum(u.calls) AS calls, sum(u.failures) AS failures,
                sum(u.duration_us) AS "durationUs", ${TOTALS}
         FROM ${WINDOW_PARTS} JOIN ${from} u ON ${IN_PART} GROUP BY 1),
       listed AS (
         SELECT used.*, named.name, row_number() OVER (ORDER BY ${order}, used.key) AS row FROM used ${named}
         ORDER BY row OFFSET $5 LIMIT $6)
       SELECT (SELECT count(*)::int FROM used) AS total, listed.*
       FROM (SELECT) AS one LEFT JOIN listed ON true ORDER BY listed.row`,
      [...windowParameters(window), (page.page - 1) * (page.pageSize ?? 0), page.pageSize],
    );
    const items = rows
      .filter(row => row.used)
      .map(row => ({
        key: row['key'] ?? null,
        name: row['name'] ?? null,
        calls: Number(row['calls']),
        failures: Number(row['failures']),
        durationUs: Number(row['durationUs']),
        ...totalsOf(row),
      }));
    return { items, total: rows[0]?.total ?? 0 };
  }
}
