import { Injectable, type OnModuleInit } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { BackgroundJobs, type JobRun } from '../../core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { DocumentRetentionRepository } from '../documents/document-retention.repository.js';
import { ChatMessagesRepository } from './chat-messages.repository.js';
import { ChatSessionsRepository } from './chat-sessions.repository.js';

/** The kind of job that deletes what was said longer ago than its tenant keeps things. */
export const CHAT_RETENTION_JOB = 'chat.retention';

/** Seconds. */
const EVERY = 3600;
const AT_ONCE = 500;

/** Deletes what was said in chats longer ago than the setting `data_retention_days` of their tenant. */
@Injectable()
export class ChatRetention implements OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly platform: PlatformDatabase,
    private readonly database: TenantDatabase,
    private readonly tenants: DocumentRetentionRepository,
    private readonly sessions: ChatSessionsRepository,
    private readonly messages: ChatMessagesRepository,
    private readonly audit: AuditService,
    private readonly jobs: BackgroundJobs,
  ) {}

  onModuleInit(): void {
    this.jobs.define({ kind: CHAT_RETENTION_JOB, mostAttempts: 3, every: EVERY, run: job => this.run(job) });
  }

  private async run({
    signal,
  }: Pick<JobRun<null>, 'signal'>): Promise<{ sessions: number; messages: number }> {
    const deleted = { sessions: 0, messages: 0 };
    for (const { tenantId, days } of await this.platform.run(tx => this.tenants.list(tx))) {
      const tenant = await this.directory.find(tenantId);
      if (!tenant) continue;
      const { sessions, messages } = await this.context.runAsSystem(tenant, () =>
        this.deleteOf(days, signal),
      );
      deleted.sessions += sessions;
      deleted.messages += messages;
    }
    return deleted;
  }

  private async deleteOf(days: number, signal: AbortSignal): Promise<{ sessions: number; messages: number }> {
    const id = this.context.tenant.id;
    // Sessions first: they take their messages with them.
    const sessions = await this.deleteAll(tx => this.sessions.deleteExpired(tx, days, AT_ONCE), signal);
    const messages = await this.deleteAll(tx => this.messages.deleteExpired(tx, days, AT_ONCE), signal);
    if (sessions + messages > 0) {
      await this.database.run(async tx => {
        this.audit.record(tx, {
          action: 'chat.expired',
          resource: { type: 'tenant', id },
          details: { sessions, messages, retention_days: days },
        });
      });
    }
    return { sessions, messages };
  }

  private async deleteAll(some: (tx: Tx) => Promise<number>, signal: AbortSignal): Promise<number> {
    let deleted = 0;
    for (let found = AT_ONCE; found === AT_ONCE; deleted += found) {
      signal.throwIfAborted();
      found = await this.database.run(some);
    }
    return deleted;
  }
}
