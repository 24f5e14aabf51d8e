import { Injectable } from '@nestjs/common';
import { QueryFailedError } from 'typeorm';
import type { Tx } from '../../foundation/database/transaction.js';
import type { WriteFault } from './usage-buffer.js';
import type { UsageRow } from './usage-event.js';
import type { UsageTotals, UsageWindow } from './usage-window.js';

/** In transactions of the platform: a batch holds events of many tenants. */
@Injectable()
export class UsageRepository {
  /**
   * Writes events and their roll-ups. Those that were written before count no second time; those of tenants that are gone
   * are left out.
   */
  async record(tx: Tx, rows: readonly UsageRow[]): Promise<void> {
    await tx.query('SELECT record_usage($1::jsonb)', [JSON.stringify(rows)]);
  }

  /** Also in transactions of the tenant. @returns for each of the windows, in their order */
  async totals(tx: Tx, tenantId: string, windows: readonly UsageWindow[]): Promise<UsageTotals[]> {
    const rows: Array<Record<string, string>> = await tx.query(
      `SELECT part.number, ${TOTALS} FROM ${WINDOW_PARTS} LEFT JOIN usage_totals u ON u.tenant_id = $5 AND ${IN_PART}
       GROUP BY part.number ORDER BY part.number`,
      [...windowParameters(...windows), tenantId],
    );
    return rows.map(totalsOf);
  }

  /** Of a tenant that is being deleted. @returns how many rows went; none: there are no more */
  async deleteOfTenant(tx: Tx, tenantId: string, limit: number): Promise<number> {
    for (const table of ['usage_events', 'usage_rollups', 'usage_durations', 'usage_users']) {
      const [, count]: [unknown, number] = await tx.query(
        `DELETE FROM ${table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ${table} WHERE tenant_id = $1 LIMIT $2))`,
        [tenantId, limit],
      );
      if (count > 0) return count;
    }
    return 0;
  }

  /** @returns how many went; fewer than the limit: there are no more */
  async deleteOld(tx: Tx, before: Date, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM usage_events WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM usage_events WHERE time < $1
       ORDER BY time LIMIT $2)`,
      [before, limit],
    );
    return count;
  }
}

/** `$1`-`$4`: the parts of windows, which are numbered from 0, as a table to join roll-ups with. */
export const WINDOW_PARTS =
  'unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[]) AS part (number, grain, begins, ends)';
export const IN_PART = 'u.grain = part.grain AND u.at >= part.begins AND u.at < part.ends';

export function windowParameters(...windows: UsageWindow[]): [number[], string[], Date[], Date[]] {
  const parts = windows.flatMap((window, number) => window.parts.map(part => ({ number, ...part })));
  return [
    parts.map(part => part.number),
    parts.map(part => part.grain),
    parts.map(part => part.from),
    parts.map(part => part.until),
  ];
}

/** Of each sum the column of `usage_totals`, or of `usage_rollups`, and the rows that count. */
const SUMS: Record<keyof UsageTotals, { column: string; where?: string }> = {
  apiCalls: { column: 'calls', where: `u.kind <> 'job'` },
  failedApiCalls: { column: 'failures', where: `u.kind <> 'job'` },
  queries: { column: 'calls', where: `u.kind = 'query'` },
  failedQueries: { column: 'failures', where: `u.kind = 'query'` },
  queryDurationUs: { column: 'duration_us', where: `u.kind = 'query'` },
  jobs: { column: 'calls', where: `u.kind = 'job'` },
  failedJobs: { column: 'failures', where: `u.kind = 'job'` },
  inputTokens: { column: 'input_tokens' },
  outputTokens: { column: 'output_tokens' },
  embeddingTokens: { column: 'embedding_tokens' },
  credits: { column: 'credits' },
};

/** Columns of a query of `usage_totals`, or of `usage_rollups`, as `u`; {@link totalsOf} reads them. */
export const TOTALS = Object.entries(SUMS)
  .map(
    ([name, { column, where = 'true' }]) =>
      `coalesce(sum(u.${column}) FILTER (WHERE ${where}), 0) AS "${name}"`,
  )
  .join(', ');

/** @param row with sums, which the driver reads as text */
export const totalsOf = (row: Record<string, unknown>): UsageTotals =>
  Object.fromEntries(Object.keys(SUMS).map(name => [name, Number(row[name])])) as unknown as UsageTotals;

/** SQLSTATE classes 21 to 23 are faults of the values, which another attempt would meet again. */
export function writeFaultOf(error: unknown): WriteFault {
  const code = error instanceof QueryFailedError ? (error.driverError as { code?: string }).code : undefined;
  return code !== undefined && /^2[123]/.test(code) ? 'refused' : 'unavailable';
}
