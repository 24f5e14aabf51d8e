import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import type { ListDeliveries } from './webhook-deliveries.dto.js';
import type { Delivery, DeliverySummary, Message, Outcome } from './webhook.js';

const SUMMARY = `
  id, webhook_id AS "webhookId", event_id AS "eventId", event_type AS "eventType", redelivery_of AS "redeliveryOf", status,
  attempts, status_code AS "statusCode", error_code AS "errorCode", duration_ms AS "durationMs",
  next_attempt_at AS "nextAttemptAt", created_at AS "createdAt", finished_at AS "finishedAt"`;

export interface NewDelivery {
  id: string;
  tenantId: string;
  webhookId: string;
  message: Message;
  redeliveryOf?: string;
}

/** Where an attempt leaves a delivery. */
export interface Progress {
  status: Delivery['status'];
  /** Whether the receiver was asked at all. */
  attempted: boolean;
  /** Seconds until the next attempt, where there is one. */
  delay: number | null;
}

@Injectable()
export class WebhookDeliveriesRepository {
  /** In a transaction of the tenant or of the platform. */
  async insertMany(tx: Tx, deliveries: readonly NewDelivery[]): Promise<void> {
    await tx.query(
      `INSERT INTO webhook_deliveries (id, tenant_id, webhook_id, event_id, event_type, payload, redelivery_of,
                                       next_attempt_at)
       SELECT d.*, now() FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[], $7::uuid[]) AS d`,
      [
        deliveries.map(delivery => delivery.id),
        deliveries.map(delivery => delivery.tenantId),
        deliveries.map(delivery => delivery.webhookId),
        deliveries.map(delivery => delivery.message.id),
        deliveries.map(delivery => delivery.message.type),
        deliveries.map(delivery => JSON.stringify(delivery.message)),
        deliveries.map(delivery => delivery.redeliveryOf ?? null),
      ],
    );
  }

  async list(tx: Tx, webhookId: string, query: ListDeliveries): Promise<Page<DeliverySummary>> {
    const parameters: unknown[] = [webhookId];
    const add = (value: unknown) => `$${parameters.push(value)}`;
    const conditions = ['webhook_id = $1'];
    if (query.status) conditions.push(`status = ${add(query.status)}`);
    if (query.event_type?.endsWith('.*')) {
      conditions.push(`starts_with(event_type, ${add(query.event_type.slice(0, -1))})`);
    } else if (query.event_type) conditions.push(`event_type = ${add(query.event_type)}`);
    if (query.created_after) conditions.push(`created_at > ${add(query.created_after)}::timestamptz`);
    if (query.created_before) conditions.push(`created_at < ${add(query.created_before)}::timestamptz`);
    const from = `FROM webhook_deliveries WHERE ${conditions.join(' AND ')}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, parameters);
    const direction = query.sort.startsWith('-') ? 'DESC' : 'ASC';
    const items: DeliverySummary[] = await tx.query(
      `SELECT ${SUMMARY} ${from} ORDER BY created_at ${direction}, id ${direction}
       LIMIT ${add(query.page_size)} OFFSET ${add((query.page - 1) * query.page_size)}`,
      parameters,
    );
    return { items, total };
  }

  async find(tx: Tx, id: string): Promise<Delivery | null> {
    const rows: Delivery[] = await tx.query(
      `SELECT ${SUMMARY}, payload, response_excerpt AS "responseExcerpt" FROM webhook_deliveries WHERE id = $1`,
      [id],
    );
    return rows[0] ?? null;
  }

  /** @returns false where it waits for no attempt any more */
  async note(tx: Tx, id: string, outcome: Outcome, { status, attempted, delay }: Progress): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      `UPDATE webhook_deliveries
       SET status = $2, attempts = attempts + $3::integer, status_code = $4, response_excerpt = $5, error_code = $6,
           duration_ms = $7, next_attempt_at = now() + make_interval(secs => $8::float8),
           finished_at = CASE WHEN $2 = 'pending' THEN NULL ELSE now() END
       WHERE id = $1 AND status = 'pending'`,
      [
        id,
        status,
        Number(attempted),
        outcome.statusCode,
        outcome.excerpt,
        outcome.errorCode,
        outcome.durationMs,
        delay,
      ],
    );
    return count === 1;
  }
}
