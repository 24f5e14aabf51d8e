import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiTags,
} from '@nestjs/swagger';
import { RequirePermission } from '../../core/authorization/require-permission.js';
import { ApiTenantParam } from '../../core/tenancy/api-tenant-param.js';
import { ApiProblems } from '../../foundation/http/api-problems.js';
import { ApiIfMatch, type IfMatch, IfMatchHeader } from '../../foundation/http/entity-tag.js';
import { IdParam } from '../../foundation/http/id-param.js';
import { toPage } from '../../foundation/http/pagination.js';
import { deliverySchema, toDelivery } from './webhook-deliveries.dto.js';
import { WebhookDeliveriesService } from './webhook-deliveries.service.js';
import {
  type CreateWebhook,
  type ListWebhooks,
  type RotateWebhookSecret,
  type UpdateWebhook,
  createWebhookSchema,
  listWebhooksQuery,
  rotateWebhookSecretSchema,
  toWebhook,
  updateWebhookSchema,
  webhookPageSchema,
  webhookSchema,
  webhookWithSecretSchema,
} from './webhooks.dto.js';
import { WebhooksService } from './webhooks.service.js';

const ApiWebhookParam = (): MethodDecorator =>
  ApiParam({ name: 'webhook', description: 'Id of the webhook' });

const ABOUT = `Whatever happens in the tenant is posted to \`url\` as JSON: \`{id, type, timestamp, tenant_id, data}\`.

Messages are signed as [Standard Webhooks](https://www.standardwebhooks.com) has it: the header \`webhook-signature\` holds
\`v1,\` and the base64 HMAC-SHA256 of \`webhook-id.webhook-timestamp.body\`, with the bytes behind \`whsec_\` of the secret as
key; two of them, separated by a space, while a new secret overlaps with the one before. The header \`webhook-id\` is the
event’s id: a message may come more than once, and this tells.

An answer of 2xx within ten seconds takes a message over. Everything else, redirects too, is tried again with growing
delays, ten times within a day; \`Retry-After\` is heeded. 410 switches the webhook off, as does a receiver that fails for
three days on end. Addresses must be public ones, and https in production.`;

@ApiTags('Webhooks')
@ApiTenantParam()
@Controller('tenants/:tenant/webhooks')
export class WebhooksController {
  constructor(
    private readonly webhooks: WebhooksService,
    private readonly deliveries: WebhookDeliveriesService,
  ) {}

  @Get()
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'List the webhooks of a tenant' })
  @ApiOkResponse({ standardSchema: webhookPageSchema })
  @ApiProblems(422)
  async list(@Query({ schema: listWebhooksQuery }) query: ListWebhooks) {
    return toPage(await this.webhooks.list(query), query, toWebhook);
  }

  @Post()
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'Make a webhook; its secret is shown this once', description: ABOUT })
  @ApiCreatedResponse({ standardSchema: webhookWithSecretSchema })
  @ApiProblems(409, 422)
  async create(@Body({ schema: createWebhookSchema }) body: CreateWebhook) {
    const { secret, ...webhook } = await this.webhooks.create(body);
    return { ...toWebhook(webhook), secret };
  }

  @Get(':webhook')
  @ApiWebhookParam()
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'Read a webhook, without its secret' })
  @ApiOkResponse({ standardSchema: webhookSchema })
  async get(@Param('webhook', IdParam) id: string) {
    return toWebhook(await this.webhooks.get(id));
  }

  @Patch(':webhook')
  @ApiIfMatch()
  @ApiWebhookParam()
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'Change a webhook, or switch it on or off' })
  @ApiOkResponse({ standardSchema: webhookSchema })
  @ApiProblems(422)
  async update(
    @Param('webhook', IdParam) id: string,
    @Body({ schema: updateWebhookSchema }) body: UpdateWebhook,
    @IfMatchHeader() ifMatch: IfMatch,
  ) {
    return toWebhook(await this.webhooks.update(id, body, ifMatch));
  }

  @Delete(':webhook')
  @ApiWebhookParam()
  @HttpCode(204)
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({ summary: 'Delete a webhook with its log, and what waits to be delivered' })
  @ApiNoContentResponse()
  async delete(@Param('webhook', IdParam) id: string) {
    await this.webhooks.delete(id);
  }

  @Post(':webhook/rotate-secret')
  @ApiWebhookParam()
  @HttpCode(200)
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({
    summary: 'Give a webhook a new secret, shown this once',
    description: 'Messages are signed with both secrets for `overlap_hours`.',
  })
  @ApiOkResponse({ standardSchema: webhookWithSecretSchema })
  @ApiProblems(422)
  async rotateSecret(
    @Param('webhook', IdParam) id: string,
    @Body({ schema: rotateWebhookSecretSchema }) body: RotateWebhookSecret,
  ) {
    const { secret, ...webhook } = await this.webhooks.rotateSecret(id, body);
    return { ...toWebhook(webhook), secret };
  }

  @Post(':webhook/test')
  @ApiWebhookParam()
  @HttpCode(200)
  @RequirePermission('tenant:manage_webhooks')
  @ApiOperation({
    summary: 'Send `webhook.test` now, and see how that ends',
    description: 'Sent once, whether or not the webhook is switched on.',
  })
  @ApiOkResponse({ standardSchema: deliverySchema })
  async test(@Param('webhook', IdParam) id: string) {
    return toDelivery(await this.deliveries.test(id));
  }
}
