import { Injectable, Logger } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { CreditsService } from '../../core/credits/credits.service.js';
import { EventsService } from '../../core/events/events.service.js';
import { ModelError } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { type ConfigOverrides, effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { type UsageMeter, UsageService } from '../../core/usage/usage.service.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import { FileMissingError, FileStorage } from '../../foundation/storage/file-storage.js';
import { ChunksRepository } from '../documents/chunks.repository.js';
import { DocumentError } from '../documents/document-error.js';
import { type DocumentStage, storageKey } from '../documents/document.entity.js';
import { INGESTION_QUEUE, type IngestionCall } from '../documents/ingestion-queue.js';
import { KnowledgeBasesRepository } from '../knowledge-bases/knowledge-bases.repository.js';
import { DocumentLoader, type SplitDocument } from './document-loader.js';
import { type ClaimedDocument, IngestionRepository } from './ingestion.repository.js';

/** Attempts that end with a passing fault. */
const MOST_ATTEMPTS = 4;
/** Deaths of the process while it worked on this document; more than bad luck explains. */
const MOST_INTERRUPTIONS = 25;
const HEARTBEAT_MS = 5_000;
/** Share of the progress bar that lies before the first embedding, and after the last. */
const LOADED = 0.1;
const EMBEDDED = 0.95;

/** The document is no longer this worker's: cancelled, deleted, taken over. Nothing is to be written any more. */
class LeaseLostError extends Error {}

/** The knowledge base holds vectors of another model, which cannot be compared with ours. */
class EmbeddingModelChangedError extends Error {}

/**
 * From an original to searchable chunks: load, split, embed, store. Everything before the last step is without
 * effect, and the last is one transaction, so a document is wholly searchable or not at all.
 */
@Injectable()
export class IngestionService {
  private readonly logger = new Logger(IngestionService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly repository: IngestionRepository,
    private readonly knowledgeBases: KnowledgeBasesRepository,
    private readonly chunks: ChunksRepository,
    private readonly storage: FileStorage,
    private readonly loader: DocumentLoader,
    private readonly models: ModelsService,
    private readonly usage: UsageService,
    private readonly credits: CreditsService,
    private readonly events: EventsService,
    @InjectJobQueue(INGESTION_QUEUE) private readonly queue: JobQueue<IngestionCall>,
  ) {}

  /** Ingests the document of a call, if it still waits for it. Faults end up in the document's row, not here. */
  async ingest(call: IngestionCall, signal: AbortSignal): Promise<void> {
    const tenant = await this.directory.find(call.tenantId);
    if (!tenant) return;
    await this.context.runAsSystem(tenant, async () => {
      const owner = uuidv7();
      const document = await this.database.run(tx =>
        this.repository.claim(tx, call.documentId, owner, call.takeOver ?? false),
      );
      if (!document) return;
      const started = Date.now();
      const { kbId, createdBy: userId } = document;
      const meter = this.usage.meter({ operation: 'document.ingest', kbId, userId });
      const lease = new Lease(this.database, this.repository, document.id, owner, signal);
      try {
        const chunkCount = await this.work(document, tenant.config, lease);
        meter.end('success');
        this.logger.log({
          msg: 'Document ingested',
          tenant: tenant.name,
          document_id: document.id,
          chunks: chunkCount,
          duration_ms: Date.now() - started,
        });
      } catch (error) {
        await this.settle(document, lease, meter, error, signal.aborted);
      } finally {
        lease.end();
      }
    });
  }

  private async work(document: ClaimedDocument, ofTenant: ConfigOverrides, lease: Lease): Promise<number> {
    if (document.interruptions > MOST_INTERRUPTIONS) {
      throw new DocumentError('damaged', 'Working on this document ended the process too often.');
    }
    const split = await this.load(document, ofTenant, lease);
    await lease.report('embed', LOADED);
    const { name: model } = this.models.embedding();
    const { result } = await this.credits.spend(
      {
        operation: 'ingestion',
        lines: [
          { operation: 'page_parsed', quantity: split.pageCount },
          { operation: 'embedding_tokens', model, quantity: tokensOf(split) },
        ],
        tokenId: document.tokenId,
        userId: document.createdBy,
      },
      () => this.embedAndStore(document, lease, split),
    );
    return result;
  }

  private async embedAndStore(
    document: ClaimedDocument,
    lease: Lease,
    split: SplitDocument,
  ): Promise<number> {
    const model = this.models.embedding();
    const texts = split.chunks.map(chunk => chunk.text);
    const embeddings = await model.embedDocuments(texts, {
      signal: lease.signal,
      onProgress: done => lease.note('embed', LOADED + (EMBEDDED - LOADED) * (done / texts.length)),
    });
    this.usage.note({ model: model.name, embeddingTokens: tokensOf(split) });
    await lease.report('store', EMBEDDED);
    return this.store(document, lease, model.name, split, embeddings);
  }

  private async load(
    document: ClaimedDocument,
    ofTenant: ConfigOverrides,
    lease: Lease,
  ): Promise<SplitDocument> {
    const { chunk_size: chunkSize, chunk_overlap: chunkOverlap } = effectiveConfig(ofTenant, document.config);
    const content = await this.storage.read(storageKey(document));
    const split = await this.loader.loadAndSplit(content, {
      fileName: document.fileName ?? undefined,
      declaredMimeType: document.mimeType,
      chunkSize,
      chunkOverlap,
      signal: lease.signal,
    });
    if (split.chunks.length === 0) throw new DocumentError('no_text', 'There is no text in this document.');
    return split;
  }

  private async store(
    document: ClaimedDocument,
    lease: Lease,
    modelName: string,
    split: SplitDocument,
    embeddings: number[][],
  ): Promise<number> {
    const { reweighNeeded } = await this.database.run(async tx => {
      if (!(await this.repository.lockOwn(tx, document.id, lease.owner))) throw new LeaseLostError();
      if (!(await this.knowledgeBases.fixEmbeddingModel(tx, document.kbId, modelName))) {
        throw new EmbeddingModelChangedError();
      }
      const index = await this.chunks.replaceChunks(
        tx,
        { documentId: document.id, tenantId: document.tenantId, kbId: document.kbId },
        split.chunks.map((chunk, i) => ({ ...chunk, embedding: embeddings[i] as number[] })),
      );
      await this.repository.finish(tx, document.id, lease.owner, {
        mimeType: split.mimeType,
        chunkCount: split.chunks.length,
        tokenCount: tokensOf(split),
      });
      this.tell(tx, document, 'document.ready', {
        chunk_count: split.chunks.length,
        token_count: tokensOf(split),
      });
      return index;
    });
    // Of a large knowledge base, apart from the store: the document is searchable meanwhile.
    if (reweighNeeded) await this.database.run(tx => this.chunks.reweigh(tx, document.kbId));
    return split.chunks.length;
  }

  /** What the tenant did not do itself, and may wait for. */
  private tell(tx: Tx, document: ClaimedDocument, type: string, more: Record<string, unknown>): void {
    const { id, kbId, title } = document;
    this.events.publish(tx, { type, data: { document_id: id, kb_id: kbId, title, ...more } });
  }

  /** Writes down how an attempt ended that did not end well. */
  private async settle(
    document: ClaimedDocument,
    lease: Lease,
    meter: UsageMeter,
    error: unknown,
    shuttingDown: boolean,
  ): Promise<void> {
    if (error instanceof LeaseLostError) return;
    const { owner } = lease;
    const call: IngestionCall = { tenantId: document.tenantId, documentId: document.id };
    if (shuttingDown) {
      const released = await this.database.run(tx => this.repository.release(tx, document.id, owner));
      // Another worker may take it at once; under an id of its own, for the queue still counts this call as running.
      if (released) await this.queue.add(`${document.id}-${owner}`, call);
      return;
    }
    const fault = describe(error);
    const attempt = document.attempts + 1;
    if (fault.passing && attempt < MOST_ATTEMPTS) {
      const delay = 2 ** attempt;
      const kept = await this.database.run(tx =>
        this.repository.retryLater(tx, document.id, owner, fault.code, fault.message, delay),
      );
      if (kept) await this.queue.add(`${document.id}-attempt-${attempt}`, call, { delay: delay * 1000 });
    } else {
      await this.database.run(async tx => {
        const { code, message } = fault;
        if (await this.repository.fail(tx, document.id, owner, code, message))
          this.tell(tx, document, 'document.failed', { error: { code, message } });
      });
      meter.end('failure');
    }
    this.logger[fault.code === 'internal_error' ? 'error' : 'warn'](
      fault.code === 'internal_error' ? error : `Document ${document.id} was not ingested: ${fault.message}`,
    );
  }
}

/** Estimated: no endpoint tells how many it has counted. */
const tokensOf = (split: SplitDocument): number =>
  split.chunks.reduce((sum, chunk) => sum + chunk.tokenCount, 0);

function describe(error: unknown): { code: string; message: string; passing: boolean } {
  if (error instanceof DocumentError) return { code: error.code, message: error.message, passing: false };
  if (error instanceof ModelError)
    return { code: error.code, message: error.message, passing: error.retryable };
  // There are too few credits: somebody has to do something, and to ask for another attempt.
  if (error instanceof Problem && error.status < 500)
    return { code: error.code, message: error.detail, passing: false };
  if (error instanceof FileMissingError) {
    return {
      code: 'content_missing',
      message: 'The original of this document is not in the storage.',
      passing: false,
    };
  }
  if (error instanceof EmbeddingModelChangedError) {
    const message =
      'The knowledge base holds vectors of another embedding model; it has to be re-indexed as a whole.';
    return { code: 'embedding_model_changed', message, passing: false };
  }
  // What it was is in the log; a row that tenants read is no place for it.
  return { code: 'internal_error', message: 'Something went wrong on our side.', passing: true };
}

/** Holds a document for its worker and reports progress; its signal ends the work when the document is lost. */
class Lease {
  private readonly controller = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private stage: DocumentStage = 'load';
  private progress = 0;

  constructor(
    private readonly database: TenantDatabase,
    private readonly repository: IngestionRepository,
    private readonly documentId: string,
    readonly owner: string,
    private readonly parent: AbortSignal,
  ) {
    parent.addEventListener('abort', this.abort, { once: true });
    this.timer = setInterval(() => void this.beat().catch(() => undefined), HEARTBEAT_MS);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Remembers how far the work is; written with the next heartbeat. */
  note(stage: DocumentStage, progress: number): void {
    this.stage = stage;
    this.progress = progress;
  }

  /** Writes it down at once. @throws LeaseLostError */
  async report(stage: DocumentStage, progress: number): Promise<void> {
    this.note(stage, progress);
    if (!(await this.beat())) throw new LeaseLostError();
  }

  end(): void {
    clearInterval(this.timer);
    this.parent.removeEventListener('abort', this.abort);
  }

  private readonly abort = (): void => this.controller.abort(this.parent.reason);

  private async beat(): Promise<boolean> {
    const held = await this.database.run(tx =>
      this.repository.heartbeat(tx, this.documentId, this.owner, this.stage, this.progress),
    );
    if (!held) this.controller.abort(new LeaseLostError());
    return held;
  }
}
