import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { EVENT_FAMILIES, EVENT_TYPES } from './event-types.js';
import { webhookEventsSchema } from './webhooks.dto.js';

@ApiTags('Webhooks')
@Controller('webhook-events')
export class WebhookEventsController {
  @Get()
  @RequirePermission('user:read', { tokens: true })
  @ApiOperation({
    summary: 'List what webhooks can be told of',
    description:
      'Beside the events that are listed one by one, every change that the audit of a tenant writes down is an event of ' +
      'the same name: `families` says of what. Its data are `resource`, `details` and `actor` of the audit’s entry.',
  })
  @ApiOkResponse({ standardSchema: webhookEventsSchema })
  list() {
    return { items: EVENT_TYPES, families: EVENT_FAMILIES };
  }
}
