import { Injectable, type OnModuleInit } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { AuditService } from '../audit/audit.service.js';
import { AuthorizationService } from '../authorization/authorization.service.js';
import { PLATFORM_DOMAIN, type Permission, tenantDomain } from '../authorization/permissions.js';
import { TenantAdmission } from '../authorization/tenant-admission.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDirectory } from '../tenancy/tenant-directory.js';
import { BackgroundJobs } from './background-jobs.service.js';
import { hasEnded, withChildren } from './job-children.js';
import { type JobSource, JobSources } from './job-sources.js';
import { type Job, type JobChildren, JobsRepository } from './jobs.repository.js';

/** The jobs of the queue, as those see them who asked for them or hold the permission that they needed. */
@Injectable()
export class JobsService implements JobSource, OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly admission: TenantAdmission,
    private readonly repository: JobsRepository,
    private readonly jobs: BackgroundJobs,
    private readonly sources: JobSources,
    private readonly audit: AuditService,
  ) {}

  onModuleInit(): void {
    this.sources.register(this);
  }

  /**
   * Stops a job with what it has put to work. What was done by then stays.
   *
   * @throws Problem 403 `tenant_suspended`, 404, 409 `already_ended`, `not_cancellable`
   */
  async cancel(id: string): Promise<Job> {
    const job = await this.jobs.get(id);
    // Of one that was cancelled, or has failed, some may still be at work: then this stops them.
    const atWork = job.children ? job.children.queued + job.children.processing > 0 : false;
    if (hasEnded(job) && !atWork) throw Problem.conflict('already_ended', 'This job has ended.');
    if (!this.jobs.definitionOf(job.kind)?.cancel) {
      throw Problem.conflict('not_cancellable', 'Jobs of this kind cannot be cancelled.');
    }
    const tenant = job.tenantId ? await this.directory.find(job.tenantId) : null;
    if (tenant) await this.admission.admit(this.context.subject, tenant);
    await this.database.run(async tx => {
      if (!(await this.repository.cancel(tx, id)) && !atWork) {
        throw Problem.conflict('already_ended', 'This job has ended.');
      }
      const event = { action: 'job.cancelled', resource: { type: 'job', id }, details: { kind: job.kind } };
      if (job.tenantId) this.audit.recordForTenant(tx, job.tenantId, event);
      else this.audit.recordForPlatform(tx, event);
    });
    await this.jobs.cancelChildren({ ...job, actor: this.context.actor });
    return this.jobs.get(id);
  }

  async find(id: string): Promise<Job | null> {
    const found = await this.database.run(async tx => {
      const job = await this.repository.find(tx, id);
      return job && { job, children: (await this.childrenOf(tx, [job])).get(id) };
    });
    if (!found || !(await this.maySee(found.job))) return null;
    return found.children ? withChildren(found.job, found.children) : found.job;
  }

  async marks(tx: Tx, ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const found = await this.repository.listChanges(tx, ids);
    const children = await this.childrenOf(tx, found);
    return new Map(
      found.map(({ id, mark }) => {
        const counts = children.get(id);
        return [id, counts ? `${mark} ${Object.values(counts).join(' ')}` : mark];
      }),
    );
  }

  private async childrenOf(
    tx: Tx,
    jobs: ReadonlyArray<{ id: string; kind: string }>,
  ): Promise<Map<string, JobChildren>> {
    const all = new Map<string, JobChildren>();
    for (const kind of new Set(jobs.map(job => job.kind))) {
      const ids = jobs.filter(job => job.kind === kind).map(({ id }) => id);
      const children = await this.jobs.definitionOf(kind)?.children?.(tx, ids);
      for (const [id, counts] of children ?? []) all.set(id, counts);
    }
    return all;
  }

  private async maySee(job: Job): Promise<boolean> {
    const { principal, subject, userId } = this.context;
    // A token sees what it has asked for itself; its creator may have asked for more.
    const own =
      principal.kind === 'api_token' ? job.actor.id === principal.tokenId : job.createdBy === userId;
    if (job.tenantId) {
      const domain = tenantDomain(job.tenantId);
      // Whoever has left the tenant has left its jobs.
      const { member } = await this.authorization.accessOf(subject, job.tenantId);
      if (own && member) return true;
      return job.permission !== null && this.authorization.can(subject, domain, job.permission as Permission);
    }
    if (own) return true;
    return (
      job.permission !== null &&
      this.authorization.can(subject, PLATFORM_DOMAIN, job.permission as Permission)
    );
  }
}
