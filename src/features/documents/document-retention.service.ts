import { Injectable, type OnModuleInit } from '@nestjs/common';
import { BackgroundJobs, type JobRun } from '../../core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { DocumentDeletionService } from './document-deletion.service.js';
import { DocumentRetentionRepository } from './document-retention.repository.js';

/** The kind of job that deletes what is older than its tenant keeps things. */
export const RETENTION_JOB = 'document.retention';

/** Seconds. */
const EVERY = 3600;
const AT_ONCE = 100;

/** Deletes documents whose newest content is older than the setting `data_retention_days` of their tenant. */
@Injectable()
export class DocumentRetention implements OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly platform: PlatformDatabase,
    private readonly repository: DocumentRetentionRepository,
    private readonly deletion: DocumentDeletionService,
    private readonly jobs: BackgroundJobs,
  ) {}

  onModuleInit(): void {
    this.jobs.define({ kind: RETENTION_JOB, mostAttempts: 3, every: EVERY, run: job => this.run(job) });
  }

  private async run({ signal }: Pick<JobRun<null>, 'signal'>): Promise<{ deleted: number }> {
    let deleted = 0;
    for (const { tenantId, days } of await this.platform.run(tx => this.repository.list(tx))) {
      const tenant = await this.directory.find(tenantId);
      if (tenant) deleted += await this.context.runAsSystem(tenant, () => this.deleteExpired(days, signal));
    }
    return { deleted };
  }

  private async deleteExpired(days: number, signal: AbortSignal): Promise<number> {
    let deleted = 0;
    for (let found = AT_ONCE; found === AT_ONCE; deleted += found) {
      signal.throwIfAborted();
      found = await this.deletion.deleteExpired(days, AT_ONCE);
    }
    return deleted;
  }
}
