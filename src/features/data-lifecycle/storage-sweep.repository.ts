import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

export interface TenantName {
  id: string;
  name: string;
}

/** An original that a row says is stored. */
export interface StoredOriginal {
  documentId: string;
  version: number;
  key: string;
}

/** What the rows say of the storage. */
@Injectable()
export class StorageSweepRepository {
  /** Those of `ids` that are there, whatever their status. In a transaction of the platform, like the next. */
  tenants(tx: Tx, ids: readonly string[]): Promise<TenantName[]> {
    return tx.query('SELECT id, name FROM tenants WHERE id = ANY ($1::uuid[])', [ids]);
  }

  /** All, page by page in the order of their ids. */
  tenantsAfter(tx: Tx, after: string | null, limit: number): Promise<TenantName[]> {
    return tx.query('SELECT id, name FROM tenants WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2', [
      after,
      limit,
    ]);
  }

  /**
   * Those of `keys` that a document of the transaction's tenant refers to.
   *
   * @returns with each whether it has done so since before `time`
   */
  referenced(tx: Tx, keys: readonly string[], time: Date): Promise<Array<{ key: string; before: boolean }>> {
    return tx.query(
      `SELECT storage_key AS key, created_at < $2 AS before FROM document_versions WHERE storage_key = ANY ($1::text[])`,
      [keys, time],
    );
  }

  /** How many originals of the transaction's tenant have been there since before `time`. */
  async count(tx: Tx, time: Date): Promise<number> {
    const [{ count }] = await tx.query(
      `SELECT count(*)::integer AS count FROM knowledge_bases kb JOIN document_versions v ON v.kb_id = kb.id
       WHERE v.created_at < $1`,
      [time],
    );
    return count as number;
  }

  async knowledgeBases(tx: Tx): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query('SELECT id FROM knowledge_bases ORDER BY id');
    return rows.map(row => row.id);
  }

  /** Originals of a knowledge base, page by page. */
  originalsAfter(
    tx: Tx,
    kbId: string,
    after: StoredOriginal | null,
    limit: number,
  ): Promise<StoredOriginal[]> {
    return tx.query(
      `SELECT document_id AS "documentId", version, storage_key AS key FROM document_versions
       WHERE kb_id = $1 AND ($2::uuid IS NULL OR (document_id, version) > ($2, $3::integer))
       ORDER BY document_id, version LIMIT $4`,
      [kbId, after?.documentId ?? null, after?.version ?? null, limit],
    );
  }
}
