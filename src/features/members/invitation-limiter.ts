import { Injectable } from '@nestjs/common';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { Problem } from '../../foundation/http/problem.js';

/**
 * Slows down whoever tries tokens of invitations. A token has 256 bits, which no number of tries finds: it is enough
 * that each process counts for itself.
 */
@Injectable()
export class InvitationLimiter {
  private readonly byAddress: RateLimiterMemory;

  constructor(@InjectEnv() env: Env) {
    this.byAddress = new RateLimiterMemory({ points: env.authRateLimit, duration: 60 });
  }

  /** @throws Problem 429 `rate_limited` */
  async count(ip: string): Promise<void> {
    try {
      await this.byAddress.consume(ip);
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) throw error;
      const seconds = Math.max(1, Math.ceil(error.msBeforeNext / 1000));
      throw new Problem(429, 'rate_limited', `Too many attempts. Try again in ${seconds} seconds.`, {
        headers: { 'retry-after': String(seconds) },
      });
    }
  }
}
