import { Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type Tx, afterCommit } from './transaction.js';

const CHANNEL = 'enclave_changes';
const RECONNECT_MS = 500;
/** How long this process may take to see its own commit before the notification of it counts. */
const OWN_COMMIT_MS = 1_000;

type Notification = [topic: string, key: string, origin: string, number: number];
type Listener = (key: string) => void;

/**
 * Tells every process what a committed transaction has changed, so that each forgets what it remembers of it: this
 * process at once, the others through LISTEN/NOTIFY, which PostgreSQL sends with the commit and only with it.
 */
@Injectable()
export class ChangeFeed implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly logger = new Logger(ChangeFeed.name);
  private readonly emitter = new EventEmitter();
  private readonly origin = randomUUID();
  private published = 0;
  /** Numbers of those changes of this process that its listeners have heard of. */
  private readonly heard = new LRUCache<number, true>({ max: 10_000 });
  private client: pg.Client | null = null;
  private stopped = false;

  /** @param url of the running role; null where this process has the database for itself */
  constructor(private readonly url: string | null) {
    this.emitter.setMaxListeners(100);
  }

  /** Announces, once the transaction commits, that what is known of `key` under `topic` is out of date. */
  async publish(tx: Tx, topic: string, key: string): Promise<void> {
    const number = ++this.published;
    if (this.url) {
      const message = JSON.stringify([topic, key, this.origin, number]);
      await tx.query('SELECT pg_notify($1, $2)', [CHANNEL, message]);
    }
    afterCommit(tx, () => {
      this.heard.set(number, true);
      this.emitter.emit(topic, key);
    });
  }

  /**
   * Calls `forget` for each change of `topic`, and `forgetAll` when changes may have been missed, because the
   * connection was away.
   */
  subscribe(topic: string, forget: Listener, forgetAll: () => void): void {
    this.emitter.on(topic, forget);
    this.emitter.on('missed', forgetAll);
  }

  async onApplicationBootstrap(): Promise<void> {
    if (this.url) await this.listen(this.url);
  }

  async onApplicationShutdown(): Promise<void> {
    this.stopped = true;
    await this.client?.end().catch(() => undefined);
  }

  private async listen(url: string): Promise<void> {
    const client = new pg.Client({
      connectionString: url,
      application_name: 'enclave changes',
      keepAlive: true,
    });
    client.on('notification', message => {
      const [topic, key, origin, number] = JSON.parse(message.payload ?? '[]') as Notification;
      if (origin !== this.origin) this.emitter.emit(topic, key);
      else if (!this.heard.has(number)) this.awaitOwn(topic, key, number);
    });
    client.on('error', error => this.logger.warn(`The connection for changes failed: ${error.message}`));
    await client.connect();
    await client.query(`LISTEN ${CHANNEL}`);
    client.on('end', () => void this.reconnect(url));
    this.client = client;
  }

  /** Its own changes a process hears of in the request that makes them; unless the answer to its COMMIT was lost. */
  private awaitOwn(topic: string, key: string, number: number): void {
    setTimeout(() => {
      if (!this.heard.has(number)) this.emitter.emit(topic, key);
    }, OWN_COMMIT_MS).unref();
  }

  private async reconnect(url: string): Promise<void> {
    while (!this.stopped) {
      await sleep(RECONNECT_MS, undefined, { ref: false });
      // Until LISTEN stands again nothing may be remembered for longer than one attempt.
      this.emitter.emit('missed');
      try {
        await this.listen(url);
        this.emitter.emit('missed');
        return;
      } catch (error) {
        this.logger.warn(`The connection for changes is still away: ${(error as Error).message}`);
      }
    }
  }
}
