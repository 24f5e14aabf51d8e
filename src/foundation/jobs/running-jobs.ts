import { setTimeout as sleep } from 'node:timers/promises';

/** How long an aborted job gets to put its affairs in order, in milliseconds. */
const ABORT_GRACE_MS = 5_000;

/** The jobs that run in this process, to wait for and, at last, to abort. */
export class RunningJobs {
  private readonly running = new Set<Promise<void>>();
  private readonly controller = new AbortController();

  async run(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const promise = work(this.controller.signal);
    this.running.add(promise);
    try {
      await promise;
    } finally {
      this.running.delete(promise);
    }
  }

  /** Waits for all, at most `graceMs` and then a little longer for those it aborts. */
  async end(graceMs: number): Promise<void> {
    await this.settled(graceMs);
    this.controller.abort(new Error('This process is shutting down.'));
    await this.settled(ABORT_GRACE_MS);
  }

  private async settled(timeoutMs: number): Promise<void> {
    if (this.running.size === 0) return;
    await Promise.race([Promise.allSettled(this.running), sleep(timeoutMs, undefined, { ref: false })]);
  }
}
