import { Logger } from '@nestjs/common';
import type { Queue } from 'bull';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobHandler, JobOptions, JobQueue, QueueCounts } from './job-queue.js';
import { RunningJobs } from './running-jobs.js';

/** How long a shutdown waits for Bull's own work after the jobs have ended. */
const LAST_WORDS_MS = 2_000;

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

  async wake(data: Data, { delay = 0 }: Pick<JobOptions, 'delay'> = {}): Promise<void> {
    if (delay > 0) {
      const second = Math.ceil((Date.now() + delay) / 1000);
      await this.add(`at-${second}`, data, { delay: second * 1000 - Date.now() });
    } else if ((await this.queue.getWaitingCount()) === 0) {
      // Two that look at the same moment add two: one of them is for nothing, which costs nobody much.
      await this.add(randomUUID(), data);
    }
  }

  process(concurrency: number, handler: JobHandler<Data>): void {
    void this.queue.process(concurrency, job => this.running.run(signal => handler(job.data, signal)));
  }

  async close(graceMs: number): Promise<void> {
    await this.queue.pause(true, true).catch(() => undefined);
    await this.running.end(graceMs);
    // Bull has to write down that they ended: a job that it takes for running blocks its id until it has stalled.
    await Promise.race([
      this.queue.whenCurrentJobsFinished(),
      sleep(LAST_WORDS_MS, undefined, { ref: false }),
    ]);
    await this.queue.close(true);
  }

  async isHealthy(): Promise<boolean> {
    return this.queue.client.status === 'ready' && (await this.queue.client.ping()) === 'PONG';
  }

  async counts(): Promise<QueueCounts> {
    const { waiting, active, delayed } = await this.queue.getJobCounts();
    // Where Redis does not say who is connected there is no list.
    const workers = (await this.queue.getWorkers()) as unknown[] | undefined;
    return { waiting, active, delayed, workers: workers?.length ?? 0 };
  }
}
