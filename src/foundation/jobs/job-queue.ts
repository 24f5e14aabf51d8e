export interface JobOptions {
  /** Milliseconds to wait before the job may begin. */
  delay?: number;
  /** Smaller is earlier; jobs of the same priority keep their order. From 1. */
  priority?: number;
}

/** Works on one job. It deals with its own failures: one that throws is logged and forgotten. */
export type JobHandler<Data> = (data: Data, signal: AbortSignal) => Promise<void>;

/**
 * A queue of wake-up calls. It may lose them (a process that dies, a Redis without a disk): what is to be done stands
 * in the database, and whoever owns the rows looks through them from time to time and calls again.
 */
export interface JobQueue<Data> {
  /** Adds a job, unless one with the same id is waiting or running. */
  add(id: string, data: Data, options?: JobOptions): Promise<void>;
  /** Begins to work on jobs in this process. */
  process(concurrency: number, handler: JobHandler<Data>): void;
  /** Takes no more jobs, waits for those that run, and aborts them after `graceMs`. */
  close(graceMs: number): Promise<void>;
  isHealthy(): Promise<boolean>;
}
