import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Put, Query } from '@nestjs/common';
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
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type AddMember,
  type ChangeMember,
  type ListMembers,
  addMemberSchema,
  changeMemberSchema,
  listMembersQuery,
  memberPageSchema,
  memberSchema,
  toMember,
} from './members.dto.js';
import { MembersService } from './members.service.js';

@ApiTags('Members')
@ApiTenantParam()
@Controller('tenants/:tenant/members')
export class MembersController {
  constructor(private readonly members: MembersService) {}

  @Get()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'List the members of a tenant' })
  @ApiOkResponse({ standardSchema: memberPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listMembersQuery }) query: ListMembers) {
    return toPage(await this.members.list(query), query, toMember);
  }

  @Post()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Add a user to the tenant, with one role or several' })
  @ApiCreatedResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async add(@Body({ schema: addMemberSchema }) body: AddMember) {
    return toMember(await this.members.add(body));
  }

  @Put(':user')
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Replace the roles of a member' })
  @ApiOkResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async replaceRoles(
    @Param('user', IdParam) userId: string,
    @Body({ schema: changeMemberSchema }) body: ChangeMember,
  ) {
    return toMember(await this.members.changeRoles(userId, body));
  }

  @Patch(':user')
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Replace the roles of a member' })
  @ApiOkResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async changeRoles(
    @Param('user', IdParam) userId: string,
    @Body({ schema: changeMemberSchema }) body: ChangeMember,
  ) {
    return toMember(await this.members.changeRoles(userId, body));
  }

  @Delete(':user')
  @HttpCode(204)
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Remove a member from the tenant' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async remove(@Param('user', IdParam) userId: string) {
    await this.members.remove(userId);
  }
}
