import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Redis } from 'ioredis';
import {
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
  type RateLimiterAbstract,
} from 'rate-limiter-flexible';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { Problem } from '../../foundation/http/problem.js';

/** Failed passwords for one account within {@link FAILURE_WINDOW_S}, from wherever they come. */
const FAILURES_PER_ACCOUNT = 10;
const FAILURE_WINDOW_S = 15 * 60;
/** E-mails with a new token to one address within {@link FAILURE_WINDOW_S}, whether or not anybody has an account with it. */
const RESETS_PER_ACCOUNT = 5;

/**
 * Slows down whoever guesses passwords: by address on every public sign-in route, by account on failures. Counted in
 * Redis where there are several processes; while it is away, each process counts for itself.
 */
@Injectable()
export class SignInLimiter implements OnApplicationShutdown {
  private readonly redis: Redis | null;
  private readonly byAddress: RateLimiterAbstract;
  private readonly failures: RateLimiterAbstract;
  private readonly resets: RateLimiterAbstract;

  constructor(@InjectEnv() env: Env) {
    this.redis = env.redisUrl
      ? new Redis(env.redisUrl, { maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1_000 })
      : null;
    // Its insurance answers instead; without a listener ioredis prints every failed reconnection.
    this.redis?.on('error', () => undefined);
    this.byAddress = this.limiter('signin-address', env.authRateLimit, 60);
    this.failures = this.limiter('signin-failures', FAILURES_PER_ACCOUNT, FAILURE_WINDOW_S);
    this.resets = this.limiter('password-resets', RESETS_PER_ACCOUNT, FAILURE_WINDOW_S);
  }

  /** @throws Problem 429 `rate_limited` */
  async countAddress(ip: string): Promise<void> {
    await this.consume(this.byAddress, ip);
  }

  /** @throws Problem 429 `rate_limited` while the account has too many failures behind it */
  async checkAccount(email: string): Promise<void> {
    const state = await this.failures.get(email);
    if (state && state.consumedPoints >= FAILURES_PER_ACCOUNT) throw tooMany(state.msBeforeNext);
  }

  async countFailure(email: string): Promise<void> {
    await this.failures.penalty(email);
  }

  /** @throws Problem 429 `rate_limited` */
  async countReset(email: string): Promise<void> {
    await this.consume(this.resets, email);
  }

  async forgive(email: string): Promise<void> {
    await this.failures.delete(email);
  }

  onApplicationShutdown(): void {
    this.redis?.disconnect();
  }

  private async consume(limiter: RateLimiterAbstract, key: string): Promise<void> {
    try {
      await limiter.consume(key);
    } catch (error) {
      if (error instanceof RateLimiterRes) throw tooMany(error.msBeforeNext);
      throw error;
    }
  }

  private limiter(keyPrefix: string, points: number, duration: number): RateLimiterAbstract {
    const inMemory = new RateLimiterMemory({ keyPrefix, points, duration });
    if (!this.redis) return inMemory;
    return new RateLimiterRedis({
      storeClient: this.redis,
      keyPrefix: `enclave:${keyPrefix}`,
      points,
      duration,
      insuranceLimiter: inMemory,
    });
  }
}

function tooMany(waitMs: number): Problem {
  const seconds = Math.max(1, Math.ceil(waitMs / 1000));
  return new Problem(429, 'rate_limited', `Too many attempts. Try again in ${seconds} seconds.`, {
    headers: { 'retry-after': String(seconds) },
  });
}
