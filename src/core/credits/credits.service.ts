import { Injectable, Logger } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { TenantDirectory } from '../tenancy/tenant-directory.js';
import { UsageService } from '../usage/usage.service.js';
import { CreditWatch } from './credit-watch.service.js';
import { amountTooLarge, insufficientCredits, keyReused, tokenBudgetExceeded } from './credit-problems.js';
import { type CommitOutcome, CreditsRepository, type Movement } from './credits.repository.js';
import { AmountTooLargeError, type CreditLine, PriceList } from './price-list.js';
import { PricesService } from './prices.service.js';

/** Seconds after which a reservation that nobody renews is released: whoever made it is dead. */
const LIFETIME = 300;
const RENEW_EVERY_MS = 100_000;

/** What something may cost at most. */
export interface Estimate {
  /** What is done, for the ledger: `search`, `query`, `chat`, `ingestion`. */
  operation: string;
  /** Everything that may be used, in the largest quantities. */
  lines: readonly CreditLine[];
  /** Whose budget counts, where the system acts for an API token. */
  tokenId?: string | null;
  /** For whom the system acts. */
  userId?: string | null;
}

/** Credits that are set aside until they are committed or released. */
export interface Reservation {
  id: string;
  /** As they were when it was made: these count to its end. */
  prices: PriceList;
  /** The largest quantities. */
  lines: readonly CreditLine[];
}

/** Counts what is really used; where nothing is counted, it is what was estimated. */
export interface SpendMeter {
  used(...lines: CreditLine[]): void;
}

/** Credits that are set aside for work that is under way. */
export interface Spending extends SpendMeter {
  /** Takes what was really used, and gives back the rest. @returns micro-credits */
  commit(): Promise<number>;
  /** Gives everything back. Does not fail. */
  release(note: string): Promise<void>;
}

/**
 * Prepaid credits of the context's tenant: what may cost something reserves its estimate first, and commits what it really
 * cost. What has no price costs nothing: not even a look into the database.
 */
@Injectable()
export class CreditsService {
  private readonly logger = new Logger(CreditsService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly database: TenantDatabase,
    private readonly repository: CreditsRepository,
    private readonly prices: PricesService,
    private readonly watch: CreditWatch,
    private readonly usage: UsageService,
  ) {}

  /**
   * Reserves the estimate, does the work, and commits what the meter says; where the work fails or is given up, everything
   * is released. Not inside of a transaction; the work opens its own.
   *
   * @returns what the work gives, and what it cost in micro-credits
   * @throws Problem 402 `insufficient_credits`, 402 `token_budget_exceeded`, 422 `amount_too_large`
   */
  async spend<T>(
    estimate: Estimate,
    work: (meter: SpendMeter) => Promise<T>,
  ): Promise<{ result: T; credits: number }> {
    const spending = await this.begin(estimate);
    try {
      const result = await work(spending);
      return { result, credits: await spending.commit() };
    } catch (error) {
      await spending.release('the operation failed');
      throw error;
    }
  }

  /**
   * Reserves the estimate for work that ends in a place of its own, and keeps the reservation alive until then: whoever calls
   * this must commit or release it.
   *
   * @throws Problem 402 `insufficient_credits`, 402 `token_budget_exceeded`, 422 `amount_too_large`
   */
  async begin(estimate: Estimate): Promise<Spending> {
    const reservation = await this.reserve(estimate);
    const used: CreditLine[] = [];
    const timer = reservation && setInterval(() => this.renew(reservation), RENEW_EVERY_MS);
    timer?.unref();
    return {
      used: (...lines) => void used.push(...lines),
      commit: async () => {
        if (timer) clearInterval(timer);
        return reservation ? this.commit(reservation, used.length > 0 ? used : undefined) : 0;
      },
      release: async note => {
        if (timer) clearInterval(timer);
        if (!reservation) return;
        await this.release(reservation, note).catch((failure: Error) =>
          this.logger.warn(`Credits wait until their reservation ends: ${failure.message}`),
        );
      },
    };
  }

  /**
   * Sets aside what something may cost at most.
   *
   * @param key the same key again is the same reservation
   * @returns null where it costs nothing
   * @throws Problem 402 `insufficient_credits`, 402 `token_budget_exceeded`, 422 `amount_too_large`,
   *   422 `idempotency_key_reused`
   */
  async reserve(estimate: Estimate, key?: string): Promise<Reservation | null> {
    const { list } = this.prices;
    const prices = list instanceof PriceList ? list : await list;
    const { lines, total } = counted(() => prices.cost(estimate.lines));
    if (total === 0) return null;
    const id = uuidv7();
    const movement: Movement = {
      operation: estimate.operation,
      lines,
      idempotencyKey: key ?? `reserve:${id}`,
      ...this.whose(estimate),
      note: null,
    };
    const enforced = await this.enforced();
    const reserved = await this.database.run(async tx => {
      const outcome = await this.repository.reserve(tx, id, total, movement, LIFETIME, enforced);
      this.watch.tell(tx, outcome.state);
      return outcome;
    });
    switch (reserved.outcome) {
      case 'reserved':
      case 'replayed':
        return { id: reserved.reservationId, prices, lines: estimate.lines };
      case 'insufficient':
        throw insufficientCredits(reserved.refusal);
      case 'budget':
        throw tokenBudgetExceeded(reserved.refusal);
      case 'key_reused':
        throw keyReused();
      case 'overflow':
        throw amountTooLarge();
    }
  }

  /**
   * Takes what was really used, at the prices of the reservation, and gives back the rest. Committing the same again changes
   * nothing.
   *
   * @param used the estimate where it is missing
   * @returns what was taken; 0 where the reservation had been released or had expired before
   * @throws Problem 422 `idempotency_key_reused` where it was committed with another amount
   */
  async commit(reservation: Reservation, used: readonly CreditLine[] = reservation.lines): Promise<number> {
    const { lines, total } = counted(() => reservation.prices.cost(used));
    const enforced = await this.enforced();
    const committed = await this.database.run(async tx => {
      const outcome = await this.repository.commit(tx, reservation.id, total, lines, enforced);
      this.watch.tell(tx, outcome.state);
      return outcome;
    });
    if (committed.outcome === 'key_reused') throw keyReused();
    this.warnOf(committed, reservation.id);
    if (committed.outcome === 'committed') this.usage.note({ credits: committed.charged });
    return committed.charged;
  }

  /** Gives everything back. Does nothing where the reservation has ended. */
  async release(reservation: Pick<Reservation, 'id'>, note: string | null = null): Promise<void> {
    await this.database.run(async tx => {
      const { state } = await this.repository.release(tx, reservation.id, note);
      this.watch.tell(tx, state);
    });
  }

  /** What this costs at the prices of now, in micro-credits. Not inside of a transaction. @throws Problem 422 `amount_too_large` */
  async priceOf(lines: readonly CreditLine[]): Promise<number> {
    const prices = await this.prices.list;
    return counted(() => prices.cost(lines)).total;
  }

  /** Whether the tenant is kept to what it has. */
  async enforced(): Promise<boolean> {
    return (await this.directory.find(this.context.tenant.id))?.enforceQuotas ?? true;
  }

  private renew(reservation: Reservation): void {
    this.database
      .run(tx => this.repository.renew(tx, reservation.id, LIFETIME))
      .catch((error: Error) => this.logger.warn(`A reservation was not renewed: ${error.message}`));
  }

  private whose({ tokenId = null, userId = null }: Estimate): Pick<Movement, 'tokenId' | 'userId'> {
    const principal = this.context.principal;
    if (principal.kind === 'system') return { tokenId, userId };
    if (principal.kind === 'api_token') return { tokenId: principal.tokenId, userId: null };
    return { tokenId: null, userId: principal.userId };
  }

  private warnOf({ outcome, shortfall }: CommitOutcome, reservationId: string): void {
    const about = { tenant: this.context.tenant.name, reservation_id: reservationId };
    if (outcome === 'released' || outcome === 'expired' || outcome === 'unknown')
      this.logger.warn({ msg: `Nothing was charged: the reservation was ${outcome}`, ...about });
    else if (shortfall > 0)
      this.logger.warn({ msg: `${shortfall} micro-credits could not be taken`, ...about });
  }
}

/** @throws Problem 422 `amount_too_large` */
function counted<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof AmountTooLargeError) throw amountTooLarge();
    throw error;
  }
}
