import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { SealedBox, SealError } from '../../foundation/crypto/sealed-box.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { BackgroundJobs } from '../jobs/background-jobs.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import type { TenantAccess } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { IdempotencyRepository, type UsedKey } from './idempotency.repository.js';

const CLEAN_UP_JOB = 'idempotency.clean_up';
const CLEAN_UP_EVERY = 3600;
const MOST_AT_ONCE = 1_000;
/** Well within the lease. */
const RENEW_EVERY_MS = 10_000;
/** Bytes: whatever is larger can be asked for again, but not be kept for everybody. */
const LARGEST_ANSWER = 1024 * 1024;
/** A key that is given back between two looks at it is taken at the next. */
const MOST_LOOKS = 3;

/** The use of a key by one request. */
export interface KeyUse {
  /** See `keyId`. */
  id: Buffer;
  /** The context's tenant, or null where the request belongs to none. */
  tenantId: string | null;
  fingerprint: Buffer;
  /** How far the principal sees in that tenant at present; null without one. */
  access: TenantAccess | null;
}

/** An answer as it was given. */
export interface StoredAnswer {
  status: number;
  headers: Record<string, string>;
  /** JSON; missing where the answer has no body. */
  body?: unknown;
}

/** With how far the principal saw then: what they see no more, they are not shown again. */
type SealedAnswer = StoredAnswer & Pick<KeyUse, 'access'>;

/** The right to do what a request asks for, until it is completed or released. */
export interface Attempt {
  /** @param answer null: it is a stream, and cannot be had again */
  complete(answer: StoredAnswer | null): Promise<void>;
  /** What was asked for was not done: the key may be used again. */
  release(): Promise<void>;
}

/**
 * Keys that make it safe to send a request again (draft-ietf-httpapi-idempotency-key-header-07). The first request with a
 * key runs under a lease that is renewed while it runs; what it was answered is kept, sealed, for a day.
 */
@Injectable()
export class IdempotencyService implements OnModuleInit {
  private readonly logger = new Logger(IdempotencyService.name);

  constructor(
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly repository: IdempotencyRepository,
    private readonly box: SealedBox,
    private readonly jobs: BackgroundJobs,
  ) {}

  onModuleInit(): void {
    this.jobs.define({
      kind: CLEAN_UP_JOB,
      mostAttempts: 3,
      every: CLEAN_UP_EVERY,
      run: ({ signal }) => this.cleanUp(signal),
    });
  }

  /**
   * Takes the key for this request, or finds what it was answered before.
   *
   * @throws Problem 422 `idempotency_key_reused`, 409 `idempotency_in_progress` or `idempotency_not_replayable`
   */
  async begin(use: KeyUse): Promise<{ attempt: Attempt } | { replay: StoredAnswer }> {
    const owner = uuidv7();
    for (let look = 1; look <= MOST_LOOKS; look++) {
      const used = await this.run(use, async tx =>
        (await this.repository.claim(tx, { ...use, owner })) ? 'mine' : this.repository.find(tx, use.id),
      );
      if (used === 'mine') return { attempt: this.attempt(use, owner) };
      if (used) return { replay: this.replay(use, used) };
    }
    throw inProgress();
  }

  private replay(use: KeyUse, used: UsedKey): StoredAnswer {
    if (!used.fingerprint.equals(use.fingerprint)) {
      throw new Problem(
        422,
        'idempotency_key_reused',
        'This Idempotency-Key was used for another request: with another body, or on another route.',
      );
    }
    if (used.status === 'running') throw inProgress();
    if (!used.answer) throw notReplayable();
    try {
      const { access, ...answer } = JSON.parse(this.box.open(used.answer, contextOf(use.id))) as SealedAnswer;
      if (access && use.access && seesLess(use.access, access)) throw notReplayable();
      return answer;
    } catch (error) {
      // Its key is not among those of the settings any more.
      if (error instanceof SealError) throw notReplayable();
      throw error;
    }
  }

  private attempt(use: KeyUse, owner: string): Attempt {
    const timer = setInterval(() => {
      const renewed = this.run(use, tx => this.repository.renew(tx, use.id, owner));
      renewed.catch((error: Error) => this.logger.warn(`A lease was not renewed: ${error.message}`));
    }, RENEW_EVERY_MS);
    timer.unref();
    const end = async (work: (tx: Tx) => Promise<void>) => {
      clearInterval(timer);
      try {
        await this.run(use, work);
      } catch (error) {
        // The request itself has ended as it has ended; the key is free again once its lease has run out.
        this.logger.warn(`How a request with a key ended was not written down: ${(error as Error).message}`);
      }
    };
    return {
      complete: answer => {
        const sealed = answer && this.seal(use.id, { ...answer, access: use.access });
        return end(tx => this.repository.complete(tx, use.id, owner, sealed));
      },
      release: () => end(tx => this.repository.release(tx, use.id, owner)),
    };
  }

  private seal(id: Buffer, answer: SealedAnswer): Buffer | null {
    const text = JSON.stringify(answer);
    return Buffer.byteLength(text) > LARGEST_ANSWER ? null : this.box.seal(text, contextOf(id));
  }

  /** What belongs to a tenant stands behind its row-level security, its keys too. */
  private run<T>(use: KeyUse, work: (tx: Tx) => Promise<T>): Promise<T> {
    return use.tenantId ? this.tenantDatabase.run(work) : this.platformDatabase.run(work);
  }

  private async cleanUp(signal: AbortSignal): Promise<void> {
    for (let deleted = MOST_AT_ONCE; deleted === MOST_AT_ONCE && !signal.aborted;) {
      deleted = await this.platformDatabase.run(tx => this.repository.deleteExpired(tx, MOST_AT_ONCE));
    }
  }
}

/** An answer that is put under another key does not open. */
const contextOf = (id: Buffer): string => `idempotency/${id.toString('hex')}`;

const seesLess = (now: TenantAccess, then: TenantAccess): boolean =>
  (then.all && !now.all) ||
  then.groups.some(group => !now.all && !now.groups.includes(group)) ||
  keptToLess(now.kbIds, then.kbIds) ||
  keptToLess(now.agentIds, then.agentIds);

/** Null stands for all. */
const keptToLess = (now: TenantAccess['kbIds'], then: TenantAccess['kbIds']): boolean =>
  Boolean(now) && (!then || then.some(id => !now?.includes(id)));

const inProgress = (): Problem =>
  new Problem(409, 'idempotency_in_progress', 'The first request with this Idempotency-Key still runs.', {
    headers: { 'retry-after': '1' },
  });

const notReplayable = (): Problem =>
  Problem.conflict(
    'idempotency_not_replayable',
    'What this request asks for has been done, but its answer cannot be had again: it was too large to be kept, or a stream, or you see less by now.',
  );
