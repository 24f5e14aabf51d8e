import { Injectable, type OnModuleInit } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { BackgroundJobs, type JobRun } from '../../core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { type CurrentTenant, TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { UsageService } from '../../core/usage/usage.service.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { TenantDeletionRepository } from './tenant-deletion.repository.js';
import type { TenantStatistics } from './tenants.dto.js';
import { TenantsRepository } from './tenants.repository.js';

const DELETION_JOB = 'tenant-deletion';
/** Tried for a week: a tenant that is half erased must not stay so because a disk was full for an hour. */
const MOST_ATTEMPTS = 1000;
/** Documents that one transaction removes, with all their chunks, and how many these may be unless one has more. */
const DOCUMENTS_AT_ONCE = 50;
const CHUNKS_AT_ONCE = 5_000;
/** Chats, with all their messages. */
const CHATS_AT_ONCE = 200;
/** Evaluations, with some thousand results each. */
const EVALUATIONS_AT_ONCE = 2;

interface DeletionPayload {
  tenant: CurrentTenant;
  /** What there was when somebody asked for it. */
  statistics: TenantStatistics;
}

/**
 * Deletes tenants. From the moment of the request the tenant is gone for everybody; its rows and files are removed by a
 * job, in small transactions that hold up nobody, and which may be cut off and taken up again anywhere.
 */
@Injectable()
export class TenantDeletionService implements OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly tenants: TenantsRepository,
    private readonly repository: TenantDeletionRepository,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly storage: FileStorage,
    private readonly jobs: BackgroundJobs,
    private readonly audit: AuditService,
    private readonly usage: UsageService,
  ) {}

  onModuleInit(): void {
    this.jobs.define<DeletionPayload>({
      kind: DELETION_JOB,
      mostAttempts: MOST_ATTEMPTS,
      run: job => this.run(job),
    });
  }

  /** @returns the job that removes what the context's tenant keeps. @throws Problem 404 */
  async request(): Promise<string> {
    const { id, name } = this.context.tenant;
    const statistics = await this.tenantDatabase.run(tx => this.tenants.statistics(tx));
    return this.platformDatabase.run(async tx => {
      if (!(await this.tenants.setStatus(tx, id, 'erasing'))) throw Problem.notFound('tenant');
      await this.announce(tx, id);
      const event = {
        action: 'tenant.deletion_requested',
        resource: { type: 'tenant', id },
        details: { name },
      };
      this.audit.recordForTenant(tx, id, event);
      this.audit.recordForPlatform(tx, event);
      return this.jobs.enqueue(tx, {
        kind: DELETION_JOB,
        payload: { tenant: { id, name }, statistics } satisfies DeletionPayload,
        // Its own job would be deleted with the tenant.
        tenantId: null,
        permission: 'platform:tenants',
      });
    });
  }

  private async run(job: JobRun<DeletionPayload>): Promise<object> {
    const { tenant, statistics } = job.payload;
    await job.report('rows', 0);
    await this.deleteContents(job);
    await this.usage.deleteOf(tenant.id, job.signal);
    await job.report('files', 0.8);
    await this.storage.deleteAll(tenant.id);
    await job.report('register', 0.9);
    const removed = {
      name: tenant.name,
      knowledge_bases: statistics.kbCount,
      documents: statistics.documentCount,
      bytes: statistics.storageBytes,
      members: statistics.memberCount,
    };
    await this.platformDatabase.run(async tx => {
      // Where it is gone, an attempt before this one has got here, and has written it down.
      if (!(await this.tenants.lock(tx, tenant.id))) return;
      const audit = await this.repository.endOfAudit(tx, tenant.id);
      await this.repository.deleteTenant(tx, tenant.id);
      await this.announce(tx, tenant.id);
      this.audit.recordForPlatform(tx, {
        action: 'tenant.deleted',
        resource: { type: 'tenant', id: tenant.id },
        details: { ...removed, audit_entries: audit?.sequence ?? 0, last_audit_hash: audit?.hash ?? null },
      });
    });
    // A request that was under way may have stored a file for a row that could not be written any more.
    await this.storage.deleteAll(tenant.id);
    return removed;
  }

  private async deleteContents(job: JobRun<DeletionPayload>): Promise<void> {
    const { tenant, statistics } = job.payload;
    await this.inTenant(tenant, async () => {
      for (let removed = 0, count = -1; count !== 0; removed += count) {
        job.signal.throwIfAborted();
        count = await this.tenantDatabase.run(tx =>
          this.repository.deleteDocuments(tx, tenant.id, DOCUMENTS_AT_ONCE, CHUNKS_AT_ONCE),
        );
        if (count > 0)
          await job.report('rows', 0.8 * Math.min(1, removed / Math.max(1, statistics.documentCount)));
      }
      for (let count = -1; count !== 0;) {
        job.signal.throwIfAborted();
        count = await this.tenantDatabase.run(tx =>
          this.repository.deleteChats(tx, tenant.id, CHATS_AT_ONCE),
        );
      }
      for (let count = -1; count !== 0;) {
        job.signal.throwIfAborted();
        count = await this.tenantDatabase.run(tx =>
          this.repository.deleteEvaluations(tx, tenant.id, EVALUATIONS_AT_ONCE),
        );
      }
      let more = true;
      while (more) {
        job.signal.throwIfAborted();
        more = await this.tenantDatabase.run(tx => this.repository.deleteKnowledgeBase(tx, tenant.id));
      }
    });
  }

  private inTenant<T>(tenant: CurrentTenant, work: () => Promise<T>): Promise<T> {
    return this.context.runAsSystem(tenant, work, this.context.actor);
  }

  private async announce(tx: Tx, id: string): Promise<void> {
    await this.directory.tenantChanged(tx, id);
    await this.authorization.policyChanged(tx, tenantDomain(id));
  }
}
