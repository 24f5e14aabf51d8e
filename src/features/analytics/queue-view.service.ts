import { Injectable, Logger } from '@nestjs/common';
import { JOBS_QUEUE, type JobCall, OUTBOUND_JOBS_QUEUE } from '../../core/jobs/background-jobs.service.js';
import { JOB_SLOTS, OUTBOUND_JOB_SLOTS } from '../../core/jobs/job-runner.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue, QueueCounts } from '../../foundation/jobs/job-queue.js';
import { INGESTION_QUEUE, type IngestionCall } from '../documents/ingestion-queue.js';
import {
  type Backlog,
  type KindBacklog,
  QueueViewRepository,
  type TenantBacklog,
} from './queue-view.repository.js';

const MOST_TENANTS = 50;

export interface QueueState {
  name: string;
  /** What one process works on at a time. */
  slotsPerWorker: number;
  /** Null where the queue does not answer. */
  counts: QueueCounts | null;
}

export interface QueueView {
  mode: 'redis' | 'in_process';
  queues: QueueState[];
  documents: { all: Backlog; tenants: TenantBacklog[] };
  jobs: KindBacklog[];
}

/** What waits and what is worked on, in the whole installation. */
@Injectable()
export class QueueViewService {
  private readonly logger = new Logger(QueueViewService.name);

  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly database: PlatformDatabase,
    private readonly repository: QueueViewRepository,
    @InjectJobQueue(INGESTION_QUEUE) private readonly ingestion: JobQueue<IngestionCall>,
    @InjectJobQueue(JOBS_QUEUE) private readonly jobs: JobQueue<JobCall>,
    @InjectJobQueue(OUTBOUND_JOBS_QUEUE) private readonly outbound: JobQueue<JobCall>,
  ) {}

  async get(): Promise<QueueView> {
    const queues = await Promise.all([
      this.stateOf(INGESTION_QUEUE, this.ingestion, this.env.workerConcurrency),
      this.stateOf(JOBS_QUEUE, this.jobs, JOB_SLOTS),
      this.stateOf(OUTBOUND_JOBS_QUEUE, this.outbound, OUTBOUND_JOB_SLOTS),
    ]);
    const rows = await this.database.run(async tx => ({
      documents: await this.repository.documents(tx, MOST_TENANTS),
      jobs: await this.repository.jobs(tx),
    }));
    return { mode: this.env.redisUrl ? 'redis' : 'in_process', queues, ...rows };
  }

  private async stateOf(
    name: string,
    queue: Pick<JobQueue<unknown>, 'counts'>,
    slotsPerWorker: number,
  ): Promise<QueueState> {
    const counts = await queue.counts().catch((error: Error) => {
      this.logger.warn(`The queue ${name} does not answer: ${error.message}`);
      return null;
    });
    return { name, slotsPerWorker, counts };
  }
}
