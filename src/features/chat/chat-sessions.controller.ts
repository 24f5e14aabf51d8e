import {
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  Param,
  Patch,
  Query,
  Res,
  StreamableFile,
} from '@nestjs/common';
import {
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiProduces,
  ApiTags,
} from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import type { z } from 'zod';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import { ChatExport } from './chat-export.service.js';
import {
  type ListChatSessions,
  type UpdateChatSession,
  chatMessagePageSchema,
  chatSessionPageSchema,
  chatSessionSchema,
  exportQuery,
  exportedChatSchema,
  listChatSessionsQuery,
  listMessagesQuery,
  toChatMessage,
  toChatSession,
  updateChatSessionSchema,
} from './chat-sessions.dto.js';
import { ChatSessionsService } from './chat-sessions.service.js';

const ApiChatParam = (): MethodDecorator =>
  ApiParam({ name: 'chat', description: 'Id of the chat session', format: 'uuid' });

/** One's own, and with `chat:read_all` everybody's. */
const RequireReading = (): MethodDecorator =>
  RequirePermission('chat:own', { or: 'chat:read_all', kbBesidePath: true });
const RequireOwn = (): MethodDecorator => RequirePermission('chat:own', { kbBesidePath: true });

@ApiTags('Chat')
@ApiTenantParam()
@Controller('tenants/:tenant/sessions')
export class ChatSessionsController {
  constructor(
    private readonly sessions: ChatSessionsService,
    private readonly exports: ChatExport,
  ) {}

  @Get()
  @RequireReading()
  @ApiOperation({
    summary: 'List chats',
    description:
      'One’s own; those of others, too, in what one may read them with `chat:read_all`, but for those that rest on ' +
      'documents which are hidden from one.',
  })
  @ApiOkResponse({ standardSchema: chatSessionPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listChatSessionsQuery }) query: ListChatSessions) {
    return toPage(await this.sessions.list(query), query, toChatSession);
  }

  @Get(':chat')
  @ApiChatParam()
  @RequireReading()
  @ApiOperation({ summary: 'Read what a chat is called, and what it is about' })
  @ApiOkResponse({ standardSchema: chatSessionSchema })
  async get(@Param('chat', IdParam) id: string) {
    return toChatSession(await this.sessions.get(id));
  }

  @Patch(':chat')
  @ApiChatParam()
  @RequireOwn()
  @ApiOperation({ summary: 'Call one’s chat otherwise' })
  @ApiOkResponse({ standardSchema: chatSessionSchema })
  @ApiProblems(422)
  async update(
    @Param('chat', IdParam) id: string,
    @Body({ schema: updateChatSessionSchema }) body: UpdateChatSession,
  ) {
    return toChatSession(await this.sessions.update(id, body));
  }

  @Delete(':chat')
  @HttpCode(204)
  @ApiChatParam()
  @RequireOwn()
  @ApiOperation({ summary: 'Delete one’s chat, with all that was said' })
  @ApiNoContentResponse()
  async delete(@Param('chat', IdParam) id: string) {
    await this.sessions.delete(id);
  }

  @Get(':chat/messages')
  @ApiChatParam()
  @RequireReading()
  @ApiOperation({ summary: 'List what was said in a chat, the oldest first' })
  @ApiOkResponse({ standardSchema: chatMessagePageSchema })
  @ApiProblems(422)
  async messages(
    @Param('chat', IdParam) id: string,
    @Query({ schema: listMessagesQuery }) query: z.infer<typeof listMessagesQuery>,
  ) {
    return toPage(await this.sessions.listMessages(id, query.page, query.page_size), query, toChatMessage);
  }

  @Get(':chat/export')
  @ApiChatParam()
  @RequireReading()
  @ApiOperation({
    summary: 'Download a chat',
    description: 'As JSON, with citations and feedback, or as Markdown, to be read.',
  })
  @ApiProduces('application/json', 'text/markdown')
  @ApiOkResponse({ standardSchema: exportedChatSchema })
  @ApiProblems(422)
  async export(
    @Param('chat', IdParam) id: string,
    @Query({ schema: exportQuery }) { format }: z.infer<typeof exportQuery>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<StreamableFile> {
    const { content, type, fileName } = await this.exports.open(id, format);
    void reply.header('cache-control', 'no-store');
    return new StreamableFile(content, { type, disposition: `attachment; filename="${fileName}"` });
  }
}
