import { Injectable } from '@nestjs/common';
import { AsyncLocalStorage } from 'node:async_hooks';
import { Readable } from 'node:stream';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { AuditService } from '../audit/audit.service.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import {
  type CreditAccount,
  CreditAccountsRepository,
  type LedgerEntry,
  type LedgerFilter,
} from './credit-accounts.repository.js';
import { amountTooLarge, keyReused } from './credit-problems.js';
import { CreditWatch } from './credit-watch.service.js';
import { type AddOutcome, CreditsRepository } from './credits.repository.js';
import { CreditsService } from './credits.service.js';
import { type LedgerFormat, exportedLedger } from './ledger-export.js';

/** Entries that are read and written out at once: other requests have their turn in between. */
const BATCH = 500;

/** Credits that the platform gives or corrects. */
export interface CreditChange {
  type: 'grant' | 'adjust';
  /** Any but 0; a grant is positive. */
  amount: number;
  expiresAt: Date | null;
  note: string | null;
  /** The same key again changes nothing. */
  key: string;
}

/** The account of the context's tenant, as people see and change it. */
@Injectable()
export class CreditAccountsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly repository: CreditAccountsRepository,
    private readonly movements: CreditsRepository,
    private readonly credits: CreditsService,
    private readonly watch: CreditWatch,
    private readonly audit: AuditService,
  ) {}

  async get(): Promise<CreditAccount & { enforced: boolean }> {
    const enforced = await this.credits.enforced();
    return { ...(await this.database.run(tx => this.repository.find(tx))), enforced };
  }

  ledger(filter: LedgerFilter, page: { page: number; pageSize: number }): Promise<Page<LedgerEntry>> {
    return this.database.run(tx => this.repository.list(tx, filter, page));
  }

  /**
   * Gives or corrects credits.
   *
   * @returns the entry of the ledger
   * @throws Problem 409 `balance_too_low`, 422 `amount_too_large`, `idempotency_key_reused`, or where it expires at once
   */
  async add(change: CreditChange): Promise<LedgerEntry> {
    const { type, amount, expiresAt, note, key } = change;
    const enforced = await this.credits.enforced();
    const principal = this.context.principal;
    const movement = {
      operation: null,
      lines: [],
      idempotencyKey: key,
      tokenId: null,
      userId: principal.kind === 'user' ? principal.userId : null,
      note,
    };
    const { outcome, entry } = await this.database.run(async tx => {
      const added = await this.movements.add(tx, type, amount, expiresAt, movement, enforced);
      if (added.outcome !== 'added' && added.outcome !== 'replayed') return { outcome: added, entry: null };
      const written = await this.repository.entry(tx, added.sequence);
      if (added.outcome === 'added') {
        this.watch.tell(tx, added.state);
        this.audit.record(tx, {
          action: type === 'grant' ? 'credits.granted' : 'credits.adjusted',
          resource: { type: 'credits', id: written.id },
          details: {
            amount,
            balance: written.balanceAfter,
            expires_at: expiresAt?.toISOString() ?? null,
            note,
          },
        });
      }
      return { outcome: added, entry: written };
    });
    return entry ?? refuse(outcome);
  }

  /** @param threshold null: a tenth of the last grant */
  async setLowThreshold(threshold: number | null): Promise<CreditAccount & { enforced: boolean }> {
    const enforced = await this.credits.enforced();
    return this.database.run(async tx => {
      const { before, state } = await this.movements.setLowThreshold(tx, threshold);
      this.watch.tell(tx, state);
      this.audit.record(tx, {
        action: 'credits.threshold_changed',
        resource: { type: 'credits', id: null },
        details: { before, after: threshold },
      });
      return { ...(await this.repository.find(tx)), enforced };
    });
  }

  /** Streams the ledger as it stands now. Whoever reads slowly holds neither memory nor a connection. */
  async export(format: LedgerFormat, filter: LedgerFilter, signal: AbortSignal): Promise<Readable> {
    const upTo = await this.database.run(tx => this.repository.lastSequence(tx));
    // A stream asks for more from wherever its reader has room again: not in the context of this request.
    const inContext = AsyncLocalStorage.snapshot();
    const next = (after: number) =>
      inContext(() =>
        this.database.run(tx => this.repository.batch(tx, filter, { after, upTo, limit: BATCH })),
      );
    const pieces = async function* () {
      for (let after = 0; !signal.aborted;) {
        const entries = await next(after);
        yield exportedLedger(format, entries, after === 0);
        const last = entries.at(-1);
        if (!last || entries.length < BATCH) return;
        after = last.sequence;
      }
    };
    return Readable.from(pieces(), { objectMode: false, highWaterMark: 64 * 1024 });
  }
}

function refuse(outcome: AddOutcome): never {
  switch (outcome.outcome) {
    case 'insufficient':
      throw Problem.conflict(
        'balance_too_low',
        `The balance is ${outcome.refusal.available} micro-credits, and must not fall below 0.`,
        { ...outcome.refusal },
      );
    case 'key_reused':
      throw keyReused();
    case 'expired':
      throw Problem.invalid([
        { path: 'expires_at', code: 'too_small', message: 'Invalid input: must lie in the future' },
      ]);
    default:
      throw amountTooLarge();
  }
}
