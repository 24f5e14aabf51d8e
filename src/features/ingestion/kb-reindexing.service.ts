import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { EventsService } from '../../core/events/events.service.js';
import { BackgroundJobs, JobError, type JobRun } from '../../core/jobs/background-jobs.service.js';
import type { EmbeddingModel } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { ChunksRepository, type IndexState } from '../documents/chunks.repository.js';
import { DocumentJobsRepository } from '../documents/document-jobs.repository.js';
import { DocumentsRepository } from '../documents/documents.repository.js';
import { IngestionCalls } from '../documents/ingestion-calls.service.js';
import type { ChunkOwner } from '../documents/staging.repository.js';
import { toldTitle } from '../documents/told-document.js';
import { GraphStore, type StoredGraph } from '../graph/graph-store.repository.js';
import type { KnowledgeBaseConfig } from '../knowledge-bases/knowledge-base-config.js';
import { KbIngestionRepository, type ParkedDocument } from './kb-ingestion.repository.js';

export const REINDEX_JOB = 'kb-reindex';
const MOST_ATTEMPTS = 10;

export interface ReindexPayload {
  kbId: string;
}

/**
 * Re-indexes knowledge bases. Vectors of another embedding model cannot be compared with those that are searchable: they
 * are staged, and swapped in for the whole knowledge base at once when the last one is there.
 */
@Injectable()
export class KbReindexing implements OnModuleInit {
  private readonly logger = new Logger(KbReindexing.name);

  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly repository: KbIngestionRepository,
    private readonly chunks: ChunksRepository,
    private readonly graph: GraphStore,
    private readonly quotas: QuotasService,
    private readonly documents: DocumentsRepository,
    private readonly documentJobs: DocumentJobsRepository,
    private readonly models: ModelsService,
    private readonly events: EventsService,
    private readonly storage: FileStorage,
    private readonly jobs: BackgroundJobs,
    private readonly calls: IngestionCalls,
  ) {}

  onModuleInit(): void {
    this.jobs.define<ReindexPayload>({
      kind: REINDEX_JOB,
      mostAttempts: MOST_ATTEMPTS,
      children: (tx, jobIds) => this.documentJobs.countByJob(tx, jobIds),
      cancel: job => this.cancel(job.id),
      run: job => this.run(job),
    });
  }

  /**
   * Swaps in what is staged of a knowledge base of the context's tenant, where every document is staged for its new
   * embedding model or has failed. Does nothing otherwise.
   */
  async swapIfComplete(kbId: string, signal?: AbortSignal): Promise<void> {
    const swapped = await this.database.run(async tx => {
      // Without locks first: as a rule the time has not come.
      if ((await this.repository.completeFor(tx, kbId)) === null) return null;
      if (!(await this.repository.lock(tx, kbId))) return null;
      const model = await this.repository.completeFor(tx, kbId);
      if (model === null) return null;
      const documents = await this.repository.listParked(tx, kbId);
      const tenantId = this.context.tenant.id;
      const state: IndexState = await this.chunks.swapAll(tx, { tenantId, kbId }, documents, signal);
      const graphs = await this.swapGraphs(tx, { tenantId, kbId }, documents, signal);
      const superfluous = await this.repository.finishAll(
        tx,
        kbId,
        model,
        documents.map(({ id }) => id),
      );
      for (const [id, { graph }] of graphs) await this.repository.noteGraph(tx, id, graph);
      for (const { id, title, restricted, chunkCount, tokenCount, page } of documents) {
        if (page) await this.documents.notePage(tx, id, page);
        const data = {
          document_id: id,
          kb_id: kbId,
          title: toldTitle({ title, restricted }),
          chunk_count: chunkCount,
          token_count: tokenCount,
        };
        this.events.publish(tx, { type: 'document.ready', data });
      }
      const reached = [...graphs.values()].flatMap(stored => stored.reached);
      return { ...state, superfluous, model, documents: documents.length, reached };
    });
    if (!swapped) return;
    const { model, documents } = swapped;
    this.logger.log({ msg: 'Knowledge base re-indexed', kb_id: kbId, embedding_model: model, documents });
    await this.storage.forget(swapped.superfluous);
    await this.quotas.tellReached(swapped.reached, kbId);
    if (swapped.reweighNeeded) await this.reweigh(kbId);
  }

  private async swapGraphs(
    tx: Tx,
    kb: Pick<ChunkOwner, 'tenantId' | 'kbId'>,
    documents: readonly ParkedDocument[],
    signal: AbortSignal | undefined,
  ): Promise<Map<string, StoredGraph>> {
    const graphs = new Map<string, StoredGraph>();
    for (const { id, chunkCount } of documents) {
      // A limit that was raised since then may let in what was given no vector.
      const options = { requireVectors: false, signal };
      const stored = await this.graph.swapIn(tx, { ...kb, documentId: id }, chunkCount, options);
      if (stored) graphs.set(id, stored);
    }
    return graphs;
  }

  /** Of a large knowledge base, apart from the store: everything is searchable already, whatever comes of this. */
  async reweigh(kbId: string): Promise<void> {
    try {
      await this.database.run(tx => this.chunks.reweigh(tx, kbId));
    } catch (error) {
      this.logger.warn(`A knowledge base was not weighed anew: ${(error as Error).message}`);
    }
  }

  /** The embedding model that the settings of now choose for a knowledge base. @throws Problem 409 */
  async modelFor(config: KnowledgeBaseConfig): Promise<EmbeddingModel> {
    const tenant = await this.directory.find(this.context.tenant.id);
    return this.models.embedding(effectiveConfig(tenant?.config ?? {}, config).embedding_model);
  }

  /** As the system: whoever asked for it need not see every document. */
  private async run({ id, payload: { kbId } }: JobRun<ReindexPayload>): Promise<object> {
    const config = await this.database.run(tx => this.repository.configOf(tx, kbId));
    if (!config) throw new JobError('kb_gone', 'The knowledge base was deleted.');
    const { name: model } = await this.modelFor(config);
    return this.database.run(async tx => {
      const ids = await this.repository.lock(tx, kbId);
      if (!ids) throw new JobError('kb_gone', 'The knowledge base was deleted.');
      const { documents, reindexingTo } = await this.repository.requeueAll(tx, kbId, ids, model, id);
      this.calls.afterCommit(tx);
      return { kb_id: kbId, documents, reindexing_to: reindexingTo };
    });
  }

  private cancel(jobId: string): Promise<void> {
    return this.database.run(async tx => {
      for (const kbId of await this.repository.listOfJob(tx, jobId)) {
        if (await this.repository.lock(tx, kbId)) await this.repository.giveUp(tx, kbId, jobId);
      }
      this.calls.afterCommit(tx);
    });
  }
}
