import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** Seconds after which a process that has said nothing is taken for dead. */
const LEASE = `interval '30 seconds'`;
/** How long an answer can be had again. */
const KEEP = `interval '24 hours'`;

/** A key that was used before. */
export interface UsedKey {
  fingerprint: Buffer;
  status: 'running' | 'answered' | 'not_replayable';
  /** Sealed. */
  answer: Buffer | null;
}

/** Keys of the transaction's tenant, or of none. */
@Injectable()
export class IdempotencyRepository {
  /**
   * Takes a key that is new, too old to count, or of a request that died on its way; two at once do not both get it.
   *
   * @returns false where it is somebody else's
   */
  async claim(
    tx: Tx,
    key: { id: Buffer; tenantId: string | null; fingerprint: Buffer; owner: string },
  ): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO idempotency_keys AS known (id, tenant_id, fingerprint, lease_owner, lease_expires_at, expires_at)
       VALUES ($1, $2, $3, $4, now() + ${LEASE}, now() + ${KEEP})
       ON CONFLICT (id) DO UPDATE SET
         fingerprint = excluded.fingerprint, status = 'running', lease_owner = excluded.lease_owner,
         lease_expires_at = excluded.lease_expires_at, answer = NULL, created_at = now(),
         expires_at = excluded.expires_at
       WHERE known.expires_at < now()
         OR (known.status = 'running' AND known.lease_expires_at < now() AND known.fingerprint = excluded.fingerprint)
       RETURNING 1`,
      [key.id, key.tenantId, key.fingerprint, key.owner],
    );
    return rows.length === 1;
  }

  async find(tx: Tx, id: Buffer): Promise<UsedKey | null> {
    const rows: UsedKey[] = await tx.query(
      'SELECT fingerprint, status, answer FROM idempotency_keys WHERE id = $1',
      [id],
    );
    return rows[0] ?? null;
  }

  async renew(tx: Tx, id: Buffer, owner: string): Promise<void> {
    await tx.query(
      `UPDATE idempotency_keys SET lease_expires_at = now() + ${LEASE} WHERE id = $1 AND lease_owner = $2`,
      [id, owner],
    );
  }

  /** @param answer sealed; null: it cannot be had again */
  async complete(tx: Tx, id: Buffer, owner: string, answer: Buffer | null): Promise<void> {
    await tx.query(
      `UPDATE idempotency_keys
       SET status = CASE WHEN $3::bytea IS NULL THEN 'not_replayable' ELSE 'answered' END, answer = $3,
           lease_owner = NULL, lease_expires_at = NULL
       WHERE id = $1 AND lease_owner = $2`,
      [id, owner, answer],
    );
  }

  /** Gives a key back, as if it had not been used. */
  async release(tx: Tx, id: Buffer, owner: string): Promise<void> {
    await tx.query('DELETE FROM idempotency_keys WHERE id = $1 AND lease_owner = $2', [id, owner]);
  }

  /** Of all tenants; in a transaction of the platform. @returns how many */
  async deleteExpired(tx: Tx, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM idempotency_keys
       WHERE id IN (SELECT id FROM idempotency_keys WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)`,
      [limit],
    );
    return count;
  }
}
