import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { DisabledReason, SealedParts, Webhook } from './webhook.js';
import type { ListWebhooks } from './webhooks.dto.js';

const SORTABLE = { created_at: 'created_at', url: 'url' };

const COLUMNS = `
  id, url, description, events, header_names AS "headerNames", is_active AS "isActive",
  disabled_reason AS "disabledReason", consecutive_failures AS "consecutiveFailures", failing_since AS "failingSince",
  previous_secret_expires_at AS "previousSecretExpiresAt", created_by AS "createdBy", created_at AS "createdAt",
  updated_at AS "updatedAt"`;

export interface NewWebhook {
  id: string;
  tenantId: string;
  url: string;
  description: string;
  events: readonly string[];
  secret: Buffer;
  headers: Buffer | null;
  headerNames: readonly string[];
  isActive: boolean;
  createdBy: string;
}

/** What a change leaves in a row. */
export type WebhookFields = Pick<Webhook, 'url' | 'description' | 'events' | 'isActive'> & {
  /** Missing: as they are. */
  headers?: { sealed: Buffer | null; names: readonly string[] };
};

/** Webhooks of the transaction's tenant. */
@Injectable()
export class WebhooksRepository {
  /** Changes of a tenant's webhooks go one after the other: they are counted, and the tenant says whether it has any. */
  async lockTenant(tx: Tx, tenantId: string): Promise<void> {
    await tx.query('SELECT 1 FROM tenants WHERE id = $1 FOR NO KEY UPDATE', [tenantId]);
  }

  /** Writes down whether anybody waits to hear of what happens in the tenant. To be called after each change. */
  async refreshListening(tx: Tx, tenantId: string): Promise<void> {
    await tx.query(
      `UPDATE tenants SET emits_events = w.any_active
       FROM (SELECT EXISTS (SELECT FROM webhooks WHERE tenant_id = $1 AND is_active) AS any_active) AS w
       WHERE id = $1 AND emits_events <> w.any_active`,
      [tenantId],
    );
  }

  async count(tx: Tx): Promise<number> {
    const [{ count }] = await tx.query('SELECT count(*)::int AS count FROM webhooks');
    return count as number;
  }

  async list(tx: Tx, query: ListWebhooks): Promise<Page<Webhook>> {
    const parameters: unknown[] = [];
    const add = (value: unknown) => `$${parameters.push(value)}`;
    const conditions = ['true'];
    if (query.search) {
      const pattern = add(likePattern(query.search));
      conditions.push(`(url ILIKE ${pattern} OR description ILIKE ${pattern})`);
    }
    if (query.is_active !== undefined) conditions.push(`is_active = ${add(query.is_active)}`);
    const from = `FROM webhooks WHERE ${conditions.join(' AND ')}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, parameters);
    const order = orderBy(query.sort, SORTABLE);
    const items: Webhook[] = await tx.query(
      `SELECT ${COLUMNS} ${from} ORDER BY ${order}, id
       LIMIT ${add(query.page_size)} OFFSET ${add((query.page - 1) * query.page_size)}`,
      parameters,
    );
    return { items, total };
  }

  async find(tx: Tx, id: string): Promise<Webhook | null> {
    const rows: Webhook[] = await tx.query(`SELECT ${COLUMNS} FROM webhooks WHERE id = $1`, [id]);
    return rows[0] ?? null;
  }

  /** With what it needs to send. */
  async findSealed(tx: Tx, id: string): Promise<(Webhook & SealedParts) | null> {
    const rows: Array<Webhook & SealedParts> = await tx.query(
      `SELECT ${COLUMNS}, secret, previous_secret AS "previousSecret", headers FROM webhooks WHERE id = $1`,
      [id],
    );
    return rows[0] ?? null;
  }

  /** So that it stays until the transaction ends. */
  async hold(tx: Tx, id: string): Promise<Webhook | null> {
    const rows: Webhook[] = await tx.query(`SELECT ${COLUMNS} FROM webhooks WHERE id = $1 FOR KEY SHARE`, [
      id,
    ]);
    return rows[0] ?? null;
  }

  async insert(tx: Tx, webhook: NewWebhook): Promise<void> {
    await tx.query(
      `INSERT INTO webhooks (id, tenant_id, url, description, events, secret, headers, header_names, is_active, created_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        webhook.id,
        webhook.tenantId,
        webhook.url,
        webhook.description,
        webhook.events,
        webhook.secret,
        webhook.headers,
        webhook.headerNames,
        webhook.isActive,
        webhook.createdBy,
      ],
    );
  }

  /** @param forgive whether its failures are forgotten */
  async update(tx: Tx, id: string, fields: WebhookFields, forgive: boolean): Promise<void> {
    const { url, description, events, isActive, headers } = fields;
    await tx.query(
      `UPDATE webhooks SET url = $2, description = $3, events = $4, is_active = $5, updated_at = now(),
              headers = CASE WHEN $6 THEN $7 ELSE headers END,
              header_names = CASE WHEN $6 THEN $8 ELSE header_names END,
              disabled_reason = CASE WHEN $9 THEN NULL ELSE disabled_reason END,
              consecutive_failures = CASE WHEN $9 THEN 0 ELSE consecutive_failures END,
              failing_since = CASE WHEN $9 THEN NULL ELSE failing_since END
       WHERE id = $1`,
      [
        id,
        url,
        description,
        events,
        isActive,
        headers !== undefined,
        headers?.sealed ?? null,
        headers?.names ?? [],
        forgive,
      ],
    );
  }

  /** The secret of now becomes the one of before. @param hours for which that one holds too; 0: not at all */
  async replaceSecret(tx: Tx, id: string, secret: Buffer, hours: number): Promise<void> {
    await tx.query(
      `UPDATE webhooks SET secret = $2, updated_at = now(),
              previous_secret = CASE WHEN $3 > 0 THEN secret END,
              previous_secret_expires_at = CASE WHEN $3 > 0 THEN now() + make_interval(hours => $3) END
       WHERE id = $1`,
      [id, secret, hours],
    );
  }

  /** @returns false where there is none */
  async delete(tx: Tx, id: string): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query('DELETE FROM webhooks WHERE id = $1', [id]);
    return count === 1;
  }

  async noteSuccess(tx: Tx, id: string): Promise<void> {
    await tx.query(
      `UPDATE webhooks SET consecutive_failures = 0, failing_since = NULL
       WHERE id = $1 AND consecutive_failures > 0`,
      [id],
    );
  }

  /** @returns how often it has failed now, and for how many hours; null where it is gone */
  async noteFailure(tx: Tx, id: string): Promise<{ failures: number; hours: number } | null> {
    const [rows]: [Array<{ failures: number; hours: number }>] = await tx.query(
      `UPDATE webhooks SET consecutive_failures = consecutive_failures + 1,
              failing_since = coalesce(failing_since, now())
       WHERE id = $1
       RETURNING consecutive_failures AS failures,
                 (extract(epoch FROM now() - failing_since) / 3600)::float8 AS hours`,
      [id],
    );
    return rows[0] ?? null;
  }

  /** @returns false where it was not active any more */
  async disable(tx: Tx, id: string, reason: DisabledReason): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      `UPDATE webhooks SET is_active = false, disabled_reason = $2, updated_at = now() WHERE id = $1 AND is_active`,
      [id, reason],
    );
    return count === 1;
  }

  /** Active owners and admins of the tenant. */
  async administrators(tx: Tx, tenantId: string): Promise<string[]> {
    const rows: Array<{ email: string }> = await tx.query(
      `SELECT u.email FROM members m JOIN users u ON u.id = m.user_id
       WHERE m.tenant_id = $1 AND m.status = 'active' AND u.is_active
         AND EXISTS (SELECT FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
                     AND r.tenant_id = m.tenant_id AND r.v1 IN ('owner', 'admin'))
       ORDER BY u.email`,
      [tenantId],
    );
    return rows.map(row => row.email);
  }

  allSealed(tx: Tx): Promise<Array<SealedParts & { id: string }>> {
    return tx.query(
      `SELECT id, secret, previous_secret AS "previousSecret", headers FROM webhooks ORDER BY id`,
    );
  }

  /** Puts the same values under another key, unless one was changed since `before` was read. */
  async reseal(tx: Tx, id: string, parts: SealedParts, before: SealedParts): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      `UPDATE webhooks SET secret = $2, previous_secret = $3, headers = $4
       WHERE id = $1 AND secret = $5 AND previous_secret IS NOT DISTINCT FROM $6 AND headers IS NOT DISTINCT FROM $7`,
      [
        id,
        parts.secret,
        parts.previousSecret,
        parts.headers,
        before.secret,
        before.previousSecret,
        before.headers,
      ],
    );
    return count === 1;
  }
}
