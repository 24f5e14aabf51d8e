import { Body, Controller, HttpCode, Param, Post, Req, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { UsageOperation } from '../../core/usage/usage-operation.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { ApiKnowledgeBaseParam } from '../knowledge-bases/knowledge-bases.controller.js';
import { AnswerStreams } from '../rag-query/answer-streams.service.js';
import {
  type ChatRequest,
  chatAnswerSchema,
  chatSchema,
  toChatAnswer,
  toServerSentEvents,
} from './chat.dto.js';
import { ChatService } from './chat.service.js';

@ApiTags('Chat')
@ApiTenantParam()
@ApiKnowledgeBaseParam()
@Controller('tenants/:tenant/kbs/:kb/chat')
export class ChatController {
  constructor(
    private readonly chat: ChatService,
    private readonly streams: AnswerStreams,
  ) {}

  @Post()
  @HttpCode(200)
  @RequirePermission('query:run', { asksAgents: true })
  @UsageOperation('chat')
  @ApiOperation({
    summary: 'Say something, and be answered',
    description:
      'By the knowledge base, or by one of its agents, knowing what was said before. Needs `chat:own`, too. With `stream` ' +
      'the answer is a stream of server-sent events: `session` first, then `passages` or, of an agent, `tool_call` and ' +
      '`tool_result`, then `token` and `citation` as they come, at the end `usage` and `done` with what is answered ' +
      'without `stream`, or `error`. Of what fails before its first event nothing is kept; after it, what had been said. ' +
      'A session takes one message at a time: 409 `session_busy` while it answers another. An API token that is kept to one ' +
      'agent asks that one.',
  })
  @ApiProduces('application/json', 'text/event-stream')
  @ApiOkResponse({ standardSchema: chatAnswerSchema })
  @ApiProblems(402, 409, 422, 502, 503)
  async say(
    @Param('kb') kb: string,
    @Body({ schema: chatSchema }) body: ChatRequest,
    @RequestSignal() signal: AbortSignal,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    if (!body.stream) return toChatAnswer(await this.chat.ask(kb, body, signal), body.include_text);
    const about = { includeText: body.include_text, requestId: request.id };
    const events = this.chat.stream(kb, body, signal);
    return this.streams.write(events, all => toServerSentEvents(all, about), reply);
  }
}
