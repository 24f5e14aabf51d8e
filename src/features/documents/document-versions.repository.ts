import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** An original that is stored: the searchable one of a document, or a newer one that is being ingested. */
export interface DocumentVersion {
  documentId: string;
  version: number;
  tenantId: string;
  kbId: string;
  storageKey: string;
  /** Hexadecimal; no two originals of a knowledge base have the same. */
  contentSha256: string;
  sizeBytes: number;
  mimeType: string;
  fileName: string | null;
  createdBy: string | null;
  createdAt: Date;
}

const COLUMNS = `document_id AS "documentId", version, tenant_id AS "tenantId", kb_id AS "kbId",
  storage_key AS "storageKey", content_sha256 AS "contentSha256", size_bytes::float8 AS "sizeBytes",
  mime_type AS "mimeType", file_name AS "fileName", created_by AS "createdBy", created_at AS "createdAt"`;

/** Originals of the transaction's tenant. */
@Injectable()
export class DocumentVersionsRepository {
  /**
   * Lets nobody else bring the same content into this knowledge base until the transaction ends. To be taken before any
   * row is locked.
   */
  async lockContent(tx: Tx, kbId: string, contentSha256: string): Promise<void> {
    await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`${kbId} ${contentSha256}`]);
  }

  /** @returns false where the knowledge base holds this content already, perhaps unseen */
  async insert(tx: Tx, version: Omit<DocumentVersion, 'createdAt'>): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO document_versions (document_id, version, tenant_id, kb_id, storage_key, content_sha256, size_bytes,
                                      mime_type, file_name, created_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
       ON CONFLICT (kb_id, content_sha256) DO NOTHING RETURNING version`,
      [
        version.documentId,
        version.version,
        version.tenantId,
        version.kbId,
        version.storageKey,
        version.contentSha256,
        version.sizeBytes,
        version.mimeType,
        version.fileName,
        version.createdBy,
      ],
    );
    return rows.length === 1;
  }

  /** Oldest first. */
  list(tx: Tx, documentId: string): Promise<DocumentVersion[]> {
    return tx.query(`SELECT ${COLUMNS} FROM document_versions WHERE document_id = $1 ORDER BY version`, [
      documentId,
    ]);
  }

  async find(tx: Tx, documentId: string, version: number): Promise<DocumentVersion | null> {
    const rows: DocumentVersion[] = await tx.query(
      `SELECT ${COLUMNS} FROM document_versions WHERE document_id = $1 AND version = $2`,
      [documentId, version],
    );
    return rows[0] ?? null;
  }

  /** The original with this content. */
  async findByContent(tx: Tx, kbId: string, contentSha256: string): Promise<DocumentVersion | null> {
    const rows: DocumentVersion[] = await tx.query(
      `SELECT ${COLUMNS} FROM document_versions WHERE kb_id = $1 AND content_sha256 = $2`,
      [kbId, contentSha256],
    );
    return rows[0] ?? null;
  }

  /** Whether the knowledge base holds this content, be it in a document that may not be read here. */
  async isTaken(tx: Tx, kbId: string, contentSha256: string): Promise<boolean> {
    const [{ access }]: [{ access: string | null }] = await tx.query(
      `SELECT current_setting('app.access', true) AS access, set_local('app.access', 'all')`,
    );
    const found = await this.findByContent(tx, kbId, contentSha256);
    await tx.query(`SELECT set_local('app.access', $1)`, [access ?? '']);
    return found !== null;
  }

  /**
   * Forgets originals of a document: what new chunks have replaced, when they are swapped in; what a newer one makes
   * superfluous.
   *
   * @param keep versions that stay
   * @returns the keys of what is to be deleted from the storage after the commit
   */
  async deleteOthers(tx: Tx, documentId: string, keep: readonly number[]): Promise<string[]> {
    const [rows]: [Array<{ storageKey: string }>] = await tx.query(
      `DELETE FROM document_versions WHERE document_id = $1 AND version <> ALL ($2::integer[])
       RETURNING storage_key AS "storageKey"`,
      [documentId, keep],
    );
    return rows.map(row => row.storageKey);
  }

  /** Keys of all originals of documents. */
  async keysOf(tx: Tx, documentIds: readonly string[]): Promise<string[]> {
    const rows: Array<{ storageKey: string }> = await tx.query(
      'SELECT storage_key AS "storageKey" FROM document_versions WHERE document_id = ANY ($1::uuid[])',
      [documentIds],
    );
    return rows.map(row => row.storageKey);
  }
}
