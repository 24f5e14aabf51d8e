import { Injectable } from '@nestjs/common';
import { type Tx, withCommit } from '../../foundation/database/transaction.js';
import { EventsService } from '../events/events.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { type Actor, TenantContext } from '../tenancy/tenant-context.js';
import { type AuditEvent, type UnchainedEntry, storable } from './audit-entry.js';
import { AuditRepository, PLATFORM_CHAIN } from './audit.repository.js';

/**
 * The record of who did what, appended in the transaction that does it: what was rolled back was not done, and what was
 * committed is written down. Entries wait in memory and go out in one message with COMMIT, because the chain of a tenant
 * has one end: whoever appends to it makes the tenant's next writer wait until the commit.
 */
@Injectable()
export class AuditService {
  private readonly pending = new WeakMap<Tx, Map<string, UnchainedEntry[]>>();

  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly repository: AuditRepository,
    private readonly events: EventsService,
  ) {}

  /** Writes down what this transaction does, in the chain of the context's tenant; the platform's where there is none. */
  record(tx: Tx, event: AuditEvent): void {
    this.append(tx, this.context.tenantOrNull?.id ?? null, event);
  }

  /** In the chain of the platform. Only in a transaction of the platform. */
  recordForPlatform(tx: Tx, event: AuditEvent): void {
    this.append(tx, null, event);
  }

  /** In the chain of a tenant that is not the context's. Only in a transaction of the platform. */
  recordForTenant(tx: Tx, tenantId: string, event: AuditEvent): void {
    this.append(tx, tenantId, event);
  }

  /** Writes down what was not done, in a transaction of its own. @param tenantId null: the platform's chain */
  async recordAlone(tenantId: string | null, event: AuditEvent): Promise<void> {
    // Which member tried is the tenant's business: its chain is written past the tenant's own view, by the platform.
    await this.database.run(tx => {
      this.append(tx, tenantId, event);
      return Promise.resolve();
    });
  }

  private append(tx: Tx, reference: string | null, event: AuditEvent): void {
    // As the database writes ids: what is hashed must be what is read.
    const tenantId = reference?.toLowerCase() ?? null;
    const entry = toEntry(tenantId, event, this.context.actor);
    // First, so that the chain's end is held for less.
    if (tenantId && entry.outcome === 'allowed') this.publish(tx, tenantId, entry);
    let chains = this.pending.get(tx);
    if (!chains) {
      chains = new Map();
      this.pending.set(tx, chains);
      withCommit(tx, () => this.flush(tx));
    }
    const chainId = tenantId ?? PLATFORM_CHAIN;
    const entries = chains.get(chainId) ?? [];
    entries.push(entry);
    chains.set(chainId, entries);
  }

  /** What was changed is an event for whoever listens in the tenant. */
  private publish(tx: Tx, tenantId: string, { action, resource, details, actor }: UnchainedEntry): void {
    this.events.publish(tx, { type: action, data: { resource, details, actor } }, tenantId);
  }

  private flush(tx: Tx): string {
    // In one order everywhere: two transactions that append to the same two chains must not wait for each other.
    const chains = [...(this.pending.get(tx) ?? [])].toSorted(([a], [b]) => (a < b ? -1 : 1));
    this.pending.delete(tx);
    return chains.map(([chainId, entries]) => this.repository.appendStatement(chainId, entries)).join('; ');
  }
}

function toEntry(tenantId: string | null, event: AuditEvent, actor: Actor): UnchainedEntry {
  return storable({
    tenant_id: tenantId,
    time: new Date().toISOString(),
    actor: { type: actor.type, id: actor.id?.toLowerCase() ?? null, name: actor.name },
    action: event.action,
    resource: { type: event.resource.type, id: event.resource.id },
    details: event.details ?? {},
    outcome: event.outcome ?? 'allowed',
    ip: actor.ip,
    request_id: actor.requestId,
  });
}
