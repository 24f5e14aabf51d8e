import type { Redis } from 'ioredis';
import type { RedisConnection } from './redis-connection.js';

/** What a counter says after something was added to it. */
export interface Counted {
  consumed: number;
  msBeforeNext: number;
}

interface Addition {
  key: string;
  points: number;
  /** Of a window that begins with this. */
  windowMs: number;
  resolve: (counted: Counted) => void;
  reject: (error: unknown) => void;
}

type CountingRedis = Redis & {
  countInWindows(keys: number, ...values: Array<string | number>): Promise<number[]>;
};

/** A fixed window for each key; one without an end, which something else has written, ends with this window. */
const COUNT_IN_WINDOWS = `local counted = {}
for i, key in ipairs(KEYS) do
  local consumed = redis.call('incrby', key, ARGV[2 * i - 1])
  local left = redis.call('pttl', key)
  if left < 0 then
    left = tonumber(ARGV[2 * i])
    redis.call('pexpire', key, left)
  end
  counted[2 * i - 1] = consumed
  counted[2 * i] = left
end
return counted`;

/**
 * Adds to counters in Redis, all that were asked for at once in one command: a search is counted against half a dozen
 * limits, and six commands of a client library cost more than the search's other work for them together. The keys are those
 * of rate-limiter-flexible, which does everything else with them.
 */
export class RedisCounters {
  private waiting: Addition[] = [];

  constructor(private readonly redis: RedisConnection) {
    redis.client.defineCommand('countInWindows', { lua: COUNT_IN_WINDOWS });
  }

  /** @throws RedisAwayError */
  add(key: string, points: number, seconds: number): Promise<Counted> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ key, points, windowMs: seconds * 1000, resolve, reject });
      if (this.waiting.length === 1) process.nextTick(() => void this.send());
    });
  }

  private async send(): Promise<void> {
    const additions = this.waiting;
    this.waiting = [];
    try {
      const counted = await this.redis.ask(client =>
        (client as CountingRedis).countInWindows(
          additions.length,
          ...additions.map(({ key }) => key),
          ...additions.flatMap(({ points, windowMs }) => [points, windowMs]),
        ),
      );
      additions.forEach(({ resolve }, index) =>
        resolve({ consumed: counted[2 * index] as number, msBeforeNext: counted[2 * index + 1] as number }),
      );
    } catch (error) {
      for (const { reject } of additions) reject(error);
    }
  }
}
