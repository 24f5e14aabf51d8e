import { Injectable, type OnModuleInit } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { EventsService } from '../events/events.service.js';
import { BackgroundJobs } from '../jobs/background-jobs.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { type DaysUsage, UsageLevelsRepository } from './usage-levels.repository.js';
import { UsageRepository } from './usage.repository.js';

const HOUR_S = 3_600;
const DAY_MS = 24 * 3_600_000;
/** Events that one transaction deletes. */
const EVENTS_AT_ONCE = 5_000;
const TENANTS_AT_ONCE = 200;
/** After midnight, until what was used before it has been written by every process. */
const SETTLING_MS = 5 * 60_000;
const MOST_ATTEMPTS = 3;

/** What is done about usage from time to time, once for the whole installation. Every part may be done again. */
@Injectable()
export class UsageJobs implements OnModuleInit {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly jobs: BackgroundJobs,
    private readonly database: PlatformDatabase,
    private readonly events: EventsService,
    private readonly usage: UsageRepository,
    private readonly levels: UsageLevelsRepository,
  ) {}

  onModuleInit(): void {
    const recurring = { mostAttempts: MOST_ATTEMPTS, every: HOUR_S };
    this.jobs.define({
      kind: 'usage-retention',
      ...recurring,
      run: job => this.deleteOld(new Date(), job.signal),
    });
    this.jobs.define({ kind: 'usage-levels', ...recurring, run: () => this.writeLevels() });
    this.jobs.define({
      kind: 'usage-announcement',
      ...recurring,
      run: job => this.announce(new Date(), job.signal),
    });
  }

  /** Deletes the events that are past their time. @returns how many */
  async deleteOld(now: Date, signal?: AbortSignal): Promise<number> {
    const before = new Date(now.getTime() - this.env.usageRetentionDays * DAY_MS);
    for (let total = 0; ;) {
      signal?.throwIfAborted();
      const count = await this.database.run(tx => this.usage.deleteOld(tx, before, EVENTS_AT_ONCE));
      total += count;
      if (count < EVENTS_AT_ONCE) return total;
    }
  }

  /** Writes down how much every tenant holds today. */
  async writeLevels(): Promise<void> {
    await this.database.run(tx => this.levels.writeLevels(tx));
  }

  /** Tells each tenant's listeners, once, what the days brought that are over. @returns how many days */
  async announce(now: Date, signal?: AbortSignal): Promise<number> {
    const last = new Date(now.getTime() - SETTLING_MS - DAY_MS).toISOString().slice(0, 10);
    for (let total = 0; ;) {
      signal?.throwIfAborted();
      const count = await this.database.run(async tx => {
        const days = await this.levels.takeUnannounced(tx, last, TENANTS_AT_ONCE);
        for (const usage of await this.levels.usageOf(tx, days)) {
          this.events.publish(tx, { type: 'usage.rollup', data: toData(usage) }, usage.tenantId);
        }
        return days.length;
      });
      total += count;
      if (count === 0) return total;
    }
  }
}

const toData = (usage: DaysUsage) => ({
  day: usage.day,
  api_calls: usage.apiCalls,
  failed_api_calls: usage.failedApiCalls,
  queries: usage.queries,
  failed_queries: usage.failedQueries,
  jobs: usage.jobs,
  active_users: usage.activeUsers,
  input_tokens: usage.inputTokens,
  output_tokens: usage.outputTokens,
  embedding_tokens: usage.embeddingTokens,
  credits: usage.credits,
});
