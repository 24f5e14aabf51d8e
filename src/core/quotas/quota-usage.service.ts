import { Injectable } from '@nestjs/common';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import type { Limits } from '../tenancy/tenant-limits.js';
import { QuotasRepository, type TenantCounters } from './quotas.repository.js';
import { QuotasService, type QuotasView } from './quotas.service.js';
import { type CalendarLimit, UsageCounters } from './usage-counters.js';

const MIB = 1024 * 1024;

/** What the tenant has and has used. */
export interface CurrentUsage extends Omit<TenantCounters, 'storageBytes'> {
  storageMb: number;
  /** Null: nobody counts them, because no limit asks for it. */
  callsThisMinute: number | null;
  callsThisHour: number;
  callsToday: number;
  callsThisMonth: number;
  queriesThisHour: number;
  concurrentQueries: number;
  llmTokensThisMonth: number;
}

/** How far the tenant is from its limits. */
@Injectable()
export class QuotaUsageService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly repository: QuotasRepository,
    private readonly quotas: QuotasService,
    private readonly counters: UsageCounters,
  ) {}

  /** @throws Problem 404 */
  async get(): Promise<{ quotas: QuotasView; usage: CurrentUsage }> {
    const { id } = this.context.tenant;
    const quotas = await this.quotas.get();
    const { storageBytes, ...counted } = await this.database.run(tx => this.repository.counters(tx, id));
    const { limits, throttledTo } = quotas;
    const now = new Date();
    const used = (limit: CalendarLimit) => this.usedUp(id, limit, limits, now);
    const minute = limits.max_api_calls_per_minute !== null || throttledTo !== null;
    return {
      quotas,
      usage: {
        ...counted,
        storageMb: round(storageBytes / MIB, 3),
        callsThisMinute: minute ? await this.counters.minuteOf(id) : null,
        callsThisHour: await used('max_api_calls_per_hour'),
        callsToday: await used('max_api_calls_per_day'),
        callsThisMonth: await used('max_api_calls_per_month'),
        queriesThisHour: await used('max_queries_per_hour'),
        concurrentQueries: await this.counters.queries.busy(id),
        llmTokensThisMonth: await used('max_llm_tokens_per_month'),
      },
    };
  }

  /** Where a limit asks for it, its counter knows; else what was recorded, a second late. */
  private async usedUp(tenantId: string, limit: CalendarLimit, limits: Limits, now: Date): Promise<number> {
    if (limits[limit] !== null) return (await this.counters.count(tenantId, limit, 0, now)).consumed;
    return this.counters.recorded(tenantId, limit, this.counters.window(limit, now));
  }
}

/** Of each thing with a limit, how much of it is used; of calls the limit that is nearest. */
export function usagePercentages(usage: CurrentUsage, limits: Limits): Record<string, number> {
  const shares: Array<[name: string, used: number, max: number | null]> = [
    ['users', usage.users, limits.max_users],
    ['kbs', usage.kbs, limits.max_kbs],
    ['documents', usage.documents, limits.max_documents],
    ['storage', usage.storageMb, limits.max_storage_mb],
    ['agents', usage.agents, limits.max_agents],
    ['api_tokens', usage.apiTokens, limits.max_api_tokens],
    ['api_calls', usage.callsThisHour, limits.max_api_calls_per_hour],
    ['api_calls', usage.callsToday, limits.max_api_calls_per_day],
    ['api_calls', usage.callsThisMonth, limits.max_api_calls_per_month],
    ['queries', usage.queriesThisHour, limits.max_queries_per_hour],
    ['concurrent_queries', usage.concurrentQueries, limits.max_concurrent_queries],
    ['llm_tokens', usage.llmTokensThisMonth, limits.max_llm_tokens_per_month],
  ];
  const percentages: Record<string, number> = {};
  for (const [name, used, max] of shares) {
    if (max === null) continue;
    const share = max === 0 ? 100 : round((used / max) * 100, 1);
    percentages[name] = Math.max(percentages[name] ?? 0, share);
  }
  return percentages;
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
