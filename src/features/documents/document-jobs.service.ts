import { Injectable, type OnModuleInit } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { TenantAdmission } from '../../core/authorization/tenant-admission.service.js';
import type { JobChildren } from '../../core/jobs/background-jobs.service.js';
import { hasEnded } from '../../core/jobs/job-children.js';
import { type JobSource, JobSources } from '../../core/jobs/job-sources.js';
import type { Job } from '../../core/jobs/jobs.repository.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import type { Document, DocumentStatus } from './document.entity.js';
import { DocumentJobsRepository } from './document-jobs.repository.js';

const JOB_STATUS: Record<DocumentStatus, Job['status']> = {
  queued: 'queued',
  processing: 'running',
  ready: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
  deleting: 'cancelled',
};

/** Shows the ingestion of a document as a job under the document's id, to those who may read the document. */
@Injectable()
export class DocumentJobs implements JobSource, OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly platform: PlatformDatabase,
    private readonly database: TenantDatabase,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly admission: TenantAdmission,
    private readonly sources: JobSources,
    private readonly repository: DocumentJobsRepository,
  ) {}

  onModuleInit(): void {
    this.sources.register(this);
  }

  /** The tenant is the document's, and entered with what the principal sees of it: the database decides. */
  async find(id: string): Promise<Job | null> {
    const place = await this.platform.run(tx => this.repository.locate(tx, id));
    const tenant = place && (await this.directory.find(place.tenantId));
    if (!place || !tenant) return null;
    const { subject } = this.context;
    try {
      const access = await this.admission.admit(subject, tenant);
      if (!(await this.authorization.letsIn(subject, tenant.id, 'document:read', place.kbId))) return null;
      const document = await this.context.runIn(tenant, access, () =>
        this.database.run(tx => this.repository.find(tx, id)),
      );
      return document && toJob(document);
    } catch (error) {
      // Not even that the document is somewhere.
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  }

  async marks(tx: Tx, ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
    return new Map((await this.repository.listChanges(tx, ids)).map(({ id, mark }) => [id, mark]));
  }

  /** Of jobs that bring in documents: where those stand. For {@link JobDefinition.children}. */
  children(tx: Tx, jobIds: readonly string[]): Promise<ReadonlyMap<string, JobChildren>> {
    return this.repository.countByJob(tx, jobIds);
  }
}

function toJob(document: Document): Job {
  const status = JOB_STATUS[document.status];
  return {
    id: document.id,
    tenantId: document.tenantId,
    kind: 'document-ingest',
    permission: 'document:read',
    status,
    stage: document.stage,
    progress: document.progress,
    result: {
      document_id: document.id,
      kb_id: document.kbId,
      version: document.version,
      indexed_version: document.indexedVersion,
      chunk_count: document.chunkCount,
    },
    errorCode: document.errorCode,
    errorMessage: document.errorMessage,
    createdBy: document.createdBy,
    actor: { type: 'system', id: null, name: null, ip: null, requestId: null },
    createdAt: document.createdAt,
    updatedAt: document.updatedAt,
    finishedAt: hasEnded({ status }) ? document.updatedAt : null,
  };
}
