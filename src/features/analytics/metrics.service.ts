import { Injectable } from '@nestjs/common';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { durationQuantile } from '../../core/usage/duration-histogram.js';
import { type UsageTotals, windowBefore } from '../../core/usage/usage-window.js';
import { UsageRepository } from '../../core/usage/usage.repository.js';
import { type Levels, MetricsRepository } from './metrics.repository.js';
import { type Period, periodWindow } from './usage-period.js';

/** What happened in a time. */
export interface Activity extends UsageTotals {
  activeUsers: number;
}

export interface Metrics {
  period: Period;
  from: Date;
  to: Date;
  activity: Activity;
  /** Estimated, off by 5 % at most; null where nothing was asked. */
  p95DurationUs: number | null;
  activityBefore: Activity;
  levels: { now: Levels; before: Levels | null };
}

@Injectable()
export class MetricsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly usage: UsageRepository,
    private readonly repository: MetricsRepository,
  ) {}

  /** Of the context's tenant, with the period of the same length before. */
  async get(period: Period, now = new Date()): Promise<Metrics> {
    const window = periodWindow(period, now);
    const windows = [window, windowBefore(window)];
    const tenantId = this.context.tenant.id;
    return this.database.run(async tx => {
      const [totals, totalsBefore] = (await this.usage.totals(tx, tenantId, windows)) as [
        UsageTotals,
        UsageTotals,
      ];
      const [users, usersBefore] = (await this.repository.activeUsers(tx, windows)) as [number, number];
      return {
        period,
        from: window.from,
        to: now,
        activity: { ...totals, activeUsers: users },
        activityBefore: { ...totalsBefore, activeUsers: usersBefore },
        p95DurationUs: durationQuantile(await this.repository.queryDurations(tx, window), 0.95),
        levels: await this.repository.levels(tx, window),
      };
    });
  }
}
