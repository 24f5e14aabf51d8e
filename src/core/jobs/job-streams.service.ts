import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';
import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import { STILL_HERE, keepAliveInterval, serverSentEvent } from '../../foundation/http/event-stream.js';
import { Problem } from '../../foundation/http/problem.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { BackgroundJobs } from './background-jobs.service.js';
import { hasEnded } from './job-children.js';
import { JobWatch } from './job-watch.service.js';
import { toJob } from './jobs.dto.js';
import type { Job } from './jobs.repository.js';

/** The client reconnects after that, with its credential of then. */
const LONGEST_MS = 3_600_000;
const RECONNECT_AFTER_MS = 2_000;
/** Of one principal, in this process. */
const MOST_AT_ONCE = 50;
/** Id of the last event: whoever comes back with it has heard all there was. */
export const LAST_EVENT = 'end';

/** Jobs as streams of server-sent events (HTML standard, 9.2), from the first look to the end. */
@Injectable()
export class JobStreams implements OnModuleDestroy {
  private readonly logger = new Logger(JobStreams.name);
  private readonly open = new Set<AbortController>();
  private readonly counts = new Map<string, number>();
  private closing = false;

  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
    private readonly jobs: BackgroundJobs,
    private readonly watch: JobWatch,
  ) {}

  /** The server waits for requests under way: streams would keep it from ending. */
  onModuleDestroy(): void {
    this.closing = true;
    for (const stream of this.open) stream.abort();
  }

  /**
   * @param client aborts when the client has gone, or may not go on
   * @param lastEventId what the client has heard last
   * @returns null where the client has heard all there is
   * @throws Problem 404, 429 `concurrency_limited`
   */
  async start(id: string, lastEventId: string | undefined, client: AbortSignal): Promise<Readable | null> {
    const job = await this.jobs.get(id);
    if (lastEventId === LAST_EVENT && hasEnded(job)) return null;
    if (this.closing) throw Problem.unavailable('draining', 'This process is shutting down. Try again.', 1);
    const release = this.take();
    const stop = new AbortController();
    const abort = () => stop.abort();
    const longest = setTimeout(abort, LONGEST_MS);
    longest.unref();
    this.open.add(stop);
    client.addEventListener('abort', abort, { once: true });
    if (client.aborted) abort();
    const out = new PassThrough();
    out.once('close', abort);
    // The handler returns meanwhile: what is written from here on goes on in the request's context.
    void this.feed(out, job, stop.signal)
      .catch((error: unknown) => this.logger.warn(error))
      .finally(() => {
        clearTimeout(longest);
        client.removeEventListener('abort', abort);
        this.open.delete(stop);
        release();
        out.end();
      });
    return out;
  }

  private async feed(out: PassThrough, first: Job, stop: AbortSignal): Promise<void> {
    let wake: (() => void) | null = null;
    let changed = false;
    const unwatch = this.watch.watch(first, () => {
      changed = true;
      wake?.();
    });
    const onStop = () => wake?.();
    stop.addEventListener('abort', onStop, { once: true });
    let sent = '';
    let number = 0;
    out.write(`retry: ${RECONNECT_AFTER_MS}\n\n`);
    try {
      for (let job: Job | null = first; job; job = await this.read(first.id)) {
        const data = JSON.stringify(toJob(job));
        const quiet = data === sent;
        const text = quiet ? STILL_HERE : serverSentEvent('progress', data, String(++number));
        sent = data;
        const flowing = out.write(text);
        if (hasEnded(job)) {
          out.write(serverSentEvent('end', data, LAST_EVENT));
          return;
        }
        // Whoever does not read is told no more; what has changed meanwhile is told at once when they do.
        if (!flowing) await once(out, 'drain', { signal: stop }).catch(() => undefined);
        if (!changed && !stop.aborted) {
          await new Promise<void>(resolve => {
            const timer = setTimeout(resolve, keepAliveInterval(this.env.requestTimeout));
            wake = () => {
              clearTimeout(timer);
              resolve();
            };
          });
        }
        if (stop.aborted) return;
        changed = false;
      }
    } finally {
      unwatch();
      stop.removeEventListener('abort', onStop);
    }
  }

  /** Anew with the rights of this moment; null where there is nothing to be seen any more. */
  private read(id: string): Promise<Job | null> {
    return this.jobs.get(id).catch((error: unknown) => {
      if (error instanceof Problem && error.status < 500) return null;
      throw error;
    });
  }

  private take(): () => void {
    const { principal } = this.context;
    const key = principal.kind === 'api_token' ? principal.tokenId : this.context.userId;
    const count = this.counts.get(key) ?? 0;
    if (count >= MOST_AT_ONCE) {
      throw new Problem(
        429,
        'concurrency_limited',
        `No more than ${MOST_AT_ONCE} streams at a time are open to one caller.`,
        { headers: { 'retry-after': '5' } },
      );
    }
    this.counts.set(key, count + 1);
    return () => {
      const left = (this.counts.get(key) ?? 1) - 1;
      if (left > 0) this.counts.set(key, left);
      else this.counts.delete(key);
    };
  }
}
