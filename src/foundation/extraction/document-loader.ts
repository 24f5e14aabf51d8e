import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import PQueue from 'p-queue';
import { Piscina } from 'piscina';
import { workerEntry } from '../worker-threads/worker-entry.js';
import type { Chunk } from './chunk-splitter.js';
import { DocumentError } from './document-error.js';
import { BATCHES_AHEAD, type FromWorker, type LoadTask, type ToWorker } from './document-loader.protocol.js';
import type { LoadRequest, LoadSummary, Picture } from './document-parts.js';
import { WorkClock, type WorkLimits } from './work-clock.js';

export interface DocumentLoaderOptions {
  /** How many files are read at a time, each in a thread of its own [2]. */
  threads?: number;
  /** Milliseconds of work that one file may take; waiting for a thread, or for the caller, does not count [120,000]. */
  timeLimit?: number;
  /** Milliseconds of work without a sign of life from the thread [timeLimit]. */
  silenceLimit?: number;
  /** Megabytes of JavaScript heap that one file may take [512]. */
  heapLimit?: number;
  /** Where what is unpacked lies while it is read [a folder of the system]. */
  scratchFolder?: string;
}

const IDLE_TIMEOUT = 30_000;
/** Milliseconds for a thread to stop by itself, before it is ended. */
const STOP_TIMEOUT = 500;

/**
 * Reads files into chunks in worker threads: parsers of foreign formats run out of time or memory there
 * without harm to this process or its event loop. Threads start with the first file.
 */
export class DocumentLoader {
  private pool: Piscina<LoadTask, void> | null = null;
  private closing = new AbortController();
  private readonly queue: PQueue;
  private readonly limits: WorkLimits;
  private readonly heapLimit: number;
  private readonly scratchFolder: string;

  constructor({
    threads = 2,
    timeLimit = 120_000,
    silenceLimit = timeLimit,
    heapLimit = 512,
    scratchFolder = tmpdir(),
  }: DocumentLoaderOptions = {}) {
    // A queue of its own: what waits must not hold a port and a folder's name.
    this.queue = new PQueue({ concurrency: threads });
    this.limits = { total: timeLimit, silence: silenceLimit };
    this.heapLimit = heapLimit;
    this.scratchFolder = scratchFolder;
  }

  /**
   * Reads a file and splits it. Gives its chunks in their order, at most 200 at a time, and reads on as they
   * are taken; whoever takes no more (returns early) ends the reading.
   *
   * @throws DocumentError where the file cannot be read, or not within the limits
   */
  async *load(request: LoadRequest): AsyncGenerator<Chunk[], LoadSummary> {
    const { signal } = request;
    const ended = signal ? AbortSignal.any([signal, this.closing.signal]) : this.closing.signal;
    ended.throwIfAborted();
    const reading = new Reading(request, this.limits, this.scratchFolder);
    const turn = this.queue
      .add(() => reading.run(this.threads(), ended), { signal: AbortSignal.any([ended, reading.left]) })
      .catch((fault: unknown) => reading.fail(fault));
    try {
      return yield* reading.chunks();
    } finally {
      await reading.leave(turn);
      await rm(reading.scratch, { recursive: true, force: true });
    }
  }

  /** Ends the threads; what they work on, and what waits, is rejected. A later call starts them anew. */
  async close(): Promise<void> {
    const { pool, closing } = this;
    this.pool = null;
    this.closing = new AbortController();
    closing.abort(new Error('The document loader was closed.'));
    await pool?.destroy();
  }

  private threads(): Piscina<LoadTask, void> {
    this.pool ??= new Piscina({
      ...workerEntry(import.meta.url, './document-loader.worker'),
      minThreads: 0,
      maxThreads: this.queue.concurrency,
      idleTimeout: IDLE_TIMEOUT,
      resourceLimits: { maxOldGenerationSizeMb: this.heapLimit },
      // The parsers need no settings, and a file that fooled one must not find secrets there.
      env: {},
    });
    return this.pool;
  }
}

/** One file on its way: this process's end of the conversation with the thread that reads it. */
class Reading {
  readonly scratch: string;
  private readonly port: MessagePort;
  private readonly task: LoadTask;
  private readonly clock: WorkClock;
  private readonly recognize: LoadRequest['recognize'];
  private readonly leaving = new AbortController();
  private readonly expired = new AbortController();
  private readonly batches: Chunk[][] = [];
  /** Batches that were given and not yet taken. */
  private ahead = 0;
  /** In milliseconds; 0 until it was passed. */
  private passedLimit = 0;
  private started = false;
  private settled = false;
  private summary: LoadSummary | null = null;
  private fault: { reason: unknown } | null = null;
  private wake = (): void => undefined;

  constructor(
    { path, fileName, declaredMimeType, readable = false, split = {}, recognize }: LoadRequest,
    limits: WorkLimits,
    scratchFolder: string,
  ) {
    this.scratch = join(scratchFolder, `enclave-${randomUUID()}`);
    const { port1, port2 } = new MessageChannel();
    this.port = port1.on('message', (message: FromWorker) => this.hear(message));
    const source = { fileName, declaredMimeType };
    const recognizes = recognize !== undefined;
    this.recognize = recognize;
    this.task = { port: port2, path, source, readable, recognizes, split, scratch: this.scratch };
    this.clock = new WorkClock(limits, limit => {
      this.passedLimit = limit;
      this.expired.abort();
    });
  }

  /** Aborted when nobody takes the chunks any more. */
  get left(): AbortSignal {
    return this.leaving.signal;
  }

  /** Has the file read; resolves when the thread is free again. */
  async run(threads: Piscina<LoadTask, void>, ended: AbortSignal): Promise<void> {
    this.started = true;
    const { left, expired } = this;
    try {
      await threads.run(this.task, {
        transferList: [this.task.port],
        signal: AbortSignal.any([ended, left, expired.signal]),
      });
    } catch (cause) {
      ended.throwIfAborted();
      if (this.expired.signal.aborted) {
        const seconds = Math.round(this.passedLimit / 1000);
        throw new DocumentError('timeout', `The file could not be read within ${seconds} seconds.`, {
          cause,
        });
      }
      if (cause instanceof Error && 'code' in cause && cause.code === 'ERR_WORKER_OUT_OF_MEMORY') {
        throw new DocumentError(
          'too_large',
          'The file needs more memory to be read than one file may take.',
          { cause },
        );
      }
      throw cause;
    } finally {
      this.settled = true;
      this.clock.pause();
      this.wake();
    }
  }

  fail(reason: unknown): void {
    this.fault ??= { reason };
    this.wake();
  }

  async *chunks(): AsyncGenerator<Chunk[], LoadSummary> {
    for (;;) {
      if (this.fault) throw this.fault.reason;
      const batch = this.batches.shift();
      if (batch) {
        yield batch;
        this.taken();
      } else if (this.summary) {
        return this.summary;
      } else {
        await new Promise<void>(resolve => (this.wake = resolve));
      }
    }
  }

  /** Frees the thread: kindly where it listens, for a new one takes a while to start. */
  async leave(turn: Promise<void>): Promise<void> {
    if (this.started && !this.settled) {
      this.tell({ type: 'stop' });
      const stopped = new AbortController();
      await Promise.race([turn, sleep(STOP_TIMEOUT, undefined, stopped).catch(() => undefined)]);
      stopped.abort();
    }
    this.leaving.abort(new Error('Nobody takes the chunks of the file any more.'));
    await turn;
    this.clock.pause();
    this.port.close();
  }

  private hear(message: FromWorker): void {
    this.clock.heard();
    switch (message.type) {
      case 'started':
        this.clock.resume();
        break;
      case 'chunks':
        this.batches.push(message.chunks);
        this.ahead++;
        // It may go on with its work, or wait: the doubt is to its benefit.
        if (this.ahead >= BATCHES_AHEAD) this.clock.pause();
        break;
      case 'picture':
        this.clock.pause();
        void this.answer(message.picture);
        break;
      case 'read':
        this.summary = message.summary;
        break;
      case 'refused':
        this.fail(new DocumentError(message.code, message.message, { cause: message.cause }));
        break;
      case 'alive':
    }
    this.wake();
  }

  private taken(): void {
    this.ahead--;
    if (this.settled) return;
    this.tell({ type: 'taken' });
    this.clock.resume();
  }

  private async answer(picture: Picture): Promise<void> {
    try {
      const text = (await this.recognize?.(picture)) ?? '';
      this.clock.resume();
      this.tell({ type: 'recognized', text });
    } catch (reason) {
      this.fail(reason);
    }
  }

  private tell(message: ToWorker): void {
    this.port.postMessage(message);
  }
}
