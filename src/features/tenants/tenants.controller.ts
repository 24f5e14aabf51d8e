import { Body, Controller, Delete, Get, HttpCode, Patch, Post, Put, Query, Res } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type CreateTenant,
  type ListTenants,
  type ReplaceTenant,
  type UpdateTenant,
  createTenantSchema,
  createdTenantSchema,
  listTenantsQuery,
  replaceTenantSchema,
  tenantDetailsSchema,
  tenantPageSchema,
  toCreatedTenant,
  toTenant,
  toTenantDetails,
  updateTenantSchema,
} from './tenants.dto.js';
import { TenantDeletionService } from './tenant-deletion.service.js';
import { TenantsService } from './tenants.service.js';

@ApiTags('Tenants')
@Controller('tenants')
export class TenantsController {
  constructor(
    private readonly tenants: TenantsService,
    private readonly deletion: TenantDeletionService,
  ) {}

  @Get()
  @RequirePermission('user:read')
  @ApiOperation({ summary: 'List one’s own tenants; those who may read the platform see all' })
  @ApiOkResponse({ standardSchema: tenantPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listTenantsQuery }) query: ListTenants) {
    return toPage(await this.tenants.list(query), query, toTenant);
  }

  @Post()
  @RequirePermission('user:create_tenant')
  @ApiOperation({
    summary: 'Create a tenant',
    description:
      'For the platform, also from a template and with its first owner. Where self-service is on, every user may make ' +
      'some of their own, and be their first owner.',
  })
  @ApiCreatedResponse({ standardSchema: createdTenantSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createTenantSchema }) body: CreateTenant) {
    return toCreatedTenant(await this.tenants.create(body));
  }

  @Get(':tenant')
  @ApiTenantParam()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'Read a tenant with its statistics' })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  async get() {
    return toTenantDetails(await this.tenants.get());
  }

  @Patch(':tenant')
  @ApiIfMatch()
  @ApiTenantParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({
    summary: 'Change some fields of a tenant',
    description:
      'Settings, branding and metadata are merged (RFC 7396). Some fields are the platform’s alone.',
  })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(409, 422)
  async update(@Body({ schema: updateTenantSchema }) body: UpdateTenant, @IfMatchHeader() ifMatch: IfMatch) {
    return toTenantDetails(await this.tenants.update(body, ifMatch));
  }

  @Put(':tenant')
  @ApiIfMatch()
  @ApiTenantParam()
  @RequirePermission('tenant:manage')
  @ApiOperation({ summary: 'Replace the changeable fields of a tenant' })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(409, 422)
  async replace(
    @Body({ schema: replaceTenantSchema }) body: ReplaceTenant,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toTenantDetails(await this.tenants.replace(body, ifMatch));
  }

  @Delete(':tenant')
  @ApiTenantParam()
  @HttpCode(204)
  @RequirePermission('tenant:delete')
  @ApiOperation({
    summary: 'Delete a tenant with everything in it',
    description: 'It is gone at once; its rows and files are removed by the job that the answer names.',
  })
  @ApiNoContentResponse({
    headers: { location: { schema: { type: 'string' }, description: 'The job that removes what it keeps' } },
  })
  async delete(@Res({ passthrough: true }) reply: FastifyReply) {
    reply.header('location', `/api/v1/jobs/${await this.deletion.request()}`);
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
    return toTenantDetails(await this.tenants.setStatus('suspended'));
  }

  @Post(':tenant/activate')
  @ApiTenantParam()
  @HttpCode(200)
  @RequirePermission('platform:tenants')
  @ApiOperation({ summary: 'Lift a suspension' })
  @ApiOkResponse({ standardSchema: tenantDetailsSchema })
  @ApiProblems(404)
  async activate() {
    return toTenantDetails(await this.tenants.setStatus('active'));
  }
}
