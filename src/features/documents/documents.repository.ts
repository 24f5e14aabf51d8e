import { Injectable } from '@nestjs/common';
import { In, type QueryDeepPartialEntity } from 'typeorm';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern } from '../../foundation/http/pagination.js';
import type { DocumentVersion } from './document-versions.repository.js';
import { Document } from './document.entity.js';
import type { ListDocuments } from './documents.dto.js';
import { canonicalAddress, titleOfAddress, titleOfPage } from './web-address.js';

/** Newest content of a document, to be ingested; of a web page without any until it has been fetched. */
export interface NewContent extends Pick<
  Document,
  | 'version'
  | 'contentSha256'
  | 'sizeBytes'
  | 'mimeType'
  | 'fileName'
  | 'source'
  | 'sourceUrl'
  | 'tokenId'
  | 'jobId'
> {}

/** What a web page says of itself. */
export interface PageDescription {
  title: string | null;
  canonicalUrl: string | null;
}

/** Back to the beginning, with a clean slate; a worker that has the document loses it. */
const QUEUED = `status = 'queued', stage = NULL, progress = 0, error_code = NULL, error_message = NULL,
  attempts = 0, interruptions = 0, run_after = now(), lease_owner = NULL, lease_expires_at = NULL,
  updated_at = now()`;
/** Nothing is being done with it any more. */
const SETTLED = `stage = NULL, lease_owner = NULL, lease_expires_at = NULL, updated_at = now()`;

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

  /** The version of what somebody calls `sourceId`; nobody else changes it until the transaction ends. */
  async lockBySource(tx: Tx, kbId: string, sourceId: string): Promise<Document | null> {
    return this.lockBy(tx, 'source_id', kbId, sourceId);
  }

  /** Nobody else changes or deletes it until the transaction ends. */
  async lockByContent(tx: Tx, kbId: string, contentSha256: string): Promise<Document | null> {
    return this.lockBy(tx, 'content_sha256', kbId, contentSha256);
  }

  /** @returns false where the knowledge base holds this content or this source already */
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

  async update(
    tx: Tx,
    id: string,
    changes: Pick<Partial<Document>, 'title' | 'metadata' | 'priority' | 'jobId'>,
  ): Promise<void> {
    await tx.getRepository(Document).update({ id }, { ...changes, updatedAt: new Date() } as never);
  }

  /**
   * Back to the beginning, with a clean slate. A worker that has it at present loses it.
   *
   * @param tokenId the API token that asks for it
   */
  async requeue(tx: Tx, id: string, tokenId: string | null): Promise<void> {
    await tx.query(`UPDATE documents SET ${QUEUED}, token_id = $2 WHERE id = $1`, [id, tokenId]);
  }

  /** Gives a document newer content, and puts it into the queue. What is searchable of it stays so. */
  async renew(tx: Tx, id: string, content: NewContent): Promise<void> {
    await tx.query(
      `UPDATE documents SET ${QUEUED}, version = $2, content_sha256 = $3, size_bytes = $4, mime_type = $5,
              file_name = $6, source = $7, source_url = $8, token_id = $9, job_id = $10, priority = 0,
              canonical_url = CASE WHEN $7 = 'url' THEN canonical_url END
       WHERE id = $1`,
      [
        id,
        content.version,
        content.contentSha256,
        content.sizeBytes,
        content.mimeType,
        content.fileName,
        content.source,
        content.sourceUrl,
        content.tokenId,
        content.jobId,
      ],
    );
  }

  /** A web page that waits for what its worker has fetched. @returns null where it is no longer this worker's */
  async lockFetching(
    tx: Tx,
    { id, kbId, version }: Pick<Document, 'id' | 'kbId' | 'version'>,
    leaseOwner: string,
  ): Promise<Document | null> {
    const rows: unknown[] = await tx.query(
      `SELECT FROM documents
       WHERE id = $1 AND lease_owner = $2 AND status = 'processing' AND version = $3 AND content_sha256 IS NULL
       FOR UPDATE`,
      [id, leaseOwner, version],
    );
    return rows.length === 1 ? this.find(tx, kbId, id) : null;
  }

  /** Says what a web page's content is, once it has been fetched. */
  async setContent(
    tx: Tx,
    { documentId, contentSha256, sizeBytes, mimeType, fileName }: Omit<DocumentVersion, 'createdAt'>,
  ): Promise<void> {
    await tx.query(
      `UPDATE documents SET content_sha256 = $2, size_bytes = $3, mime_type = $4, file_name = $5, updated_at = now()
       WHERE id = $1`,
      [documentId, contentSha256, sizeBytes, mimeType, fileName],
    );
  }

  /**
   * Takes over what a web page says of itself, when its content is stored: its title where nobody has given one, and
   * where it belongs.
   */
  async notePage(tx: Tx, id: string, { title, canonicalUrl }: PageDescription): Promise<void> {
    const [page]: Array<{ sourceUrl: string }> = await tx.query(
      `SELECT source_url AS "sourceUrl" FROM documents WHERE id = $1 AND source = 'url'`,
      [id],
    );
    if (!page) return;
    await tx.query(
      `UPDATE documents SET title = CASE WHEN $2 <> '' AND title = $3 THEN $2 ELSE title END, canonical_url = $4
       WHERE id = $1`,
      [
        id,
        titleOfPage(title ?? ''),
        titleOfAddress(page.sourceUrl),
        canonicalUrl === null ? null : canonicalAddress(canonicalUrl, page.sourceUrl),
      ],
    );
  }

  /** Back to the version that is searchable: what is newer was given up, or is the same again. */
  async restore(tx: Tx, id: string, indexed: DocumentVersion): Promise<void> {
    await tx.query(
      `UPDATE documents SET ${SETTLED}, status = 'ready', progress = 1, error_code = NULL, error_message = NULL,
              version = $2, content_sha256 = $3, size_bytes = $4, mime_type = $5, file_name = $6
       WHERE id = $1`,
      [id, indexed.version, indexed.contentSha256, indexed.sizeBytes, indexed.mimeType, indexed.fileName],
    );
  }

  /** Stops an ingestion. One whose content is searchable already is ready as before. */
  async cancel(tx: Tx, id: string): Promise<void> {
    await tx.query(
      `UPDATE documents SET ${SETTLED}, status = CASE WHEN indexed_version = version THEN 'ready' ELSE 'cancelled' END,
              progress = CASE WHEN indexed_version = version THEN 1 ELSE progress END
       WHERE id = $1`,
      [id],
    );
  }

  /** Of an import, what has not been ingested. */
  listUnfinished(tx: Tx, jobId: string): Promise<Array<{ id: string; kbId: string }>> {
    return tx.query(
      `SELECT id, kb_id AS "kbId" FROM documents
       WHERE job_id = $1 AND status IN ('queued', 'processing') ORDER BY id`,
      [jobId],
    );
  }

  /** @returns false where somebody else has just deleted it */
  async lock(tx: Tx, id: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM documents WHERE id = $1 FOR UPDATE', [id]);
    return rows.length === 1;
  }

  /** Those of `ids` that are there; nobody else changes them until the transaction ends. */
  async lockMany(tx: Tx, kbId: string, ids: readonly string[]): Promise<Document[]> {
    const rows: Array<{ id: string }> = await tx.query(
      'SELECT id FROM documents WHERE kb_id = $1 AND id = ANY ($2::uuid[]) ORDER BY id FOR UPDATE',
      [kbId, ids],
    );
    return rows.length === 0
      ? []
      : tx.getRepository(Document).findBy({ kbId, id: In(rows.map(row => row.id)) });
  }

  /**
   * Those whose newest content is older than so many days, the oldest first. What waits to be fetched again is not old.
   *
   * @param ids the only ones that are looked at
   */
  listExpired(
    tx: Tx,
    { days, limit, ids = null }: { days: number; limit: number; ids?: readonly string[] | null },
  ): Promise<Array<{ id: string; kbId: string }>> {
    return tx.query(
      `SELECT id, kb_id AS "kbId" FROM (
         SELECT d.id, d.kb_id, coalesce(max(v.created_at), d.created_at) AS content_at
         FROM documents d LEFT JOIN document_versions v ON v.document_id = d.id
         WHERE d.created_at < now() - make_interval(days => $1) AND ($3::uuid[] IS NULL OR d.id = ANY ($3::uuid[]))
           AND NOT (d.content_sha256 IS NULL AND d.status IN ('queued', 'processing'))
         GROUP BY d.id
       ) AS dated
       WHERE content_at < now() - make_interval(days => $1)
       ORDER BY content_at, id LIMIT $2`,
      [days, limit, ids],
    );
  }

  async delete(tx: Tx, ids: readonly string[]): Promise<void> {
    await tx.query('DELETE FROM documents WHERE id = ANY ($1::uuid[])', [ids]);
  }

  async list(tx: Tx, kbId: string, query: ListDocuments): Promise<Page<Document>> {
    const builder = tx.getRepository(Document).createQueryBuilder('d').where('d.kbId = :kbId', { kbId });
    if (query.status) builder.andWhere('d.status = :status', { status: query.status });
    if (query.source) builder.andWhere('d.source = :source', { source: query.source });
    if (query.source_id) builder.andWhere('d.sourceId = :sourceId', { sourceId: query.source_id });
    if (query.job_id) builder.andWhere('d.jobId = :jobId', { jobId: query.job_id });
    if (query.search) builder.andWhere('d.title ILIKE :search', { search: likePattern(query.search) });
    const [items, total] = await builder
      .orderBy(SORTABLE[query.sort.replace(/^-/, '')] as string, query.sort.startsWith('-') ? 'DESC' : 'ASC')
      .addOrderBy('d.id')
      .offset((query.page - 1) * query.page_size)
      .limit(query.page_size)
      .getManyAndCount();
    return { items, total };
  }

  private async lockBy(
    tx: Tx,
    column: 'source_id' | 'content_sha256',
    kbId: string,
    value: string,
  ): Promise<Document | null> {
    const rows: Array<{ id: string }> = await tx.query(
      `SELECT id FROM documents WHERE kb_id = $1 AND ${column} = $2 FOR UPDATE`,
      [kbId, value],
    );
    // Read apart: whoever has waited for the lock sees what it waited for.
    return rows[0] ? this.find(tx, kbId, rows[0].id) : null;
  }
}
