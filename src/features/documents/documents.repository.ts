import { Injectable } from '@nestjs/common';
import type { QueryDeepPartialEntity } from 'typeorm';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern } from '../../foundation/http/pagination.js';
import { Document } from './document.entity.js';
import type { ListDocuments } from './documents.dto.js';

const SORTABLE: Record<string, string> = {
  created_at: 'd.createdAt',
  title: 'd.title',
  updated_at: 'd.updatedAt',
  size_bytes: 'd.sizeBytes',
};

/** Documents of the transaction's tenant. */
@Injectable()
export class DocumentsRepository {
  find(tx: Tx, kbId: string, id: string): Promise<Document | null> {
    return tx.getRepository(Document).findOneBy({ id, kbId });
  }

  findByContent(tx: Tx, kbId: string, contentSha256: string): Promise<Document | null> {
    return tx.getRepository(Document).findOneBy({ kbId, contentSha256 });
  }

  /** @returns false where the knowledge base holds this content already */
  async insert(tx: Tx, document: Partial<Document>): Promise<boolean> {
    const result = await tx
      .getRepository(Document)
      .createQueryBuilder()
      .insert()
      .values(document as QueryDeepPartialEntity<Document>)
      .orIgnore()
      .returning('id')
      .execute();
    return (result.raw as unknown[]).length === 1;
  }

  async update(tx: Tx, id: string, changes: Pick<Partial<Document>, 'title' | 'metadata'>): Promise<void> {
    await tx.getRepository(Document).update({ id }, { ...changes, updatedAt: new Date() } as never);
  }

  /**
   * Back to the beginning, with a clean slate. A worker that has it at present loses it.
   *
   * @param tokenId the API token that asks for it
   */
  async requeue(tx: Tx, id: string, tokenId: string | null): Promise<void> {
    await tx.query(
      `UPDATE documents SET status = 'queued', stage = NULL, progress = 0, error_code = NULL, error_message = NULL,
              attempts = 0, interruptions = 0, run_after = now(), lease_owner = NULL, lease_expires_at = NULL,
              updated_at = now(), token_id = $2
       WHERE id = $1`,
      [id, tokenId],
    );
  }

  /**
   * Stops what has not ended yet.
   *
   * @returns false where it had ended
   */
  async cancel(tx: Tx, id: string): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE documents SET status = CASE WHEN chunk_count > 0 THEN 'ready' ELSE 'cancelled' END, stage = NULL,
              lease_owner = NULL, lease_expires_at = NULL, updated_at = now()
       WHERE id = $1 AND status IN ('queued', 'processing') RETURNING id`,
      [id],
    );
    return rows.length === 1;
  }

  /** @returns false where somebody else has just deleted it */
  async lock(tx: Tx, id: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM documents WHERE id = $1 FOR UPDATE', [id]);
    return rows.length === 1;
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.getRepository(Document).delete({ id });
  }

  async list(tx: Tx, kbId: string, query: ListDocuments): Promise<Page<Document>> {
    const builder = tx.getRepository(Document).createQueryBuilder('d').where('d.kbId = :kbId', { kbId });
    if (query.status) builder.andWhere('d.status = :status', { status: query.status });
    if (query.search) builder.andWhere('d.title ILIKE :search', { search: likePattern(query.search) });
    const [items, total] = await builder
      .orderBy(SORTABLE[query.sort.replace(/^-/, '')] as string, query.sort.startsWith('-') ? 'DESC' : 'ASC')
      .addOrderBy('d.id')
      .offset((query.page - 1) * query.page_size)
      .limit(query.page_size)
      .getManyAndCount();
    return { items, total };
  }
}
