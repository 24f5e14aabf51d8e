import { Controller, Delete, Get, HttpCode, Param, Query } from '@nestjs/common';
import { ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { pageQuery, toPage } from '../../foundation/http/pagination.js';
import { type PageQuery, sessionPageSchema, toSession } from './sessions.dto.js';
import { SessionsService } from './sessions.service.js';

@ApiTags('Authentication')
@Controller('auth/sessions')
export class SessionsController {
  constructor(
    private readonly context: TenantContext,
    private readonly sessions: SessionsService,
  ) {}

  @Get()
  @RequirePermission('user:read')
  @ApiOperation({ summary: 'List where one is signed in' })
  @ApiOkResponse({ standardSchema: sessionPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: pageQuery }) query: PageQuery) {
    const { userId, sessionId } = this.session;
    return toPage(await this.sessions.list(userId, query), query, toSession(sessionId));
  }

  @Delete(':session')
  @HttpCode(204)
  @ApiParam({ name: 'session', description: 'Id of the session' })
  @RequirePermission('user:update')
  @ApiOperation({ summary: 'End one of one’s sessions: its access and refresh tokens stop at once' })
  @ApiNoContentResponse()
  @ApiProblems(404)
  async revoke(@Param('session', IdParam) id: string) {
    await this.sessions.revoke(this.session.userId, id);
  }

  @Delete()
  @HttpCode(204)
  @RequirePermission('user:update')
  @ApiOperation({ summary: 'End all of one’s sessions but this one' })
  @ApiNoContentResponse()
  async revokeOthers() {
    await this.sessions.revokeOthers(this.session.userId, this.session.sessionId);
  }

  private get session() {
    const principal = this.context.principal;
    if (principal.kind !== 'user') throw new Error('Only users have sessions.');
    return principal;
  }
}
