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
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import { UserAdministrationService } from './user-administration.service.js';
import {
  type CreateUser,
  type ListUsers,
  type UpdateUser,
  createUserSchema,
  listUsersQuery,
  toListedUser,
  toUserDetails,
  updateUserSchema,
  userDetailsSchema,
  userPageSchema,
} from './users.dto.js';

@ApiTags('Users')
@Controller('users')
export class UsersController {
  constructor(private readonly users: UserAdministrationService) {}

  @Get()
  @RequirePermission('platform:read')
  @ApiOperation({ summary: 'List the users of the installation' })
  @ApiOkResponse({ standardSchema: userPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listUsersQuery }) query: ListUsers) {
    return toPage(await this.users.list(query), query, toListedUser);
  }

  @Post()
  @RequirePermission('platform:users')
  @ApiOperation({
    summary: 'Make an account for somebody',
    description: 'Platform roles are given by platform admins alone.',
  })
  @ApiCreatedResponse({ standardSchema: userDetailsSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createUserSchema }) body: CreateUser) {
    return toUserDetails(await this.users.create(body));
  }

  @Get(':user')
  @ApiParam({ name: 'user', description: 'Id of the user' })
  @RequirePermission('platform:read')
  @ApiOperation({ summary: 'Read a user, with the tenants and roles that they have' })
  @ApiOkResponse({ standardSchema: userDetailsSchema })
  @ApiProblems(404)
  async get(@Param('user', IdParam) id: string) {
    return toUserDetails(await this.users.get(id));
  }

  @Patch(':user')
  @ApiParam({ name: 'user', description: 'Id of the user' })
  @RequirePermission('platform:users')
  @ApiOperation({
    summary: 'Change a user',
    description: 'Deactivating an account, or giving it another password, ends its sessions at once.',
  })
  @ApiOkResponse({ standardSchema: userDetailsSchema })
  @ApiProblems(404, 409, 422)
  async update(@Param('user', IdParam) id: string, @Body({ schema: updateUserSchema }) body: UpdateUser) {
    return toUserDetails(await this.users.update(id, body));
  }

  @Delete(':user')
  @HttpCode(204)
  @ApiParam({ name: 'user', description: 'Id of the user' })
  @RequirePermission('platform:users')
  @ApiOperation({
    summary: 'Delete a user, with their sessions and memberships',
    description: 'What they made in tenants stays. The last owner of a tenant cannot be deleted.',
  })
  @ApiNoContentResponse()
  @ApiProblems(404, 409)
  async delete(@Param('user', IdParam) id: string) {
    await this.users.delete(id);
  }
}
