import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { ClsService } from 'nestjs-cls';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { UsageBuffer } from './usage-buffer.js';
import { type UsageDetails, type UsageEvent, addDetails, toUsageRow } from './usage-event.js';
import { UsageRepository, writeFaultOf } from './usage.repository.js';
import { type UsageTotals, usageWindow } from './usage-window.js';

/** Gathers what one request or job uses. */
export interface UsageMeter {
  /**
   * Records the event; only the first call does.
   *
   * @param request of a request its HTTP status and how long it took, in milliseconds
   */
  end(outcome: UsageEvent['outcome'], request?: { status: number; durationMs: number }): void;
}

const METER = 'usage';
const ROWS_AT_ONCE = 5_000;

/**
 * What tenants use: one event for each request that was let in, and for each job. Recording costs a request nothing but a
 * push into memory; events are written in batches, at most a second later, together with their roll-ups.
 */
@Injectable()
export class UsageService implements OnApplicationShutdown {
  private readonly buffer: UsageBuffer;

  constructor(
    private readonly cls: ClsService,
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly repository: UsageRepository,
  ) {
    const logger = new Logger(UsageService.name);
    this.buffer = new UsageBuffer({
      write: rows => this.database.run(tx => this.repository.record(tx, rows)),
      faultOf: writeFaultOf,
      warn: message => logger.warn(message),
    });
  }

  /** The last hook: requests and jobs have ended by now, and the database is closed after it. */
  async onApplicationShutdown(): Promise<void> {
    await this.buffer.flush();
  }

  /**
   * Adds to the usage event of the current request or job: numbers add up, of everything else the last holds. Does nothing
   * where there is none.
   */
  note(details: UsageDetails): void {
    const noted = this.cls.isActive() ? this.cls.get<UsageDetails | undefined>(METER) : undefined;
    if (noted) addDetails(noted, details);
  }

  /** Records an event of its own. */
  record(event: UsageEvent): void {
    this.buffer.push(toUsageRow(event));
  }

  /**
   * Begins the event of the current request or job, in the context's tenant and for its principal; what is noted from here
   * on belongs to it.
   *
   * @param about.userId for whom a job works, where the system acts
   */
  meter(about: UsageDetails & { operation: string; userId?: string | null }): UsageMeter {
    const { userId = null, ...details } = about;
    const noted: UsageDetails & { operation: string } = { ...details };
    this.cls.set(METER, noted);
    const whose = { tenantId: this.context.tenant.id, ...this.actingPrincipal(userId) };
    const started = performance.now();
    let ended = false;
    return {
      end: (outcome, request) => {
        if (ended) return;
        ended = true;
        const durationMs = request?.durationMs ?? performance.now() - started;
        this.record({ ...noted, ...whose, outcome, status: request?.status, durationMs });
      },
    };
  }

  /** Writes what waits in this process. */
  flush(): Promise<void> {
    return this.buffer.flush();
  }

  /**
   * How much a tenant has used, without what waits in memory. Not inside of a transaction.
   *
   * @param since counted from the beginning of its hour (UTC)
   * @param what `llm_tokens`: those that chat models have read and written
   */
  async countSince(
    tenantId: string,
    since: Date,
    what: 'api_calls' | 'queries' | 'llm_tokens',
  ): Promise<number> {
    const { apiCalls, queries, inputTokens, outputTokens } = await this.totals(tenantId, since, null);
    return { api_calls: apiCalls, queries, llm_tokens: inputTokens + outputTokens }[what];
  }

  /**
   * What a tenant has used in whole hours. Not inside of a transaction.
   *
   * @param from from the beginning of its hour
   * @param until to the end of its hour; null: everything since
   */
  async totals(tenantId: string, from: Date, until: Date | null): Promise<UsageTotals> {
    const window = usageWindow(from, until ?? END_OF_TIME);
    const [totals] = await this.database.run(tx => this.repository.totals(tx, tenantId, [window]));
    return totals as UsageTotals;
  }

  /** Deletes, in small transactions, what is kept of a tenant that is being deleted. */
  async deleteOf(tenantId: string, signal: AbortSignal): Promise<void> {
    for (let count = -1; count !== 0;) {
      signal.throwIfAborted();
      count = await this.database.run(tx => this.repository.deleteOfTenant(tx, tenantId, ROWS_AT_ONCE));
    }
  }

  private actingPrincipal(
    forUser: string | null,
  ): Pick<UsageEvent, 'userId' | 'tokenId' | 'tokenKind' | 'byPlatform'> {
    const principal = this.context.principal;
    if (principal.kind === 'system') return { userId: forUser };
    if (principal.kind === 'user')
      return { userId: principal.userId, byPlatform: !this.context.access.member };
    return { userId: principal.userId, tokenId: principal.tokenId, tokenKind: principal.tokenKind };
  }
}

/** Events of a clock that ran ahead count, too. */
const END_OF_TIME = new Date('9998-01-01T00:00:00Z');
