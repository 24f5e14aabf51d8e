import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { Semaphore } from 'redis-semaphore';
import { RedisAwayError, type RedisConnection } from './redis-connection.js';

/** A place that nobody has given back is free again after this long: its process has died. */
const LEASE_MS = 10_000;
const RENEW_EVERY_MS = 3_000;
/** redis-semaphore waits for so long after its one attempt, too. */
const NO_RETRY = { acquireAttemptsLimit: 1, retryInterval: 0, acquireTimeout: 60_000 };

/** A place that is taken. */
interface Place {
  key: string;
  limit: number;
  identifier: string;
}

/**
 * Lets so many through at a time, by key: counted in Redis, or in this process where there is none. While Redis is away
 * each process lets so many through itself.
 */
export class ConcurrencyLimiter {
  private readonly logger = new Logger(ConcurrencyLimiter.name);
  /** How many are under way in this process. */
  private readonly here = new Map<string, number>();
  private readonly leases = new Set<Place>();
  private renewing: NodeJS.Timeout | null = null;

  /** @param prefix of keys in Redis */
  constructor(
    private readonly redis: RedisConnection | null,
    private readonly prefix: string,
  ) {}

  /** @param limit null: none, but who is under way here is counted; @returns gives the place back; null: none is free */
  async enter(key: string, limit: number | null): Promise<(() => void) | null> {
    if (limit === 0) return null;
    const place = { key, limit: limit ?? Infinity, identifier: randomUUID() };
    let leased = false;
    if (limit !== null && this.redis?.isUp) {
      try {
        if (!(await this.take(this.redis, place))) return null;
        leased = true;
      } catch (error) {
        this.failed(error);
      }
    }
    const here = this.here.get(key) ?? 0;
    if (!leased && here >= place.limit) return null;
    this.here.set(key, here + 1);
    if (leased) this.keep(place);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.leave(place, leased);
    };
  }

  /** How many are under way. */
  async busy(key: string): Promise<number> {
    if (this.redis?.isUp) {
      try {
        const now = Date.now();
        const leased = await this.redis.ask(client =>
          client.zcount(`semaphore:${this.prefix}${key}`, `(${now - LEASE_MS}`, '+inf'),
        );
        return Math.max(leased, this.here.get(key) ?? 0);
      } catch (error) {
        this.failed(error);
      }
    }
    return this.here.get(key) ?? 0;
  }

  close(): void {
    if (this.renewing) clearInterval(this.renewing);
  }

  private async take(redis: RedisConnection, place: Place): Promise<boolean> {
    const semaphore = this.semaphore(redis, place);
    const answer = semaphore.tryAcquire();
    try {
      return await redis.ask(() => answer);
    } catch (error) {
      // It may have got the place, and nobody was there any more to take it.
      answer
        .then(
          taken => (taken ? semaphore.release() : undefined),
          () => undefined,
        )
        .catch(() => undefined);
      throw error;
    }
  }

  private leave(place: Place, leased: boolean): void {
    const here = (this.here.get(place.key) ?? 1) - 1;
    if (here > 0) this.here.set(place.key, here);
    else this.here.delete(place.key);
    if (!leased || !this.redis) return;
    this.leases.delete(place);
    const { redis } = this;
    redis
      .ask(client => client.zrem(`semaphore:${this.prefix}${place.key}`, place.identifier))
      .catch((error: unknown) => this.failed(error));
  }

  private keep(place: Place): void {
    this.leases.add(place);
    this.renewing ??= setInterval(() => void this.renew(), RENEW_EVERY_MS).unref();
  }

  private async renew(): Promise<void> {
    const { redis } = this;
    if (!redis?.isUp) return;
    await Promise.all(
      [...this.leases].map(place =>
        redis
          .ask(() => this.semaphore(redis, place, { acquiredExternally: true as const }).tryAcquire())
          .catch((error: unknown) => this.failed(error)),
      ),
    );
  }

  private semaphore(
    redis: RedisConnection,
    place: Place,
    taken: { acquiredExternally?: true } = {},
  ): Semaphore {
    return new Semaphore(redis.client, `${this.prefix}${place.key}`, place.limit, {
      ...NO_RETRY,
      ...taken,
      identifier: place.identifier,
      lockTimeout: LEASE_MS,
      // Its own timer would let a failure of Redis through as an unhandled rejection.
      refreshInterval: 0,
    });
  }

  private failed(error: unknown): void {
    if (error instanceof RedisAwayError) return;
    this.logger.warn(`Redis: ${(error as Error).message}`);
  }
}
