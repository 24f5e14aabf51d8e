import { Logger } from '@nestjs/common';
import type { Queue } from 'bull';
import type { JobHandler, JobOptions, JobQueue } from './job-queue.js';
import { RunningJobs } from './running-jobs.js';

/** Jobs of many processes, on Redis through Bull. */
export class BullQueue<Data> implements JobQueue<Data> {
  private readonly logger = new Logger(BullQueue.name);
  private readonly running = new RunningJobs();

  constructor(private readonly queue: Queue<Data>) {
    queue.on('error', error => this.logger.warn(`Redis: ${error.message}`));
    queue.on('failed', (_job, error) => this.logger.error(error));
  }

  async add(jobId: string, data: Data, { delay = 0, priority = 1 }: JobOptions = {}): Promise<void> {
    // The row is the record of what happened; a finished job that stayed would block its id.
    await this.queue.add(data, { jobId, delay, priority, removeOnComplete: true, removeOnFail: true });
  }

  process(concurrency: number, handler: JobHandler<Data>): void {
    void this.queue.process(concurrency, job => this.running.run(signal => handler(job.data, signal)));
  }

  async close(graceMs: number): Promise<void> {
    await this.queue.pause(true, true).catch(() => undefined);
    await this.running.end(graceMs);
    await this.queue.close(true);
  }

  async isHealthy(): Promise<boolean> {
    return this.queue.client.status === 'ready' && (await this.queue.client.ping()) === 'PONG';
  }
}
