import { Body, Controller, Get, Put } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { RequirePermission } from '../authorization/require-permission.js';
import { ApiTenantParam } from '../tenancy/api-tenant-param.js';
import { QuotaUsageService } from './quota-usage.service.js';
import {
  type ReplaceQuotas,
  plansSchema,
  quotaUsageSchema,
  quotasSchema,
  replaceQuotasSchema,
  toQuotaUsage,
  toQuotas,
} from './quotas.dto.js';
import { QuotasService } from './quotas.service.js';

@ApiTags('Quotas')
@Controller()
export class QuotasController {
  constructor(
    private readonly quotas: QuotasService,
    private readonly usage: QuotaUsageService,
  ) {}

  @Get('tenants/:tenant/quotas')
  @ApiTenantParam()
  @RequirePermission('tenant:read_usage')
  @ApiOperation({ summary: 'Read the limits of a tenant' })
  @ApiOkResponse({ standardSchema: quotasSchema })
  async get() {
    return toQuotas(await this.quotas.get());
  }

  @Get('tenants/:tenant/quotas/usage')
  @ApiTenantParam()
  @RequirePermission('tenant:read_usage')
  @ApiOperation({
    summary: 'See how far a tenant is from its limits',
    description: 'Counts against no limit: whoever has run out must see why.',
  })
  @ApiOkResponse({ standardSchema: quotaUsageSchema })
  async getUsage() {
    const { quotas, usage } = await this.usage.get();
    return toQuotaUsage(quotas, usage);
  }

  @Put('tenants/:tenant/quotas')
  @ApiTenantParam()
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Replace the limits that are set for a tenant in particular',
    description: 'A limit below what is used deletes nothing: what is there stays, and grows no more.',
  })
  @ApiOkResponse({ standardSchema: quotasSchema })
  @ApiProblems(404, 422)
  async replace(@Body({ schema: replaceQuotasSchema }) body: ReplaceQuotas) {
    return toQuotas(await this.quotas.replace(body.quotas, body.enforce_quotas));
  }

  @Get('plans')
  @RequirePermission('user:read')
  @ApiOperation({ summary: 'List the plans with their limits; null is no limit' })
  @ApiOkResponse({ standardSchema: plansSchema })
  async plans() {
    return { items: await this.quotas.plans() };
  }
}
