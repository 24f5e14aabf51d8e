import { Injectable } from '@nestjs/common';
import type { ConcurrencyLimiter } from '../../foundation/rate-limits/concurrency-limiter.js';
import type { Count, RateLimiter } from '../../foundation/rate-limits/rate-limiter.js';
import { RateLimits } from '../../foundation/rate-limits/rate-limits.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import type { LimitName } from '../tenancy/tenant-limits.js';
import { UsageService } from '../usage/usage.service.js';
import { QuotasRepository } from './quotas.repository.js';
import { type CalendarWindow, type Window, calendarWindow, secondsLeft } from './calendar-window.js';

/** Limits of what is used up in a window of the calendar, with what the usage calls it. */
export const CALENDAR_LIMITS = {
  max_api_calls_per_hour: { window: 'hour', what: 'api_calls' },
  max_api_calls_per_day: { window: 'day', what: 'api_calls' },
  max_api_calls_per_month: { window: 'month', what: 'api_calls' },
  max_queries_per_hour: { window: 'hour', what: 'queries' },
  max_llm_tokens_per_month: { window: 'month', what: 'llm_tokens' },
} as const satisfies Partial<
  Record<LimitName, { window: Window; what: 'api_calls' | 'queries' | 'llm_tokens' }>
>;

export type CalendarLimit = keyof typeof CALENDAR_LIMITS;
export const CALENDAR_LIMIT_NAMES = Object.keys(CALENDAR_LIMITS) as CalendarLimit[];

/** Clocks of several processes differ. */
const GRACE_S = 60;
export const MINUTE_S = 60;

/**
 * How much tenants have used, in windows that begin again. What is counted over an hour or longer begins with what the
 * recorded usage knows: a process that starts, or a Redis that has lost its memory, gives nobody their month again.
 */
@Injectable()
export class UsageCounters {
  private readonly minutes: RateLimiter;
  private readonly calendar: RateLimiter;
  readonly queries: ConcurrencyLimiter;

  constructor(
    limits: RateLimits,
    private readonly usage: UsageService,
    private readonly database: PlatformDatabase,
    private readonly repository: QuotasRepository,
  ) {
    this.minutes = limits.limiter('tenant-minute', MINUTE_S);
    this.calendar = limits.limiter('tenant-calendar', 3_600);
    this.queries = limits.concurrency('queries');
  }

  countMinute(tenantId: string): Promise<Count> {
    return this.minutes.count(tenantId);
  }

  async minuteOf(tenantId: string): Promise<number> {
    return (await this.minutes.look(tenantId)).consumed;
  }

  /** @param points 0 adds nothing to what was used before. Not inside of a transaction */
  count(tenantId: string, limit: CalendarLimit, points: number, now: Date): Promise<Count> {
    const window = this.window(limit, now);
    return this.calendar.count(keyOf(tenantId, limit, window), points, {
      seconds: secondsLeft(window, now) + GRACE_S,
      seed: () => this.recorded(tenantId, limit, window),
    });
  }

  /** What the recorded usage knows, a second late. Not inside of a transaction. */
  recorded(tenantId: string, limit: CalendarLimit, { start }: CalendarWindow): Promise<number> {
    const { window, what } = CALENDAR_LIMITS[limit];
    if (what === 'llm_tokens') return this.usage.countSince(tenantId, start, what);
    const grain = window === 'hour' ? 'hour' : 'day';
    const which = { since: start, grain, queries: what === 'queries' } as const;
    return this.database.run(tx => this.repository.callsSince(tx, tenantId, which));
  }

  /** Adds to what is counted already: it has been recorded, or will be. */
  add(tenantId: string, limit: CalendarLimit, points: number, now: Date): Promise<Count> {
    const window = this.window(limit, now);
    const seconds = secondsLeft(window, now) + GRACE_S;
    return this.calendar.count(keyOf(tenantId, limit, window), points, { seconds });
  }

  window(limit: CalendarLimit, now: Date): CalendarWindow {
    return calendarWindow(CALENDAR_LIMITS[limit].window, now);
  }

  /** Of a tenant whose limits have changed: what was not limited was not counted, and begins with its record again. */
  async forget(tenantId: string): Promise<void> {
    const now = new Date();
    await this.usage.flush();
    await Promise.all(
      CALENDAR_LIMIT_NAMES.map(limit =>
        this.calendar.forget(keyOf(tenantId, limit, this.window(limit, now))),
      ),
    );
  }
}

const keyOf = (tenantId: string, limit: CalendarLimit, window: CalendarWindow): string =>
  `${tenantId}/${limit}/${window.name}`;
