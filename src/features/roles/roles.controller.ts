import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Put, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type CreateRole,
  type ListRoles,
  type UpdateRole,
  createRoleSchema,
  listRolesQuery,
  replaceRoleSchema,
  rolePageSchema,
  roleSchema,
  toRole,
  updateRoleSchema,
} from './roles.dto.js';
import { RolesService } from './roles.service.js';

const ApiRoleParam = (): MethodDecorator =>
  ApiParam({ name: 'role', description: 'Name of the role', example: 'support' });

@ApiTags('Roles')
@ApiTenantParam()
@Controller('tenants/:tenant/roles')
export class RolesController {
  constructor(private readonly roles: RolesService) {}

  @Get()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'List the roles of a tenant: the built-in ones, then its own' })
  @ApiOkResponse({ standardSchema: rolePageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listRolesQuery }) query: ListRoles) {
    return toPage(await this.roles.list(query), query, toRole);
  }

  @Post()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({
    summary: 'Make a role',
    description: 'Nobody gives what they do not hold: all of its permissions must be one’s own.',
  })
  @ApiCreatedResponse({ standardSchema: roleSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createRoleSchema }) body: CreateRole) {
    return toRole(await this.roles.createOwn(body));
  }

  @Get(':role')
  @ApiRoleParam()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'Read a role' })
  @ApiOkResponse({ standardSchema: roleSchema })
  async get(@Param('role') name: string) {
    return toRole(await this.roles.get(name));
  }

  @Patch(':role')
  @ApiIfMatch()
  @ApiRoleParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Change a role for everybody who holds it' })
  @ApiOkResponse({ standardSchema: roleSchema })
  @ApiProblems(409, 422)
  async update(
    @Param('role') name: string,
    @Body({ schema: updateRoleSchema }) body: UpdateRole,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toRole(await this.roles.update(name, body, ifMatch));
  }

  @Put(':role')
  @ApiIfMatch()
  @ApiRoleParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Replace a role’s description and permissions' })
  @ApiOkResponse({ standardSchema: roleSchema })
  @ApiProblems(409, 422)
  async replace(
    @Param('role') name: string,
    @Body({ schema: replaceRoleSchema }) body: UpdateRole,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toRole(await this.roles.update(name, body, ifMatch));
  }

  @Delete(':role')
  @ApiRoleParam()
  @HttpCode(204)
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Delete a role that nobody has' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async delete(@Param('role') name: string) {
    await this.roles.delete(name);
  }
}
