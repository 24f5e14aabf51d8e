import { Body, Controller, Get, HttpCode, Param, Post, Req } from '@nestjs/common';
import { ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { Public } from '../../core/authorization/require-permission.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { InvitationAnswersService } from './invitation-answers.service.js';
import { InvitationLimiter } from './invitation-limiter.js';
import {
  type AcceptInvitation,
  acceptInvitationSchema,
  acceptedInvitationSchema,
  receivedInvitationSchema,
  toReceivedInvitation,
} from './invitations.dto.js';

/** For whoever holds the token of an invitation, with or without an account. */
@ApiTags('Invitations')
@ApiParam({ name: 'token', description: 'From the e-mail' })
@Controller('invitations/:token')
export class InvitationAnswersController {
  constructor(
    private readonly answers: InvitationAnswersService,
    private readonly limiter: InvitationLimiter,
  ) {}

  @Get()
  @Public()
  @ApiOperation({ summary: 'Read the invitation that a token stands for' })
  @ApiOkResponse({ standardSchema: receivedInvitationSchema })
  @ApiProblems(404, 429)
  async get(@Param('token') token: string, @Req() request: FastifyRequest) {
    await this.limiter.count(request.ip);
    const { invitation, account } = await this.answers.get(token);
    return toReceivedInvitation(invitation, account !== null);
  }

  @Post('accept')
  @HttpCode(200)
  @Public({ recognizes: true })
  @ApiOperation({
    summary: 'Accept an invitation',
    description:
      'With the account of the invited address. Where it has none yet, one is made, with the password of the body. ' +
      'Anybody may have made an account with an address that is not theirs: where it has not been proven yet, accept ' +
      'signed in to it (Authorization: Bearer …), or choose a new password by e-mail first.',
  })
  @ApiOkResponse({ standardSchema: acceptedInvitationSchema })
  @ApiProblems(403, 404, 409, 422, 429)
  async accept(
    @Param('token') token: string,
    @Body({ schema: acceptInvitationSchema }) body: AcceptInvitation,
    @Req() request: FastifyRequest,
  ) {
    await this.limiter.count(request.ip);
    const { invitation, account, created } = await this.answers.accept(token, body);
    return {
      tenant: {
        id: invitation.tenantId,
        name: invitation.tenantName,
        display_name: invitation.tenantDisplayName,
      },
      user: { id: account.id, email: account.email, display_name: account.displayName },
      created,
    };
  }

  @Post('decline')
  @HttpCode(204)
  @Public()
  @ApiOperation({ summary: 'Decline an invitation' })
  @ApiNoContentResponse()
  @ApiProblems(404, 409, 429)
  async decline(@Param('token') token: string, @Req() request: FastifyRequest) {
    await this.limiter.count(request.ip);
    await this.answers.decline(token);
  }
}
