import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { type Tx, withCommit } from '../../foundation/database/transaction.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { EventsRepository, type StoredEvent } from './events.repository.js';

/** Something that has happened in a tenant, for whoever listens, inside of this installation or outside. */
export interface DomainEvent {
  /** `thing.happened`. */
  type: string;
  /** What the tenant may know of it: ids, names, figures; no secrets. */
  data: Record<string, unknown>;
}

/** Takes events over, in the transaction of the platform that takes them out of the outbox. */
export type EventListener = (tx: Tx, events: readonly StoredEvent[]) => Promise<void>;

/**
 * Tells what has happened, in the transaction in which it happens (an outbox): what was rolled back is not told, and what
 * was committed is told at least once. Every audited change of a tenant is an event of its own accord.
 */
@Injectable()
export class EventsService {
  private readonly pending = new WeakMap<Tx, StoredEvent[]>();
  private readonly registered: EventListener[] = [];

  constructor(
    private readonly context: TenantContext,
    private readonly repository: EventsRepository,
  ) {}

  /**
   * Goes out in one message with COMMIT.
   *
   * @param tenantId the context's where it is missing; another only in a transaction of the platform
   */
  publish(tx: Tx, { type, data }: DomainEvent, tenantId: string = this.context.tenant.id): void {
    let events = this.pending.get(tx);
    if (!events) {
      events = [];
      this.pending.set(tx, events);
      withCommit(tx, () => this.flush(tx));
    }
    events.push({ id: uuidv7(), tenantId, type, data, occurredAt: new Date().toISOString() });
  }

  /** To be called while the application starts. */
  listen(listener: EventListener): void {
    this.registered.push(listener);
  }

  get listeners(): readonly EventListener[] {
    return this.registered;
  }

  private flush(tx: Tx): string {
    const events = this.pending.get(tx) ?? [];
    this.pending.delete(tx);
    return this.repository.insertStatement(events);
  }
}
