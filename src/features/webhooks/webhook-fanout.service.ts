import { Injectable, type OnModuleInit } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { StoredEvent } from '../../core/events/events.repository.js';
import { EventsService } from '../../core/events/events.service.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { matchesEvent } from './event-types.js';
import { type NewDelivery, WebhookDeliveriesRepository } from './webhook-deliveries.repository.js';
import { type Listener, WebhookFanoutRepository } from './webhook-fanout.repository.js';
import { DELIVER_JOB } from './webhook-job.js';

const TIDY_EVERY = 3600;
/** Days that the log of deliveries is kept. */
const KEEP_DAYS = 30;
/** Days after which a delivery is given up that nobody works on any more. */
const PENDING_DAYS = 4;
const DELETE_AT_ONCE = 5_000;

/** Turns what has happened into messages for the webhooks that want to hear of it. */
@Injectable()
export class WebhookFanout implements OnModuleInit {
  constructor(
    private readonly events: EventsService,
    private readonly jobs: BackgroundJobs,
    private readonly database: PlatformDatabase,
    private readonly fanout: WebhookFanoutRepository,
    private readonly deliveries: WebhookDeliveriesRepository,
  ) {}

  onModuleInit(): void {
    this.events.listen((tx, events) => this.spread(tx, events));
    this.jobs.define({ kind: 'webhook.tidy', mostAttempts: 3, every: TIDY_EVERY, run: () => this.tidy() });
  }

  /** Once for each event and webhook: what is taken from the outbox and what is put here is one transaction. */
  private async spread(tx: Tx, events: readonly StoredEvent[]): Promise<void> {
    const listeners = await this.listeners(tx, events);
    const deliveries = events.flatMap(event =>
      (listeners.get(event.tenantId) ?? [])
        .filter(webhook => matchesEvent(webhook.events, event.type))
        .map(({ id }) => toDelivery(event, id)),
    );
    if (deliveries.length === 0) return;
    await this.deliveries.insertMany(tx, deliveries);
    await this.jobs.enqueueMany(
      tx,
      deliveries.map(({ id, tenantId }) => ({ kind: DELIVER_JOB, payload: { deliveryId: id }, tenantId })),
    );
  }

  /** By tenant. */
  private async listeners(tx: Tx, events: readonly StoredEvent[]): Promise<Map<string, Listener[]>> {
    const byTenant = new Map<string, Listener[]>(events.map(event => [event.tenantId, []]));
    for (const listener of await this.fanout.listeners(tx, [...byTenant.keys()]))
      byTenant.get(listener.tenantId)?.push(listener);
    return byTenant;
  }

  private async tidy(): Promise<void> {
    await this.database.run(tx => this.fanout.giveUp(tx, PENDING_DAYS));
    for (let deleted = DELETE_AT_ONCE; deleted === DELETE_AT_ONCE;) {
      deleted = await this.database.run(tx => this.fanout.deleteOld(tx, KEEP_DAYS, DELETE_AT_ONCE));
    }
  }
}

function toDelivery(event: StoredEvent, webhookId: string): NewDelivery {
  const { id, type, tenantId, data, occurredAt } = event;
  return {
    id: uuidv7(),
    tenantId,
    webhookId,
    message: { id, type, timestamp: occurredAt, tenant_id: tenantId, data },
  };
}
