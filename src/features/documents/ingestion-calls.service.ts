import { Injectable, Logger } from '@nestjs/common';
import { afterCommit, type Tx } from '../../foundation/database/transaction.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import { INGESTION_QUEUE, type IngestionCall } from './ingestion-queue.js';

/** Tells workers that documents wait for them. */
@Injectable()
export class IngestionCalls {
  private readonly logger = new Logger(IngestionCalls.name);

  constructor(@InjectJobQueue(INGESTION_QUEUE) private readonly queue: JobQueue<IngestionCall>) {}

  /** The row is the promise; the call only makes it quick, so one that is lost is caught up with later. */
  afterCommit(tx: Tx): void {
    afterCommit(tx, () => this.now());
  }

  now(): void {
    this.wake(0);
  }

  /** @param delay milliseconds */
  later(delay: number): void {
    this.wake(delay);
  }

  private wake(delay: number): void {
    this.queue.wake({}, { delay }).catch((error: Error) => {
      this.logger.warn(`Documents wait for the next look through the queue: ${error.message}`);
    });
  }
}
