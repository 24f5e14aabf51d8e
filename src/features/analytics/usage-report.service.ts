import { Injectable } from '@nestjs/common';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { UsageTotals, UsageWindow } from '../../core/usage/usage-window.js';
import { UsageRepository } from '../../core/usage/usage.repository.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type GroupUsage, type UsageGroup, UsageReportRepository } from './usage-report.repository.js';

export interface UsageReport extends Page<GroupUsage> {
  window: UsageWindow;
  /** Of all groups, also those on other pages. */
  totals: UsageTotals;
}

@Injectable()
export class UsageReportService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly usage: UsageRepository,
    private readonly repository: UsageReportRepository,
  ) {}

  /** What the context's tenant has used, by `group`. @param page.pageSize null: everything at once, for an export */
  async list(
    group: UsageGroup,
    window: UsageWindow,
    page: { sort: string; page: number; pageSize: number | null },
  ): Promise<UsageReport> {
    return this.database.run(async tx => {
      const groups = await this.repository.list(tx, group, window, page);
      const [totals] = await this.usage.totals(tx, this.context.tenant.id, [window]);
      return { ...groups, window, totals: totals as UsageTotals };
    });
  }
}
