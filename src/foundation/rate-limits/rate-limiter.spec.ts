import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SERVER } from '../../../test/setup/database.js';
import { type RedisServer, startRedisServer } from '../../../test/setup/redis-server.js';
import type { ConcurrencyLimiter } from './concurrency-limiter.js';
import type { RateLimiter } from './rate-limiter.js';
import { RateLimits } from './rate-limits.js';
import { RedisCounters } from './redis-counters.js';

const open: RateLimits[] = [];
afterEach(() => {
  for (const limits of open.splice(0)) limits.onApplicationShutdown();
  vi.useRealTimers();
});

/** A process. */
async function startProcess(url: string | null = null): Promise<RateLimits> {
  const limits = new RateLimits(url, 'test');
  open.push(limits);
  await limits.onModuleInit();
  return limits;
}

const consumed = async (limiter: RateLimiter, key: string, seed?: () => Promise<number>): Promise<number> =>
  (await limiter.count(key, 1, seed && { seed })).consumed;

const peek = async (limiter: RateLimiter, key: string): Promise<number> => (await limiter.look(key)).consumed;

const times = <T>(count: number, work: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, work));

describe('a counter', () => {
  it('counts by key, in windows that end', async () => {
    const limiter = (await startProcess()).limiter('x', 1);
    expect(await times(3, () => consumed(limiter, 'a'))).toEqual([1, 2, 3]);
    expect(await consumed(limiter, 'b')).toBe(1);
    expect(await peek(limiter, 'a')).toBe(3);
    const { msBeforeNext } = await limiter.count('a');
    expect(msBeforeNext).toBeGreaterThan(500);
    await sleep(msBeforeNext + 50);
    expect(await peek(limiter, 'a')).toBe(0);
    expect(await consumed(limiter, 'a')).toBe(1);
  });

  it('looks without counting, takes back, and forgets', async () => {
    const limiter = (await startProcess()).limiter('x', 60);
    const { undo } = await limiter.count('a');
    await limiter.count('a', 5);
    expect((await limiter.count('a', 0)).consumed).toBe(6);
    undo();
    expect(await peek(limiter, 'a')).toBe(5);
    await limiter.forget('a');
    expect(await peek(limiter, 'a')).toBe(0);
  });

  it('keeps a window that is longer than Node’s longest timer', async () => {
    const limiter = (await startProcess()).limiter('x', 60);
    const seconds = 31 * 24 * 3_600;
    await limiter.count('a', 1, { seconds });
    await sleep(20);
    expect((await limiter.count('a', 1, { seconds })).consumed).toBe(2);
  });

  it('begins with what was used before, which is asked for once', async () => {
    const limiter = (await startProcess()).limiter('x', 60);
    const seed = vi.fn(async () => {
      await sleep(20);
      return 100;
    });
    expect((await times(5, () => consumed(limiter, 'a', seed))).toSorted()).toEqual([
      101, 102, 103, 104, 105,
    ]);
    expect(await consumed(limiter, 'a', seed)).toBe(106);
    expect(seed).toHaveBeenCalledTimes(1);
  });

  it('asks again where it could not be said', async () => {
    const limiter = (await startProcess()).limiter('x', 60);
    const failing = () => Promise.reject(new Error('no database'));
    expect(await consumed(limiter, 'a', failing)).toBe(1);
    expect(await consumed(limiter, 'a', async () => 10)).toBe(11);
  });

  it('bears a clock that goes back', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: new Date('2026-03-31T12:00:00Z') });
    const limiter = (await startProcess()).limiter('x', 60);
    await limiter.count('a');
    vi.setSystemTime(new Date('2026-03-31T10:00:00Z'));
    expect(await consumed(limiter, 'a')).toBe(2);
    vi.setSystemTime(new Date('2026-03-31T13:00:00Z'));
    expect(await consumed(limiter, 'a')).toBe(1);
  });
});

describe('places', () => {
  it('are as many as there may be at a time', async () => {
    const limiter = (await startProcess()).concurrency('x');
    const first = await limiter.enter('a', 2);
    const second = await limiter.enter('a', 2);
    expect(await limiter.enter('a', 2)).toBeNull();
    expect(await limiter.enter('b', 2)).not.toBeNull();
    expect(await limiter.busy('a')).toBe(2);
    first?.();
    first?.();
    expect(await limiter.busy('a')).toBe(1);
    expect(await limiter.enter('a', 2)).not.toBeNull();
    second?.();
    expect(await limiter.enter('c', 0)).toBeNull();
    expect(await limiter.enter('c', null)).not.toBeNull();
  });
});

describe.skipIf(!SERVER)('several processes on one Redis', () => {
  let redis: RedisServer;

  beforeEach(async () => {
    redis = await startRedisServer();
  });
  afterEach(async () => {
    redis.thaw();
    await redis.stop();
  });

  const limitersOf = async (count: number): Promise<RateLimiter[]> =>
    (await times(count, () => startProcess(redis.url))).map(limits => limits.limiter('x', 60));

  it('count together', async () => {
    const [a, b] = (await limitersOf(2)) as [RateLimiter, RateLimiter];
    const counts = await Promise.all([
      times(500, () => consumed(a, 'k')),
      times(500, () => consumed(b, 'k')),
    ]);
    expect(counts.flat().toSorted((x, y) => x - y)).toEqual(Array.from({ length: 1_000 }, (_, i) => i + 1));
  });

  it('take what was used before once', async () => {
    const [a, b] = (await limitersOf(2)) as [RateLimiter, RateLimiter];
    const seed = vi.fn(async () => 100);
    await Promise.all([times(5, () => consumed(a, 'k', seed)), times(5, () => consumed(b, 'k', seed))]);
    expect(seed).toHaveBeenCalledTimes(1);
    await expect.poll(() => peek(a, 'k')).toBe(110);
  });

  it('add what was used before to each that was counted without it, however late its answer comes', async () => {
    const [a] = (await limitersOf(1)) as [RateLimiter];
    const add = Reflect.get(RedisCounters.prototype, 'add') as RedisCounters['add'];
    let asked = 0;
    let added!: () => void;
    const seedIsAdded = new Promise<void>(resolve => (added = resolve));
    const spy = vi.spyOn(RedisCounters.prototype, 'add').mockImplementation(async function (
      this: RedisCounters,
      ...addition
    ) {
      const number = ++asked;
      if (number === 3) added();
      const counted = await add.apply(this, addition);
      if (number === 2) await seedIsAdded;
      return counted;
    });
    try {
      const seed = async () => 100;
      expect(await Promise.all([consumed(a, 'k', seed), consumed(a, 'k', seed)])).toEqual([101, 102]);
      expect(await consumed(a, 'k', seed)).toBe(103);
      expect(asked).toBe(4);
    } finally {
      spy.mockRestore();
    }
  });

  it('count each for itself while it is away, and together again when it is back', async () => {
    const [a, b] = (await limitersOf(2)) as [RateLimiter, RateLimiter];
    expect(await consumed(a, 'k')).toBe(1);
    await redis.stop();
    await expect.poll(() => consumed(a, 'k')).toBeGreaterThan(0);
    const started = performance.now();
    await times(200, () => consumed(b, 'k'));
    expect(performance.now() - started).toBeLessThan(500);
    expect(await consumed(b, 'k')).toBe(201);
    await redis.start();
    await expect
      .poll(
        async () => {
          await a.count('again');
          await b.count('again');
          return [await peek(a, 'again'), await peek(b, 'again')].reduce((x, y) => (x === y ? x : -1));
        },
        { timeout: 10_000 },
      )
      .toBeGreaterThan(1);
  });

  it('add to a counter that stands what was recorded meanwhile', async () => {
    const [a] = (await limitersOf(1)) as [RateLimiter];
    let recorded = 0;
    const seed = async () => recorded;
    expect(await consumed(a, 'k', seed)).toBe(1);
    redis.freeze();
    recorded = 1;
    for (let count = 0; count < 10; count++) await consumed(a, 'k', seed);
    recorded = 11;
    redis.thaw();
    const fresh = (await startProcess(redis.url)).limiter('x', 60);
    await expect.poll(() => peek(fresh, 'k'), { timeout: 10_000 }).toBe(11);
  });

  it('do not wait for one that says nothing', async () => {
    const [a] = (await limitersOf(1)) as [RateLimiter];
    await a.count('k');
    redis.freeze();
    const first = performance.now();
    await times(50, () => consumed(a, 'k'));
    expect(performance.now() - first).toBeLessThan(1_500);
    const then = performance.now();
    for (let count = 0; count < 100; count++) await consumed(a, 'k');
    expect(performance.now() - then).toBeLessThan(300);
    redis.thaw();
    const fresh = (await startProcess(redis.url)).limiter('x', 60);
    await expect
      .poll(
        async () => {
          await a.count('again');
          return peek(fresh, 'again');
        },
        { timeout: 10_000 },
      )
      .toBeGreaterThan(0);
  });

  describe('and its places', () => {
    const concurrencyOf = async (count: number): Promise<ConcurrencyLimiter[]> =>
      (await times(count, () => startProcess(redis.url))).map(limits => limits.concurrency('x'));

    it('are shared', async () => {
      const [a, b] = (await concurrencyOf(2)) as [ConcurrencyLimiter, ConcurrencyLimiter];
      const leave = await a.enter('k', 2);
      expect(await b.enter('k', 2)).not.toBeNull();
      expect(await a.enter('k', 2)).toBeNull();
      expect(await b.enter('k', 2)).toBeNull();
      expect(await b.busy('k')).toBe(2);
      leave?.();
      await expect.poll(() => b.enter('k', 2)).not.toBeNull();
    });

    it('outlast their first lease while somebody holds them, and end with their process', async () => {
      const [a, b] = (await concurrencyOf(2)) as [ConcurrencyLimiter, ConcurrencyLimiter];
      await a.enter('k', 1);
      await sleep(11_000);
      expect(await b.enter('k', 1)).toBeNull();
      open[0]?.onApplicationShutdown();
      await expect.poll(() => b.enter('k', 1), { timeout: 15_000, interval: 200 }).not.toBeNull();
    }, 40_000);

    it('are each process’s own while Redis is away', async () => {
      const [a, b] = (await concurrencyOf(2)) as [ConcurrencyLimiter, ConcurrencyLimiter];
      const leave = await a.enter('k', 2);
      await redis.stop();
      await sleep(100);
      expect(await a.enter('k', 2)).not.toBeNull();
      expect(await a.enter('k', 2)).toBeNull();
      expect(await b.enter('k', 2)).not.toBeNull();
      leave?.();
      expect(await a.enter('k', 2)).not.toBeNull();
    });
  });
});
