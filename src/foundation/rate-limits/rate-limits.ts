import { Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { ConcurrencyLimiter } from './concurrency-limiter.js';
import { RateLimiter } from './rate-limiter.js';
import { RedisConnection } from './redis-connection.js';
import { RedisCounters } from './redis-counters.js';

/** Makes limiters: shared by all processes through Redis where the settings name one, else of this process. */
@Injectable()
export class RateLimits implements OnModuleInit, OnApplicationShutdown {
  private readonly redis: RedisConnection | null;
  private readonly counters: RedisCounters | null;
  private readonly prefix: string;
  private readonly concurrencyLimiters: ConcurrencyLimiter[] = [];

  /** @param installation keeps the counters of installations apart that share a Redis */
  constructor(redisUrl: string | null, installation: string) {
    this.redis = redisUrl === null ? null : new RedisConnection(redisUrl);
    this.counters = this.redis && new RedisCounters(this.redis);
    this.prefix = `enclave:${installation}:`;
  }

  async onModuleInit(): Promise<void> {
    await this.redis?.ready();
  }

  onApplicationShutdown(): void {
    for (const limiter of this.concurrencyLimiters) limiter.close();
    this.redis?.close();
  }

  /** @param name of its own; @param seconds of a window */
  limiter(name: string, seconds: number): RateLimiter {
    return new RateLimiter({
      name,
      seconds,
      prefix: this.prefix,
      redis: this.redis,
      counters: this.counters,
    });
  }

  concurrency(name: string): ConcurrencyLimiter {
    const limiter = new ConcurrencyLimiter(this.redis, `${this.prefix}${name}:`);
    this.concurrencyLimiters.push(limiter);
    return limiter;
  }
}
