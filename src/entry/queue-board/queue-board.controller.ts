import { Controller, HttpCode, Post, Req, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { Problem } from '../../foundation/http/problem.js';
import { BOARD_PATH, BOARD_SESSION_TTL, BoardSessions } from './board-sessions.service.js';

const boardSessionSchema = z
  .object({
    path: z.string().describe('Where the board is, on the same host').meta({ example: BOARD_PATH }),
    expires_in: z.int().describe('Seconds').meta({ example: BOARD_SESSION_TTL }),
  })
  .meta({ id: 'QueueBoardSession' });

export const noBoard = (): Problem =>
  new Problem(
    404,
    'not_found',
    'There is no board of the queues: they are in this process’s memory. Set REDIS_URL for one; GET /platform/queues shows what waits.',
  );

@ApiTags('Jobs')
@Controller('platform/queues')
export class QueueBoardController {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
    private readonly sessions: BoardSessions,
  ) {}

  @Post('session')
  @HttpCode(200)
  @RequirePermission('platform:analytics')
  @ApiOperation({
    summary: 'Let this browser open the board of the queues',
    description:
      'Sets a cookie for the board alone, good for 15 minutes and not longer than the session. Only where queues are on ' +
      'Redis.',
  })
  @ApiOkResponse({ standardSchema: boardSessionSchema })
  @ApiProblems(404)
  open(
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): z.infer<typeof boardSessionSchema> {
    if (!this.env.redisUrl) throw noBoard();
    const { principal } = this.context;
    if (principal.kind !== 'user') throw Problem.forbidden('This is for people who are signed in.');
    const { userId, sessionId } = principal;
    const cookie = this.sessions.cookieFor({ id: userId, sessionId }, request.protocol === 'https');
    void reply.headers({ 'set-cookie': cookie, 'cache-control': 'no-store' });
    return { path: BOARD_PATH, expires_in: BOARD_SESSION_TTL };
  }
}
