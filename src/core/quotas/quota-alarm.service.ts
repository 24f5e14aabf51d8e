import { Injectable, Logger, type BeforeApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { EventsService } from '../events/events.service.js';
import { BackgroundJobs } from '../jobs/background-jobs.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { type QuotaExceeded, QuotaSignals } from '../tenancy/quota-exceeded.js';
import { QuotasRepository } from './quotas.repository.js';

const HOUR_MS = 3_600_000;
const OVERRUNS_JOB = 'quota-overruns';
const LOOK_EVERY_S = 60;
const MOST_AT_ONCE = 500;

/**
 * Tells when a tenant runs into a limit, or past one that is not enforced: as the event `quota.exceeded`, at most once an
 * hour for each tenant and limit (and knowledge base, where each has its own) in the whole installation.
 */
@Injectable()
export class QuotaAlarm implements OnModuleInit, BeforeApplicationShutdown {
  private readonly logger = new Logger('quotas');
  /** What this process knows to have been told, so that a flood of refusals asks the database once. */
  private readonly told = new LRUCache<string, true>({ max: 50_000, ttl: HOUR_MS });
  private readonly telling = new Set<Promise<void>>();

  constructor(
    private readonly database: PlatformDatabase,
    private readonly repository: QuotasRepository,
    private readonly events: EventsService,
    private readonly jobs: BackgroundJobs,
    signals: QuotaSignals,
  ) {
    signals.listen(exceeded => this.raise(exceeded, true));
  }

  onModuleInit(): void {
    this.jobs.define<null>({
      kind: OVERRUNS_JOB,
      mostAttempts: 3,
      every: LOOK_EVERY_S,
      brief: true,
      run: () => this.tellOverruns(),
    });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all(this.telling);
  }

  /** In the background: whoever ran into the limit does not wait for it. @param enforced whether it was refused */
  raise(exceeded: QuotaExceeded, enforced: boolean): void {
    const key = `${exceeded.tenantId}/${exceeded.limit}/${exceeded.kbId ?? ''}`;
    if (this.told.has(key)) return;
    this.told.set(key, true);
    const telling = this.tell(exceeded, enforced).catch((error: unknown) => {
      this.told.delete(key);
      this.logger.error(error);
    });
    this.telling.add(telling);
    void telling.finally(() => this.telling.delete(telling));
  }

  private async tell({ tenantId, ...exceeded }: QuotaExceeded, enforced: boolean): Promise<void> {
    const { limit, kbId, used, max, planTier } = exceeded;
    const isNew = await this.database.run(async tx => {
      if (!(await this.repository.markTold(tx, tenantId, limit, kbId))) return false;
      const data = { limit, ...(kbId && { kb_id: kbId }), used, max, plan_tier: planTier, enforced };
      this.events.publish(tx, { type: 'quota.exceeded', data }, tenantId);
      return true;
    });
    if (isNew) {
      const how = enforced ? 'is held to' : 'is past';
      this.logger.warn(`The tenant ${tenantId} ${how} its limit ${limit}: ${used} of ${max}.`);
    }
  }

  /** What the database has let through, because the limit is not enforced. */
  private async tellOverruns(): Promise<{ told: number }> {
    let told = 0;
    for (let taken = MOST_AT_ONCE; taken === MOST_AT_ONCE;) {
      const overruns = await this.database.run(tx => this.repository.takeOverruns(tx, MOST_AT_ONCE));
      taken = overruns.length;
      for (const { tenantId, planTier, overruns: limits } of overruns) {
        for (const [limit, { used, max }] of Object.entries(limits)) {
          this.raise({ tenantId, planTier, limit: limit as QuotaExceeded['limit'], used, max }, false);
          told++;
        }
      }
    }
    await Promise.all(this.telling);
    return { told };
  }
}
