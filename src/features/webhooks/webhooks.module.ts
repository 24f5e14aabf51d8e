import { Module } from '@nestjs/common';
import { TenantsModule } from '../tenants/tenants.module.js';
import { WebhookDeliveriesController } from './webhook-deliveries.controller.js';
import { WebhookDeliveriesRepository } from './webhook-deliveries.repository.js';
import { WebhookDeliveriesService } from './webhook-deliveries.service.js';
import { WebhookEventsController } from './webhook-events.controller.js';
import { WebhookFanoutRepository } from './webhook-fanout.repository.js';
import { WebhookFanout } from './webhook-fanout.service.js';
import { WebhookJobService } from './webhook-job.service.js';
import { WebhookSecrets } from './webhook-secrets.service.js';
import { WebhookSender } from './webhook-sender.js';
import { WebhooksController } from './webhooks.controller.js';
import { WebhooksRepository } from './webhooks.repository.js';
import { WebhooksService } from './webhooks.service.js';

@Module({
  imports: [TenantsModule],
  controllers: [WebhooksController, WebhookDeliveriesController, WebhookEventsController],
  providers: [
    WebhooksService,
    WebhookDeliveriesService,
    WebhookJobService,
    WebhookFanout,
    WebhookSender,
    WebhookSecrets,
    WebhooksRepository,
    WebhookDeliveriesRepository,
    WebhookFanoutRepository,
  ],
})
export class WebhooksModule {}
