import { Injectable } from '@nestjs/common';
import { letTakeItsTime } from '../../foundation/database/statement-timeout.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Document } from './document.entity.js';
import type { Acl } from './documents.dto.js';

/** Who may read the restricted documents of the transaction's tenant. */
@Injectable()
export class DocumentReadersRepository {
  async list(tx: Tx, documentId: string): Promise<Acl> {
    const [acl] = await tx.query<[Acl]>(
      `SELECT coalesce(array_agg(user_id::text ORDER BY user_id) FILTER (WHERE user_id IS NOT NULL), '{}') AS members,
              coalesce(array_agg(group_id::text ORDER BY group_id) FILTER (WHERE group_id IS NOT NULL), '{}') AS groups
       FROM document_readers WHERE document_id = $1`,
      [documentId],
    );
    return acl;
  }

  /** Readers come before the restriction: whoever restricts a document must go on seeing it. */
  async restrict(
    tx: Tx,
    document: Pick<Document, 'id' | 'kbId' | 'tenantId'>,
    { members, groups }: Acl,
  ): Promise<void> {
    await tx.query(
      `INSERT INTO document_readers (tenant_id, kb_id, document_id, user_id, group_id)
       SELECT $1::uuid, $2::uuid, $3::uuid, id, NULL::uuid FROM unnest($4::uuid[]) AS id
       UNION ALL SELECT $1::uuid, $2::uuid, $3::uuid, NULL, id FROM unnest($5::uuid[]) AS id
       ON CONFLICT DO NOTHING`,
      [document.tenantId, document.kbId, document.id, members, groups],
    );
    await this.setRestricted(tx, document.id, true);
    await tx.query(
      `DELETE FROM document_readers
       WHERE document_id = $1
         AND CASE WHEN user_id IS NOT NULL THEN user_id <> ALL ($2::uuid[]) ELSE group_id <> ALL ($3::uuid[]) END`,
      [document.id, members, groups],
    );
  }

  async open(tx: Tx, documentId: string): Promise<void> {
    await this.setRestricted(tx, documentId, false);
    await tx.query('DELETE FROM document_readers WHERE document_id = $1', [documentId]);
  }

  /** All that was made of the document goes by it: its chunks, and what they mention. */
  private async setRestricted(tx: Tx, documentId: string, restricted: boolean): Promise<void> {
    const graph: unknown[] = await tx.query(
      'SELECT FROM documents WHERE id = $1 AND restricted <> $2 AND graph IS NOT NULL',
      [documentId, restricted],
    );
    if (graph.length > 0) await letTakeItsTime(tx);
    await tx.query('UPDATE documents SET restricted = $2, updated_at = now() WHERE id = $1', [
      documentId,
      restricted,
    ]);
  }
}
