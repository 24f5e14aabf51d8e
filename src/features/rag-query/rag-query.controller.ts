import { Body, Controller, HttpCode, Param, Post, Req, Res, type StreamableFile } from '@nestjs/common';
import { ApiHeader, ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { kbsNamedBeside } from '../../core/authorization/kb-of-request.js';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { UsageOperation } from '../../core/usage/usage-operation.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { AnswerStreams } from './answer-streams.service.js';
import { toAnswer } from './answer-wire.js';
import { AskableKbsService } from './askable-kbs.service.js';
import {
  type QueryRequest,
  type TenantQueryRequest,
  type WireAnswer,
  answerSchema,
  querySchema,
  tenantQuerySchema,
} from './rag-query.dto.js';
import { RagQueryService } from './rag-query.service.js';

const DESCRIPTION =
  'Without a chat model the answer is made of quoted sentences. Where the documents do not answer the question, ' +
  '`answered` is false. What is asked again word for word may be answered from memory (`cached`), while the documents, ' +
  'the settings and what the caller sees are the same.\n\n' +
  'With `stream` the answer is a stream of server-sent events: `passages` {passages}, `token` {text} and `citation` as ' +
  'they come, a citation right before the token with its marker, then `usage`, and `done` with the whole answer, which ' +
  'is what counts: where it is not `answered`, tokens that have come mean nothing. `error` {status, code, detail, ' +
  'request_id, answer} in the place of the last two says that the model failed in the middle; `answer` is what had come.';

@ApiTags('Search and ask')
@ApiTenantParam()
@Controller('tenants/:tenant')
export class RagQueryController {
  constructor(
    private readonly ragQuery: RagQueryService,
    private readonly askable: AskableKbsService,
    private readonly streams: AnswerStreams,
  ) {}

  @Post('kbs/:kb/query')
  @HttpCode(200)
  @ApiKnowledgeBaseParam()
  @RequirePermission('query:run')
  @UsageOperation('query')
  @ApiOperation({ summary: 'Ask a question', description: DESCRIPTION })
  @ApiProduces('application/json', 'text/event-stream')
  @ApiOkResponse({ standardSchema: answerSchema })
  @ApiProblems(402, 409, 422, 502, 503)
  ask(
    @Param('kb') kb: string,
    @Body({ schema: querySchema }) body: QueryRequest,
    @RequestSignal() signal: AbortSignal,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<WireAnswer | StreamableFile> {
    return this.answer([kb], body, signal, reply);
  }

  @Post('query')
  @HttpCode(200)
  @RequirePermission('query:run', { kbBesidePath: true })
  @UsageOperation('query')
  @ApiOperation({
    summary: 'Ask several knowledge bases at once',
    description: `One ranking of what is found in all of them, each searched under the caller’s rights in it; the settings of the tenant count. ${DESCRIPTION}`,
  })
  @ApiHeader({ name: 'X-KB-ID', required: false, description: 'Id or slug of the only one that is asked' })
  @ApiProduces('application/json', 'text/event-stream')
  @ApiOkResponse({ standardSchema: answerSchema })
  @ApiProblems(400, 402, 404, 409, 422, 502, 503)
  async askSeveral(
    @Body({ schema: tenantQuerySchema }) { kbs, ...body }: TenantQueryRequest,
    @Req() request: FastifyRequest,
    @RequestSignal() signal: AbortSignal,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<WireAnswer | StreamableFile> {
    return this.answer(await this.askable.choose(kbs, kbsNamedBeside(request)), body, signal, reply);
  }

  private async answer(
    kbs: readonly string[],
    { stream, include_text: includeText, tenant_id: _tenant, ...request }: QueryRequest,
    signal: AbortSignal,
    reply: FastifyReply,
  ): Promise<WireAnswer | StreamableFile> {
    if (!stream) return toAnswer(await this.ragQuery.ask(kbs, request, signal), includeText);
    return this.streams.send(this.ragQuery.stream(kbs, request, signal), includeText, reply);
  }
}
