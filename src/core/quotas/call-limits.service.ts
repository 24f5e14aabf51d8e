import { Injectable } from '@nestjs/common';
import { Problem } from '../../foundation/http/problem.js';
import { type Allowance, rateLimited } from '../../foundation/rate-limits/rate-limit-headers.js';
import type { Count } from '../../foundation/rate-limits/rate-limiter.js';
import type { KnownTenant } from '../tenancy/tenant-directory.js';
import type { LimitName } from '../tenancy/tenant-limits.js';
import { secondsLeft, secondsOf } from './calendar-window.js';
import { QuotaAlarm } from './quota-alarm.service.js';
import { type CalendarLimit, MINUTE_S, UsageCounters } from './usage-counters.js';

const CALLS: CalendarLimit[] = ['max_api_calls_per_hour', 'max_api_calls_per_day', 'max_api_calls_per_month'];

/** What a request of a tenant is counted against. */
interface CallLimit {
  name: LimitName;
  max: number;
  /** Null: the minute. */
  calendar: CalendarLimit | null;
  /** Whether going past it is refused. */
  holds: boolean;
}

interface Counted {
  limit: CallLimit;
  count: Count;
  allowance: Allowance;
}

/** How a request came through. */
export interface Admission {
  allowances: Allowance[];
  /** What stopped it. */
  refusal: Problem | null;
  /** To be called when the answer has ended; null for what takes no place. */
  leave: (() => void) | null;
}

/** Holds a tenant's requests to its limits: so many a minute, hour, day and month, so many questions at a time. */
@Injectable()
export class CallLimits {
  /** Of a tenant as it is now: the directory makes another one when it changes. */
  private readonly known = new WeakMap<KnownTenant, { calls: CallLimit[]; queries: CallLimit[] }>();

  constructor(
    private readonly counters: UsageCounters,
    private readonly alarm: QuotaAlarm,
  ) {}

  /** Counts one request, in one message to Redis; what is refused is taken back from the calendar's counters. */
  async admit(tenant: KnownTenant, { isQuery }: { isQuery: boolean }): Promise<Admission> {
    const { calls, queries } = this.limitsOf(tenant);
    const limits = isQuery ? queries : calls;
    const now = new Date();
    const [counted, place] = await Promise.all([
      Promise.all(limits.map(limit => this.count(tenant, limit, now))),
      isQuery ? this.enter(tenant) : null,
    ]);
    const allowances = counted.map(({ allowance }) => allowance);
    const refusal = this.refusalOf(tenant, counted) ?? (place === 'full' ? full(tenant) : null);
    const leave = place === 'full' ? null : place;
    if (!refusal) return { allowances, refusal, leave };
    leave?.();
    for (const { limit, count } of counted) if (limit.calendar) count.undo();
    return { allowances, refusal, leave: null };
  }

  private refusalOf(tenant: KnownTenant, counted: readonly Counted[]): Problem | null {
    const over = counted.filter(({ limit, count }) => count.consumed > limit.max);
    for (const { limit, count } of over) {
      // Whoever is too fast for a minute knows; whoever has used up their month should.
      if (limit.calendar) this.raise(tenant, limit, count.consumed - 1);
    }
    const refused = over.filter(({ limit }) => limit.holds);
    if (refused.length === 0) return null;
    const wait = Math.max(...refused.map(({ allowance }) => allowance.resetSeconds));
    const last = refused.find(({ allowance }) => allowance.resetSeconds === wait) as Counted;
    return rateLimited(wait, { limit: last.limit.name, max: last.limit.max, plan_tier: tenant.planTier });
  }

  private raise(tenant: KnownTenant, { name, max }: CallLimit, used: number): void {
    const { id: tenantId, planTier, enforceQuotas } = tenant;
    this.alarm.raise({ tenantId, limit: name, used, max, planTier }, enforceQuotas);
  }

  private async count(tenant: KnownTenant, limit: CallLimit, now: Date): Promise<Counted> {
    const { calendar, max } = limit;
    if (calendar === null) {
      const count = await this.counters.countMinute(tenant.id);
      const resetSeconds = Math.max(1, Math.ceil(count.msBeforeNext / 1000));
      return { limit, count, allowance: allowanceOf(max, count, resetSeconds, MINUTE_S) };
    }
    const count = await this.counters.count(tenant.id, calendar, 1, now);
    const window = this.counters.window(calendar, now);
    return { limit, count, allowance: allowanceOf(max, count, secondsLeft(window, now), secondsOf(window)) };
  }

  private async enter(tenant: KnownTenant): Promise<(() => void) | 'full'> {
    const most = tenant.enforceQuotas ? tenant.limits.max_concurrent_queries : null;
    return (await this.counters.queries.enter(tenant.id, most)) ?? 'full';
  }

  private limitsOf(tenant: KnownTenant): { calls: CallLimit[]; queries: CallLimit[] } {
    let known = this.known.get(tenant);
    if (!known) {
      const ofCalendar = (names: readonly CalendarLimit[]) =>
        names.flatMap((name): CallLimit[] => {
          const max = tenant.limits[name];
          return max === null ? [] : [{ name, max, calendar: name, holds: tenant.enforceQuotas }];
        });
      const calls = [...minuteOf(tenant), ...ofCalendar(CALLS)];
      known = { calls, queries: [...calls, ...ofCalendar(['max_queries_per_hour'])] };
      this.known.set(tenant, known);
    }
    return known;
  }
}

/** A throttle holds whether or not limits are enforced: somebody has asked for it. */
function minuteOf({ limits, throttledTo, enforceQuotas }: KnownTenant): CallLimit[] {
  const name = 'max_api_calls_per_minute';
  const own = limits[name];
  const max = Math.min(own ?? Infinity, throttledTo ?? Infinity);
  if (max === Infinity) return [];
  if (!enforceQuotas && throttledTo !== null)
    return [{ name, max: throttledTo, calendar: null, holds: true }];
  return [{ name, max, calendar: null, holds: enforceQuotas }];
}

const allowanceOf = (
  limit: number,
  { consumed }: Count,
  resetSeconds: number,
  windowSeconds: number,
): Allowance => ({ limit, remaining: Math.max(0, limit - consumed), resetSeconds, windowSeconds });

function full({ limits, planTier }: KnownTenant): Problem {
  const max = limits.max_concurrent_queries;
  return new Problem(
    429,
    'concurrency_limited',
    `This tenant may run ${max} searches and questions at a time. Try again when one has ended.`,
    {
      headers: { 'retry-after': '1' },
      members: { limit: 'max_concurrent_queries', max, plan_tier: planTier },
    },
  );
}
