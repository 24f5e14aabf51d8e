import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import type { Price, PricedOperation } from './price-list.js';

/** A price as it was set; null: from then on there was none. */
export interface StoredPrice {
  operation: PricedOperation;
  model: string | null;
  microCredits: number | null;
  validFrom: Date;
}

interface PriceRow extends Omit<StoredPrice, 'microCredits'> {
  /** A bigint, which the driver reads as text. */
  microCredits: string | null;
}

const COLUMNS = `operation, model, micro_credits AS "microCredits", valid_from AS "validFrom"`;

/** Prices belong to the platform, and are never changed: a new one counts from when it is set. */
@Injectable()
export class PricesRepository {
  /** @param at null: now, which is what was set last, whatever the clock said */
  async list(tx: Tx, at: Date | null): Promise<Price[]> {
    const rows: PriceRow[] = await tx.query(
      `SELECT * FROM (
         SELECT DISTINCT ON (operation, model) ${COLUMNS} FROM prices
         WHERE $1::timestamptz IS NULL OR valid_from <= $1
         ORDER BY operation, model, sequence DESC
       ) AS latest WHERE "microCredits" IS NOT NULL ORDER BY operation, model NULLS FIRST`,
      [at],
    );
    return rows.map(row => ({ ...row, microCredits: Number(row.microCredits) }));
  }

  /** The newest first. */
  async history(
    tx: Tx,
    filter: { operation?: PricedOperation; model?: string },
    { page, pageSize }: { page: number; pageSize: number },
  ): Promise<Page<StoredPrice>> {
    const where = '($1::text IS NULL OR operation = $1) AND ($2::text IS NULL OR model = $2)';
    const parameters = [filter.operation ?? null, filter.model ?? null];
    const [{ total }] = await tx.query(
      `SELECT count(*)::int AS total FROM prices WHERE ${where}`,
      parameters,
    );
    const rows: PriceRow[] = await tx.query(
      `SELECT ${COLUMNS} FROM prices WHERE ${where} ORDER BY sequence DESC LIMIT $3 OFFSET $4`,
      [...parameters, pageSize, (page - 1) * pageSize],
    );
    return { items: rows.map(toStored), total };
  }

  /** Of two who set prices at once, one goes first. */
  async lock(tx: Tx): Promise<void> {
    await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('prices', 0))`);
  }

  /** They count from now on, and never from before those that were set earlier. */
  async insert(
    tx: Tx,
    prices: ReadonlyArray<Omit<StoredPrice, 'validFrom'>>,
    createdBy: string | null,
  ): Promise<void> {
    await tx.query(
      `INSERT INTO prices (operation, model, micro_credits, valid_from, created_by)
       SELECT operation, model, micro_credits, greatest(statement_timestamp(), (SELECT max(valid_from) FROM prices)), $4
       FROM unnest($1::text[], $2::text[], $3::bigint[]) AS p (operation, model, micro_credits)`,
      [
        prices.map(price => price.operation),
        prices.map(price => price.model),
        prices.map(price => price.microCredits),
        createdBy,
      ],
    );
  }
}

const toStored = (row: PriceRow): StoredPrice => ({
  ...row,
  microCredits: row.microCredits === null ? null : Number(row.microCredits),
});
