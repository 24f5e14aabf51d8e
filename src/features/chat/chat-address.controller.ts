import { Body, Controller, HttpCode, Post, Query, Req, Res } from '@nestjs/common';
import { ApiHeader, ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { kbsNamedBeside } from '../../core/authorization/kb-of-request.js';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { UsageOperation } from '../../core/usage/usage-operation.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { RequestSignal } from '../../foundation/http/request-lifecycle.js';
import { AnswerStreams } from '../rag-query/answer-streams.service.js';
import { ChatAddress } from './chat-address.service.js';
import {
  type ChatByAddressRequest,
  chatAnswerSchema,
  chatByAddressSchema,
  toChatAnswer,
  toChatRequest,
  toServerSentEvents,
} from './chat.dto.js';
import { ChatService } from './chat.service.js';

const addressQuery = z.strictObject({
  tenant: z.string().max(63).optional().describe('Id or name of the tenant'),
  kb: z.string().max(200).optional().describe('Id or slug of the knowledge base'),
});

/** One address for all chats, whatever the tenant and the knowledge base. */
@ApiTags('Chat')
@Controller('chat')
export class ChatAddressController {
  constructor(
    private readonly address: ChatAddress,
    private readonly chat: ChatService,
    private readonly streams: AnswerStreams,
  ) {}

  @Post()
  @HttpCode(200)
  @RequirePermission('query:run', { kbBesidePath: true, asksAgents: true })
  @UsageOperation('chat')
  @ApiOperation({
    summary: 'Say something at the one address for all chats',
    description:
      'As the route of a knowledge base does, for clients that know no more than one address. The tenant is named by ' +
      '`tenant_id`, `tenant`, X-Tenant-ID or the token; the knowledge base by `kb` or X-KB-ID, unless there is only one.',
  })
  @ApiHeader({ name: 'X-Tenant-ID', required: false, description: 'Id or name of the tenant' })
  @ApiHeader({ name: 'X-KB-ID', required: false, description: 'Id or slug of the knowledge base' })
  @ApiProduces('application/json', 'text/event-stream')
  @ApiOkResponse({ standardSchema: chatAnswerSchema })
  @ApiProblems(400, 402, 404, 409, 422, 502, 503)
  async say(
    @Body({ schema: chatByAddressSchema }) body: ChatByAddressRequest,
    @Query({ schema: addressQuery }) _query: z.infer<typeof addressQuery>,
    @RequestSignal() signal: AbortSignal,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    const kb = await this.address.knowledgeBase(kbsNamedBeside(request));
    const { stream, include_text: includeText } = body;
    if (!stream) return toChatAnswer(await this.chat.ask(kb, toChatRequest(body), signal), includeText);
    const about = { includeText, requestId: request.id };
    const events = this.chat.stream(kb, toChatRequest(body), signal);
    return this.streams.write(events, all => toServerSentEvents(all, about), reply);
  }
}
