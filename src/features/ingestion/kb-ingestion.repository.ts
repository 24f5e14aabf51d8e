import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { KnowledgeBaseConfig } from '../knowledge-bases/knowledge-base-config.js';
import type { DocumentGraph } from '../graph/graph-store.repository.js';
import { OWN_FAULTS } from './ingestion-fault.js';

/** A knowledge base whose documents may all be staged for another embedding model. */
export interface ReindexingKb {
  kbId: string;
  tenantId: string;
}

/** A document that is staged, and waits for the others of its knowledge base. */
export interface ParkedDocument {
  id: string;
  title: string;
  restricted: boolean;
  chunkCount: number;
  tokenCount: number;
  /** What a web page says of itself; null: it is none. */
  page: { title: string | null; canonicalUrl: string | null } | null;
}

/** Re-indexing goes behind everything that people wait for. */
const REINDEX_PRIORITY = -5;
const PARKED = `status = 'queued' AND stage = 'store'`;
/** Documents of a kb that are not staged and have not ended; each half is one look-up in an index. */
const unfinished = (kb: string) => `
  (EXISTS (SELECT FROM documents d WHERE d.tenant_id = ${kb}.tenant_id AND d.kb_id = ${kb}.id AND d.status = 'queued'
             AND d.stage IS NULL)
   OR EXISTS (SELECT FROM documents d WHERE d.tenant_id = ${kb}.tenant_id AND d.kb_id = ${kb}.id
                AND d.status = 'processing'))`;
/**
 * Documents that have failed for another reason than their own content, and are searchable as they were. Without credits,
 * or with a wrong key for the model, nothing searchable may be swapped for nothing.
 */
const WRONGLY_FAILED = `
  EXISTS (SELECT FROM documents d WHERE d.tenant_id = kb.tenant_id AND d.kb_id = kb.id AND d.status = 'failed'
            AND d.chunk_count > 0 AND d.error_code <> ALL ('{${OWN_FAULTS.join(',')}}'::text[]))`;

/** The ingestion of knowledge bases as a whole. */
@Injectable()
export class KbIngestionRepository {
  /** What the knowledge base sets itself; null where there is none. */
  async configOf(tx: Tx, kbId: string): Promise<KnowledgeBaseConfig | null> {
    const rows: Array<{ config: KnowledgeBaseConfig }> = await tx.query(
      'SELECT config FROM knowledge_bases WHERE id = $1',
      [kbId],
    );
    return rows[0]?.config ?? null;
  }

  async setPaused(tx: Tx, kbId: string, paused: boolean): Promise<void> {
    await tx.query(
      'UPDATE knowledge_bases SET ingestion_paused = $2, updated_at = now() WHERE id = $1 AND ingestion_paused <> $2',
      [kbId, paused],
    );
  }

  /**
   * Locks documents, then their knowledge base: in the order of whoever stores one. A document that is added between the
   * two is not locked, and whoever has it may wait for the knowledge base: it must be left alone.
   *
   * @returns the ids of the documents; null where there is no such knowledge base
   */
  async lock(tx: Tx, kbId: string): Promise<string[] | null> {
    const documents: Array<{ id: string }> = await tx.query(
      'SELECT id FROM documents WHERE kb_id = $1 ORDER BY id FOR UPDATE',
      [kbId],
    );
    const kbs: unknown[] = await tx.query('SELECT FROM knowledge_bases WHERE id = $1 FOR NO KEY UPDATE', [
      kbId,
    ]);
    return kbs.length === 1 ? documents.map(({ id }) => id) : null;
  }

  /**
   * Puts documents into the queue again but those that somebody has cancelled, and says where a model other than that of
   * the stored vectors is to take its place. A worker that has one of them loses it.
   *
   * @returns how many, and the model that is to take the place of the other
   */
  async requeueAll(
    tx: Tx,
    kbId: string,
    ids: readonly string[],
    model: string,
    jobId: string,
  ): Promise<{ documents: number; reindexingTo: string | null }> {
    const [[kb]]: [Array<{ reindexingTo: string | null }>] = await tx.query(
      `UPDATE knowledge_bases
       SET reindexing_to = CASE WHEN chunk_count > 0 AND embedding_model <> $2 THEN $2 END
       WHERE id = $1 RETURNING reindexing_to AS "reindexingTo"`,
      [kbId, model],
    );
    const [, documents]: [unknown, number] = await tx.query(
      `UPDATE documents
       SET status = 'queued', stage = NULL, progress = 0, error_code = NULL, error_message = NULL, attempts = 0,
           interruptions = 0, run_after = now(), lease_owner = NULL, lease_expires_at = NULL, picked_at = NULL,
           priority = ${REINDEX_PRIORITY}, job_id = $2, updated_at = now()
       WHERE id = ANY ($1::uuid[]) AND status NOT IN ('cancelled', 'deleting')`,
      [ids, jobId],
    );
    return { documents, reindexingTo: kb?.reindexingTo ?? null };
  }

  /** Those that may wait for nothing but to be swapped, of all tenants. In a transaction of the platform. */
  listComplete(tx: Tx): Promise<ReindexingKb[]> {
    return tx.query(
      `SELECT kb.id AS "kbId", kb.tenant_id AS "tenantId" FROM knowledge_bases kb
       JOIN tenants t ON t.id = kb.tenant_id AND t.status = 'active'
       WHERE kb.reindexing_to IS NOT NULL AND NOT ${unfinished('kb')}`,
    );
  }

  /** @returns the model that every document is staged for, or has failed with; null where the time has not come */
  async completeFor(tx: Tx, kbId: string): Promise<string | null> {
    const rows: Array<{ reindexingTo: string }> = await tx.query(
      `SELECT reindexing_to AS "reindexingTo" FROM knowledge_bases kb
       WHERE id = $1 AND reindexing_to IS NOT NULL AND NOT ${unfinished('kb')} AND NOT ${WRONGLY_FAILED}`,
      [kbId],
    );
    return rows[0]?.reindexingTo ?? null;
  }

  listParked(tx: Tx, kbId: string): Promise<ParkedDocument[]> {
    return tx.query(
      `SELECT d.id, d.title, d.restricted, i.chunk_count AS "chunkCount", i.token_count::float8 AS "tokenCount",
              CASE WHEN d.source = 'url' THEN json_build_object('title', i.title, 'canonicalUrl', i.canonical_url) END
                AS page
       FROM documents d JOIN ingestions i ON i.document_id = d.id
       WHERE d.kb_id = $1 AND ${PARKED} ORDER BY d.id`,
      [kbId],
    );
  }

  /**
   * Says of all documents what the swap has made of them: those that were staged are ready; the others have no chunks any
   * more. To be called after the chunks were swapped.
   *
   * @param parked ids of those that were staged
   * @returns keys of originals that newer ones have taken the place of, to be deleted after the commit
   */
  async finishAll(tx: Tx, kbId: string, model: string, parked: readonly string[]): Promise<string[]> {
    await tx.query(
      `UPDATE documents
       SET status = 'ready', stage = NULL, progress = 1, indexed_version = documents.version, mime_type = i.mime_type,
           chunk_count = i.chunk_count, token_count = i.token_count, warnings = i.warnings, graph = NULL,
           updated_at = now()
       FROM ingestions i WHERE i.document_id = documents.id AND documents.id = ANY ($1::uuid[])`,
      [parked],
    );
    await tx.query(
      `UPDATE documents
       SET chunk_count = 0, token_count = 0, indexed_version = 0, graph = NULL, updated_at = now(),
           status = CASE status WHEN 'ready' THEN 'failed' ELSE status END,
           error_code = CASE status WHEN 'ready' THEN 'embedding_model_changed' ELSE error_code END,
           error_message = CASE status WHEN 'ready' THEN $3 ELSE error_message END
       WHERE kb_id = $1 AND chunk_count > 0 AND id <> ALL ($2::uuid[])`,
      [kbId, parked, 'The knowledge base was re-indexed for another embedding model without this document.'],
    );
    const [rows]: [Array<{ storageKey: string }>] = await tx.query(
      `DELETE FROM document_versions v USING documents d
       WHERE d.id = v.document_id AND d.kb_id = $1 AND v.version < d.version AND d.id = ANY ($2::uuid[])
       RETURNING v.storage_key AS "storageKey"`,
      [kbId, parked],
    );
    await tx.query('DELETE FROM ingestions WHERE document_id = ANY ($1::uuid[])', [parked]);
    await tx.query(
      'UPDATE knowledge_bases SET embedding_model = $2, reindexing_to = NULL, updated_at = now() WHERE id = $1',
      [kbId, model],
    );
    return rows.map(row => row.storageKey);
  }

  /** Says what a document has brought into the graph. */
  async noteGraph(tx: Tx, id: string, graph: DocumentGraph): Promise<void> {
    await tx.query('UPDATE documents SET graph = $2::jsonb WHERE id = $1', [id, JSON.stringify(graph)]);
  }

  /** The knowledge bases that a job re-indexes: one, as long as it holds documents. */
  async listOfJob(tx: Tx, jobId: string): Promise<string[]> {
    const rows: Array<{ kbId: string }> = await tx.query(
      'SELECT DISTINCT kb_id AS "kbId" FROM documents WHERE job_id = $1',
      [jobId],
    );
    return rows.map(row => row.kbId);
  }

  /**
   * Gives up re-indexing: what is searchable stays as it is. Documents with newer content than that are still to be
   * ingested, and so are those that were staged for another model and are not of this job.
   */
  async giveUp(tx: Tx, kbId: string, jobId: string): Promise<void> {
    const [given]: [Array<{ id: string }>] = await tx.query(
      `UPDATE documents
       SET status = 'ready', stage = NULL, progress = 1, lease_owner = NULL, lease_expires_at = NULL, updated_at = now()
       WHERE kb_id = $1 AND job_id = $2 AND status IN ('queued', 'processing') AND indexed_version = version
       RETURNING id`,
      [kbId, jobId],
    );
    await tx.query('DELETE FROM ingestions WHERE document_id = ANY ($1::uuid[])', [
      given.map(({ id }) => id),
    ]);
    await tx.query(
      `UPDATE documents SET stage = NULL, progress = 0, updated_at = now() WHERE kb_id = $1 AND ${PARKED}`,
      [kbId],
    );
    await tx.query('UPDATE knowledge_bases SET reindexing_to = NULL WHERE id = $1', [kbId]);
  }
}
