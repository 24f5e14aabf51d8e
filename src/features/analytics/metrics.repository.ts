import { Injectable } from '@nestjs/common';
import { IN_PART, WINDOW_PARTS, windowParameters } from '../../core/usage/usage.repository.js';
import type { UsageWindow } from '../../core/usage/usage-window.js';
import type { Tx } from '../../foundation/database/transaction.js';

/** How much a tenant holds. */
export interface Levels {
  users: number;
  kbs: number;
  documents: number;
  storageBytes: number;
}

const LEVELS = `users::float8, kbs::float8, documents::float8, storage_bytes::float8 AS "storageBytes"`;

/** What the context's tenant has used; all of it from what is rolled up. */
@Injectable()
export class MetricsRepository {
  /** How long queries took: bucket of the histogram → how many. */
  async queryDurations(tx: Tx, window: UsageWindow): Promise<Map<number, number>> {
    const rows: Array<{ bucket: number; calls: string }> = await tx.query(
      `SELECT u.bucket, sum(u.calls) AS calls FROM ${WINDOW_PARTS} JOIN usage_durations u ON ${IN_PART}
       WHERE u.kind = 'query' GROUP BY u.bucket`,
      windowParameters(window),
    );
    return new Map(rows.map(({ bucket, calls }) => [bucket, Number(calls)]));
  }

  /** Members who made requests themselves. @returns for each of the windows, in their order */
  async activeUsers(tx: Tx, windows: readonly UsageWindow[]): Promise<number[]> {
    const rows: Array<{ users: number }> = await tx.query(
      `SELECT count(DISTINCT u.user_id)::int AS users FROM ${WINDOW_PARTS} LEFT JOIN usage_users u ON ${IN_PART}
       GROUP BY part.number ORDER BY part.number`,
      windowParameters(...windows),
    );
    return rows.map(({ users }) => users);
  }

  /** Now, and when it was last looked at before the window began: null where nobody had looked yet. */
  async levels(tx: Tx, window: UsageWindow): Promise<{ now: Levels; before: Levels | null }> {
    const now: Levels[] = await tx.query(`SELECT ${LEVELS} FROM tenant_counters`);
    const before: Levels[] = await tx.query(
      `SELECT ${LEVELS} FROM usage_levels WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date
       ORDER BY day DESC LIMIT 1`,
      [window.from],
    );
    return {
      now: now[0] ?? { users: 0, kbs: 0, documents: 0, storageBytes: 0 },
      before: before[0] ?? null,
    };
  }
}
