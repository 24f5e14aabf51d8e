import { Body, Controller, Delete, Get, HttpCode, Patch, Post, Put, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type CreateTenant,
  type ListTenants,
  type UpdateTenant,
  createTenantSchema,
  listTenantsQuery,
  replaceTenantSchema,
  tenantDetailsSchema,
  tenantPageSchema,
  toTenant,
  toTenantDetails,
  updateTenantSchema,
} from './tenants.dto.js';
import { TenantsService } from './tenants.service.js';

@ApiTags('Tenants')
@Controller('tenants')
export class TenantsController {
  constructor(private readonly tenants: TenantsService) {}

  @Get()
  @RequirePermission('user:read')
  @ApiOperation({ summary: 'List one’s own tenants; those who may read the platform see all' })
  @ApiOkResponse({ standardSchema: tenantPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listTenantsQuery }) query: ListTenants) {
    return toPage(await this.tenants.list(query), query, toTenant);
  }

  @Post()
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Create a tenant' })
  @ApiCreatedResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createTenantSchema }) body: CreateTenant) {
    const { tenant, statistics } = await this.tenants.create(body);
    return toTenantDetails(tenant, statistics);
  }

  @Get(':tenant')
  @ApiTenantParam()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'Read a tenant with its statistics' })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  async get() {
    const { tenant, statistics } = await this.tenants.get();
    return toTenantDetails(tenant, statistics);
  }

  @Patch(':tenant')
  @ApiTenantParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Change some fields of a tenant' })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(422)
  async update(@Body({ schema: updateTenantSchema }) body: UpdateTenant) {
    const { tenant, statistics } = await this.tenants.update(body);
    return toTenantDetails(tenant, statistics);
  }

  @Put(':tenant')
  @ApiTenantParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Replace the changeable fields of a tenant' })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(422)
  async replace(@Body({ schema: replaceTenantSchema }) body: UpdateTenant) {
    const { tenant, statistics } = await this.tenants.update(body);
    return toTenantDetails(tenant, statistics);
  }

  @Delete(':tenant')
  @ApiTenantParam()
  @HttpCode(204)
  @RequirePermission('tenant:delete')
  @ApiOperation({ summary: 'Delete a tenant with everything in it' })
  @ApiNoContentResponse()
  async delete() {
    await this.tenants.delete();
  }

  @Post(':tenant/suspend')
  @ApiTenantParam()
  @HttpCode(200)
  @RequirePermission('platform:tenants')
  @ApiOperation({
    summary: 'Suspend a tenant: its members’ requests are refused at once, nothing is deleted',
  })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(404)
  async suspend() {
    const { tenant, statistics } = await this.tenants.setStatus('suspended');
    return toTenantDetails(tenant, statistics);
  }

  @Post(':tenant/activate')
  @ApiTenantParam()
  @HttpCode(200)
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Lift a suspension' })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(404)
  async activate() {
    const { tenant, statistics } = await this.tenants.setStatus('active');
    return toTenantDetails(tenant, statistics);
  }
}
