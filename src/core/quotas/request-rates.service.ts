import { Injectable } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { addressKey } from '../../foundation/rate-limits/address-key.js';
import { rateLimited, tellAllowances } from '../../foundation/rate-limits/rate-limit-headers.js';
import type { RateLimiter } from '../../foundation/rate-limits/rate-limiter.js';
import { RateLimits } from '../../foundation/rate-limits/rate-limits.js';
import type { Principal } from '../tenancy/tenant-context.js';

const MINUTE_S = 60;

/** How fast somebody may ask, whatever comes of it: an address, a member, an API token. */
@Injectable()
export class RequestRates {
  private readonly addresses: RateLimiter;
  private readonly members: RateLimiter;
  private readonly tokens: RateLimiter;

  constructor(
    limits: RateLimits,
    @InjectEnv() private readonly env: Pick<Env, 'rateLimits'>,
  ) {
    this.addresses = limits.limiter('address', MINUTE_S);
    this.members = limits.limiter('member', MINUTE_S);
    this.tokens = limits.limiter('token', MINUTE_S);
  }

  /** Of whoever has shown no credential, or none that is good. @throws Problem 429 `rate_limited` */
  countAddress(ip: string, reply: FastifyReply): Promise<void> {
    return this.count(this.addresses, addressKey(ip), this.env.rateLimits.perAddress, reply);
  }

  /** @throws Problem 429 `rate_limited` */
  async countPrincipal(principal: Principal, reply: FastifyReply): Promise<void> {
    if (principal.kind === 'api_token') {
      await this.count(this.tokens, principal.tokenId, principal.rateLimitPerMinute, reply);
    } else if (principal.kind === 'user') {
      await this.count(this.members, principal.userId, this.env.rateLimits.perMember, reply);
    }
  }

  private async count(limiter: RateLimiter, key: string, limit: number, reply: FastifyReply): Promise<void> {
    const { consumed, msBeforeNext } = await limiter.count(key);
    const resetSeconds = Math.max(1, Math.ceil(msBeforeNext / 1000));
    const remaining = Math.max(0, limit - consumed);
    tellAllowances(reply, [{ limit, remaining, resetSeconds, windowSeconds: MINUTE_S }]);
    if (consumed > limit) throw rateLimited(resetSeconds);
  }
}
