import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** How much of something waits, and for how long. */
export interface Backlog {
  waiting: number;
  processing: number;
  failed: number;
  /** Seconds since the last change of what has waited longest; null: nothing waits. */
  oldestWaiting: number | null;
}

export interface TenantBacklog extends Backlog {
  id: string;
  name: string;
}

export interface KindBacklog extends Backlog {
  kind: string;
}

const COUNTS = (processing: string): string => `
  (count(*) FILTER (WHERE status = 'queued'))::integer AS waiting,
  (count(*) FILTER (WHERE status = '${processing}'))::integer AS processing,
  (count(*) FILTER (WHERE status = 'failed'))::integer AS failed,
  extract(epoch FROM now() - min(updated_at) FILTER (WHERE status = 'queued'))::float8 AS "oldestWaiting"`;

/** What waits in the whole installation: numbers, and whose. In transactions of the platform. */
@Injectable()
export class QueueViewRepository {
  /** Tenants with the most waiting first, and one row for all of them, at the end. */
  async documents(tx: Tx, limit: number): Promise<{ all: Backlog; tenants: TenantBacklog[] }> {
    const rows: TenantBacklog[] = await tx.query(
      `WITH counted AS (
         SELECT tenant_id, grouping(tenant_id) = 1 AS whole, ${COUNTS('processing')}
         FROM documents WHERE status IN ('queued', 'processing', 'failed')
         GROUP BY GROUPING SETS ((tenant_id), ())
       )
       SELECT t.id, t.name, waiting, processing, failed, "oldestWaiting"
       FROM counted c LEFT JOIN tenants t ON t.id = c.tenant_id
       ORDER BY whole DESC, waiting DESC, processing DESC, failed DESC, t.name LIMIT $1`,
      [limit + 1],
    );
    const [all, ...tenants] = rows;
    return { all: all as Backlog, tenants };
  }

  jobs(tx: Tx): Promise<KindBacklog[]> {
    return tx.query(
      `SELECT kind, ${COUNTS('running')} FROM jobs WHERE status IN ('queued', 'running', 'failed')
       GROUP BY kind ORDER BY waiting DESC, processing DESC, kind`,
    );
  }
}
