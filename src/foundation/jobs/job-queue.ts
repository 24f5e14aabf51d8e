export interface JobOptions {
  /** Milliseconds to wait before the job may begin. */
  delay?: number;
  /** Smaller is earlier; jobs of the same priority keep their order. From 1. */
  priority?: number;
}

/** Works on one job. It deals with its own failures: one that throws is logged and forgotten. */
export type JobHandler<Data> = (data: Data, signal: AbortSignal) => Promise<void>;

/** How full a queue is. */
export interface QueueCounts {
  waiting: number;
  active: number;
  delayed: number;
  /** Processes that work on it. */
  workers: number;
}

/**
 * A queue of wake-up calls. It may lose them (a process that dies, a Redis without a disk): what is to be done stands
 * in the database, and whoever owns the rows looks through them from time to time and calls again.
 */
export interface JobQueue<Data> {
  /** Adds a job, unless one with the same id is waiting or running. */
  add(id: string, data: Data, options?: JobOptions): Promise<void>;
  /**
   * Adds a job that says no more than "look": none where one waits already that has not begun, whoever added it, for
   * that one will see what there is by then.
   *
   * @param options.delay such calls for about the same moment, too, are one
   */
  wake(data: Data, options?: Pick<JobOptions, 'delay'>): Promise<void>;
  /** Begins to work on jobs in this process. */
  process(concurrency: number, handler: JobHandler<Data>): void;
  /** Takes no more jobs, waits for those that run, and aborts them after `graceMs`. */
  close(graceMs: number): Promise<void>;
  isHealthy(): Promise<boolean>;
  /** Rejects where nobody can say. */
  counts(): Promise<QueueCounts>;
}
