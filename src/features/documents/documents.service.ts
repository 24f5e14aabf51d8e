import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { type Chunk, ChunksRepository } from './chunks.repository.js';
import type { Document } from './document.entity.js';
import { type DocumentVersion, DocumentVersionsRepository } from './document-versions.repository.js';
import { DocumentVersionsService } from './document-versions.service.js';
import type { ListDocuments, UpdateDocument } from './documents.dto.js';
import { DocumentsRepository } from './documents.repository.js';
import { IngestionCalls } from './ingestion-calls.service.js';
import { StagingRepository } from './staging.repository.js';
import { toldDetails, toldTitle } from './told-document.js';

@Injectable()
export class DocumentsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly documents: DocumentsRepository,
    private readonly versionsService: DocumentVersionsService,
    private readonly versions: DocumentVersionsRepository,
    private readonly chunks: ChunksRepository,
    private readonly staging: StagingRepository,
    private readonly audit: AuditService,
    private readonly calls: IngestionCalls,
    private readonly storage: FileStorage,
  ) {}

  list(kbReference: string, query: ListDocuments): Promise<Page<Document>> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      return this.documents.list(tx, kb.id, query);
    });
  }

  get(kbReference: string, id: string): Promise<Document> {
    return this.database.run(async tx => (await this.require(tx, kbReference, id)).document);
  }

  update(kbReference: string, id: string, input: UpdateDocument, ifMatch: IfMatch = null): Promise<Document> {
    return this.database.run(async tx => {
      await this.require(tx, kbReference, id);
      await this.documents.lock(tx, id);
      const { kb, document: before } = await this.require(tx, kbReference, id);
      requireMatch(ifMatch, before.updatedAt);
      await this.documents.update(tx, id, {
        ...(input.title !== undefined && { title: input.title }),
        ...(input.metadata !== undefined && { metadata: input.metadata }),
      });
      const document = (await this.documents.find(tx, kb.id, id)) as Document;
      this.record(tx, 'document.updated', document, {
        title_before: toldTitle(before),
        fields: Object.keys(input).toSorted(),
      });
      return document;
    });
  }

  /** Ingests a document again from its original; what is searchable of it stays so until the new chunks are there. */
  reindex(kbReference: string, id: string): Promise<Document> {
    return this.database.run(async tx => {
      const { kb } = await this.require(tx, kbReference, id);
      if (!(await this.documents.lock(tx, id))) throw Problem.notFound('document');
      await this.documents.requeue(tx, id, this.tokenId);
      this.calls.afterCommit(tx);
      const document = (await this.documents.find(tx, kb.id, id)) as Document;
      this.record(tx, 'document.reindexed', document);
      return document;
    });
  }

  /**
   * Stops an ingestion. Where an older version is searchable, that is the newest again.
   *
   * @throws Problem 409 `already_ended`
   */
  async cancel(kbReference: string, id: string): Promise<Document> {
    const { document, superfluous } = await this.database.run(async tx => {
      const { kb } = await this.require(tx, kbReference, id);
      return this.stop(tx, kb.id, id);
    });
    await this.storage.forget(superfluous);
    return document;
  }

  /** Stops what an import has brought in and has not been ingested. As the system. */
  async cancelImport(jobId: string): Promise<void> {
    const waiting = await this.database.run(tx => this.documents.listUnfinished(tx, jobId));
    for (const { id, kbId } of waiting) {
      const { superfluous } = await this.database
        .run(tx => this.stop(tx, kbId, id))
        .catch((error: unknown) => {
          // It has ended, or is gone, meanwhile.
          if (error instanceof Problem) return { superfluous: [] };
          throw error;
        });
      await this.storage.forget(superfluous);
    }
  }

  /** The originals that are stored: what is searchable, and what is on its way; newest first. */
  listVersions(
    kbReference: string,
    id: string,
  ): Promise<{ document: Document; versions: DocumentVersion[] }> {
    return this.database.run(async tx => {
      const { document } = await this.require(tx, kbReference, id);
      return { document, versions: (await this.versions.list(tx, id)).toReversed() };
    });
  }

  listChunks(kbReference: string, id: string, page: number, pageSize: number): Promise<Page<Chunk>> {
    return this.database.run(async tx => {
      await this.require(tx, kbReference, id);
      return this.chunks.listChunks(tx, id, page, pageSize);
    });
  }

  private async require(
    tx: Tx,
    kbReference: string,
    id: string,
  ): Promise<{ kb: KnowledgeBase; document: Document }> {
    const kb = await this.knowledgeBases.require(tx, kbReference);
    const document = await this.documents.find(tx, kb.id, id);
    if (!document) throw Problem.notFound('document');
    return { kb, document };
  }

  private async stop(
    tx: Tx,
    kbId: string,
    id: string,
  ): Promise<{ document: Document; superfluous: string[] }> {
    await this.documents.lock(tx, id);
    const before = await this.documents.find(tx, kbId, id);
    if (!before) throw Problem.notFound('document');
    if (before.status !== 'queued' && before.status !== 'processing') {
      throw Problem.conflict('already_ended', 'The ingestion of this document has ended.');
    }
    const isNewer = before.indexedVersion > 0 && before.indexedVersion < before.version;
    const superfluous = isNewer ? await this.versionsService.giveUpNewer(tx, before) : null;
    if (!superfluous) await this.documents.cancel(tx, id);
    await this.staging.discardUnseen(tx, id);
    // The others of its knowledge base may have waited for this one.
    this.calls.afterCommit(tx);
    const document = (await this.documents.find(tx, kbId, id)) as Document;
    this.record(tx, 'document.cancelled', document, { version: before.version });
    return { document, superfluous: superfluous ?? [] };
  }

  /** On whose budget the ingestion goes. */
  private get tokenId(): string | null {
    const { principal } = this.context;
    return principal.kind === 'api_token' ? principal.tokenId : null;
  }

  private record(tx: Tx, action: string, document: Document, details: Record<string, unknown> = {}): void {
    this.audit.record(tx, {
      action,
      resource: { type: 'document', id: document.id },
      details: toldDetails(document, details),
    });
  }
}
