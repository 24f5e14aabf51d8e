import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import type { Delivery, DeliverySummary, Message } from './webhook.js';
import type { ListDeliveries } from './webhook-deliveries.dto.js';
import { WebhookDeliveriesRepository } from './webhook-deliveries.repository.js';
import { DELIVER_JOB } from './webhook-job.js';
import { WebhookSender } from './webhook-sender.js';
import { WebhooksRepository } from './webhooks.repository.js';

/** What webhooks were told, and telling it again. */
@Injectable()
export class WebhookDeliveriesService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly webhooks: WebhooksRepository,
    private readonly deliveries: WebhookDeliveriesRepository,
    private readonly sender: WebhookSender,
    private readonly jobs: BackgroundJobs,
    private readonly audit: AuditService,
  ) {}

  /** @throws Problem 404 */
  list(webhookId: string, query: ListDeliveries): Promise<Page<DeliverySummary>> {
    return this.database.run(async tx => {
      if (!(await this.webhooks.find(tx, webhookId))) throw Problem.notFound('webhook');
      return this.deliveries.list(tx, webhookId, query);
    });
  }

  /** @throws Problem 404 */
  get(webhookId: string, id: string): Promise<Delivery> {
    return this.database.run(tx => this.find(tx, webhookId, id));
  }

  /**
   * Tells an event again, whose delivery has ended: as a new delivery of the same event.
   *
   * @throws Problem 404, 409 `delivery_pending`, `webhook_inactive`
   */
  redeliver(webhookId: string, id: string): Promise<Delivery> {
    return this.database.run(async tx => {
      const webhook = await this.webhooks.hold(tx, webhookId);
      const before = await this.find(tx, webhookId, id);
      if (!webhook?.isActive) {
        throw Problem.conflict('webhook_inactive', 'This webhook is switched off. Switch it on first.');
      }
      if (before.status === 'pending') {
        const message = 'This delivery has not ended: it is tried again at `next_attempt_at`.';
        throw Problem.conflict('delivery_pending', message);
      }
      const deliveryId = uuidv7();
      const tenantId = this.context.tenant.id;
      await this.deliveries.insertMany(tx, [
        { id: deliveryId, tenantId, webhookId, message: before.payload, redeliveryOf: id },
      ]);
      await this.jobs.enqueue(tx, { kind: DELIVER_JOB, payload: { deliveryId }, tenantId });
      this.audit.record(tx, {
        action: 'webhook.redelivery_requested',
        resource: { type: 'webhook', id: webhookId },
        details: { delivery_id: deliveryId, redelivery_of: id, event_type: before.eventType },
      });
      return this.find(tx, webhookId, deliveryId);
    });
  }

  /**
   * Sends `webhook.test` now, once, whether or not the webhook is switched on; how it ends has no consequences for it.
   *
   * @throws Problem 404
   */
  async test(webhookId: string): Promise<Delivery> {
    const webhook = await this.database.run(tx => this.webhooks.findSealed(tx, webhookId));
    if (!webhook) throw Problem.notFound('webhook');
    const tenantId = this.context.tenant.id;
    const message: Message = {
      id: uuidv7(),
      type: 'webhook.test',
      timestamp: new Date().toISOString(),
      tenant_id: tenantId,
      data: { webhook_id: webhookId },
    };
    const outcome = await this.sender.send(webhook, message);
    const id = uuidv7();
    return this.database.run(async tx => {
      if (!(await this.webhooks.hold(tx, webhookId))) throw Problem.notFound('webhook');
      await this.deliveries.insertMany(tx, [{ id, tenantId, webhookId, message }]);
      await this.deliveries.note(tx, id, outcome, {
        status: outcome.ok ? 'succeeded' : 'failed',
        attempted: true,
        delay: null,
      });
      this.audit.record(tx, {
        action: 'webhook.tested',
        resource: { type: 'webhook', id: webhookId },
        details: { delivery_id: id, succeeded: outcome.ok },
      });
      return this.find(tx, webhookId, id);
    });
  }

  private async find(tx: Tx, webhookId: string, id: string): Promise<Delivery> {
    const delivery = await this.deliveries.find(tx, id);
    if (delivery?.webhookId !== webhookId) throw Problem.notFound('delivery');
    return delivery;
  }
}
