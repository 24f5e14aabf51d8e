import { Injectable } from '@nestjs/common';
import { letTakeItsTime } from '../../foundation/database/statement-timeout.js';
import type { Tx } from '../../foundation/database/transaction.js';

/**
 * Removes a tenant piece by piece. Each statement names the tenant although row-level security holds it to that: where
 * somebody has switched that off, nothing else may be deleted.
 */
@Injectable()
export class TenantDeletionRepository {
  /**
   * Chunks go with their documents, and what these mention with them.
   *
   * @param chunks that they may have together, unless it is one alone
   * @returns how many went
   */
  async deleteDocuments(tx: Tx, tenantId: string, limit: number, chunks: number): Promise<number> {
    await letTakeItsTime(tx);
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM documents WHERE tenant_id = $3 AND id IN (
         SELECT id FROM (
           SELECT id, row_number() OVER so_far AS place, sum(chunk_count) OVER so_far AS chunks
           FROM (SELECT id, chunk_count FROM documents WHERE tenant_id = $3 ORDER BY id LIMIT $1) AS found
           WINDOW so_far AS (ORDER BY id)) AS counted
         WHERE place = 1 OR chunks <= $2)`,
      [limit, chunks, tenantId],
    );
    return count;
  }

  /** Messages go with their chats. @returns how many went */
  async deleteChats(tx: Tx, tenantId: string, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM chat_sessions WHERE id IN (SELECT id FROM chat_sessions WHERE tenant_id = $2 LIMIT $1)',
      [limit, tenantId],
    );
    return count;
  }

  /** Their results go with them. @returns how many went */
  async deleteEvaluations(tx: Tx, tenantId: string, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM evaluations WHERE id IN (SELECT id FROM evaluations WHERE tenant_id = $2 LIMIT $1)',
      [limit, tenantId],
    );
    return count;
  }

  /** One of them. @returns false where there is none left */
  async deleteKnowledgeBase(tx: Tx, tenantId: string): Promise<boolean> {
    await letTakeItsTime(tx);
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM knowledge_bases WHERE id IN (SELECT id FROM knowledge_bases WHERE tenant_id = $1 LIMIT 1)',
      [tenantId],
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
