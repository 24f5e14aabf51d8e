import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
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
  type CreateInvitation,
  type ListInvitations,
  createInvitationSchema,
  invitationPageSchema,
  invitationSchema,
  listInvitationsQuery,
  toInvitation,
} from './invitations.dto.js';
import { InvitationsService } from './invitations.service.js';

const ApiInvitationParam = (): MethodDecorator =>
  ApiParam({ name: 'invitation', description: 'Id of the invitation' });

@ApiTags('Invitations')
@ApiTenantParam()
@Controller('tenants/:tenant/invitations')
export class InvitationsController {
  constructor(private readonly invitations: InvitationsService) {}

  @Get()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'List the invitations of a tenant' })
  @ApiOkResponse({ standardSchema: invitationPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listInvitationsQuery }) query: ListInvitations) {
    return toPage(await this.invitations.list(query), query, toInvitation);
  }

  @Post()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({
    summary: 'Invite somebody by e-mail',
    description: 'The e-mail has the only copy of the token that answers the invitation.',
  })
  @ApiCreatedResponse({ standardSchema: invitationSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createInvitationSchema }) body: CreateInvitation) {
    return toInvitation(await this.invitations.create(body));
  }

  @Get(':invitation')
  @ApiInvitationParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Read an invitation' })
  @ApiOkResponse({ standardSchema: invitationSchema })
  async get(@Param('invitation', IdParam) id: string) {
    return toInvitation(await this.invitations.get(id));
  }

  @Post(':invitation/resend')
  @HttpCode(200)
  @ApiInvitationParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Send an invitation again: with a new token and a new time to answer' })
  @ApiOkResponse({ standardSchema: invitationSchema })
  @ApiProblems(409)
  async resend(@Param('invitation', IdParam) id: string) {
    return toInvitation(await this.invitations.resend(id));
  }

  @Delete(':invitation')
  @HttpCode(204)
  @ApiInvitationParam()
  @RequirePermission('tenant:manage_members')
  @ApiOperation({ summary: 'Revoke an invitation' })
  @ApiNoContentResponse()
  @ApiProblems(409)
  async revoke(@Param('invitation', IdParam) id: string) {
    await this.invitations.revoke(id);
  }
}
