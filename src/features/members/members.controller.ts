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
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type AddMember,
  type ChangeMember,
  type ListMembers,
  type MemberRole,
  addMemberSchema,
  changeMemberSchema,
  listMembersQuery,
  memberPageSchema,
  memberRoleSchema,
  memberSchema,
  toMember,
} from './members.dto.js';
import { MembersService } from './members.service.js';
import { NewMembersService } from './new-members.service.js';

const ApiUserParam = (): MethodDecorator => ApiParam({ name: 'user', description: 'Id of the user' });
const ApiRoleParam = (): MethodDecorator => ApiParam({ name: 'role', description: 'Name of the role' });

@ApiTags('Members')
@ApiTenantParam()
@Controller('tenants/:tenant')
export class MembersController {
  constructor(
    private readonly members: MembersService,
    private readonly newMembers: NewMembersService,
  ) {}

  @Get('members')
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'List the members of a tenant' })
  @ApiOkResponse({ standardSchema: memberPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listMembersQuery }) query: ListMembers) {
    return toPage(await this.members.list(query), query, toMember);
  }

  @Post('members')
  @RequirePermission('tenant:manage_members')
  @ApiOperation({
    summary: 'Add a user to the tenant, with one role or several',
    description: 'Somebody who has an account, or somebody for whom one is made on the way (`user`).',
  })
  @ApiCreatedResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async add(@Body({ schema: addMemberSchema }) body: AddMember) {
    return toMember(await this.newMembers.add(body));
  }

  @Get('members/:user')
  @ApiUserParam()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'Read a member' })
  @ApiOkResponse({ standardSchema: memberSchema })
  async get(@Param('user', IdParam) userId: string) {
    return toMember(await this.members.get(userId));
  }

  @Put('members/:user')
  @ApiUserParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Replace the roles of a member, suspend, or lift a suspension' })
  @ApiOkResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async replace(
    @Param('user', IdParam) userId: string,
    @Body({ schema: changeMemberSchema }) body: ChangeMember,
  ) {
    return toMember(await this.members.change(userId, body));
  }

  @Patch('members/:user')
  @ApiUserParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Replace the roles of a member, suspend, or lift a suspension' })
  @ApiOkResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async change(
    @Param('user', IdParam) userId: string,
    @Body({ schema: changeMemberSchema }) body: ChangeMember,
  ) {
    return toMember(await this.members.change(userId, body));
  }

  @Delete('members/:user')
  @HttpCode(204)
  @ApiUserParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Remove a member from the tenant, with their groups and grants' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async remove(@Param('user', IdParam) userId: string) {
    await this.members.remove(userId);
  }

  @Post('members/:user/roles')
  @ApiUserParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Give a member one more role' })
  @ApiCreatedResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async addRole(
    @Param('user', IdParam) userId: string,
    @Body({ schema: memberRoleSchema }) body: MemberRole,
  ) {
    return toMember(await this.members.addRole(userId, body));
  }

  @Patch('members/:user/roles/:role')
  @ApiUserParam()
  @ApiRoleParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Put another role in the place of one' })
  @ApiOkResponse({ standardSchema: memberSchema })
  @ApiProblems(409, 422)
  async replaceRole(
    @Param('user', IdParam) userId: string,
    @Param('role') role: string,
    @Body({ schema: memberRoleSchema }) body: MemberRole,
  ) {
    return toMember(await this.members.replaceRole(userId, role, body));
  }

  @Delete('members/:user/roles/:role')
  @HttpCode(204)
  @ApiUserParam()
  @ApiRoleParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Take one of several roles from a member' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async removeRole(@Param('user', IdParam) userId: string, @Param('role') role: string) {
    await this.members.removeRole(userId, role);
  }

  @Post('leave')
  @HttpCode(204)
  @RequirePermission('tenant:read', { tokens: false })
  @ApiOperation({ summary: 'Leave the tenant: every member may, but its last owner' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async leave() {
    await this.members.leave();
  }
}
