import { Controller, Get, Query, StreamableFile } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { csvFile } from './csv-rows.js';
import { type MetricsQuery, metricsQuery, metricsSchema, toMetrics } from './metrics.dto.js';
import { MetricsService } from './metrics.service.js';
import {
  type CompareTenants,
  compareTenantsQuery,
  tenantComparisonSchema,
  toTenantComparison,
  toTenantTable,
} from './platform-analytics.dto.js';
import { PlatformAnalyticsService } from './platform-analytics.service.js';
import {
  type UsageReportQuery,
  toSort,
  toUsageReport,
  toUsageTable,
  toWindow,
  usageReportQuery,
  usageReportSchema,
} from './usage-report.dto.js';
import { UsageReportService } from './usage-report.service.js';

@ApiTags('Usage')
@Controller()
export class AnalyticsController {
  constructor(
    private readonly metrics: MetricsService,
    private readonly reports: UsageReportService,
    private readonly platform: PlatformAnalyticsService,
    private readonly context: TenantContext,
  ) {}

  @Get('tenants/:tenant/metrics')
  @ApiTenantParam()
  @RequirePermission('tenant:read_usage')
  @ApiOperation({
    summary: 'Read what the tenant did in a time, and how that has changed',
    description: 'Counted a second after it happened at the latest.',
  })
  @ApiOkResponse({ standardSchema: metricsSchema })
  @ApiProblems(422)
  async readMetrics(@Query({ schema: metricsQuery }) query: MetricsQuery) {
    return toMetrics(await this.metrics.get(query.period));
  }

  @Get('tenants/:tenant/usage')
  @ApiTenantParam()
  @RequirePermission('tenant:read_usage')
  @ApiOperation({
    summary: 'Take the tenant’s usage apart: by knowledge base, member, token, model, operation, day or hour',
    description:
      'What an API token uses belongs to its creator, too; ingesting a document to who added it. With `format=csv` a file.',
  })
  @ApiProduces('application/json', 'text/csv')
  @ApiOkResponse({ standardSchema: usageReportSchema })
  @ApiProblems(422)
  async readUsage(@Query({ schema: usageReportQuery }) query: UsageReportQuery) {
    const window = toWindow(query);
    const { page, page_size: pageSize, format } = query;
    const csv = format === 'csv';
    const report = await this.reports.list(query.group_by, window, {
      sort: toSort(query),
      page: csv ? 1 : page,
      pageSize: csv ? null : pageSize,
    });
    if (!csv) return toUsageReport(report, query);
    const { columns, rows } = toUsageTable(report, query);
    return csvFile(`usage-${this.context.tenant.name}-by-${query.group_by}`, columns, rows);
  }

  @Get('analytics/tenants')
  @RequirePermission('platform:analytics')
  @ApiOperation({
    summary: 'Compare the tenants of the installation by one metric',
    description: 'With `format=csv` a file.',
  })
  @ApiProduces('application/json', 'text/csv')
  @ApiOkResponse({ standardSchema: tenantComparisonSchema })
  @ApiProblems(422)
  async compareTenants(
    @Query({ schema: compareTenantsQuery }) query: CompareTenants,
  ): Promise<ReturnType<typeof toTenantComparison> | StreamableFile> {
    const { metric, period, sort, search, page, page_size: pageSize, format } = query;
    const csv = format === 'csv';
    const comparison = await this.platform.compare(metric, period, {
      sort,
      search,
      page: csv ? 1 : page,
      pageSize: csv ? null : pageSize,
    });
    if (!csv) return toTenantComparison(comparison, query);
    const { columns, rows } = toTenantTable(comparison, query);
    return csvFile(`tenants-by-${metric}`, columns, rows);
  }
}
