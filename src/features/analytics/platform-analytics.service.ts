import { Injectable } from '@nestjs/common';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { type UsageWindow, windowBefore } from '../../core/usage/usage-window.js';
import {
  PlatformAnalyticsRepository,
  type TenantMetric,
  type TenantValues,
} from './platform-analytics.repository.js';
import { type Period, periodWindow } from './usage-period.js';

export interface TenantComparison extends TenantValues {
  window: UsageWindow;
}

@Injectable()
export class PlatformAnalyticsService {
  constructor(
    private readonly database: PlatformDatabase,
    private readonly repository: PlatformAnalyticsRepository,
  ) {}

  /** One metric of every tenant. @param page.pageSize null: all at once, for an export */
  async compare(
    metric: TenantMetric,
    period: Period,
    page: { sort: string; search?: string; page: number; pageSize: number | null },
    now = new Date(),
  ): Promise<TenantComparison> {
    const window = periodWindow(period, now);
    const values = await this.database.run(tx =>
      this.repository.list(tx, metric, [window, windowBefore(window)], page),
    );
    return { ...values, window };
  }
}
