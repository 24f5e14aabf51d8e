import { Body, Controller, HttpCode, Param, Post } from '@nestjs/common';
import { ApiHeader, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { type GiveFeedback, chatMessageSchema, feedbackSchema, toChatMessage } from './chat-sessions.dto.js';
import { ChatSessionsService } from './chat-sessions.service.js';

@ApiTags('Chat')
@Controller('messages/:message/feedback')
export class MessageFeedbackController {
  constructor(private readonly sessions: ChatSessionsService) {}

  @Post()
  @HttpCode(200)
  @ApiParam({ name: 'message', description: 'Id of an answer in one of one’s own chats', format: 'uuid' })
  @ApiHeader({ name: 'X-Tenant-ID', required: false, description: 'Id or name of the tenant' })
  @RequirePermission('chat:own', { kbBesidePath: true })
  @ApiOperation({
    summary: 'Say what one thinks of an answer',
    description:
      'In the place of what one has said of it before; neither `rating` nor `comment` takes that back. The tenant is named ' +
      'by X-Tenant-ID, `tenant_id` or the token.',
  })
  @ApiOkResponse({ standardSchema: chatMessageSchema })
  @ApiProblems(400, 409, 422)
  async rate(@Param('message', IdParam) id: string, @Body({ schema: feedbackSchema }) body: GiveFeedback) {
    return toChatMessage(await this.sessions.rate(id, body));
  }
}
