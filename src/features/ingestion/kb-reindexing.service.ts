import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { EventsService } from '../../core/events/events.service.js';
import { BackgroundJobs, JobError, type JobRun } from '../../core/jobs/background-jobs.service.js';
import { ModelsService } from '../../core/models/models.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { ChunksRepository, type IndexState } from '../documents/chunks.repository.js';
import { DocumentJobsRepository } from '../documents/document-jobs.repository.js';
import { DocumentsRepository } from '../documents/documents.repository.js';
import { IngestionCalls } from '../documents/ingestion-calls.service.js';
import { KbIngestionRepository } from './kb-ingestion.repository.js';

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
    private readonly database: TenantDatabase,
    private readonly repository: KbIngestionRepository,
    private readonly chunks: ChunksRepository,
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
      const superfluous = await this.repository.finishAll(
        tx,
        kbId,
        model,
        documents.map(({ id }) => id),
      );
      for (const { id, title, chunkCount, tokenCount, page } of documents) {
        if (page) await this.documents.notePage(tx, id, page);
        const data = {
          document_id: id,
          kb_id: kbId,
          title,
          chunk_count: chunkCount,
          token_count: tokenCount,
        };
        this.events.publish(tx, { type: 'document.ready', data });
      }
      return { ...state, superfluous, model, documents: documents.length };
    });
    if (!swapped) return;
    const { model, documents } = swapped;
    this.logger.log({ msg: 'Knowledge base re-indexed', kb_id: kbId, embedding_model: model, documents });
    await this.storage.forget(swapped.superfluous);
    if (swapped.reweighNeeded) await this.reweigh(kbId);
  }

  /** Of a large knowledge base, apart from the store: everything is searchable already, whatever comes of this. */
  async reweigh(kbId: string): Promise<void> {
    try {
      await this.database.run(tx => this.chunks.reweigh(tx, kbId));
    } catch (error) {
      this.logger.warn(`A knowledge base was not weighed anew: ${(error as Error).message}`);
    }
  }

  /** As the system: whoever asked for it need not see every document. */
  private run({ id, payload: { kbId } }: JobRun<ReindexPayload>): Promise<object> {
    return this.database.run(async tx => {
      const ids = await this.repository.lock(tx, kbId);
      if (!ids) throw new JobError('kb_gone', 'The knowledge base was deleted.');
      const { name: model } = this.models.embedding();
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
