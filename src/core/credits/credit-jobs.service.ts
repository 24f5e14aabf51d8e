import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { BackgroundJobs } from '../jobs/background-jobs.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { type KnownTenant, TenantDirectory } from '../tenancy/tenant-directory.js';
import { CreditAccountsRepository } from './credit-accounts.repository.js';
import { CreditWatch } from './credit-watch.service.js';
import { CreditsRepository } from './credits.repository.js';
import { MOST_CREDITS, type PriceList } from './price-list.js';
import { PricesService } from './prices.service.js';

const SWEEP_JOB = 'credits.sweep';
const SWEEP_EVERY = 60;
const STORAGE_JOB = 'credits.storage';
/** Each day is charged for once; looking more often than that makes up for hours in which no process ran. */
const STORAGE_EVERY = 3600;
const RETENTION_JOB = 'credits.retention';
const RETENTION_EVERY = 3600;
/** How long a reservation is kept after its end: whoever commits it again until then hears what was charged. */
const KEEP_CLOSED_MS = 90 * 24 * 3_600_000;
const RESERVATIONS_AT_ONCE = 5_000;
const TENANTS_AT_ONCE = 200;
/** Of one tenant, in one transaction. */
const MOVEMENTS_AT_ONCE = 100;

/** What happens to credits without anybody asking: to reservations that were left behind or are long over, grants that expire, storage. */
@Injectable()
export class CreditJobs implements OnModuleInit {
  private readonly logger = new Logger(CreditJobs.name);

  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly movements: CreditsRepository,
    private readonly accounts: CreditAccountsRepository,
    private readonly prices: PricesService,
    private readonly watch: CreditWatch,
    private readonly jobs: BackgroundJobs,
  ) {}

  onModuleInit(): void {
    this.jobs.define({
      kind: SWEEP_JOB,
      mostAttempts: 1,
      every: SWEEP_EVERY,
      run: ({ signal }) => this.sweep(signal),
    });
    this.jobs.define({
      kind: STORAGE_JOB,
      mostAttempts: 1,
      every: STORAGE_EVERY,
      run: ({ signal }) => this.chargeStorage(new Date(), signal),
    });
    this.jobs.define({
      kind: RETENTION_JOB,
      mostAttempts: 1,
      every: RETENTION_EVERY,
      run: ({ signal }) => this.deleteClosed(new Date(), signal),
    });
  }

  /** Releases what nobody has come back for, and expires grants, in every tenant in which some are due. */
  async sweep(signal: AbortSignal): Promise<{ released: number; expired: number }> {
    const swept = { released: 0, expired: 0 };
    await this.inEach(
      (tx, after) => this.accounts.tenantsToSweep(tx, after, TENANTS_AT_ONCE),
      async () => {
        for (let more = true; more && !signal.aborted;) {
          const { released, expired } = await this.tenantDatabase.run(async tx => {
            const found = await this.movements.sweep(tx, MOVEMENTS_AT_ONCE);
            this.watch.tell(tx, found.state);
            return found;
          });
          swept.released += released;
          swept.expired += expired;
          more = released === MOVEMENTS_AT_ONCE || expired === MOVEMENTS_AT_ONCE;
        }
      },
      signal,
    );
    return swept;
  }

  /**
   * Charges for one day of what each tenant stores (UTC): the month's price in as many parts as the month has days. Once for
   * each tenant and day.
   */
  async chargeStorage(now: Date, signal: AbortSignal): Promise<{ charged: number }> {
    const prices = await this.prices.list;
    let charged = 0;
    if (prices.of('storage_mb_month') === 0) return { charged };
    const day = now.toISOString().slice(0, 10);
    const days = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 0)).getUTCDate();
    await this.inEach(
      (tx, after) => this.accounts.tenantsToCharge(tx, day, after, TENANTS_AT_ONCE),
      async tenant => {
        if (await this.chargeTenant(tenant, prices, day, days)) charged++;
      },
      signal,
    );
    return { charged };
  }

  /** Forgets the reservations that ended long ago. */
  async deleteClosed(now: Date, signal: AbortSignal): Promise<{ deleted: number }> {
    const before = new Date(now.getTime() - KEEP_CLOSED_MS);
    for (let deleted = 0; ;) {
      signal.throwIfAborted();
      const count = await this.platformDatabase.run(tx =>
        this.movements.deleteClosed(tx, before, RESERVATIONS_AT_ONCE),
      );
      deleted += count;
      if (count < RESERVATIONS_AT_ONCE) return { deleted };
    }
  }

  private chargeTenant(
    { enforceQuotas }: KnownTenant,
    prices: PriceList,
    day: string,
    days: number,
  ): Promise<boolean> {
    return this.tenantDatabase.run(async tx => {
      const { bytes, alreadyCharged } = await this.accounts.lockStorage(tx, day);
      if (alreadyCharged) return false;
      await this.accounts.setStorageCharged(tx, day);
      const quantity = Math.min(bytes, MOST_CREDITS);
      const { lines, total } = prices.cost([{ operation: 'storage_mb_month', quantity }], days);
      if (total === 0) return false;
      const movement = {
        operation: 'storage',
        lines,
        idempotencyKey: `storage:${day}`,
        tokenId: null,
        userId: null,
        note: null,
      };
      this.watch.tell(tx, await this.movements.charge(tx, total, movement, enforceQuotas));
      return true;
    });
  }

  /** Enters the tenants one after the other. What fails in one does not keep the others waiting. */
  private async inEach(
    find: (tx: Tx, after: string | null) => Promise<string[]>,
    work: (tenant: KnownTenant) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    for (let after: string | null = null; ;) {
      const ids: string[] = await this.platformDatabase.run(tx => find(tx, after));
      for (const id of ids) {
        if (signal.aborted) return;
        const tenant = await this.directory.find(id);
        if (!tenant) continue;
        try {
          await this.context.runAsSystem(tenant, () => work(tenant));
        } catch (error) {
          this.logger.error({ msg: 'Credits were not swept', tenant: tenant.name, error });
        }
      }
      after = ids.at(-1) ?? null;
      if (after === null) return;
    }
  }
}
