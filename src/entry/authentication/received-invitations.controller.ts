import { Controller, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { pageQuery, toPage } from '../../foundation/http/pagination.js';
import { AuthenticationService } from './authentication.service.js';
import { type PageQuery, receivedInvitationPageSchema, toReceivedInvitation } from './sessions.dto.js';

@ApiTags('Authentication')
@Controller('auth/invitations')
export class ReceivedInvitationsController {
  constructor(
    private readonly context: TenantContext,
    private readonly authentication: AuthenticationService,
  ) {}

  @Get()
  @RequirePermission('user:read')
  @ApiOperation({
    summary: 'List the invitations that are open for oneself, of all tenants',
    description: 'The token that accepts one is in the e-mail alone.',
  })
  @ApiOkResponse({ standardSchema: receivedInvitationPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: pageQuery }) query: PageQuery) {
    return toPage(
      await this.authentication.invitations(this.context.userId, query),
      query,
      toReceivedInvitation,
    );
  }
}
