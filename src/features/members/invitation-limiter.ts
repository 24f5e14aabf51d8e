import { Injectable } from '@nestjs/common';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { addressKey } from '../../foundation/rate-limits/address-key.js';
import { rateLimited } from '../../foundation/rate-limits/rate-limit-headers.js';
import type { RateLimiter } from '../../foundation/rate-limits/rate-limiter.js';
import { RateLimits } from '../../foundation/rate-limits/rate-limits.js';

/** E-mails of one tenant to one address within {@link MAIL_WINDOW_S}: nobody is written to without end. */
const MAILS_PER_RECIPIENT = 10;
const MAIL_WINDOW_S = 3_600;

/** Slows down whoever tries tokens of invitations, and whoever has somebody written to again and again. */
@Injectable()
export class InvitationLimiter {
  private readonly byAddress: RateLimiter;
  private readonly byRecipient: RateLimiter;

  constructor(
    @InjectEnv() private readonly env: Pick<Env, 'authRateLimit'>,
    limits: RateLimits,
  ) {
    this.byAddress = limits.limiter('invitation-address', 60);
    this.byRecipient = limits.limiter('member-mails', MAIL_WINDOW_S);
  }

  /** @throws Problem 429 `rate_limited` */
  async count(ip: string): Promise<void> {
    const { consumed, msBeforeNext } = await this.byAddress.count(addressKey(ip));
    if (consumed > this.env.authRateLimit) throw rateLimited(msBeforeNext / 1000);
  }

  /** Before an e-mail to somebody who is to belong to a tenant. @throws Problem 429 `rate_limited` */
  async countMail(tenantId: string, email: string): Promise<void> {
    const { consumed, msBeforeNext } = await this.byRecipient.count(`${tenantId}/${email.toLowerCase()}`);
    if (consumed > MAILS_PER_RECIPIENT) throw rateLimited(msBeforeNext / 1000);
  }
}
