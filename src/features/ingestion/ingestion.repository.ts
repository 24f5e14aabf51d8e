import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { DocumentStage } from '../documents/document.entity.js';
import type { KnowledgeBaseConfig } from '../knowledge-bases/knowledge-base-config.js';

/** A document that this worker has to itself until its lease ends. */
export interface ClaimedDocument {
  id: string;
  tenantId: string;
  kbId: string;
  title: string;
  fileName: string | null;
  mimeType: string;
  createdBy: string | null;
  /** The API token that it was added with. */
  tokenId: string | null;
  attempts: number;
  /** How often a process died over it. */
  interruptions: number;
  config: KnowledgeBaseConfig;
}

/** Found by looking across tenants: ids, and nothing of the documents themselves. */
export interface UnfinishedDocument {
  id: string;
  tenantId: string;
}

/** Seconds after which a worker that has said nothing is taken for dead. */
const LEASE = `interval '30 seconds'`;

@Injectable()
export class IngestionRepository {
  /**
   * Takes a waiting document, or one whose worker has died.
   *
   * @param owner of the lease: this worker, this time
   * @param takeOver whether to take it from its last worker without waiting for the lease to end
   * @returns null where there is nothing to take
   */
  async claim(tx: Tx, id: string, owner: string, takeOver: boolean): Promise<ClaimedDocument | null> {
    const [rows]: [ClaimedDocument[]] = await tx.query(
      `UPDATE documents d
       SET status = 'processing', stage = 'load', progress = 0, updated_at = now(),
           interruptions = interruptions + (d.status = 'processing')::integer,
           lease_owner = $2, lease_expires_at = now() + ${LEASE}
       FROM knowledge_bases kb
       WHERE d.id = $1 AND kb.id = d.kb_id AND d.run_after <= now() + interval '1 second'
         AND (d.status = 'queued' OR (d.status = 'processing' AND ($3 OR d.lease_expires_at < now())))
       RETURNING d.id, d.tenant_id AS "tenantId", d.kb_id AS "kbId", d.title, d.file_name AS "fileName",
                 d.mime_type AS "mimeType", d.created_by AS "createdBy", d.token_id AS "tokenId",
                 d.attempts, d.interruptions, kb.config`,
      [id, owner, takeOver],
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

  /** Locks the document for its last change. @returns false where it is no longer this worker's */
  async lockOwn(tx: Tx, id: string, owner: string): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `SELECT 1 FROM documents WHERE id = $1 AND lease_owner = $2 AND status = 'processing' FOR UPDATE`,
      [id, owner],
    );
    return rows.length === 1;
  }

  async finish(
    tx: Tx,
    id: string,
    owner: string,
    result: { mimeType: string; chunkCount: number; tokenCount: number },
  ): Promise<boolean> {
    return this.changeOwn(
      tx,
      `status = 'ready', stage = NULL, progress = 1, error_code = NULL, error_message = NULL, lease_owner = NULL,
       lease_expires_at = NULL, mime_type = $3, chunk_count = $4, token_count = $5`,
      [id, owner, result.mimeType, result.chunkCount, result.tokenCount],
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

  /** Gives a document back unharmed, as a worker does that shuts down. */
  async release(tx: Tx, id: string, owner: string): Promise<boolean> {
    return this.changeOwn(
      tx,
      `status = 'queued', stage = NULL, progress = 0, lease_owner = NULL, lease_expires_at = NULL`,
      [id, owner],
    );
  }

  /**
   * Documents of all tenants that wait for a worker without anybody having called one lately, those that never cut a
   * worker short first. In a transaction of the platform.
   *
   * @param all those too that were called for just now, or whose worker has a lease
   */
  listUnfinished(tx: Tx, all: boolean, limit: number): Promise<UnfinishedDocument[]> {
    return tx.query(
      `SELECT id, tenant_id AS "tenantId" FROM documents
       WHERE status IN ('queued', 'processing')
         AND ($1 OR CASE status WHEN 'queued' THEN run_after < now() - interval '10 seconds'
                                ELSE lease_expires_at < now() END)
       ORDER BY interruptions, created_at LIMIT $2`,
      [all, limit],
    );
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
