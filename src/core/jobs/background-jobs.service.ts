import { Injectable, Logger } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { SealedBox } from '../../foundation/crypto/sealed-box.js';
import { afterCommit, type Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { InjectJobQueue } from '../../foundation/jobs/jobs.module.js';
import type { JobQueue } from '../../foundation/jobs/job-queue.js';
import type { Permission } from '../authorization/permissions.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { type Actor, TenantContext } from '../tenancy/tenant-context.js';
import { TenantDirectory } from '../tenancy/tenant-directory.js';
import { JobSources } from './job-sources.js';
import {
  type Job,
  type JobChildren,
  JobsRepository,
  type PerTenant,
  type SealedPayload,
} from './jobs.repository.js';

export type { JobChildren } from './jobs.repository.js';

export const JOBS_QUEUE = 'jobs';
export const OUTBOUND_JOBS_QUEUE = 'outbound-jobs';
const PAYLOADS_AT_ONCE = 100;
const OUTBOUND_PER_TENANT = 4;

/** Where jobs wait for their turn: those that wait for other people's servers hold up nobody but each other. */
export type Lane = 'main' | 'outbound';

/** A wake-up call: the row says what is to be done. */
export interface JobCall {
  jobId: string;
  takeOver?: boolean;
}

/** Work to be put into the queue. */
export interface NewJob {
  kind: string;
  payload: unknown;
  tenantId: string | null;
  permission?: Permission;
}

/** A job that nobody works on any more, and who has stopped it. */
export interface CancelledJob {
  id: string;
  kind: string;
  tenantId: string | null;
  actor: Actor;
}

/** What a handler is given, and how it says how far it is. */
export interface JobRun<Payload> {
  id: string;
  /** The job's tenant is the context's already. */
  tenantId: string | null;
  payload: Payload;
  /** Attempts before this one. */
  attempts: number;
  /** Aborts when the process shuts down or the job is somebody else's by now. */
  signal: AbortSignal;
  /** @param progress 0 to 1 */
  report(stage: string, progress: number): Promise<void>;
}

export interface JobDefinition<Payload> {
  kind: string;
  /** After as many passing faults the job has failed. */
  mostAttempts: number;
  /** Seconds: makes it a job of the platform that recurs, once for the whole installation, without a payload. */
  every?: number;
  /** [main] */
  lane?: Lane;
  /** In the lane outbound: how many are worked on for one tenant at a time, in all processes. [4] */
  mostPerTenant?: number;
  /** Its row goes an hour after it has ended: what came of it stands elsewhere. */
  brief?: boolean;
  /**
   * The children of jobs of this kind: such a job counts as running until all of them have ended, and has succeeded then,
   * with the failures among them as counts. Asked for many at once, often, and in a transaction of the platform.
   *
   * @returns by the job's id; missing for one without children
   */
  children?(tx: Tx, jobIds: readonly string[]): Promise<ReadonlyMap<string, JobChildren>>;
  /**
   * Lets jobs of this kind be cancelled: ends those children that have not ended. As the system in the job's tenant, after
   * the job itself was cancelled; called again once its worker has let go of it, for children made meanwhile. No
   * transaction is open.
   */
  cancel?(job: { id: string; tenantId: string | null }): Promise<void>;
  /**
   * What it returns becomes the result of the job.
   *
   * @throws JobError for a fault that stays, JobRetry for one that passes, JobPause to go on later
   */
  run(job: JobRun<Payload>): Promise<unknown>;
}

/** A fault that another attempt would meet again. The message is for whoever looks at the job. */
export class JobError extends Error {
  override readonly name = 'JobError';

  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** A fault that another attempt may not meet, and when that should be; of other errors the delay doubles each time. */
export class JobRetry extends Error {
  override readonly name = 'JobRetry';

  constructor(
    readonly code: string,
    message: string,
    /** Seconds. */
    readonly delay: number,
  ) {
    super(message);
  }
}

/**
 * A part of a long job has been done, and others are let go first: it is called again from the start, with what it has kept
 * elsewhere. Faults before that count no longer.
 */
export class JobPause extends Error {
  override readonly name = 'JobPause';

  /** @param delay seconds until it goes on at the soonest */
  constructor(readonly delay = 0) {
    super('A part of the job has been done.');
  }
}

/**
 * Work that is done apart from the request that asks for it, by whichever process works on jobs. Put into the queue in
 * the transaction that makes it necessary, it is done at least once: handlers must bear being called again.
 */
@Injectable()
export class BackgroundJobs {
  private readonly logger = new Logger(BackgroundJobs.name);
  private readonly definitions = new Map<string, JobDefinition<unknown>>();

  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly directory: TenantDirectory,
    private readonly sources: JobSources,
    private readonly repository: JobsRepository,
    private readonly box: SealedBox,
    @InjectJobQueue(JOBS_QUEUE) private readonly queue: JobQueue<JobCall>,
    @InjectJobQueue(OUTBOUND_JOBS_QUEUE) private readonly outboundQueue: JobQueue<JobCall>,
  ) {}

  /** Says who works on jobs of a kind. To be called while the application starts. */
  define<Payload>(definition: JobDefinition<Payload>): void {
    this.definitions.set(definition.kind, definition);
  }

  /** Those that recur. */
  get recurring(): Array<{ kind: string; every: number }> {
    return [...this.definitions.values()].flatMap(({ kind, every }) => (every ? [{ kind, every }] : []));
  }

  /** How many jobs of the kinds that wait for other people's servers are worked on for one tenant at a time. */
  get outboundBounds(): PerTenant {
    const outbound = [...this.definitions.values()].filter(({ lane }) => lane === 'outbound');
    return Object.fromEntries(
      outbound.map(({ kind, mostPerTenant = OUTBOUND_PER_TENANT }) => [kind, mostPerTenant]),
    );
  }

  get briefKinds(): string[] {
    return [...this.definitions.values()].flatMap(({ kind, brief, every }) => (brief || every ? [kind] : []));
  }

  definitionOf(kind: string): JobDefinition<unknown> | null {
    return this.definitions.get(kind) ?? null;
  }

  /**
   * Puts a job into the queue; it begins once the transaction has committed.
   *
   * @param job.tenantId whose job it is: the context's tenant, or null for the platform. A tenant's goes with the tenant.
   * @param job.permission lets others than whoever asked for it look at it
   * @param job.payload JSON; sealed, and gone once the job has ended
   */
  async enqueue(tx: Tx, job: NewJob): Promise<string> {
    const [id] = await this.enqueueMany(tx, [job]);
    return id as string;
  }

  /** The same for many at once. @returns their ids, in the order of the jobs */
  async enqueueMany(tx: Tx, jobs: readonly NewJob[]): Promise<string[]> {
    if (jobs.length === 0) return [];
    const principal = this.context.principalOrNull;
    const { actor } = this.context;
    const createdBy = !principal || principal.kind === 'system' ? null : principal.userId;
    const rows = jobs.map(({ kind, payload, tenantId, permission = null }) => {
      const id = uuidv7();
      return { id, tenantId, kind, permission, payload: this.box.seal(JSON.stringify(payload), id) };
    });
    await this.repository.insert(tx, rows, { actor, createdBy });
    afterCommit(tx, () => rows.forEach(row => this.call(row)));
    return rows.map(({ id }) => id);
  }

  /** @throws Problem 404 where there is no such job, or none that the principal may see */
  async get(id: string): Promise<Job> {
    const job = await this.sources.find(id);
    if (!job) throw Problem.notFound('job');
    return job;
  }

  /** Takes a job from the queue, or from its worker, for a room that keeps and guards what it was for. Not in a transaction. */
  async withdraw(id: string): Promise<void> {
    await this.database.run(tx => this.repository.cancel(tx, id));
  }

  /** Ends what a job that was cancelled has put to work. @param job.actor on whose behalf */
  async cancelChildren({ id, kind, tenantId, actor }: CancelledJob): Promise<void> {
    const definition = this.definitions.get(kind);
    const tenant = tenantId ? await this.directory.find(tenantId) : null;
    // What belongs to a tenant that is being erased goes with it.
    if (!definition?.cancel || (tenantId && !tenant)) return;
    await this.context.runAsSystem(
      tenant,
      () => definition.cancel?.({ id, tenantId }) ?? Promise.resolve(),
      actor,
    );
  }

  openPayload(id: string, sealed: Buffer): unknown {
    return JSON.parse(this.box.open(sealed, id));
  }

  /**
   * Seals payloads anew that are sealed with a key of before.
   *
   * @returns how many, and the ids of the jobs whose payload no key of the settings opens
   */
  async resealPayloads(): Promise<{ count: number; lost: string[] }> {
    let count = 0;
    const lost: string[] = [];
    for (let after: string | null = null; ;) {
      const sealed: SealedPayload[] = await this.database.run(tx =>
        this.repository.payloadsAfter(tx, after, PAYLOADS_AT_ONCE),
      );
      for (const { id, payload } of sealed.filter(job => !this.box.isCurrent(job.payload))) {
        const renewed = this.box.renew(payload, id);
        if (!renewed) lost.push(id);
        else if (await this.database.run(tx => this.repository.reseal(tx, id, renewed, payload))) count++;
      }
      after = sealed.at(-1)?.id ?? null;
      if (after === null) return { count, lost };
    }
  }

  /** The row is the promise; the call only makes it quick, so one that is lost is caught up with later. */
  call(
    { id: jobId, kind }: { id: string; kind: string },
    options: { delay?: number; takeOver?: boolean; again?: string } = {},
  ): void {
    const { delay, takeOver, again } = options;
    const callId = again ? `${jobId}-${again}` : jobId;
    const queue = this.definitions.get(kind)?.lane === 'outbound' ? this.outboundQueue : this.queue;
    queue.add(callId, { jobId, ...(takeOver && { takeOver }) }, { delay }).catch((error: Error) => {
      this.logger.warn(`A job waits for the next look through the queue: ${error.message}`);
    });
  }
}
