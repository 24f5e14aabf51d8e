import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage, type ReceivedFile } from '../../foundation/storage/file-storage.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesRepository } from '../knowledge-bases/knowledge-bases.repository.js';
import { AllowedTypes } from './allowed-types.service.js';
import { DocumentAccessService } from './document-access.service.js';
import { type DocumentVersion, DocumentVersionsRepository } from './document-versions.repository.js';
import { type Document, newStorageKey } from './document.entity.js';
import type { Acl } from './documents.dto.js';
import { DocumentsRepository } from './documents.repository.js';
import { IngestionCalls } from './ingestion-calls.service.js';
import { StagingRepository } from './staging.repository.js';
import { toldDetails } from './told-document.js';

/** Content that has arrived. */
export interface NewFile {
  file: ReceivedFile;
  fileName: string | null;
  mimeType: string;
}

/** What is said of content, whatever way it comes. Of a document that is there already, what is missing stays. */
export interface DocumentDescription {
  source: Document['source'];
  sourceUrl: string | null;
  /** What it is a version of; null: of nothing. */
  sourceId: string | null;
  title?: string | undefined;
  /** Of a new document that nobody has given one. */
  fallbackTitle: string;
  metadata?: Record<string, unknown> | undefined;
  /** Of a new document whoever reads its knowledge base, where it is missing. */
  acl?: Acl | undefined;
  priority?: number | undefined;
  /** The import that brings it. */
  jobId?: string;
  /** What becomes of newer content of a source that is there. */
  onExisting: 'version' | 'reject';
  by: Sender;
}

/** Who brings content in. */
export interface Sender {
  userId: string | null;
  /** The API token on whose budget it is ingested. */
  tokenId: string | null;
  /** Whether they may change documents that are there. */
  mayUpdate: boolean;
}

/** A web page as it was fetched. */
export interface FetchedPage extends NewFile {
  /** After redirects. */
  url: string;
}

/** What a transaction made of content, and the originals that nobody needs once it has committed. */
interface Outcome {
  document: Document;
  superfluous: string[];
}

type KbOf = Pick<KnowledgeBase, 'id' | 'tenantId'>;

/**
 * Originals become documents, or newer versions of documents of the same source. The searchable version of a document
 * stays so until a newer one has been ingested; of newer ones there is one at most.
 */
@Injectable()
export class DocumentVersionsService {
  constructor(
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesRepository,
    private readonly documents: DocumentsRepository,
    private readonly versions: DocumentVersionsRepository,
    private readonly access: DocumentAccessService,
    private readonly allowedTypes: AllowedTypes,
    private readonly audit: AuditService,
    private readonly storage: FileStorage,
    private readonly calls: IngestionCalls,
    private readonly staging: StagingRepository,
  ) {}

  /**
   * Stores content: the original first, then the row that says it is there. A crash between the two leaves a file too
   * many, never one too few.
   *
   * @throws Problem 403 `forbidden`, `quota_exceeded`; 409 `duplicate_document`, `source_exists`; 415 `type_not_allowed`
   */
  async store(kb: KbOf, content: NewFile, description: DocumentDescription): Promise<Document> {
    const { file } = content;
    const refusal = await this.allowedTypes.refusalOf(content.mimeType);
    if (refusal) {
      await file.discard();
      throw new Problem(415, refusal.code, refusal.message);
    }
    const key = newStorageKey(kb, file.sha256);
    await file.keep(key);
    try {
      const { document, superfluous } = await this.database.run(tx =>
        this.put(tx, kb, { ...content, key }, description),
      );
      await this.storage.forget(superfluous);
      return document;
    } catch (error) {
      await this.deleteRefused(key, error);
      throw error;
    }
  }

  /**
   * Has a web page fetched and ingested: a new document, or one that is there anew. It has no content until then.
   *
   * @throws Problem 403 `forbidden`, `quota_exceeded`; 409 `source_exists`
   */
  async request(kb: KbOf, description: DocumentDescription & { sourceUrl: string }): Promise<Document> {
    const { document, superfluous } = await this.database.run(async tx => {
      if (description.acl) await this.access.lockReaders(tx, description.acl);
      return (await this.requestKnown(tx, kb, description)) ?? this.requestNew(tx, kb, description);
    });
    await this.storage.forget(superfluous);
    return document;
  }

  /**
   * Makes what a worker has fetched the content of the document that waited for it. The file is taken care of, whatever
   * comes of it.
   *
   * @param leaseOwner the worker's hold on the document
   * @returns `unchanged`: it is what is searchable already, and the document is ready again; `lost`: the document is no longer
   *   this worker's
   * @throws DocumentError `duplicate_document`, `type_not_allowed`; Problem 403 `quota_exceeded`
   */
  async fetched(
    document: Pick<Document, 'id' | 'kbId' | 'tenantId' | 'version'>,
    page: FetchedPage,
    leaseOwner: string,
  ): Promise<'stored' | 'unchanged' | 'lost'> {
    const { file, mimeType, fileName } = page;
    const refusal = await this.allowedTypes.refusalOf(mimeType);
    if (refusal) {
      await file.discard();
      throw new DocumentError(refusal.code, refusal.message);
    }
    const kb = { id: document.kbId, tenantId: document.tenantId };
    const key = newStorageKey(kb, file.sha256);
    await file.keep(key);
    const outcome = await this.database
      .run(async tx => {
        await this.versions.lockContent(tx, kb.id, file.sha256);
        const waiting = await this.documents.lockFetching(tx, document, leaseOwner);
        if (!waiting) return 'lost';
        const indexed = await this.versions.find(tx, waiting.id, waiting.indexedVersion);
        if (indexed?.contentSha256 === file.sha256) {
          await this.documents.restore(tx, waiting.id, indexed);
          await this.countResized(tx, waiting, indexed.sizeBytes);
          return 'unchanged';
        }
        const original = originalOf(waiting, { file, mimeType, fileName, key }, waiting.createdBy);
        if (!(await this.versions.insert(tx, original))) {
          throw new DocumentError(
            'duplicate_document',
            'This knowledge base holds a document with the same content already.',
          );
        }
        await this.documents.setContent(tx, original);
        await this.countResized(tx, waiting, file.sizeBytes);
        return 'stored';
      })
      .catch(async (error: unknown) => {
        await this.deleteRefused(key, error);
        throw error;
      });
    if (outcome !== 'stored') await this.storage.forget([key]);
    return outcome;
  }

  /**
   * Gives up what is newer than what is searchable of a document, which the transaction has locked.
   *
   * @returns the keys of originals that are to be deleted after the commit; null where nothing of it is searchable
   */
  async giveUpNewer(tx: Tx, document: Document): Promise<string[] | null> {
    const indexed = await this.versions.find(tx, document.id, document.indexedVersion);
    if (!indexed) return null;
    await this.knowledgeBases.lock(tx, document.kbId);
    const superfluous = await this.versions.deleteOthers(tx, document.id, [indexed.version]);
    await this.documents.restore(tx, document.id, indexed);
    await this.staging.discard(tx, document.id);
    await this.countResized(tx, document, indexed.sizeBytes);
    return superfluous;
  }

  /**
   * Has what is searchable of a document ingested again, in the place of newer content that cannot be read.
   *
   * @returns as `giveUpNewer`; null also where nothing is newer
   */
  async fallBack(tx: Tx, kbId: string, id: string): Promise<string[] | null> {
    const document = await this.documents.find(tx, kbId, id);
    if (!document || document.indexedVersion === document.version) return null;
    const superfluous = await this.giveUpNewer(tx, document);
    if (!superfluous) return null;
    await this.documents.requeue(tx, id, document.tokenId);
    this.calls.afterCommit(tx);
    return superfluous;
  }

  /** After another fault nobody knows whether the commit went through: the sweep finds out. */
  private async deleteRefused(key: string, error: unknown): Promise<void> {
    if (error instanceof Problem || error instanceof DocumentError) await this.storage.forget([key]);
  }

  private async put(
    tx: Tx,
    kb: KbOf,
    content: NewFile & { key: string },
    description: DocumentDescription,
  ): Promise<Outcome> {
    const { acl, sourceId } = description;
    const { sha256 } = content.file;
    await this.versions.lockContent(tx, kb.id, sha256);
    // Before the tenant's counters are locked by the document: whoever leaves the tenant locks them the other way round.
    if (acl) await this.access.lockReaders(tx, acl);
    const known = await this.lockKnown(tx, kb, sourceId);
    if (known) return this.addVersion(tx, known, content, description);
    const document = await this.insert(tx, kb, description, {
      contentSha256: sha256,
      sizeBytes: content.file.sizeBytes,
      mimeType: content.mimeType,
      fileName: content.fileName,
    });
    if (!document) {
      const same = await this.documents.lockByContent(tx, kb.id, sha256);
      if (same) return this.again(tx, same, content.key, description);
      // Somebody else has brought the same source in just now.
      const quicker = await this.lockKnown(tx, kb, sourceId);
      if (quicker) return this.addVersion(tx, quicker, content, description);
      throw (await this.versions.isTaken(tx, kb.id, sha256)) ? duplicate(null) : sourceExists(null);
    }
    const original = originalOf(document, content, description.by.userId);
    if (!(await this.versions.insert(tx, original))) throw await this.duplicateOf(tx, kb.id, sha256);
    await this.finishNew(tx, document, description);
    return { document: await this.read(tx, document), superfluous: [] };
  }

  private async addVersion(
    tx: Tx,
    known: Document,
    content: NewFile & { key: string },
    description: DocumentDescription,
  ): Promise<Outcome> {
    const { sha256 } = content.file;
    if (known.contentSha256 === sha256) return this.again(tx, known, content.key, description);
    requireVersioning(known, description);
    const indexed = await this.versions.find(tx, known.id, known.indexedVersion);
    if (indexed?.contentSha256 === sha256) {
      // What is searchable is the newest again; whatever was on its way is not wanted any more.
      const superfluous = (await this.giveUpNewer(tx, known)) ?? [];
      await this.describe(tx, known, description);
      this.record(tx, 'document.version_restored', known, description, { version: indexed.version });
      return { document: await this.read(tx, known), superfluous: [...superfluous, content.key] };
    }
    const version = known.version + 1;
    const { id, kbId, tenantId } = known;
    const original = originalOf({ id, kbId, tenantId, version }, content, description.by.userId);
    if (!(await this.versions.insert(tx, original))) throw await this.duplicateOf(tx, kbId, sha256);
    return this.renew(tx, known, description, {
      version,
      contentSha256: sha256,
      sizeBytes: content.file.sizeBytes,
      mimeType: content.mimeType,
      fileName: content.fileName,
    });
  }

  /** Puts newer content in the place of what is newest so far; a version that was on its way is not any more. */
  private async renew(
    tx: Tx,
    known: Document,
    description: DocumentDescription,
    content: Pick<Document, 'version' | 'contentSha256' | 'sizeBytes' | 'mimeType' | 'fileName'>,
  ): Promise<Outcome> {
    const { source, sourceUrl, jobId = null, by } = description;
    // Whoever stores the content that is deleted here waits for it, and holds the knowledge base meanwhile.
    await this.knowledgeBases.lock(tx, known.kbId);
    const superfluous = await this.versions.deleteOthers(tx, known.id, [
      known.indexedVersion,
      content.version,
    ]);
    await this.documents.renew(tx, known.id, { ...content, source, sourceUrl, jobId, tokenId: by.tokenId });
    await this.countResized(tx, known, content.sizeBytes);
    await this.describe(tx, known, description);
    this.calls.afterCommit(tx);
    const { version } = content;
    this.record(tx, 'document.version_added', known, description, {
      version,
      ...detailsOf(description, content),
    });
    return { document: await this.read(tx, known), superfluous };
  }

  private async requestKnown(
    tx: Tx,
    kb: KbOf,
    description: DocumentDescription & { sourceUrl: string },
  ): Promise<Outcome | null> {
    const known = await this.lockKnown(tx, kb, description.sourceId);
    if (!known) return null;
    // A job that is run again has asked for it already.
    if (description.jobId && known.jobId === description.jobId) return { document: known, superfluous: [] };
    requireVersioning(known, description);
    if (known.contentSha256 !== null || known.sourceUrl !== description.sourceUrl) {
      const indexed = await this.versions.find(tx, known.id, known.indexedVersion);
      return this.renew(tx, known, description, {
        version: known.version + 1,
        contentSha256: null,
        sizeBytes: indexed?.sizeBytes ?? 0,
        mimeType: known.mimeType,
        fileName: known.fileName,
      });
    }
    // One that waits to be fetched, or is being, need not be asked for twice.
    await this.describe(tx, known, description);
    if (description.jobId) await this.documents.update(tx, known.id, { jobId: description.jobId });
    if (known.status === 'failed' || known.status === 'cancelled') await this.retry(tx, known, description);
    return { document: await this.read(tx, known), superfluous: [] };
  }

  private async requestNew(
    tx: Tx,
    kb: KbOf,
    description: DocumentDescription & { sourceUrl: string },
  ): Promise<Outcome> {
    const nothing = { contentSha256: null, sizeBytes: 0, mimeType: 'text/html', fileName: null };
    const document = await this.insert(tx, kb, description, nothing);
    if (!document) {
      const quicker = await this.requestKnown(tx, kb, description);
      if (!quicker) throw sourceExists(null);
      return quicker;
    }
    await this.finishNew(tx, document, description);
    return { document: await this.read(tx, document), superfluous: [] };
  }

  /** @returns null where the knowledge base holds the content or the source already */
  private async insert(
    tx: Tx,
    kb: KbOf,
    description: DocumentDescription,
    content: Pick<Document, 'contentSha256' | 'sizeBytes' | 'mimeType' | 'fileName'>,
  ): Promise<Document | null> {
    const { source, sourceUrl, sourceId, jobId = null, metadata = {}, priority = 0, by } = description;
    const id = uuidv7();
    const inserted = await this.documents.insert(tx, {
      id,
      tenantId: kb.tenantId,
      kbId: kb.id,
      ...content,
      title: description.title ?? description.fallbackTitle,
      metadata,
      priority,
      source,
      sourceUrl,
      sourceId,
      jobId,
      createdBy: by.userId,
      tokenId: by.tokenId,
    });
    return inserted ? this.documents.find(tx, kb.id, id) : null;
  }

  private async finishNew(tx: Tx, document: Document, description: DocumentDescription): Promise<void> {
    const { acl } = description;
    if (acl) await this.access.restrict(tx, document, acl);
    await this.knowledgeBases.countDocument(tx, document.kbId, 1, document.sizeBytes);
    this.calls.afterCommit(tx);
    this.record(tx, 'document.created', document, description, detailsOf(description, document));
  }

  /**
   * The same content again is one document: where its ingestion failed, this is another try, unless it asks for other
   * readers; else a conflict. One that may not be read here is not named.
   */
  private async again(
    tx: Tx,
    same: Document,
    key: string,
    description: DocumentDescription,
  ): Promise<Outcome> {
    const { acl } = description;
    const ended = same.status === 'failed' || same.status === 'cancelled';
    if (!ended || (acl && !sameReaders(acl, await this.access.of(tx, same)))) throw duplicate(same.id);
    await this.retry(tx, same, description);
    return { document: await this.read(tx, same), superfluous: [key] };
  }

  private async retry(tx: Tx, document: Document, description: DocumentDescription): Promise<void> {
    await this.documents.requeue(tx, document.id, description.by.tokenId);
    this.calls.afterCommit(tx);
    this.record(tx, 'document.reindexed', document, description);
  }

  /** What is given replaces, what is missing stays. */
  private async describe(tx: Tx, known: Document, description: DocumentDescription): Promise<void> {
    const { title, metadata, priority, acl } = description;
    await this.documents.update(tx, known.id, {
      ...(title !== undefined && { title }),
      ...(metadata !== undefined && { metadata }),
      ...(priority !== undefined && { priority }),
    });
    if (acl) await this.access.restrict(tx, known, acl);
  }

  private async countResized(tx: Tx, before: Document, sizeBytes: number): Promise<void> {
    const change = sizeBytes - before.sizeBytes;
    if (change !== 0) await this.knowledgeBases.countDocument(tx, before.kbId, 0, change);
  }

  private lockKnown(tx: Tx, kb: KbOf, sourceId: string | null): Promise<Document | null> {
    return sourceId === null ? Promise.resolve(null) : this.documents.lockBySource(tx, kb.id, sourceId);
  }

  private async read(tx: Tx, { id, kbId }: Document): Promise<Document> {
    return (await this.documents.find(tx, kbId, id)) as Document;
  }

  private async duplicateOf(tx: Tx, kbId: string, sha256: string): Promise<Problem> {
    return duplicate((await this.versions.findByContent(tx, kbId, sha256))?.documentId ?? null);
  }

  private record(tx: Tx, action: string, known: Document, { acl }: DocumentDescription, more = {}): void {
    const { id, kbId, title } = known;
    const restricted = known.restricted || Boolean(acl);
    const details = toldDetails({ kbId, title, restricted }, more);
    this.audit.record(tx, { action, resource: { type: 'document', id }, details });
  }
}

const originalOf = (
  { id, kbId, tenantId, version }: Pick<Document, 'id' | 'kbId' | 'tenantId' | 'version'>,
  { file, fileName, mimeType, key }: NewFile & { key: string },
  createdBy: string | null,
): Omit<DocumentVersion, 'createdAt'> => ({
  documentId: id,
  version,
  tenantId,
  kbId,
  storageKey: key,
  contentSha256: file.sha256,
  sizeBytes: file.sizeBytes,
  mimeType,
  fileName,
  createdBy,
});

const detailsOf = (
  { source, sourceUrl, acl }: DocumentDescription,
  { contentSha256, mimeType, sizeBytes }: Pick<Document, 'contentSha256' | 'mimeType' | 'sizeBytes'>,
): Record<string, unknown> => ({
  source,
  ...(sourceUrl !== null && { source_url: sourceUrl }),
  ...(contentSha256 !== null && { mime_type: mimeType, size_bytes: sizeBytes }),
  ...(acl && { acl }),
});

/** @throws Problem where newer content is not wanted, or not from whoever sends it */
function requireVersioning(known: Document, { onExisting, by }: DocumentDescription): void {
  if (onExisting === 'reject') throw sourceExists(known.id);
  if (!by.mayUpdate) throw Problem.forbidden('A newer version needs the permission document:update.');
}

const sameReaders = (wanted: Acl, stored: Acl | null): boolean =>
  stored !== null &&
  (['members', 'groups'] as const).every(
    kind => [...new Set(wanted[kind])].toSorted().join() === stored[kind].toSorted().join(),
  );

const duplicate = (documentId: string | null): Problem =>
  Problem.conflict(
    'duplicate_document',
    'This knowledge base holds a document with the same content already.',
    documentId === null ? {} : { document_id: documentId },
  );

const sourceExists = (documentId: string | null): Problem =>
  Problem.conflict(
    'source_exists',
    'This knowledge base holds a document of the same source already.',
    documentId === null ? {} : { document_id: documentId },
  );
