import { Logger } from '@nestjs/common';
import { Redis, ReplyError } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';

/** How often to look whether Redis has said anything, while an answer is waited for. Milliseconds. */
const LOOK_EVERY_MS = 50;
/** Looks in a row that find nothing: Redis counts as away. */
const LOOKS_WITHOUT_ANSWER = 5;
/** The same, however busy this process is itself. Milliseconds. */
const LONGEST_SILENCE_MS = 2_000;
/** How often a Redis that is away is asked whether it is there again. */
const PROBE_EVERY_MS = 250;
/** Probes without an answer after which the connection is made anew: it may lead nowhere. */
const PROBES_OF_A_CONNECTION = 12;
/** How long a start waits for the connection. */
const START_MS = 2_000;

/** Redis does not answer at the moment. */
export class RedisAwayError extends Error {
  override readonly name = 'RedisAwayError';

  constructor() {
    super('Redis is away.');
  }
}

/**
 * The one connection over which this process counts. Nobody waits for a Redis that is away: not for its connection, and
 * not for one that is there and says nothing, which the first silence shows. It is asked until it answers again.
 */
export class RedisConnection {
  private readonly logger = new Logger(RedisConnection.name);
  readonly client: Redis;
  /** What waits for an answer, with how to give it up. */
  private readonly waiting = new Set<(error: Error) => void>();
  private readonly recovered: Array<() => void> = [];
  private lastHeard = 0;
  private silent = false;
  private watching: NodeJS.Timeout | null = null;
  private looksWithoutAnswer = 0;
  private stopped = false;

  constructor(url: string) {
    this.client = new Redis(url, {
      // What one request counts goes out in one message.
      enableAutoPipelining: true,
      enableOfflineQueue: false,
      // Sent again, it would be counted twice.
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      // Clears away what nobody waits for any more; who waits has given up long before.
      commandTimeout: 5_000,
      connectTimeout: 2_000,
      retryStrategy: times => Math.min(times * 50, 1_000),
    });
    // Without a listener ioredis prints every failed reconnection.
    this.client.on('error', () => undefined);
    this.client.on('close', () => this.lost());
    this.client.on('ready', () => this.found());
  }

  /** Whether it is worth asking. */
  get isUp(): boolean {
    return !this.silent && this.client.status === 'ready';
  }

  /** Calls `listener` whenever Redis is there again. */
  onRecovery(listener: () => void): void {
    this.recovered.push(listener);
  }

  /** Until the connection stands; a Redis that is away holds up no start. */
  async ready(): Promise<void> {
    const deadline = performance.now() + START_MS;
    while (!this.isUp && !this.stopped && performance.now() < deadline) await sleep(10);
  }

  /** @throws RedisAwayError at once where Redis is away, and as soon as it turns out to be */
  ask<T>(question: (client: Redis) => Promise<T>): Promise<T> {
    if (!this.isUp) return Promise.reject(new RedisAwayError());
    if (this.waiting.size === 0) {
      this.lastHeard = performance.now();
      this.looksWithoutAnswer = 0;
    }
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      const heard = () => {
        this.waiting.delete(reject);
        this.lastHeard = performance.now();
        this.looksWithoutAnswer = 0;
      };
      question(this.client)
        .finally(heard)
        // What Redis has not said itself says that it is gone.
        .then(resolve, (error: unknown) =>
          reject(error instanceof ReplyError ? error : new RedisAwayError()),
        );
      this.watch();
    });
  }

  close(): void {
    this.stopped = true;
    if (this.watching) clearTimeout(this.watching);
    this.client.disconnect();
  }

  private watch(): void {
    if (this.watching) return;
    const due = performance.now() + LOOK_EVERY_MS;
    this.watching = setTimeout(() => {
      // A process that is late itself has not sent what it asks, or not read what was answered: it knows nothing yet.
      const isLate = performance.now() - due > LOOK_EVERY_MS;
      setImmediate(() => {
        this.watching = null;
        if (this.waiting.size === 0 || this.stopped) return;
        if (!isLate) this.looksWithoutAnswer++;
        const silence = performance.now() - this.lastHeard;
        if (this.looksWithoutAnswer >= LOOKS_WITHOUT_ANSWER || silence > LONGEST_SILENCE_MS)
          this.fellSilent();
        else this.watch();
      });
    }, LOOK_EVERY_MS);
    this.watching.unref();
  }

  private fellSilent(): void {
    if (this.silent) return;
    this.silent = true;
    this.giveUp();
    this.logger.warn('Redis does not answer. Until it does, this process counts for itself.');
    void this.probe();
  }

  private async probe(): Promise<void> {
    for (let probes = 1; this.silent && !this.stopped; probes++) {
      const answered = await Promise.race([
        this.client.ping().then(
          () => true,
          () => false,
        ),
        sleep(PROBE_EVERY_MS, false, { ref: false }),
      ]);
      if (answered) return this.found();
      if (this.client.status !== 'ready') await sleep(PROBE_EVERY_MS, undefined, { ref: false });
      else if (probes % PROBES_OF_A_CONNECTION === 0) this.client.disconnect(true);
    }
  }

  private found(): void {
    const wasSilent = this.silent;
    this.silent = false;
    if (wasSilent) this.logger.log('Redis answers again.');
    for (const listener of this.recovered) listener();
  }

  private lost(): void {
    this.giveUp();
  }

  private giveUp(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const reject of waiting) reject(new RedisAwayError());
  }
}
