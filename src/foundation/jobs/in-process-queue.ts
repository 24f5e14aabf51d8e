import { Logger } from '@nestjs/common';
import PQueue from 'p-queue';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobHandler, JobOptions, JobQueue, QueueCounts } from './job-queue.js';
import { RunningJobs } from './running-jobs.js';

/** Jobs of a single process, in its memory. */
export class InProcessQueue<Data> implements JobQueue<Data> {
  private readonly logger = new Logger(InProcessQueue.name);
  private readonly queue = new PQueue({ concurrency: 1 });
  private readonly known = new Set<string>();
  private readonly running = new RunningJobs();
  private readonly closing = new AbortController();
  private handler: JobHandler<Data> | null = null;

  constructor() {
    // Each job that waits for its time listens.
    setMaxListeners(0, this.closing.signal);
  }

  async add(id: string, data: Data, { delay = 0, priority = 1 }: JobOptions = {}): Promise<void> {
    if (this.known.has(id) || this.closing.signal.aborted) return;
    this.known.add(id);
    void this.work(id, data, delay, priority);
  }

  async wake(data: Data, { delay = 0 }: Pick<JobOptions, 'delay'> = {}): Promise<void> {
    const second = Math.ceil((Date.now() + delay) / 1000);
    if (delay > 0) await this.add(`at-${second}`, data, { delay: second * 1000 - Date.now() });
    else await this.add('now', data);
  }

  process(concurrency: number, handler: JobHandler<Data>): void {
    this.queue.concurrency = concurrency;
    this.handler = handler;
  }

  async close(graceMs: number): Promise<void> {
    this.closing.abort();
    this.queue.clear();
    await this.running.end(graceMs);
  }

  isHealthy(): Promise<boolean> {
    return Promise.resolve(!this.closing.signal.aborted);
  }

  counts(): Promise<QueueCounts> {
    const [waiting, active] = [this.queue.size, this.queue.pending];
    // Those that have begun are not among the known any more.
    const delayed = Math.max(this.known.size - waiting, 0);
    return Promise.resolve({ waiting, active, delayed, workers: this.handler ? 1 : 0 });
  }

  private async work(id: string, data: Data, delay: number, priority: number): Promise<void> {
    try {
      if (delay > 0) await sleep(delay, undefined, { ref: false, signal: this.closing.signal });
      await this.queue.add(() => this.handle(id, data), { priority: -priority });
    } catch (error) {
      if (!this.closing.signal.aborted) this.logger.error(error);
    } finally {
      this.known.delete(id);
    }
  }

  private async handle(id: string, data: Data): Promise<void> {
    // From here on the same id may be called again: what it is about may change while the handler runs.
    this.known.delete(id);
    const handler = this.handler;
    if (handler) await this.running.run(signal => handler(data, signal));
  }
}
