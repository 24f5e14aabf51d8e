import { Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { addressKey } from '../../foundation/rate-limits/address-key.js';
import { rateLimited } from '../../foundation/rate-limits/rate-limit-headers.js';
import type { Count, RateLimiter } from '../../foundation/rate-limits/rate-limiter.js';
import { RateLimits } from '../../foundation/rate-limits/rate-limits.js';

/**
 * Wrong passwords for one account within {@link FAILURE_WINDOW_S}: so many from each address that the account was opened
 * from before, and so many from all others together.
 */
const MOST_FAILURES = 10;
const FAILURE_WINDOW_S = 15 * 60;
/** E-mails with a new token to one address within {@link FAILURE_WINDOW_S}, whether or not anybody has an account with it. */
const MOST_RESETS = 5;
/** How long an address counts as its account's that has shown a token from an e-mail. Seconds. */
const PROVEN_S = 24 * 60 * 60;
/** Accounts that one address may find to exist already, within an hour. */
const MOST_TAKEN = 20;
const TAKEN_WINDOW_S = 60 * 60;

/** Somebody who tries to open an account. */
export interface Attempt {
  /** Of the account, in small letters. */
  email: string;
  ip: string;
  /** Addresses that the account was opened from. */
  openedFrom: () => Promise<readonly string[]>;
}

/**
 * Slows down whoever guesses passwords: by address on every public sign-in route, by account on failures. Who fails with
 * an account that is not theirs must not lock its owner out: failures of strangers count against strangers alone. An
 * address is no stranger's from which the account was opened before, or that has shown a token from an e-mail.
 */
@Injectable()
export class SignInLimiter {
  private readonly byAddress: RateLimiter;
  /** Of an account from one address. */
  private readonly failures: RateLimiter;
  /** Of an account from all addresses that are not its own. */
  private readonly strangers: RateLimiter;
  /** Of whoever is signed in to an account. */
  private readonly changes: RateLimiter;
  private readonly proven: RateLimiter;
  private readonly resets: RateLimiter;
  private readonly resetsOfAll: RateLimiter;
  private readonly taken: RateLimiter;

  constructor(
    @InjectEnv() private readonly env: Pick<Env, 'authRateLimit'>,
    limits: RateLimits,
  ) {
    this.byAddress = limits.limiter('signin-address', 60);
    this.failures = limits.limiter('signin-failures', FAILURE_WINDOW_S);
    this.strangers = limits.limiter('signin-strangers', FAILURE_WINDOW_S);
    this.changes = limits.limiter('password-changes', FAILURE_WINDOW_S);
    this.proven = limits.limiter('signin-proven', PROVEN_S);
    this.resets = limits.limiter('password-resets', FAILURE_WINDOW_S);
    this.resetsOfAll = limits.limiter('password-resets-of-all', FAILURE_WINDOW_S);
    this.taken = limits.limiter('registrations-taken', TAKEN_WINDOW_S);
  }

  /** @throws Problem 429 `rate_limited` */
  async countAddress(ip: string): Promise<void> {
    await refuseAbove(this.env.authRateLimit, this.byAddress.count(addressKey(ip)));
  }

  /**
   * To be asked before a password is verified, and again when it was right: of many who guess at once, those who come
   * after too many failures learn nothing.
   *
   * @throws Problem 429 `rate_limited` while there are too many failures behind the attempt
   */
  async check(attempt: Attempt): Promise<void> {
    await refuseAbove(MOST_FAILURES - 1, this.failures.look(pairOf(attempt)));
    const strangers = await this.strangers.look(keyOf(attempt.email));
    if (strangers.consumed < MOST_FAILURES || (await this.isOwn(attempt))) return;
    throw rateLimited(strangers.msBeforeNext / 1000);
  }

  /** @throws Problem 429 `rate_limited` where there were too many before, as {@link check} says it of a right password */
  async countFailure(attempt: Attempt): Promise<void> {
    await refuseAbove(MOST_FAILURES, this.failures.count(pairOf(attempt)));
    // Counted before anybody is asked whose address it is: others who guess at this moment are to know of it.
    const counted = await this.strangers.count(keyOf(attempt.email));
    if (await this.isOwn(attempt)) counted.undo();
    else await refuseAbove(MOST_FAILURES, counted);
  }

  /** The account was opened. */
  async forgive(attempt: Pick<Attempt, 'email' | 'ip'>): Promise<void> {
    await this.failures.forget(pairOf(attempt));
  }

  /** Somebody at this address has shown a token that was sent to the account's. */
  async prove(attempt: Pick<Attempt, 'email' | 'ip'>): Promise<void> {
    await this.forgive(attempt);
    await this.proven.count(pairOf(attempt));
  }

  /**
   * In a session of the account, before the password is verified: sessions are not slowed down like strangers are.
   *
   * @throws Problem 429 `rate_limited` after too many wrong ones
   */
  async countChange(userId: string): Promise<void> {
    await refuseAbove(MOST_FAILURES, this.changes.count(userId));
  }

  async forgiveChanges(userId: string): Promise<void> {
    await this.changes.forget(userId);
  }

  /**
   * @returns false where the address was written to often enough, from wherever: one of those e-mails will do
   * @throws Problem 429 `rate_limited` for whoever has asked for all of them
   */
  async countReset(attempt: Pick<Attempt, 'email' | 'ip'>): Promise<boolean> {
    await refuseAbove(MOST_RESETS, this.resets.count(pairOf(attempt)));
    return (await this.resetsOfAll.count(keyOf(attempt.email))).consumed <= MOST_RESETS;
  }

  /** @throws Problem 429 `rate_limited` for whoever has found many accounts to exist */
  async checkRegistration(ip: string): Promise<void> {
    await refuseAbove(MOST_TAKEN - 1, this.taken.look(addressKey(ip)));
  }

  async countTaken(ip: string): Promise<void> {
    await this.taken.count(addressKey(ip));
  }

  private async isOwn(attempt: Attempt): Promise<boolean> {
    if ((await this.proven.look(pairOf(attempt))).consumed > 0) return true;
    const address = addressKey(attempt.ip);
    return (await attempt.openedFrom()).some(ip => addressKey(ip) === address);
  }
}

/** Of one length, however long the text is that a stranger has sent; and no counter's name tells whose it is. */
const keyOf = (email: string): string => createHash('sha256').update(email).digest('base64url');

const pairOf = ({ email, ip }: Pick<Attempt, 'email' | 'ip'>): string => `${keyOf(email)} ${addressKey(ip)}`;

async function refuseAbove(
  most: number,
  counted: Pick<Count, 'consumed' | 'msBeforeNext'> | Promise<Pick<Count, 'consumed' | 'msBeforeNext'>>,
): Promise<void> {
  const { consumed, msBeforeNext } = await counted;
  if (consumed > most) throw rateLimited(msBeforeNext / 1000);
}
