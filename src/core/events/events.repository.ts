import { Injectable } from '@nestjs/common';
import pg from 'pg';
import type { Tx } from '../../foundation/database/transaction.js';

/** An event in the outbox. */
export interface StoredEvent {
  id: string;
  tenantId: string;
  type: string;
  data: Record<string, unknown>;
  /** ISO 8601. */
  occurredAt: string;
}

@Injectable()
export class EventsRepository {
  /** Keeps those of tenants in which somebody listens. */
  insertStatement(events: readonly StoredEvent[]): string {
    return (
      `INSERT INTO events (id, tenant_id, type, data, occurred_at)
       SELECT (e->>'id')::uuid, (e->>'tenantId')::uuid, e->>'type', e->'data', (e->>'occurredAt')::timestamptz
       FROM jsonb_array_elements(${pg.escapeLiteral(JSON.stringify(events))}::jsonb) AS e ` +
      `JOIN tenants t ON t.id = (e->>'tenantId')::uuid AND t.emits_events`
    );
  }

  /**
   * Takes the oldest out of the outbox, with the transaction; what another process is about to take it leaves.
   *
   * @param except ids that stay there for now
   */
  async take(tx: Tx, limit: number, except: readonly string[] = []): Promise<StoredEvent[]> {
    // As an array the sub-select is worked out once: joined, it might be again for each row, past its limit.
    const [rows]: [StoredEvent[]] = await tx.query(
      `DELETE FROM events WHERE id = ANY (ARRAY(
         SELECT id FROM events WHERE id <> ALL ($2) ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
       RETURNING id, tenant_id AS "tenantId", type, data, occurred_at AS "occurredAt"`,
      [limit, except],
    );
    return rows
      .map(row => ({ ...row, occurredAt: new Date(row.occurredAt).toISOString() }))
      .toSorted((a, b) => (a.id < b.id ? -1 : 1));
  }
}
