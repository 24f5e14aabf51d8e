import { Injectable, Logger } from '@nestjs/common';
import { Readable } from 'node:stream';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { afterCommit, type Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import { FileMissingError, FileStorage, type ReceivedFile } from '../../foundation/storage/file-storage.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesRepository } from '../knowledge-bases/knowledge-bases.repository.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { type Chunk, ChunksRepository } from './chunks.repository.js';
import { DocumentAccessService } from './document-access.service.js';
import { DocumentError } from './document-error.js';
import { detectType } from './document-type.js';
import { Document, storageKey } from './document.entity.js';
import type { Acl, CreateText, ListDocuments, UpdateDocument, UploadFields } from './documents.dto.js';
import { DocumentsRepository } from './documents.repository.js';
import { INGESTION_QUEUE, type IngestionCall } from './ingestion-queue.js';

/** One file of an upload, as it comes in. */
export interface IncomingFile {
  content: AsyncIterable<Buffer>;
  fileName: string | null;
  declaredMimeType: string | null;
  /** The problem where the stream was cut at the limit; known once it has been read. */
  tooLarge: () => Problem | null;
}

/** What is said of a new document, whatever way it came. */
export interface DocumentDescription {
  title: string;
  metadata: Record<string, unknown>;
  source: Document['source'];
  sourceUrl: string | null;
  /** Missing: whoever reads the knowledge base. */
  acl?: Acl;
}

/** A file that has arrived and may become a document. */
interface Upload extends DocumentDescription {
  file: ReceivedFile;
  fileName: string | null;
  mimeType: string;
}

/** What became of one file of an upload. */
export interface FileOutcome {
  fileName: string | null;
  result: Document | Problem;
}

@Injectable()
export class DocumentsService {
  private readonly logger = new Logger(DocumentsService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly knowledgeBasesRepository: KnowledgeBasesRepository,
    private readonly documents: DocumentsRepository,
    private readonly chunks: ChunksRepository,
    private readonly access: DocumentAccessService,
    private readonly audit: AuditService,
    private readonly quotas: QuotasService,
    private readonly storage: FileStorage,
    @InjectJobQueue(INGESTION_QUEUE) private readonly queue: JobQueue<IngestionCall>,
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

  /** @throws Problem 404 for a knowledge base that is not there or not one's own: before anything is taken in */
  knowledgeBase(reference: string): Promise<KnowledgeBase> {
    return this.knowledgeBases.get(reference);
  }

  /** @throws Problem 403 `quota_exceeded`, 409 `duplicate_document`, 413 `too_large` */
  async createFromText(kbReference: string, input: CreateText): Promise<Document> {
    const kb = await this.knowledgeBases.get(kbReference);
    const content = Buffer.from(input.text, 'utf8');
    const largest = await this.quotas.largestUpload();
    if (content.length > largest.bytes) throw largest.tooLarge();
    const file = await this.storage.receive(Readable.from([content]));
    return this.create(kb, file, {
      fileName: null,
      mimeType: 'text/markdown',
      title: input.title ?? firstLine(input.text),
      metadata: input.metadata,
      source: 'text',
      sourceUrl: input.source_url ?? null,
      acl: input.acl,
    });
  }

  /**
   * Takes files in, without holding them in memory. Nothing becomes a document before the last one has arrived: an
   * upload that breaks off leaves nothing behind.
   *
   * @returns of each file its document, or the problem with it: 403 `quota_exceeded`, 409 `duplicate_document`, 413 `too_large`, 415 or 422
   *   for what cannot be ingested
   */
  async createFromFiles(
    kb: KnowledgeBase,
    parts: AsyncIterable<{ file: IncomingFile; fields: UploadFields }>,
  ): Promise<FileOutcome[]> {
    const arrived: Array<{ fileName: string | null; upload: Upload | Problem }> = [];
    const outcomes: FileOutcome[] = [];
    try {
      for await (const { file, fields } of parts) {
        arrived.push({ fileName: file.fileName, upload: await orProblem(this.receive(file, fields)) });
      }
      for (const { fileName, upload } of arrived) {
        const result =
          upload instanceof Problem ? upload : await orProblem(this.create(kb, upload.file, upload));
        outcomes.push({ fileName, result });
      }
      return outcomes;
    } finally {
      const left = arrived.slice(outcomes.length).map(({ upload }) => upload);
      for (const upload of left) if (!(upload instanceof Problem)) await upload.file.discard();
    }
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
        title_before: before.title,
        fields: Object.keys(input).toSorted(),
      });
      return document;
    });
  }

  /** Row, chunks and counts go in one transaction; then the original. */
  async delete(kbReference: string, id: string): Promise<void> {
    const document = await this.database.run(async tx => {
      const { kb, document: found } = await this.require(tx, kbReference, id);
      // Locked in the order in which a worker that stores the document locks: document, then knowledge base.
      if (!(await this.documents.lock(tx, id))) throw Problem.notFound('document');
      await this.chunks.deleteChunks(tx, { documentId: id, kbId: kb.id });
      await this.documents.delete(tx, id);
      await this.knowledgeBasesRepository.countDocument(tx, kb.id, -1, -found.sizeBytes);
      this.record(tx, 'document.deleted', found);
      return found;
    });
    await this.storage.delete(storageKey(document));
  }

  /** Ingests a document again from its original; what is searchable of it stays so until the new chunks are there. */
  reindex(kbReference: string, id: string): Promise<Document> {
    return this.database.run(async tx => {
      const { kb } = await this.require(tx, kbReference, id);
      await this.documents.requeue(tx, id, this.tokenId);
      this.callAfterCommit(tx, id, `${id}-${Date.now()}`);
      const document = (await this.documents.find(tx, kb.id, id)) as Document;
      this.record(tx, 'document.reindexed', document);
      return document;
    });
  }

  /** @throws Problem 409 `already_ended` */
  cancel(kbReference: string, id: string): Promise<Document> {
    return this.database.run(async tx => {
      const { kb } = await this.require(tx, kbReference, id);
      if (!(await this.documents.cancel(tx, id))) {
        throw Problem.conflict('already_ended', 'The ingestion of this document has ended.');
      }
      const document = (await this.documents.find(tx, kb.id, id)) as Document;
      this.record(tx, 'document.cancelled', document);
      return document;
    });
  }

  async content(kbReference: string, id: string): Promise<{ document: Document; content: Readable }> {
    const document = await this.get(kbReference, id);
    try {
      return { document, content: await this.storage.open(storageKey(document)) };
    } catch (error) {
      if (error instanceof FileMissingError) throw Problem.notFound('content');
      throw error;
    }
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

  private async receive(
    incoming: IncomingFile,
    { title, metadata = {}, acl }: UploadFields,
  ): Promise<Upload> {
    const file = await this.storage.receive(incoming.content);
    const tooLarge = incoming.tooLarge();
    if (tooLarge) {
      await file.discard();
      throw tooLarge;
    }
    const { fileName } = incoming;
    const mimeType = await this.typeOf(file, incoming);
    return {
      file,
      fileName,
      mimeType,
      title: title ?? titleOfFile(fileName),
      metadata,
      source: 'upload',
      sourceUrl: null,
      acl,
    };
  }

  private async typeOf(file: ReceivedFile, incoming: IncomingFile): Promise<string> {
    try {
      return await detectType(file.head, {
        fileName: incoming.fileName ?? undefined,
        declaredMimeType: incoming.declaredMimeType ?? undefined,
      });
    } catch (error) {
      await file.discard();
      if (!(error instanceof DocumentError)) throw error;
      throw new Problem(error.code === 'unsupported_type' ? 415 : 422, error.code, error.message);
    }
  }

  /** The original first, then the row that says it is there: a crash between the two leaves a file too many, never one too few. */
  private async create(
    kb: KnowledgeBase,
    file: ReceivedFile,
    { title, metadata, source, sourceUrl, fileName, mimeType, acl }: Omit<Upload, 'file'>,
  ): Promise<Document> {
    const id = uuidv7();
    const key = storageKey({ tenantId: kb.tenantId, kbId: kb.id, id });
    await file.keep(key);
    try {
      const document = await this.database.run(async tx => {
        // Before the tenant's counters are locked by the document: whoever leaves the tenant locks them the other way round.
        if (acl) await this.access.lockReaders(tx, acl);
        const inserted = await this.documents.insert(tx, {
          id,
          tenantId: kb.tenantId,
          kbId: kb.id,
          title,
          metadata,
          source,
          sourceUrl,
          fileName,
          mimeType,
          sizeBytes: file.sizeBytes,
          contentSha256: file.sha256,
          createdBy: this.context.userId,
          tokenId: this.tokenId,
        });
        if (!inserted) return this.retryFailed(tx, kb.id, file.sha256, acl);
        if (acl) await this.access.restrict(tx, { id, kbId: kb.id, tenantId: kb.tenantId }, acl);
        await this.knowledgeBasesRepository.countDocument(tx, kb.id, 1, file.sizeBytes);
        this.callAfterCommit(tx, id);
        const created = (await this.documents.find(tx, kb.id, id)) as Document;
        this.record(tx, 'document.created', created, {
          source,
          mime_type: mimeType,
          size_bytes: file.sizeBytes,
          ...(acl && { acl }),
        });
        return created;
      });
      if (document.id !== id) await this.storage.delete(key);
      return document;
    } catch (error) {
      await this.storage.delete(key);
      throw error;
    }
  }

  /**
   * The same content again is one document: where its ingestion failed, this is another try, unless it asks for other
   * readers; else a conflict. One that may not be read here is not named.
   */
  private async retryFailed(tx: Tx, kbId: string, sha256: string, acl: Acl | undefined): Promise<Document> {
    const existing = await this.documents.findByContent(tx, kbId, sha256);
    const ended = existing?.status === 'failed' || existing?.status === 'cancelled';
    if (!existing || !ended || (acl && !sameReaders(acl, await this.access.of(tx, existing)))) {
      throw Problem.conflict(
        'duplicate_document',
        'This knowledge base holds a document with the same content already.',
        existing ? { document_id: existing.id } : {},
      );
    }
    await this.documents.requeue(tx, existing.id, this.tokenId);
    this.callAfterCommit(tx, existing.id, `${existing.id}-${Date.now()}`);
    this.record(tx, 'document.reindexed', existing);
    return (await this.documents.find(tx, kbId, existing.id)) as Document;
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
      details: { kb_id: document.kbId, title: document.title, ...details },
    });
  }

  /** The row is the promise; the call only makes it quick, so one that is lost is caught up with later. */
  private callAfterCommit(tx: Tx, documentId: string, jobId = documentId): void {
    const call: IngestionCall = { tenantId: this.context.tenant.id, documentId };
    afterCommit(tx, () => {
      this.queue.add(jobId, call).catch((error: Error) => {
        this.logger.warn(`A document waits for the next look through the queue: ${error.message}`);
      });
    });
  }
}

const orProblem = <T>(work: Promise<T>): Promise<T | Problem> =>
  work.catch((error: unknown) => {
    if (error instanceof Problem) return error;
    throw error;
  });

const sameReaders = (wanted: Acl, stored: Acl | null): boolean =>
  stored !== null &&
  (['members', 'groups'] as const).every(
    kind => [...new Set(wanted[kind])].toSorted().join() === stored[kind].toSorted().join(),
  );

const LONGEST_TITLE = 120;

function firstLine(text: string): string {
  const line =
    text
      .trimStart()
      .split('\n', 1)[0]
      ?.replace(/^#+\s*/, '')
      .trim() ?? '';
  return Array.from(line).slice(0, LONGEST_TITLE).join('') || 'Untitled';
}

function titleOfFile(fileName: string | null): string {
  return (
    fileName
      ?.replace(/\.[^.]{1,10}$/, '')
      .trim()
      .slice(0, 500) || 'Untitled'
  );
}
