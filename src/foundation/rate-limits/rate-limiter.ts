import { Logger } from '@nestjs/common';
import { RateLimiterMemory, RateLimiterRedis, type RateLimiterRes } from 'rate-limiter-flexible';
import { RedisAwayError, type RedisConnection } from './redis-connection.js';
import type { RedisCounters } from './redis-counters.js';

/** What a counter says after something was counted. */
export interface Count {
  /** In this window, with what was counted just now. */
  consumed: number;
  /** Milliseconds until the window ends. */
  msBeforeNext: number;
  /** Takes back what was counted, where it was counted. */
  undo: () => void;
}

export interface CountOptions {
  /** Length of a window that begins now, where it is not the limiter's own. */
  seconds?: number;
  /**
   * What was used in this window before, from a record that outlives the counter. Asked for once for each new counter:
   * a process without Redis begins with none, and Redis may lose them.
   */
  seed?: () => Promise<number>;
}

interface Settings {
  name: string;
  /** Of a window. */
  seconds: number;
  /** Of keys in Redis. */
  prefix: string;
  redis: RedisConnection | null;
  /** On the same connection. */
  counters: RedisCounters | null;
}

/** What a counter began with is being asked for, and added to it. */
interface Seeding {
  used: Promise<number>;
  /** When it was added, in the order of additions; null: not yet. What was counted before does not hold it. */
  addedAs: number | null;
}

/** Only compared here: what is too much, those who count say. */
const ENDLESS = Number.MAX_SAFE_INTEGER;
/** Node's longest timer; a counter that is gone sooner is made anew, from its seed. */
const LONGEST_TIMER_S = 2_000_000;
/** What was used while Redis was away has been written down by then. */
const SETTLE_AFTER_MS = 3_000;
const MOST_UNSETTLED = 100_000;

/** Raises a counter that stands to at least a number; it keeps its end. */
const RAISE = `local v = redis.call('get', KEYS[1])
if v and tonumber(v) < tonumber(ARGV[1]) then redis.call('set', KEYS[1], ARGV[1], 'KEEPTTL') end
return 1`;

/**
 * Counts by key in windows of time: in Redis, which all processes share, or in this one's memory where there is none.
 * While Redis is away each process counts for itself: of a limit at most as many times as there are processes gets through
 * in a window.
 */
export class RateLimiter {
  private readonly logger = new Logger(RateLimiter.name);
  private readonly shared: RateLimiterRedis | null;
  private own: RateLimiterMemory;
  /** Until the addition was answered: by then all that was counted before it has been, too. */
  private readonly seeding = new Map<string, Seeding>();
  private additions = 0;
  /** Counters with a seed that were used while Redis was away. */
  private readonly unsettled = new Map<string, () => Promise<number>>();

  constructor(private readonly settings: Settings) {
    const { redis } = settings;
    this.own = this.createOwn();
    this.shared = redis
      ? new RateLimiterRedis({ ...this.options, storeClient: redis.client, rejectIfRedisNotReady: true })
      : null;
    redis?.onRecovery(() => this.scheduleSettlement());
  }

  /** Counts `points` for `key`, and never fails: without Redis in memory. @param points 0 adds nothing to what was used before */
  async count(key: string, points = 1, { seconds, seed }: CountOptions = {}): Promise<Count> {
    const length = seconds ?? this.settings.seconds;
    if (!seed) return this.add(key, points, length);
    const order = ++this.additions;
    const count = await this.add(key, points, length, seed);
    const lacks = (seeding: Seeding) => seeding.addedAs === null || order < seeding.addedAs;
    let seeding = this.seeding.get(key);
    if (count.consumed === points && !(seeding && lacks(seeding)))
      seeding = this.startSeeding(key, length, seed);
    return seeding && lacks(seeding) ? { ...count, consumed: count.consumed + (await seeding.used) } : count;
  }

  /** What stands there now, without beginning a window where none has begun. */
  async look(key: string): Promise<Pick<Count, 'consumed' | 'msBeforeNext'>> {
    const found = await this.find(key);
    return { consumed: found?.consumedPoints ?? 0, msBeforeNext: found?.msBeforeNext ?? 0 };
  }

  async forget(key: string): Promise<void> {
    await this.own.delete(key);
    const { redis } = this.settings;
    if (!redis?.isUp) return;
    await redis
      .ask(() => (this.shared as RateLimiterRedis).delete(key))
      .catch((error: unknown) => this.failed(error));
  }

  private async find(key: string): Promise<RateLimiterRes | null> {
    const { redis } = this.settings;
    if (redis?.isUp) {
      try {
        return await redis.ask(() => (this.shared as RateLimiterRedis).get(key));
      } catch (error) {
        this.failed(error);
      }
    }
    return this.own.get(key);
  }

  private get options() {
    const { name, seconds, prefix } = this.settings;
    return { keyPrefix: `${prefix}${name}`, points: ENDLESS, duration: seconds };
  }

  private createOwn(): RateLimiterMemory {
    return new RateLimiterMemory(this.options);
  }

  private async add(
    key: string,
    points: number,
    seconds: number,
    seed?: () => Promise<number>,
  ): Promise<Count> {
    const { redis, counters } = this.settings;
    if (redis?.isUp && counters) {
      try {
        const counted = await counters.add(`${this.options.keyPrefix}:${key}`, points, seconds);
        const undo = () => {
          const shared = this.shared as RateLimiterRedis;
          redis
            .ask(() => shared.reward(key, points, { customDuration: seconds }))
            .catch((error: unknown) => this.failed(error));
        };
        return { ...counted, undo };
      } catch (error) {
        this.failed(error);
      }
    }
    if (redis && seed && points > 0 && this.unsettled.size < MOST_UNSETTLED) this.unsettled.set(key, seed);
    const { own } = this;
    const options = { customDuration: Math.min(seconds, LONGEST_TIMER_S) };
    const { consumedPoints, msBeforeNext } = await own.penalty(key, points, options);
    return {
      consumed: consumedPoints,
      msBeforeNext,
      undo: () => void own.reward(key, points, options),
    };
  }

  /** Whoever counts meanwhile waits for it, and adds it: it is not in what they were answered. */
  private startSeeding(key: string, seconds: number, seed: () => Promise<number>): Seeding {
    const seeding: Seeding = { used: Promise.resolve(0), addedAs: null };
    const end = () => this.seeding.get(key) === seeding && this.seeding.delete(key);
    seeding.used = seed().then(
      used => {
        seeding.addedAs = ++this.additions;
        if (used > 0) void this.add(key, used, seconds).finally(end);
        else end();
        return used;
      },
      async (error: unknown) => {
        end();
        this.logger.warn(`What was used before is not known now: ${(error as Error).message}`);
        // The next one asks again.
        await this.forget(key);
        return 0;
      },
    );
    this.seeding.set(key, seeding);
    return seeding;
  }

  private scheduleSettlement(): void {
    if (this.unsettled.size === 0) return;
    const counters = [...this.unsettled];
    this.unsettled.clear();
    // At the next absence they begin with their seeds again: what they say now is past.
    this.own = this.createOwn();
    setTimeout(() => void this.settle(counters), SETTLE_AFTER_MS).unref();
  }

  /** Counters that Redis has kept lack what was counted elsewhere meanwhile. */
  private async settle(counters: Array<[key: string, seed: () => Promise<number>]>): Promise<void> {
    const { redis } = this.settings;
    for (const [key, seed] of counters) {
      try {
        const used = await seed();
        await redis?.ask(client => client.eval(RAISE, 1, `${this.options.keyPrefix}:${key}`, used));
      } catch (error) {
        this.failed(error);
      }
    }
  }

  private failed(error: unknown): void {
    if (error instanceof RedisAwayError) return;
    this.logger.warn(`Redis: ${(error as Error).message}`);
  }
}
