import {
  type BeforeApplicationShutdown,
  Injectable,
  Logger,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDirectory } from '../tenancy/tenant-directory.js';
import {
  BackgroundJobs,
  JOBS_QUEUE,
  type JobCall,
  JobError,
  JobPause,
  JobRetry,
  type JobRun,
  OUTBOUND_JOBS_QUEUE,
} from './background-jobs.service.js';
import { type ClaimedJob, JobsRepository, type PerTenant } from './jobs.repository.js';

const LOOK_EVERY_MS = 10_000;
const MOST_AT_ONCE = 1_000;
const HEARTBEAT_MS = 5_000;
const GRACE_MS = 10_000;
/** Jobs that one process works on at a time: most of them wait for something. */
export const JOB_SLOTS = 4;
export const OUTBOUND_JOB_SLOTS = 16;

/** Works on jobs, and looks from time to time for those whose call was lost. Only in processes that work on jobs. */
@Injectable()
export class JobRunner implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(JobRunner.name);
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;

  constructor(
    @InjectEnv() private readonly env: Env,
    @InjectJobQueue(JOBS_QUEUE) private readonly queue: JobQueue<JobCall>,
    @InjectJobQueue(OUTBOUND_JOBS_QUEUE) private readonly outboundQueue: JobQueue<JobCall>,
    private readonly jobs: BackgroundJobs,
    private readonly database: PlatformDatabase,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly repository: JobsRepository,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    this.process(this.queue, JOB_SLOTS, { bounded: false });
    this.process(this.outboundQueue, OUTBOUND_JOB_SLOTS, { bounded: true });
    await this.look(this.env.database.mode === 'embedded');
    this.schedule();
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopped = true;
    if (this.timer) clearTimeout(this.timer);
    await Promise.all([this.queue.close(GRACE_MS), this.outboundQueue.close(GRACE_MS)]);
  }

  /** @param options.bounded whether a tenant has only so many of a kind worked on at a time */
  private process(queue: JobQueue<JobCall>, concurrency: number, { bounded }: { bounded: boolean }): void {
    queue.process(concurrency, async (call, signal) => {
      const perTenant = bounded ? this.jobs.outboundBounds : null;
      try {
        const done = await this.run(call, signal, perTenant);
        if (done && perTenant && !signal.aborted) await this.callNext(done, perTenant);
      } catch (error) {
        // The row still says that the job waits: it is found again.
        this.logger.error(error);
      }
    });
  }

  /** Calls for those that were turned away while the tenant had as many under way as it may. */
  private async callNext({ tenantId, kind }: ClaimedJob, perTenant: PerTenant): Promise<void> {
    const most = perTenant[kind];
    if (!tenantId || most === undefined) return;
    const waiting = await this.database.run(tx => this.repository.listWaiting(tx, tenantId, kind, most));
    // Under names of their own: a call under the job's own may be on its way to be turned away just now.
    const again = `after-${uuidv7()}`;
    for (const id of waiting) this.jobs.call({ id, kind }, { again });
  }

  private schedule(): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => void this.look(false).finally(() => this.schedule()), LOOK_EVERY_MS);
    this.timer.unref();
  }

  private async look(takeOver: boolean): Promise<void> {
    try {
      const waiting = await this.database.run(async tx => {
        await this.repository.deleteOld(tx, this.jobs.briefKinds);
        const due = await this.repository.takeDue(tx, this.jobs.recurring);
        await this.jobs.enqueueMany(
          tx,
          due.map(kind => ({ kind, payload: null, tenantId: null })),
        );
        return this.repository.listUnfinished(tx, takeOver, MOST_AT_ONCE, this.jobs.outboundBounds);
      });
      for (const job of waiting) this.jobs.call(job, { takeOver });
    } catch (error) {
      this.logger.warn(`Looking for unfinished jobs failed: ${(error as Error).message}`);
    }
  }

  /** @returns the job; null where there was none to take */
  private async run(
    call: JobCall,
    shutdown: AbortSignal,
    perTenant: PerTenant | null,
  ): Promise<ClaimedJob | null> {
    const owner = uuidv7();
    const job = await this.database.run(tx =>
      this.repository.claim(tx, call.jobId, owner, { takeOver: call.takeOver ?? false, perTenant }),
    );
    if (!job) return null;
    const lost = new AbortController();
    const state: { stage: string | null; progress: number } = { stage: null, progress: 0 };
    const beat = async () => {
      const held = await this.database.run(tx =>
        this.repository.heartbeat(tx, job.id, owner, state.stage, state.progress),
      );
      if (!held) lost.abort(new Error('The job is no longer this worker’s.'));
    };
    const timer = setInterval(() => void beat().catch(() => undefined), HEARTBEAT_MS);
    try {
      const result = await this.work(job, {
        signal: AbortSignal.any([shutdown, lost.signal]),
        report: async (stage, progress) => {
          Object.assign(state, { stage, progress });
          await beat();
          lost.signal.throwIfAborted();
        },
      });
      await this.database.run(tx => this.repository.succeed(tx, job.id, owner, result));
    } catch (error) {
      if (!lost.signal.aborted)
        await this.settle(job, owner, error, { shuttingDown: shutdown.aborted, bounded: perTenant !== null });
    } finally {
      clearInterval(timer);
    }
    await this.endChildrenOfCancelled(job);
    return job;
  }

  /** Those that this worker has made after somebody had cancelled the job, and before it heard of that. */
  private async endChildrenOfCancelled(job: ClaimedJob): Promise<void> {
    if (!this.jobs.definitionOf(job.kind)?.cancel) return;
    const now = await this.database.run(tx => this.repository.find(tx, job.id));
    if (now?.status === 'cancelled') await this.jobs.cancelChildren(job);
  }

  private async work(
    job: ClaimedJob,
    { signal, report }: Pick<JobRun<unknown>, 'signal' | 'report'>,
  ): Promise<unknown> {
    const definition = this.jobs.definitionOf(job.kind);
    if (!definition) throw new JobError('unknown_kind', `Nobody here works on jobs of the kind ${job.kind}.`);
    const tenant = job.tenantId ? await this.directory.find(job.tenantId) : null;
    if (job.tenantId && !tenant)
      throw new JobError('tenant_gone', 'The tenant of this job is being deleted.');
    const payload = this.jobs.openPayload(job.id, job.payload);
    const { id, tenantId, attempts } = job;
    return this.context.runAsSystem(
      tenant,
      () => definition.run({ id, tenantId, payload, attempts, signal, report }),
      job.actor,
    );
  }

  /** Writes down how an attempt ended that did not end well. */
  private async settle(
    job: ClaimedJob,
    owner: string,
    error: unknown,
    { shuttingDown, bounded }: { shuttingDown: boolean; bounded: boolean },
  ): Promise<void> {
    if (shuttingDown) {
      const released = await this.database.run(tx => this.repository.release(tx, job.id, owner));
      if (released) this.jobs.call(job, { again: owner });
      return;
    }
    if (error instanceof JobPause) {
      const paused = await this.database.run(tx => this.repository.pause(tx, job.id, owner, error.delay));
      // Where others of the tenant wait for its place, whoever has waited longest is called next: perhaps this one.
      const inLine = bounded && job.tenantId !== null && error.delay === 0;
      if (paused && !inLine) this.jobs.call(job, { delay: error.delay * 1000, again: owner });
      return;
    }
    const attempt = job.attempts + 1;
    const final = error instanceof JobError;
    const known = final || error instanceof JobRetry;
    const code = known ? error.code : 'internal_error';
    const message = known ? error.message : 'Something went wrong on our side.';
    const mostAttempts = this.jobs.definitionOf(job.kind)?.mostAttempts ?? 1;
    // Whoever throws a JobRetry has reckoned with it.
    this.logger[error instanceof JobRetry ? 'debug' : 'warn'](
      `Job ${job.id} (${job.kind}), attempt ${attempt}: ${(error as Error).message}`,
    );
    if (final || attempt >= mostAttempts) {
      await this.database.run(tx => this.repository.fail(tx, job.id, owner, code, message));
      return;
    }
    // 2 s, 4 s, 8 s, … at most ten minutes.
    const delay = error instanceof JobRetry ? error.delay : Math.min(2 ** attempt, 600);
    const kept = await this.database.run(tx =>
      this.repository.retryLater(tx, job.id, owner, code, message, delay),
    );
    if (kept) this.jobs.call(job, { delay: delay * 1000, again: `attempt-${attempt}` });
  }
}
