import { Controller, Get, Query, StreamableFile, applyDecorators } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { RequirePermission } from '../authorization/require-permission.js';
import { ApiTenantParam } from '../tenancy/api-tenant-param.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { AuditLogService, type ChainOf } from './audit-log.service.js';
import {
  type ExportAudit,
  type ListAudit,
  auditPageSchema,
  auditReportSchema,
  exportAuditQuery,
  listAuditQuery,
  toAuditPage,
  toFilter,
  toPageOfAudit,
  toReport,
  toSelection,
  verifyAuditQuery,
} from './audit.dto.js';

const CONTENT_TYPES = { jsonl: 'application/x-ndjson; charset=utf-8', csv: 'text/csv; charset=utf-8' };

const ApiAuditList = (whose: string): MethodDecorator =>
  applyDecorators(
    ApiOperation({
      summary: `Read the audit of ${whose}: who did what, and what was denied`,
      description: 'The newest first. By `page`, or by `cursor` where entries are added meanwhile.',
    }),
    ApiOkResponse({ standardSchema: auditPageSchema }),
    ApiProblems(422),
  );

const ApiAuditVerify = (): MethodDecorator =>
  applyDecorators(
    ApiOperation({
      summary: 'Verify the chain: name every entry that was changed, removed or moved',
      description:
        'Walks the whole chain. An export can be verified without this ' +
        'installation: `npm run audit:verify FILE`.',
    }),
    ApiOkResponse({ standardSchema: auditReportSchema }),
    ApiProblems(422),
  );

const ApiAuditExport = (): MethodDecorator =>
  applyDecorators(
    ApiOperation({
      summary: 'Export the audit, oldest first',
      description:
        'As JSON lines: an entry a line, then one line `audit_export` that says where the chain ends. The whole chain, ' +
        'or a range of sequences, can be verified offline; what a filter leaves cannot, and the last line says so. ' +
        'Exporting is itself written down.',
    }),
    ApiProduces('application/x-ndjson', 'text/csv'),
    ApiOkResponse({
      schema: {
        type: 'string',
        format: 'binary',
        example: '{"action":"member.added","actor":{"id":null,"name":null,"type":"system"},"details":{},…}\n',
      },
    }),
    ApiProblems(422),
  );

@ApiTags('Audit')
@Controller()
export class AuditController {
  constructor(
    private readonly log: AuditLogService,
    private readonly context: TenantContext,
  ) {}

  @Get('tenants/:tenant/audit')
  @ApiTenantParam()
  @RequirePermission('tenant:read_audit')
  @ApiAuditList('a tenant')
  async list(@Query({ schema: listAuditQuery }) query: ListAudit) {
    return this.page('tenant', query);
  }

  @Get('tenants/:tenant/audit/verify')
  @ApiTenantParam()
  @RequirePermission('tenant:read_audit')
  @ApiAuditVerify()
  async verify(@Query({ schema: verifyAuditQuery }) _: unknown, @RequestSignal() signal: AbortSignal) {
    return this.report('tenant', signal);
  }

  @Get('tenants/:tenant/audit/export')
  @ApiTenantParam()
  @RequirePermission('tenant:read_audit')
  @ApiAuditExport()
  async export(
    @Query({ schema: exportAuditQuery }) query: ExportAudit,
    @RequestSignal() signal: AbortSignal,
  ) {
    return this.file('tenant', query, signal);
  }

  @Get('audit')
  @RequirePermission('platform:audit')
  @ApiAuditList('the installation')
  async listOfPlatform(@Query({ schema: listAuditQuery }) query: ListAudit) {
    return this.page('platform', query);
  }

  @Get('audit/verify')
  @RequirePermission('platform:audit')
  @ApiAuditVerify()
  async verifyOfPlatform(
    @Query({ schema: verifyAuditQuery }) _: unknown,
    @RequestSignal() signal: AbortSignal,
  ) {
    return this.report('platform', signal);
  }

  @Get('audit/export')
  @RequirePermission('platform:audit')
  @ApiAuditExport()
  async exportOfPlatform(
    @Query({ schema: exportAuditQuery }) query: ExportAudit,
    @RequestSignal() signal: AbortSignal,
  ) {
    return this.file('platform', query, signal);
  }

  private async page(chain: ChainOf, query: ListAudit) {
    const page = toPageOfAudit(query);
    return toAuditPage(await this.log.list(chain, toFilter(query), page), page);
  }

  private async report(chain: ChainOf, signal: AbortSignal) {
    const { report, head } = await this.log.verify(chain, signal);
    return toReport(report, head);
  }

  private async file(chain: ChainOf, query: ExportAudit, signal: AbortSignal) {
    const stream = await this.log.export(chain, toSelection(query), signal);
    const name = chain === 'tenant' ? this.context.tenant.name : 'platform';
    const today = new Date().toISOString().slice(0, 10);
    return new StreamableFile(stream, {
      type: CONTENT_TYPES[query.format],
      disposition: `attachment; filename="audit-${name}-${today}.${query.format}"`,
    });
  }
}
