import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
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
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type AddGroupMembers,
  type CreateGroup,
  type ListGroupMembers,
  type ListGroups,
  type UpdateGroup,
  addGroupMembersSchema,
  createGroupSchema,
  groupMemberPageSchema,
  groupMembersAddedSchema,
  groupPageSchema,
  groupSchema,
  listGroupMembersQuery,
  listGroupsQuery,
  toGroup,
  toGroupMember,
  updateGroupSchema,
} from './groups.dto.js';
import { GroupsService } from './groups.service.js';

const ApiGroupParam = (): MethodDecorator => ApiParam({ name: 'group', description: 'Id of the group' });

@ApiTags('Groups')
@ApiTenantParam()
@Controller('tenants/:tenant/groups')
export class GroupsController {
  constructor(private readonly groups: GroupsService) {}

  @Get()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'List the groups of a tenant' })
  @ApiOkResponse({ standardSchema: groupPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listGroupsQuery }) query: ListGroups) {
    return toPage(await this.groups.list(query), query, toGroup);
  }

  @Post()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Make a group' })
  @ApiCreatedResponse({ standardSchema: groupSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createGroupSchema }) body: CreateGroup) {
    return toGroup(await this.groups.create(body));
  }

  @Get(':group')
  @ApiGroupParam()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'Read a group' })
  @ApiOkResponse({ standardSchema: groupSchema })
  async get(@Param('group', IdParam) id: string) {
    return toGroup(await this.groups.get(id));
  }

  @Patch(':group')
  @ApiIfMatch()
  @ApiGroupParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Change a group’s name or description' })
  @ApiOkResponse({ standardSchema: groupSchema })
  @ApiProblems(409, 422)
  async update(
    @Param('group', IdParam) id: string,
    @Body({ schema: updateGroupSchema }) body: UpdateGroup,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toGroup(await this.groups.update(id, body, ifMatch));
  }

  @Delete(':group')
  @ApiGroupParam()
  @HttpCode(204)
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Delete a group with what was granted to it' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async delete(@Param('group', IdParam) id: string) {
    await this.groups.delete(id);
  }

  @Get(':group/members')
  @ApiGroupParam()
  @RequirePermission('tenant:read')
  @ApiOperation({ summary: 'List the members of a group' })
  @ApiOkResponse({ standardSchema: groupMemberPageSchema })
  @ApiProblems(422)
  async members(
    @Param('group', IdParam) id: string,
    @Query({ schema: listGroupMembersQuery }) query: ListGroupMembers,
  ) {
    return toPage(await this.groups.members(id, query), query, toGroupMember);
  }

  @Post(':group/members')
  @ApiGroupParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({
    summary: 'Add members of the tenant to a group',
    description: 'They get what was granted to the group, which must be one’s own to give.',
  })
  @ApiCreatedResponse({ standardSchema: groupMembersAddedSchema })
  @ApiProblems(409, 422)
  async add(
    @Param('group', IdParam) id: string,
    @Body({ schema: addGroupMembersSchema }) body: AddGroupMembers,
  ) {
    const { added, memberCount } = await this.groups.add(id, body);
    return { added, member_count: memberCount };
  }

  @Delete(':group/members/:user')
  @ApiGroupParam()
  @HttpCode(204)
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Remove a member from a group' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async remove(@Param('group', IdParam) id: string, @Param('user', IdParam) userId: string) {
    await this.groups.remove(id, userId);
  }
}
