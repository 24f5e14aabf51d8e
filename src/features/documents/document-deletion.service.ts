import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { KnowledgeBasesRepository } from '../knowledge-bases/knowledge-bases.repository.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { ChunksRepository } from './chunks.repository.js';
import { DocumentVersionsRepository } from './document-versions.repository.js';
import type { Document } from './document.entity.js';
import { DocumentsRepository } from './documents.repository.js';
import { IngestionCalls } from './ingestion-calls.service.js';
import { toldDetails } from './told-document.js';

/** Deletes documents: rows, chunks and counts in one transaction; then their originals. */
@Injectable()
export class DocumentDeletionService {
  constructor(
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly knowledgeBasesRepository: KnowledgeBasesRepository,
    private readonly documents: DocumentsRepository,
    private readonly versions: DocumentVersionsRepository,
    private readonly chunks: ChunksRepository,
    private readonly calls: IngestionCalls,
    private readonly audit: AuditService,
    private readonly storage: FileStorage,
  ) {}

  /** @throws Problem 404 */
  async delete(kbReference: string, id: string): Promise<void> {
    const { deleted } = await this.deleteMany(kbReference, [id]);
    if (deleted.length === 0) throw Problem.notFound('document');
  }

  /** What is not there, or not for the caller to see, is told apart and harms nothing. @throws Problem 404 */
  async deleteMany(
    kbReference: string,
    ids: readonly string[],
  ): Promise<{ deleted: string[]; notFound: string[] }> {
    const { deleted, keys } = await this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      return this.remove(tx, kb.id, ids);
    });
    await this.deleteOriginals(keys);
    const gone = new Set(deleted);
    return { deleted, notFound: [...new Set(ids)].filter(id => !gone.has(id)) };
  }

  /**
   * Of the context's tenant, some of those documents whose newest content is older than it may be.
   *
   * @returns how many; none are left where these are less than `limit`
   */
  async deleteExpired(days: number, limit: number): Promise<number> {
    const found = await this.database.run(tx => this.documents.listExpired(tx, { days, limit }));
    // A transaction each: two knowledge bases in one would be locked in another order than uploads lock them.
    for (const kbId of new Set(found.map(document => document.kbId))) {
      const ids = found.filter(document => document.kbId === kbId).map(({ id }) => id);
      const { keys } = await this.database.run(async tx => {
        await this.documents.lockMany(tx, kbId, ids);
        // Once more, now that nobody can give them newer content.
        const expired = await this.documents.listExpired(tx, { days, limit, ids });
        const details = { retention_days: days };
        return this.remove(
          tx,
          kbId,
          expired.map(({ id }) => id),
          details,
        );
      });
      await this.deleteOriginals(keys);
    }
    return found.length;
  }

  private async remove(
    tx: Tx,
    kbId: string,
    ids: readonly string[],
    details: Record<string, unknown> = {},
  ): Promise<{ deleted: string[]; keys: string[] }> {
    // Locked in the order in which a worker that stores a document locks: documents, then their knowledge base.
    const found = await this.documents.lockMany(tx, kbId, ids);
    if (found.length === 0) return { deleted: [], keys: [] };
    const deleted = found.map(({ id }) => id);
    await this.chunks.deleteChunks(tx, { documentIds: deleted, kbId });
    const keys = await this.versions.keysOf(tx, deleted);
    await this.documents.delete(tx, deleted);
    const bytes = found.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    await this.knowledgeBasesRepository.countDocument(tx, kbId, -found.length, -bytes);
    for (const document of found) this.record(tx, document, details);
    // The others of the knowledge base may have waited for the last of these.
    this.calls.afterCommit(tx);
    return { deleted, keys };
  }

  private async deleteOriginals(keys: readonly string[]): Promise<void> {
    await this.storage.forget(keys);
  }

  private record(tx: Tx, document: Document, details: Record<string, unknown>): void {
    this.audit.record(tx, {
      action: 'document.deleted',
      resource: { type: 'document', id: document.id },
      details: toldDetails(document, details),
    });
  }
}
