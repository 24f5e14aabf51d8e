import { Injectable } from '@nestjs/common';
import { validate as isUuid } from 'uuid';
import { letTakeItsTime } from '../../foundation/database/statement-timeout.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern } from '../../foundation/http/pagination.js';
import { KnowledgeBase } from './knowledge-base.entity.js';
import type { ListKnowledgeBases } from './knowledge-bases.dto.js';

/** Of PostgreSQL. */
const UNIQUE_VIOLATION = '23505';

/** The knowledge bases that somebody may read: those open to the tenant where `open`, and those `granted`, by id. */
export type ReadableKbs = 'all' | { open: boolean; granted: readonly string[] };

/** The statistics of a knowledge base, as far as somebody sees its documents. */
export type SeenDocuments = Pick<
  KnowledgeBase,
  'documentCount' | 'chunkCount' | 'entityCount' | 'relationCount' | 'storageBytes'
>;

const SORTABLE: Record<string, string> = { created_at: 'kb.createdAt', name: 'kb.name' };

/** Knowledge bases of the transaction's tenant. */
@Injectable()
export class KnowledgeBasesRepository {
  /** @param reference id or slug */
  find(tx: Tx, reference: string): Promise<KnowledgeBase | null> {
    return tx
      .getRepository(KnowledgeBase)
      .findOneBy(isUuid(reference) ? { id: reference } : { slug: reference });
  }

  /** @returns false where the name or the slug is taken */
  async insert(tx: Tx, kb: Partial<KnowledgeBase>): Promise<boolean> {
    const result = await tx
      .getRepository(KnowledgeBase)
      .createQueryBuilder()
      .insert()
      .values(kb)
      .orIgnore()
      .returning('id')
      .execute();
    return (result.raw as unknown[]).length === 1;
  }

  /** @returns false where the name or the slug is taken, perhaps by one that the transaction does not see */
  async update(tx: Tx, id: string, changes: Partial<KnowledgeBase>): Promise<boolean> {
    try {
      await tx.getRepository(KnowledgeBase).update({ id }, { ...changes, updatedAt: new Date() });
      return true;
    } catch (error) {
      if ((error as { driverError?: { code?: string } }).driverError?.code === UNIQUE_VIOLATION) return false;
      throw error;
    }
  }

  /**
   * @param renames whether the slug may change, which waits for whoever adds a document: they wait for their knowledge
   *   base in turn, so it must be held by then or not at all
   */
  async lock(tx: Tx, id: string, { renames = false }: { renames?: boolean } = {}): Promise<void> {
    await tx.query(`SELECT FROM knowledge_bases WHERE id = $1 FOR ${renames ? 'UPDATE' : 'NO KEY UPDATE'}`, [
      id,
    ]);
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await letTakeItsTime(tx);
    // In the order of whoever stores or deletes one of them: the document first, then its knowledge base.
    await tx.query('SELECT FROM documents WHERE kb_id = $1 ORDER BY id FOR UPDATE', [id]);
    await tx.getRepository(KnowledgeBase).delete({ id });
  }

  /** @param readable which of those that the transaction sees */
  async list(tx: Tx, query: ListKnowledgeBases, readable: ReadableKbs): Promise<Page<KnowledgeBase>> {
    const builder = tx.getRepository(KnowledgeBase).createQueryBuilder('kb').where('true');
    if (readable !== 'all') {
      builder.andWhere('((:open AND kb.visibility = :everybody) OR kb.id = ANY (:granted))', {
        ...readable,
        everybody: 'tenant',
      });
    }
    if (query.search) {
      builder.andWhere('(kb.name ILIKE :search OR kb.slug ILIKE :search)', {
        search: likePattern(query.search),
      });
    }
    const [items, total] = await builder
      .orderBy(SORTABLE[query.sort.replace(/^-/, '')] as string, query.sort.startsWith('-') ? 'DESC' : 'ASC')
      .addOrderBy('kb.id')
      .offset((query.page - 1) * query.page_size)
      .limit(query.page_size)
      .getManyAndCount();
    return { items, total };
  }

  /** What the transaction sees of the documents of knowledge bases. */
  async seenDocuments(tx: Tx, ids: readonly string[]): Promise<Map<string, SeenDocuments>> {
    const rows: Array<SeenDocuments & { id: string }> = await tx.query(
      `SELECT kb_id AS id, count(*)::int AS "documentCount", coalesce(sum(chunk_count), 0)::int AS "chunkCount",
              coalesce(sum(size_bytes), 0)::float8 AS "storageBytes",
              (SELECT count(*)::int FROM graph_entities e WHERE e.kb_id = documents.kb_id) AS "entityCount",
              (SELECT count(*)::int FROM graph_relations r WHERE r.kb_id = documents.kb_id) AS "relationCount"
       FROM documents WHERE kb_id = ANY ($1::uuid[]) GROUP BY kb_id`,
      [ids],
    );
    return new Map(rows.map(({ id, ...seen }) => [id, seen]));
  }

  async documentsByStatus(tx: Tx, id: string): Promise<Record<string, number>> {
    const rows: Array<{ status: string; count: number }> = await tx.query(
      'SELECT status, count(*)::int AS count FROM documents WHERE kb_id = $1 GROUP BY status',
      [id],
    );
    return Object.fromEntries(rows.map(row => [row.status, row.count]));
  }

  /** Keeps the statistics equal to what a count would give, in the transaction that adds, changes or removes documents. */
  async countDocument(tx: Tx, id: string, documents: number, bytes: number): Promise<void> {
    await tx.query(
      'UPDATE knowledge_bases SET document_count = document_count + $2, storage_bytes = storage_bytes + $3 WHERE id = $1',
      [id, documents, bytes],
    );
  }

  /**
   * Says which model the vectors of this knowledge base are from.
   *
   * @returns false where they are from another one
   */
  async fixEmbeddingModel(tx: Tx, id: string, model: string): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE knowledge_bases SET embedding_model = $2
       WHERE id = $1 AND (embedding_model IS NULL OR embedding_model = $2 OR chunk_count = 0) RETURNING id`,
      [id, model],
    );
    return rows.length === 1;
  }
}
