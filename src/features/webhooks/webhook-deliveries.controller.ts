import { Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiAcceptedResponse, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import {
  type ListDeliveries,
  deliveryPageSchema,
  deliverySchema,
  listDeliveriesQuery,
  toDelivery,
  toDeliverySummary,
} from './webhook-deliveries.dto.js';
import { WebhookDeliveriesService } from './webhook-deliveries.service.js';

const ApiDeliveryParam = (): MethodDecorator =>
  ApiParam({ name: 'delivery', description: 'Id of the delivery' });

@ApiTags('Webhooks')
@ApiTenantParam()
@ApiParam({ name: 'webhook', description: 'Id of the webhook' })
@Controller('tenants/:tenant/webhooks/:webhook/deliveries')
export class WebhookDeliveriesController {
  constructor(private readonly deliveries: WebhookDeliveriesService) {}

  @Get()
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'List what a webhook was told in the last 30 days, the newest first' })
  @ApiOkResponse({ standardSchema: deliveryPageSchema })
  @ApiProblems(422)
  async list(
    @Param('webhook', IdParam) webhookId: string,
    @Query({ schema: listDeliveriesQuery }) query: ListDeliveries,
  ) {
    return toPage(await this.deliveries.list(webhookId, query), query, toDeliverySummary);
  }

  @Get(':delivery')
  @ApiDeliveryParam()
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'Read a delivery with what is sent and the beginning of the last answer' })
  @ApiOkResponse({ standardSchema: deliverySchema })
  async get(@Param('webhook', IdParam) webhookId: string, @Param('delivery', IdParam) id: string) {
    return toDelivery(await this.deliveries.get(webhookId, id));
  }

  @Post(':delivery/redeliver')
  @ApiDeliveryParam()
  @HttpCode(202)
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'Send the same message again, as a delivery of its own' })
  @ApiAcceptedResponse({ standardSchema: deliverySchema })
  @ApiProblems(409)
  async redeliver(@Param('webhook', IdParam) webhookId: string, @Param('delivery', IdParam) id: string) {
    return toDelivery(await this.deliveries.redeliver(webhookId, id));
  }
}
