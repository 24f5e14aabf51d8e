import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Document, DocumentStage } from '../documents/document.entity.js';
import type { SplitResult } from '../documents/staging.repository.js';
import { toldTitle } from '../documents/told-document.js';
import type { DocumentGraph } from '../graph/graph-store.repository.js';
import type { KnowledgeBaseConfig } from '../knowledge-bases/knowledge-base-config.js';

/** Where the newest content of a document lies. */
export interface Original {
  storageKey: string;
  /** Hexadecimal. */
  contentSha256: string;
  mimeType: string;
  fileName: string | null;
}

/** A document that this worker has to itself until its lease ends. */
export interface ClaimedDocument {
  id: string;
  tenantId: string;
  kbId: string;
  version: number;
  source: Document['source'];
  sourceUrl: string | null;
  /** Null: a web page that has not been fetched yet. */
  original: Original | null;
  createdBy: string | null;
  /** The API token that it was added with. */
  tokenId: string | null;
  attempts: number;
  /** How often a process died over it. */
  interruptions: number;
  /** Of its knowledge base. */
  config: KnowledgeBaseConfig;
  language: string;
  /** The model of the vectors that the knowledge base holds; null: none so far. */
  embeddingModel: string | null;
  /** The model that all its documents are being indexed for anew. */
  reindexingTo: string | null;
}

/** Found by looking across tenants: ids, and nothing of the documents themselves. */
export interface PickedDocument {
  documentId: string;
  tenantId: string;
}

/** What the transaction that stores a document must know of it and its knowledge base, both of which it has locked. */
export interface LockedForStore {
  /** Whether something of it is searchable already. */
  hasChunks: boolean;
  reindexingTo: string | null;
}

/** Of a document that lacks nothing but to be swapped in. */
const PARKED_PROGRESS = 0.95;
/** Seconds after which a worker that has said nothing is taken for dead. */
const LEASE = `interval '30 seconds'`;

@Injectable()
export class IngestionRepository {
  /** Whose turn it is, of all tenants. In a transaction of the platform. @returns null where nothing is to be done */
  async pick(tx: Tx): Promise<PickedDocument | null> {
    const rows: PickedDocument[] = await tx.query(
      'SELECT document_id AS "documentId", tenant_id AS "tenantId" FROM pick_document()',
    );
    return rows[0] ?? null;
  }

  /**
   * Takes every document from its worker, for whoever knows that all of them are dead. In a transaction of the platform.
   */
  async endLeases(tx: Tx): Promise<void> {
    await tx.query(
      `UPDATE documents SET lease_expires_at = now() - interval '1 second', picked_at = NULL
       WHERE status = 'processing' OR picked_at IS NOT NULL`,
    );
  }

  /**
   * Takes a waiting document, or one whose worker has died.
   *
   * @param owner of the lease: this worker, this time
   * @returns null where there is nothing to take
   */
  async claim(tx: Tx, id: string, owner: string): Promise<ClaimedDocument | null> {
    // Apart: a statement that waits for a lock sees all other tables as they were before, a newer original not at all.
    await tx.query('SELECT FROM documents WHERE id = $1 FOR UPDATE', [id]);
    const [rows]: [ClaimedDocument[]] = await tx.query(
      `UPDATE documents d
       SET status = 'processing', stage = 'load', progress = 0, updated_at = now(), picked_at = NULL,
           interruptions = interruptions + (d.status = 'processing')::integer,
           lease_owner = $2, lease_expires_at = now() + ${LEASE}
       FROM knowledge_bases kb
       WHERE d.id = $1 AND kb.id = d.kb_id
         AND ((d.status = 'queued' AND d.stage IS NULL) OR (d.status = 'processing' AND d.lease_expires_at < now()))
       RETURNING d.id, d.tenant_id AS "tenantId", d.kb_id AS "kbId", d.version, d.source,
                 d.source_url AS "sourceUrl", d.created_by AS "createdBy", d.token_id AS "tokenId",
                 d.attempts, d.interruptions, kb.config, kb.language,
                 CASE WHEN kb.chunk_count > 0 THEN kb.embedding_model END AS "embeddingModel",
                 kb.reindexing_to AS "reindexingTo",
                 (SELECT json_build_object('storageKey', v.storage_key, 'contentSha256', v.content_sha256,
                                           'mimeType', v.mime_type, 'fileName', v.file_name)
                  FROM document_versions v WHERE v.document_id = d.id AND v.version = d.version) AS original`,
      [id, owner],
    );
    return rows[0] ?? null;
  }

  /**
   * Says that the worker is alive and how far it is.
   *
   * @returns false where the document is no longer this worker's: cancelled, deleted, or taken over
   */
  async heartbeat(
    tx: Tx,
    id: string,
    owner: string,
    stage: DocumentStage,
    progress: number,
  ): Promise<boolean> {
    return this.changeOwn(tx, `stage = $3, progress = $4, lease_expires_at = now() + ${LEASE}`, [
      id,
      owner,
      stage,
      progress,
    ]);
  }

  /**
   * Locks the document, then its knowledge base, for the last change.
   *
   * @returns null where the document is no longer this worker's
   */
  async lockOwn(tx: Tx, id: string, owner: string): Promise<LockedForStore | null> {
    const [own]: Array<{ kbId: string; hasChunks: boolean }> = await tx.query(
      `SELECT kb_id AS "kbId", chunk_count > 0 AS "hasChunks" FROM documents
       WHERE id = $1 AND lease_owner = $2 AND status = 'processing' FOR UPDATE`,
      [id, owner],
    );
    if (!own) return null;
    const [kb]: Array<{ reindexingTo: string | null }> = await tx.query(
      'SELECT reindexing_to AS "reindexingTo" FROM knowledge_bases WHERE id = $1 FOR NO KEY UPDATE',
      [own.kbId],
    );
    return kb ? { ...kb, hasChunks: own.hasChunks } : null;
  }

  async finish(
    tx: Tx,
    id: string,
    owner: string,
    result: SplitResult,
    graph: DocumentGraph | null,
  ): Promise<boolean> {
    return this.changeOwn(
      tx,
      `status = 'ready', stage = NULL, progress = 1, error_code = NULL, error_message = NULL, lease_owner = NULL,
       lease_expires_at = NULL, indexed_version = version, mime_type = $3, chunk_count = $4, token_count = $5,
       warnings = $6::jsonb, graph = $7::jsonb`,
      [
        id,
        owner,
        result.mimeType,
        result.chunkCount,
        result.tokenCount,
        JSON.stringify(result.warnings),
        graph && JSON.stringify(graph),
      ],
    );
  }

  /** Everything is there but the moment: the document waits for the others of its knowledge base. */
  async park(tx: Tx, id: string, owner: string): Promise<boolean> {
    return this.changeOwn(
      tx,
      `status = 'queued', stage = 'store', progress = $3, error_code = NULL, error_message = NULL, lease_owner = NULL,
       lease_expires_at = NULL`,
      [id, owner, PARKED_PROGRESS],
    );
  }

  async fail(tx: Tx, id: string, owner: string, code: string, message: string): Promise<boolean> {
    return this.changeOwn(
      tx,
      `status = 'failed', attempts = attempts + 1, error_code = $3, error_message = $4, lease_owner = NULL,
       lease_expires_at = NULL`,
      [id, owner, code, message],
    );
  }

  /** @param delay seconds until the next attempt */
  async retryLater(
    tx: Tx,
    id: string,
    owner: string,
    code: string,
    message: string,
    delay: number,
  ): Promise<boolean> {
    return this.changeOwn(
      tx,
      `status = 'queued', stage = NULL, progress = 0, attempts = attempts + 1, error_code = $3, error_message = $4,
       run_after = now() + make_interval(secs => $5), lease_owner = NULL, lease_expires_at = NULL`,
      [id, owner, code, message, delay],
    );
  }

  /**
   * Gives a document back unharmed, as a worker does that shuts down.
   *
   * @param delay seconds until it is offered again
   */
  async release(tx: Tx, id: string, owner: string, delay = 0): Promise<boolean> {
    return this.changeOwn(
      tx,
      `status = 'queued', stage = NULL, progress = 0, run_after = now() + make_interval(secs => $3), lease_owner = NULL,
       lease_expires_at = NULL`,
      [id, owner, delay],
    );
  }

  /** The title as events tell it: of a restricted document none. Read here, for readers may have been listed meanwhile. */
  async titleToTell(tx: Tx, id: string): Promise<string | null> {
    const rows: Array<{ title: string; restricted: boolean }> = await tx.query(
      'SELECT title, restricted FROM documents WHERE id = $1',
      [id],
    );
    return rows[0] ? toldTitle(rows[0]) : null;
  }

  private async changeOwn(tx: Tx, changes: string, parameters: unknown[]): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE documents SET ${changes}, updated_at = now()
       WHERE id = $1 AND lease_owner = $2 AND status = 'processing' RETURNING id`,
      parameters,
    );
    return rows.length === 1;
  }
}
