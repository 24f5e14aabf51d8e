import { Injectable, type OnModuleInit } from '@nestjs/common';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { AuditService } from '../audit/audit.service.js';
import { AuthorizationService } from '../authorization/authorization.service.js';
import { PLATFORM_DOMAIN, tenantDomain } from '../authorization/permissions.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { PriceList, type Price, type PricedOperation } from './price-list.js';
import { PricesRepository, type StoredPrice } from './prices.repository.js';

/** Of the change feed: prices were set. */
const PRICES_TOPIC = 'prices';

export interface PriceChange {
  operation: PricedOperation;
  model: string | null;
  /** Null: no such price any more. */
  microCredits: number | null;
}

/** What operations cost, as the platform sets it for all tenants. */
@Injectable()
export class PricesService implements OnModuleInit {
  private current: PriceList | null = null;
  private changed = 0;

  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly repository: PricesRepository,
    private readonly authorization: AuthorizationService,
    private readonly changes: ChangeFeed,
    private readonly audit: AuditService,
  ) {}

  onModuleInit(): void {
    const forget = () => {
      this.changed++;
      this.current = null;
    };
    this.changes.subscribe(PRICES_TOPIC, forget, forget);
  }

  /** The prices of now. Remembered until they change; not inside of a transaction. */
  get list(): PriceList | Promise<PriceList> {
    return this.current ?? this.load();
  }

  /** For the platform, and for whoever manages what a tenant pays. @throws Problem 403, 400 `tenant_missing` */
  async at(moment: Date | null): Promise<Price[]> {
    await this.mayRead();
    return this.database.run(tx => this.repository.list(tx, moment));
  }

  /** @throws Problem 403, 400 `tenant_missing` */
  async history(
    filter: { operation?: PricedOperation; model?: string },
    page: { page: number; pageSize: number },
  ): Promise<Page<StoredPrice>> {
    await this.mayRead();
    return this.database.run(tx => this.repository.history(tx, filter, page));
  }

  /** From now on these count; what is not among them stays as it is. @returns the prices of now */
  async set(changes: readonly PriceChange[]): Promise<Price[]> {
    return this.database.run(async tx => {
      await this.repository.lock(tx);
      const before = await this.repository.list(tx, null);
      const priceOf = ({ operation, model }: PriceChange) =>
        before.find(price => price.operation === operation && price.model === model)?.microCredits ?? null;
      const changed = changes.filter(change => priceOf(change) !== change.microCredits);
      if (changed.length === 0) return before;
      await this.repository.insert(tx, changed, this.context.ownAccount);
      await this.changes.publish(tx, PRICES_TOPIC, '');
      this.audit.recordForPlatform(tx, {
        action: 'prices.changed',
        resource: { type: 'prices', id: null },
        details: {
          prices: changed.map(change => ({
            operation: change.operation,
            model: change.model,
            before: priceOf(change),
            after: change.microCredits,
          })),
        },
      });
      return this.repository.list(tx, null);
    });
  }

  private async load(): Promise<PriceList> {
    const changedBefore = this.changed;
    const list = new PriceList(await this.database.run(tx => this.repository.list(tx, null)));
    if (changedBefore === this.changed) this.current = list;
    return list;
  }

  private async mayRead(): Promise<void> {
    const { subject, tenantOrNull: tenant } = this.context;
    if (await this.authorization.can(subject, PLATFORM_DOMAIN, 'platform:read')) return;
    if (!tenant) {
      throw Problem.malformed(
        'tenant_missing',
        'Name a tenant: with the header X-Tenant-ID, or by switching to one.',
      );
    }
    if (!(await this.authorization.can(subject, tenantDomain(tenant.id), 'tenant:manage_billing')))
      throw Problem.forbidden('This needs the permission tenant:manage_billing.');
  }
}
