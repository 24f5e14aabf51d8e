import { Injectable, Logger } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { CreditsService } from '../../core/credits/credits.service.js';
import { EventsService } from '../../core/events/events.service.js';
import type { EmbeddingModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { type ConfigOverrides, effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { type UsageMeter, UsageService } from '../../core/usage/usage.service.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import type { SplitOptions } from '../../foundation/extraction/document-parts.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { ChunksRepository } from '../documents/chunks.repository.js';
import { DocumentVersionsRepository } from '../documents/document-versions.repository.js';
import { DocumentVersionsService } from '../documents/document-versions.service.js';
import { DocumentsRepository } from '../documents/documents.repository.js';
import { IngestionCalls } from '../documents/ingestion-calls.service.js';
import { type Checkpoint, StagingRepository } from '../documents/staging.repository.js';
import { GraphStore, MissingVectorsError } from '../graph/graph-store.repository.js';
import { KnowledgeBasesRepository } from '../knowledge-bases/knowledge-bases.repository.js';
import { DocumentLease, LeaseLostError } from './document-lease.js';
import { DocumentReading } from './document-reading.service.js';
import { DocumentExtraction, type GraphPlan } from './document-extraction.service.js';
import { DocumentStaging } from './document-staging.service.js';
import { EmbeddingModelChangedError, OWN_FAULTS, faultOf } from './ingestion-fault.js';
import {
  type ClaimedDocument,
  IngestionRepository,
  type Original,
  type PickedDocument,
} from './ingestion.repository.js';
import { KbReindexing } from './kb-reindexing.service.js';

/** Attempts that end with a passing fault, in the course of some twenty minutes: servers are restarted, and come back. */
const MOST_ATTEMPTS = 10;
/** Seconds until a document is offered again that this process cannot do, and another perhaps can. */
const ANOTHER_WORKER = 10;
/** Deaths of the process while it worked on this document; more than bad luck explains. */
const MOST_INTERRUPTIONS = 25;
/** Chunks that take long enough to be stored for somebody to see that stage. */
const LONG_STORE = 1_000;
/** Share of the progress bar when all chunks are embedded, and where a model is asked about each of them after that. */
const EMBEDDED = 0.95;
const EMBEDDED_BEFORE_MODEL = 0.4;
/** Stores that find entities without a vector before such are let in: others delete documents all the time. */
const MOST_STORES = 3;
/** To be raised when the same file, with the same settings, is split in another way than before. */
const READING_VERSION = 1;

/** What became of a document that an attempt has brought to its end. */
interface Stored {
  outcome: 'ingested' | 'staged';
  chunkCount: number;
}

/** A document whose chunks are staged. */
interface Work {
  document: ClaimedDocument;
  embedding: EmbeddingModel;
  /** Null: nothing is to be extracted. */
  graph: GraphPlan | null;
  checkpoint: Checkpoint;
  lease: DocumentLease;
}

/**
 * From an original to searchable chunks: load, split, embed, extract, store. What the first four make is staged step by step, so
 * that another attempt goes on where this one ends; the last is one transaction, so that a document is wholly searchable or
 * not at all.
 */
@Injectable()
export class IngestionService {
  private readonly logger = new Logger(IngestionService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly repository: IngestionRepository,
    private readonly reading: DocumentReading,
    private readonly staging: DocumentStaging,
    private readonly extraction: DocumentExtraction,
    private readonly stagingRepository: StagingRepository,
    private readonly chunks: ChunksRepository,
    private readonly graph: GraphStore,
    private readonly documents: DocumentsRepository,
    private readonly versions: DocumentVersionsRepository,
    private readonly knowledgeBases: KnowledgeBasesRepository,
    private readonly reindexing: KbReindexing,
    private readonly storage: FileStorage,
    private readonly models: ModelsService,
    private readonly usage: UsageService,
    private readonly credits: CreditsService,
    private readonly quotas: QuotasService,
    private readonly events: EventsService,
    private readonly calls: IngestionCalls,
    private readonly documentVersions: DocumentVersionsService,
  ) {}

  /** Ingests a document, if it still waits for it. Faults end up in the document's row, not here. */
  async ingest({ tenantId, documentId }: PickedDocument, signal: AbortSignal): Promise<void> {
    const tenant = await this.directory.find(tenantId);
    if (!tenant) return;
    await this.context.runAsSystem(tenant, async () => {
      const owner = uuidv7();
      const claimed = await this.database.run(async tx => {
        const document = await this.repository.claim(tx, documentId, owner);
        return document && { document, checkpoint: await this.stagingRepository.find(tx, documentId) };
      });
      if (!claimed) return;
      const { document } = claimed;
      const started = Date.now();
      const { kbId, createdBy: userId } = document;
      const meter = this.usage.meter({ operation: 'document.ingest', kbId, userId });
      const lease = new DocumentLease(this.database, this.repository, document.id, owner, signal);
      try {
        const stored = await this.work(document, claimed.checkpoint, tenant.config, lease);
        meter.end('success');
        this.logger.log({
          msg: `Document ${stored?.outcome ?? 'unchanged'}`,
          tenant: tenant.name,
          document_id: document.id,
          chunks: stored?.chunkCount,
          duration_ms: Date.now() - started,
          stages_ms: lease.stageTimes(),
        });
      } catch (error) {
        await this.settle(document, lease, meter, error, signal.aborted);
      } finally {
        lease.end();
      }
      // It may have been the last one that the others were waiting for.
      if (document.reindexingTo !== null) await this.reindexing.swapIfComplete(kbId, signal);
    });
  }

  /** @returns null where the document is as it was before: what was fetched is what is searchable */
  private async work(
    document: ClaimedDocument,
    checkpoint: Checkpoint | null,
    ofTenant: ConfigOverrides,
    lease: DocumentLease,
  ): Promise<Stored | null> {
    if (document.interruptions > MOST_INTERRUPTIONS) {
      throw new DocumentError('damaged', 'Working on this document ended the process too often.');
    }
    const config = effectiveConfig(ofTenant, document.config);
    // Before anything is paid for; once more when it is stored.
    const embedding = await this.modelFor(document, config.embedding_model);
    const graph = await this.extraction.plan(config, document.language);
    const original = document.original ?? (await this.reading.fetch(document, lease));
    if (!original) return this.keep(document);
    const split = splitOptions(config);
    const fingerprint = fingerprintOf(original, split, embedding.name, graph);
    if (checkpoint?.split && checkpoint.fingerprint === fingerprint) {
      const before = await this.staging.embedded(document);
      return this.embedAndStore({ document, embedding, graph, checkpoint, lease }, before);
    }
    const reading = this.reading.read(original, {
      split,
      readable: document.source === 'url',
      signal: lease.signal,
    });
    const header = { version: document.version, fingerprint, embeddingModel: embedding.name };
    const staged = await this.staging.split(document, lease, header, reading);
    const nothing = { chunks: 0, tokens: 0 };
    return this.embedAndStore({ document, embedding, graph, checkpoint: staged, lease }, nothing);
  }

  /**
   * The model whose vectors the knowledge base has, or is to have; where it has none yet, the one that its settings choose.
   *
   * @throws EmbeddingModelChangedError, Problem 409
   */
  private async modelFor(
    { embeddingModel, reindexingTo }: ClaimedDocument,
    chosen: string | null,
  ): Promise<EmbeddingModel> {
    const wanted = reindexingTo ?? embeddingModel;
    if (wanted === null) return this.models.embedding(chosen);
    const model = await this.models.embeddingOf(wanted);
    if (!model) throw new EmbeddingModelChangedError(reindexingTo !== null);
    return model;
  }

  /** A web page that has not changed is ready as it was, unless its vectors are to be those of another model. */
  private async keep(document: ClaimedDocument): Promise<null> {
    if (document.reindexingTo === null) return null;
    await this.database.run(async tx => {
      await this.documents.requeue(tx, document.id, document.tokenId);
      this.calls.afterCommit(tx);
    });
    return null;
  }

  /** Pays for what it embeds, also where another attempt has to go on: that one finds it staged. */
  private async embedAndStore(work: Work, before: { chunks: number; tokens: number }): Promise<Stored> {
    const { document, checkpoint, lease, graph } = work;
    const { name: model } = work.embedding;
    const tokens = (quantity: number) => ({ operation: 'embedding_tokens' as const, model, quantity });
    this.usage.note({ model });
    const { result } = await this.credits.spend(
      {
        operation: 'ingestion',
        lines: [
          { operation: 'page_parsed', quantity: checkpoint.pageCount },
          tokens(checkpoint.tokenCount - before.tokens),
        ],
        tokenId: document.tokenId,
        userId: document.createdBy,
      },
      async meter => {
        let paidFor = 0;
        try {
          const until = graph?.chat ? EMBEDDED_BEFORE_MODEL : EMBEDDED;
          const noteTokens = (embedded: number) => {
            paidFor += embedded;
            this.usage.note({ embeddingTokens: embedded });
          };
          await this.staging.embed(
            document,
            work.embedding,
            checkpoint,
            before.chunks,
            until,
            lease,
            noteTokens,
          );
          if (graph) await this.extraction.extract(document, graph, checkpoint, until, EMBEDDED, lease);
          return await this.storeWithVectors(work);
        } catch (error) {
          if (paidFor === 0 || !keepsWhatIsStaged(error, lease)) throw error;
          meter.used(tokens(paidFor));
          return { error };
        }
      },
    );
    if ('error' in result) throw result.error;
    return result;
  }

  /** The names of its entities get their vectors right before: which need one depends on the other documents. */
  private async storeWithVectors(work: Work): Promise<Stored> {
    const { document, embedding, graph, lease } = work;
    for (let attempt = 1; ; attempt++) {
      if (graph) await this.extraction.embedNames(document, embedding, lease);
      try {
        return await this.store(work, attempt < MOST_STORES);
      } catch (error) {
        if (!(error instanceof MissingVectorsError)) throw error;
        // A model is asked once more, which may take longer than the document is held without a sign of life.
        lease.resume();
      }
    }
  }

  private async store(work: Work, requireVectors: boolean): Promise<Stored> {
    const { document, checkpoint, lease } = work;
    if (checkpoint.chunkCount > LONG_STORE) await lease.within(() => Promise.resolve());
    // From here on nobody else gets at the document; a heartbeat would only wait for its lock.
    await lease.rest();
    const stored = await this.database.run(async tx => {
      const locked = await this.repository.lockOwn(tx, document.id, lease.owner);
      if (!locked) throw new LeaseLostError();
      const { embeddingModel, chunkCount } = checkpoint;
      if (locked.reindexingTo !== null) {
        requireModel({ embeddingModel: null, ...locked }, embeddingModel);
        await this.repository.park(tx, document.id, lease.owner);
        return null;
      }
      if (!(await this.knowledgeBases.fixEmbeddingModel(tx, document.kbId, embeddingModel))) {
        throw new EmbeddingModelChangedError(false);
      }
      const { hasChunks } = locked;
      const state = await this.chunks.swapIn(tx, ownerOf(document), chunkCount, {
        hasChunks,
        signal: lease.signal,
      });
      const options = { requireVectors, signal: lease.signal };
      const graph = work.graph && (await this.graph.swapIn(tx, ownerOf(document), chunkCount, options));
      await this.repository.finish(tx, document.id, lease.owner, checkpoint, graph?.graph ?? null);
      if (document.source === 'url') await this.documents.notePage(tx, document.id, checkpoint);
      await this.stagingRepository.discard(tx, document.id);
      const superfluous = await this.versions.deleteOthers(tx, document.id, [document.version]);
      await this.tell(tx, document, 'document.ready', {
        chunk_count: chunkCount,
        token_count: checkpoint.tokenCount,
      });
      return { ...state, superfluous, reached: graph?.reached ?? [] };
    });
    const { chunkCount } = checkpoint;
    if (!stored) return { outcome: 'staged', chunkCount };
    await this.storage.forget(stored.superfluous);
    await this.quotas.tellReached(stored.reached, document.kbId);
    if (stored.reweighNeeded) await this.reindexing.reweigh(document.kbId);
    return { outcome: 'ingested', chunkCount };
  }

  /** What the tenant did not do itself, and may wait for. */
  private async tell(
    tx: Tx,
    { id, kbId }: ClaimedDocument,
    type: string,
    more: Record<string, unknown>,
  ): Promise<void> {
    const title = await this.repository.titleToTell(tx, id);
    this.events.publish(tx, { type, data: { document_id: id, kb_id: kbId, title, ...more } });
  }

  /** Writes down how an attempt ended that did not end well. */
  private async settle(
    document: ClaimedDocument,
    lease: DocumentLease,
    meter: UsageMeter,
    error: unknown,
    shuttingDown: boolean,
  ): Promise<void> {
    if (error instanceof LeaseLostError) return;
    const { owner } = lease;
    if (shuttingDown) {
      const released = await this.database.run(tx => this.repository.release(tx, document.id, owner));
      // Another worker may take it at once.
      if (released) this.calls.now();
      return;
    }
    const fault = faultOf(error);
    const { code, message } = fault;
    if (error instanceof EmbeddingModelChangedError && fault.passing) {
      await this.database.run(tx => this.repository.release(tx, document.id, owner, ANOTHER_WORKER));
      this.calls.later(ANOTHER_WORKER * 1000);
      return;
    }
    const attempt = document.attempts + 1;
    if (fault.passing && attempt < MOST_ATTEMPTS) {
      const delay = Math.max(2 ** attempt, fault.retryAfter ?? 0);
      const kept = await this.database.run(tx =>
        this.repository.retryLater(tx, document.id, owner, code, message, delay),
      );
      // Whose document it is by now knows what has become of its original.
      if (!kept) return;
      this.calls.later(delay * 1000);
    } else {
      const superfluous = await this.database.run(async tx => {
        if (!(await this.repository.fail(tx, document.id, owner, code, message))) return null;
        await this.tell(tx, document, 'document.failed', { error: { code, message } });
        // Its vectors are to be swapped out: of what is searchable others are made.
        if (document.reindexingTo !== null && OWN_FAULTS.includes(code)) {
          const newer = await this.documentVersions.fallBack(tx, document.kbId, document.id);
          if (newer) return newer;
        }
        // What was paid for stays: whoever asks again after a fault that has passed, or with new credits, goes on from there.
        if (!fault.passing && !(error instanceof Problem))
          await this.stagingRepository.discard(tx, document.id);
        return [];
      });
      if (!superfluous) return;
      await this.storage.forget(superfluous);
      meter.end('failure');
    }
    if (code === 'internal_error') this.logger.error(error);
    else
      this.logger.warn({
        msg: 'Document not ingested',
        document_id: document.id,
        code,
        reason: message,
        ...causeOf(error),
      });
  }
}

const ownerOf = ({ id, tenantId, kbId }: ClaimedDocument) => ({ documentId: id, tenantId, kbId });

/** @throws EmbeddingModelChangedError where vectors of this model have no place in the knowledge base */
function requireModel(
  { embeddingModel, reindexingTo }: Pick<ClaimedDocument, 'embeddingModel' | 'reindexingTo'>,
  model: string,
): void {
  const wanted = reindexingTo ?? embeddingModel ?? model;
  if (wanted !== model) throw new EmbeddingModelChangedError(reindexingTo !== null);
}

/** Where a parser has stumbled: the row tells the tenant of a damaged file, which it may not be. */
const causeOf = (error: unknown): { cause?: unknown } =>
  error instanceof DocumentError && error.cause !== undefined ? { cause: error.cause } : {};

/** Also where somebody else has the document by now, and goes on from there. */
const keepsWhatIsStaged = (error: unknown, lease: DocumentLease): boolean =>
  error instanceof LeaseLostError ||
  error instanceof Problem ||
  lease.signal.aborted ||
  faultOf(error).passing;

const splitOptions = (config: ReturnType<typeof effectiveConfig>): Required<SplitOptions> => ({
  chunkSize: config.chunk_size,
  chunkOverlap: config.chunk_overlap,
  chunkUnit: config.chunk_unit,
});

/** Everything that chunks, vectors and what is extracted depend on: where it is the same, they are. */
const fingerprintOf = (
  original: Pick<Original, 'contentSha256' | 'mimeType' | 'fileName'>,
  split: Required<SplitOptions>,
  model: string,
  graph: GraphPlan | null,
): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        READING_VERSION,
        original.contentSha256,
        original.mimeType,
        original.fileName,
        split.chunkSize,
        split.chunkOverlap,
        split.chunkUnit,
        model,
        // What is staged without a graph stays what it was before there were any.
        ...(graph ? [graph.fingerprint] : []),
      ]),
    )
    .digest('hex');
