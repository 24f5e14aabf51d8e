import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { IngestionCalls } from '../documents/ingestion-calls.service.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { KbIngestionRepository } from './kb-ingestion.repository.js';
import { KbReindexing, REINDEX_JOB, type ReindexPayload } from './kb-reindexing.service.js';

/** What somebody asks of the ingestion of a knowledge base as a whole. */
@Injectable()
export class KbIngestionService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly repository: KbIngestionRepository,
    private readonly reindexing: KbReindexing,
    private readonly jobs: BackgroundJobs,
    private readonly audit: AuditService,
    private readonly calls: IngestionCalls,
  ) {}

  /** Documents that are being ingested go on; no other begins. @throws Problem 404 */
  pause(kbReference: string): Promise<KnowledgeBase> {
    return this.setPaused(kbReference, true);
  }

  /** @throws Problem 404 */
  resume(kbReference: string): Promise<KnowledgeBase> {
    return this.setPaused(kbReference, false);
  }

  /**
   * Has every document of a knowledge base ingested again; what is searchable stays so until the new chunks are there.
   *
   * @returns the id of the job
   * @throws Problem 404, 409 `embedding_model_changed` where the settings choose a model that there is not
   */
  async reindex(kbReference: string): Promise<string> {
    const { config } = await this.knowledgeBases.get(kbReference);
    const { name: model } = await this.reindexing.modelFor(config);
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      this.audit.record(tx, {
        action: 'kb.reindexed',
        resource: { type: 'kb', id: kb.id },
        details: {
          name: kb.name,
          embedding_model_before: kb.embeddingModel,
          embedding_model: model,
        },
      });
      return this.jobs.enqueue(tx, {
        kind: REINDEX_JOB,
        payload: { kbId: kb.id } satisfies ReindexPayload,
        tenantId: this.context.tenant.id,
        permission: 'kb:update',
      });
    });
  }

  private async setPaused(kbReference: string, paused: boolean): Promise<KnowledgeBase> {
    const kbId = await this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      await this.repository.setPaused(tx, kb.id, paused);
      this.audit.record(tx, {
        action: paused ? 'kb.ingestion_paused' : 'kb.ingestion_resumed',
        resource: { type: 'kb', id: kb.id },
        details: { name: kb.name },
      });
      if (!paused) this.calls.afterCommit(tx);
      return kb.id;
    });
    return this.knowledgeBases.get(kbId);
  }
}
