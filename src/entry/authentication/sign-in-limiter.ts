import { Injectable } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { addressKey } from '../../foundation/rate-limits/address-key.js';
import { rateLimited } from '../../foundation/rate-limits/rate-limit-headers.js';
import type { RateLimiter } from '../../foundation/rate-limits/rate-limiter.js';
import { RateLimits } from '../../foundation/rate-limits/rate-limits.js';

/** Failed passwords for one account within {@link FAILURE_WINDOW_S}, from wherever they come. */
const FAILURES_PER_ACCOUNT = 10;
const FAILURE_WINDOW_S = 15 * 60;
/** E-mails with a new token to one address within {@link FAILURE_WINDOW_S}, whether or not anybody has an account with it. */
const RESETS_PER_ACCOUNT = 5;

/** Slows down whoever guesses passwords: by address on every public sign-in route, by account on failures. */
@Injectable()
export class SignInLimiter {
  private readonly byAddress: RateLimiter;
  private readonly failures: RateLimiter;
  private readonly resets: RateLimiter;

  constructor(
    @InjectEnv() private readonly env: Pick<Env, 'authRateLimit'>,
    limits: RateLimits,
  ) {
    this.byAddress = limits.limiter('signin-address', 60);
    this.failures = limits.limiter('signin-failures', FAILURE_WINDOW_S);
    this.resets = limits.limiter('password-resets', FAILURE_WINDOW_S);
  }

  /** @throws Problem 429 `rate_limited` */
  async countAddress(ip: string): Promise<void> {
    await this.count(this.byAddress, addressKey(ip), this.env.authRateLimit);
  }

  /** @throws Problem 429 `rate_limited` while the account has too many failures behind it */
  async checkAccount(email: string): Promise<void> {
    const { consumed, msBeforeNext } = await this.failures.look(email);
    if (consumed >= FAILURES_PER_ACCOUNT) throw rateLimited(msBeforeNext / 1000);
  }

  async countFailure(email: string): Promise<void> {
    await this.failures.count(email);
  }

  /** @throws Problem 429 `rate_limited` */
  async countReset(email: string): Promise<void> {
    await this.count(this.resets, email, RESETS_PER_ACCOUNT);
  }

  async forgive(email: string): Promise<void> {
    await this.failures.forget(email);
  }

  private async count(limiter: RateLimiter, key: string, most: number): Promise<void> {
    const { consumed, msBeforeNext } = await limiter.count(key);
    if (consumed > most) throw rateLimited(msBeforeNext / 1000);
  }
}
