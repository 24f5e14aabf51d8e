import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** A webhook that waits to hear of something. */
export interface Listener {
  id: string;
  tenantId: string;
  events: string[];
}

/** For all tenants at once: in a transaction of the platform. */
@Injectable()
export class WebhookFanoutRepository {
  listeners(tx: Tx, tenantIds: readonly string[]): Promise<Listener[]> {
    return tx.query(
      `SELECT w.id, w.tenant_id AS "tenantId", w.events FROM webhooks w JOIN tenants t ON t.id = w.tenant_id
       WHERE w.tenant_id = ANY ($1) AND w.is_active AND t.status <> 'erasing' ORDER BY w.id`,
      [tenantIds],
    );
  }

  /** Gives up deliveries whose job has ended without a word, as it may when it met nothing but faults of ours. */
  async giveUp(tx: Tx, days: number): Promise<void> {
    await tx.query(
      `UPDATE webhook_deliveries SET status = 'failed', error_code = 'gave_up', next_attempt_at = NULL, finished_at = now()
       WHERE status = 'pending' AND created_at < now() - make_interval(days => $1)`,
      [days],
    );
  }

  /** @returns how many were deleted; as many as `limit` means that there may be more */
  async deleteOld(tx: Tx, days: number, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM webhook_deliveries WHERE id = ANY (ARRAY(
         SELECT id FROM webhook_deliveries WHERE created_at < now() - make_interval(days => $1)
         ORDER BY created_at LIMIT $2))`,
      [days, limit],
    );
    return count;
  }
}
