import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** Removes a tenant piece by piece. */
@Injectable()
export class TenantDeletionRepository {
  /** Of the transaction's tenant; chunks go with their documents. @returns how many went */
  async deleteDocuments(tx: Tx, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM documents WHERE id IN (SELECT id FROM documents LIMIT $1)',
      [limit],
    );
    return count;
  }

  /** One of the transaction's tenant. @returns false where there is none left */
  async deleteKnowledgeBase(tx: Tx): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM knowledge_bases WHERE id IN (SELECT id FROM knowledge_bases LIMIT 1)',
    );
    return count === 1;
  }

  /** The newest entry of a tenant's chain of audit entries: none is added until the transaction ends. */
  async endOfAudit(tx: Tx, tenantId: string): Promise<{ sequence: number; hash: string } | null> {
    const rows: Array<{ sequence: string; hash: string }> = await tx.query(
      'SELECT sequence, hash FROM audit_chains WHERE chain_id = $1 FOR UPDATE',
      [tenantId],
    );
    return rows[0] ? { sequence: Number(rows[0].sequence), hash: rows[0].hash } : null;
  }

  /** With all that is left in it. Only what is being erased. */
  async deleteTenant(tx: Tx, tenantId: string): Promise<void> {
    await tx.query(`DELETE FROM tenants WHERE id = $1 AND status = 'erasing'`, [tenantId]);
  }
}
