import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import type { PricedLine } from './price-list.js';

export const ENTRY_TYPES = ['grant', 'reserve', 'commit', 'release', 'expire', 'adjust'] as const;
export type EntryType = (typeof ENTRY_TYPES)[number];

/** Micro-credits of a tenant, as they are at the moment. */
export interface CreditAccount {
  /** What is available. */
  balance: number;
  /** What open reservations hold. */
  held: number;
  granted: number;
  /** In this calendar month (UTC). */
  spentThisMonth: number;
  /** A tenth of the last grant where none is set; null before the first. */
  lowThreshold: number | null;
  lowThresholdSet: boolean;
  nextExpiry: { expiresAt: Date; amount: number } | null;
}

/** An entry of the ledger, which nobody changes any more. */
export interface LedgerEntry {
  id: string;
  /** From 1, without a gap. */
  sequence: number;
  type: EntryType;
  /** What the balance was changed by. */
  delta: number;
  amount: number;
  balanceAfter: number;
  reservationId: string | null;
  grantId: string | null;
  operation: string | null;
  lines: PricedLine[];
  idempotencyKey: string;
  tokenId: string | null;
  userId: string | null;
  note: string | null;
  createdAt: Date;
}

export interface LedgerFilter {
  type?: EntryType;
  operation?: string;
  tokenId?: string;
  from?: Date;
  /** Exclusive. */
  until?: Date;
}

/** A day on which storage is charged for. */
export interface StoredBytes {
  bytes: number;
  alreadyCharged: boolean;
}

type EntryRow = Omit<LedgerEntry, 'sequence' | 'delta' | 'amount' | 'balanceAfter'> &
  Record<'sequence' | 'delta' | 'amount' | 'balanceAfter', string>;

const COLUMNS = `id, sequence, type, delta, amount, balance_after AS "balanceAfter", reservation_id AS "reservationId",
  grant_id AS "grantId", operation, lines, idempotency_key AS "idempotencyKey", token_id AS "tokenId",
  user_id AS "userId", note, created_at AS "createdAt"`;

/** Reads accounts and ledgers of the transaction's tenant. */
@Injectable()
export class CreditAccountsRepository {
  async find(tx: Tx): Promise<CreditAccount> {
    const [row] = await tx.query(
      `SELECT coalesce(a.balance, 0)::text AS balance, coalesce(a.held, 0)::text AS held,
              coalesce(a.granted, 0)::text AS granted, coalesce(a.low_threshold, a.last_grant / 10)::text AS "lowThreshold",
              a.low_threshold IS NOT NULL AS "lowThresholdSet",
              (SELECT coalesce(sum(spent), 0) FROM credit_months
               WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC')::date)::text AS spent,
              next.expires_at AS "expiresAt", next.amount::text AS amount
       FROM (SELECT) AS one LEFT JOIN credit_accounts a ON true
       LEFT JOIN (SELECT expires_at, sum(remaining) AS amount FROM credit_grants
                  WHERE can_expire AND expires_at > now() GROUP BY expires_at ORDER BY expires_at LIMIT 1) AS next ON true`,
    );
    return {
      balance: Number(row.balance),
      held: Number(row.held),
      granted: Number(row.granted),
      spentThisMonth: Number(row.spent),
      lowThreshold: row.lowThreshold === null ? null : Number(row.lowThreshold),
      lowThresholdSet: row.lowThresholdSet as boolean,
      nextExpiry:
        row.expiresAt === null ? null : { expiresAt: row.expiresAt as Date, amount: Number(row.amount) },
    };
  }

  /** The newest first: in the order of the ledger, whatever the clock said. */
  async list(
    tx: Tx,
    filter: LedgerFilter,
    { page, pageSize }: { page: number; pageSize: number },
  ): Promise<Page<LedgerEntry>> {
    const { where, parameters } = conditions(filter);
    const [{ total }] = await tx.query(
      `SELECT count(*)::int AS total FROM credit_ledger WHERE ${where}`,
      parameters,
    );
    const rows: EntryRow[] = await tx.query(
      `SELECT ${COLUMNS} FROM credit_ledger WHERE ${where}
       ORDER BY sequence DESC LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, pageSize, (page - 1) * pageSize],
    );
    return { items: rows.map(toEntry), total };
  }

  /** In the order of the ledger: entries after `after` up to `upTo`, at most `limit`. */
  async batch(
    tx: Tx,
    filter: LedgerFilter,
    { after, upTo, limit }: { after: number; upTo: number; limit: number },
  ): Promise<LedgerEntry[]> {
    const { where, parameters } = conditions(filter);
    const count = parameters.length;
    const rows: EntryRow[] = await tx.query(
      `SELECT ${COLUMNS} FROM credit_ledger
       WHERE ${where} AND sequence > $${count + 1} AND sequence <= $${count + 2} ORDER BY sequence LIMIT $${count + 3}`,
      [...parameters, after, upTo, limit],
    );
    return rows.map(toEntry);
  }

  async entry(tx: Tx, sequence: number): Promise<LedgerEntry> {
    const rows: EntryRow[] = await tx.query(`SELECT ${COLUMNS} FROM credit_ledger WHERE sequence = $1`, [
      sequence,
    ]);
    return toEntry(rows[0] as EntryRow);
  }

  /** Of the newest entry; 0 where there is none. */
  async lastSequence(tx: Tx): Promise<number> {
    const rows: Array<{ sequence: string }> = await tx.query('SELECT sequence FROM credit_accounts');
    return Number(rows[0]?.sequence ?? 0);
  }

  /** What the tenant stores, while nobody else charges for it. */
  async lockStorage(tx: Tx, day: string): Promise<StoredBytes> {
    const [row] = await tx.query(
      `SELECT coalesce(a.storage_charged_on = $1::date, false) AS "alreadyCharged",
              (SELECT coalesce(sum(storage_bytes), 0) FROM tenant_counters)::text AS bytes
       FROM lock_credit_account() AS a`,
      [day],
    );
    return { bytes: Number(row.bytes), alreadyCharged: row.alreadyCharged as boolean };
  }

  async setStorageCharged(tx: Tx, day: string): Promise<void> {
    await tx.query('UPDATE credit_accounts SET storage_charged_on = $1', [day]);
  }

  /** Tenants in which a reservation or a grant is due, page by page in the order of their ids. In a transaction of the platform. */
  async tenantsToSweep(tx: Tx, after: string | null, limit: number): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      `SELECT t.id FROM tenants t
       WHERE t.status <> 'erasing' AND ($1::uuid IS NULL OR t.id > $1) AND t.id IN (
         SELECT tenant_id FROM credit_reservations WHERE status = 'open' AND expires_at <= now()
         UNION ALL SELECT tenant_id FROM credit_grants WHERE can_expire AND expires_at <= now())
       ORDER BY t.id LIMIT $2`,
      [after, limit],
    );
    return rows.map(row => row.id);
  }

  /**
   * Tenants whose storage was not charged for on this day last: also where that was in the future of a clock that has gone
   * back since. In a transaction of the platform.
   */
  async tenantsToCharge(tx: Tx, day: string, after: string | null, limit: number): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      `SELECT t.id FROM tenants t LEFT JOIN credit_accounts a ON a.tenant_id = t.id
       WHERE t.status <> 'erasing' AND ($1::uuid IS NULL OR t.id > $1)
         AND a.storage_charged_on IS DISTINCT FROM $2::date
       ORDER BY t.id LIMIT $3`,
      [after, day, limit],
    );
    return rows.map(row => row.id);
  }
}

function conditions(filter: LedgerFilter): { where: string; parameters: unknown[] } {
  const parameters: unknown[] = [];
  const found = ['true'];
  const add = (value: unknown, condition: (parameter: string) => string) => {
    if (value !== undefined) found.push(condition(`$${parameters.push(value)}`));
  };
  add(filter.type, value => `type = ${value}`);
  add(filter.operation, value => `operation = ${value}`);
  add(filter.tokenId, value => `token_id = ${value}`);
  add(filter.from, value => `created_at >= ${value}`);
  add(filter.until, value => `created_at < ${value}`);
  return { where: found.join(' AND '), parameters };
}

const toEntry = (row: EntryRow): LedgerEntry => ({
  ...row,
  sequence: Number(row.sequence),
  delta: Number(row.delta),
  amount: Number(row.amount),
  balanceAfter: Number(row.balanceAfter),
});
