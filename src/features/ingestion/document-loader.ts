import PQueue from 'p-queue';
import { Piscina } from 'piscina';
import { workerEntry } from '../../foundation/worker-threads/worker-entry.js';
import type { Chunk, SplitOptions } from './chunk-splitter.js';
import { DocumentError } from '../documents/document-error.js';
import type { LoadedDocument } from './document-text.js';
import type { DocumentSource } from '../documents/document-type.js';
import type { LoadResult, LoadTask } from './document-loader.worker.js';

export interface DocumentLoaderOptions {
  /** How many files are read at a time, each in a thread of its own [2]. */
  threads?: number;
  /** Milliseconds that one file may take, waiting for a thread not counted [120,000]. */
  timeLimit?: number;
  /** Megabytes of JavaScript heap that one file may take [512]. */
  heapLimit?: number;
}

export interface LoadOptions extends DocumentSource {
  /** Ends the work; the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

export interface SplitDocument extends Omit<LoadedDocument, 'pages'> {
  /** Pages with text; 1 where the format has no pages. */
  pageCount: number;
  /** UTF-16 code units of text. */
  characterCount: number;
  chunks: Chunk[];
}

const IDLE_TIMEOUT = 30_000;

/**
 * Reads files into text in worker threads: parsers of foreign formats run out of time or memory there
 * without harm to this process or its event loop. Threads start with the first file.
 */
export class DocumentLoader {
  private pool: Piscina<LoadTask, LoadResult> | null = null;
  private closing = new AbortController();
  private readonly queue: PQueue;
  private readonly timeLimit: number;
  private readonly heapLimit: number;

  constructor({ threads = 2, timeLimit = 120_000, heapLimit = 512 }: DocumentLoaderOptions = {}) {
    // A queue of its own, because the time limit of a file must not run while it waits.
    this.queue = new PQueue({ concurrency: threads });
    this.timeLimit = timeLimit;
    this.heapLimit = heapLimit;
  }

  /**
   * @param content the whole file; it is moved to the worker and empty here afterwards
   * @throws DocumentError where the file cannot be read, or not within the limits
   */
  async loadDocument(content: Uint8Array, options: LoadOptions = {}): Promise<LoadedDocument> {
    const result = await this.run(content, options, null);
    if ('chunks' in result)
      throw new TypeError('The worker answered with chunks where pages were asked for.');
    return result.document;
  }

  /**
   * Reads a file and splits it, both in the worker.
   *
   * @param content the whole file; it is moved to the worker and empty here afterwards
   * @throws DocumentError where the file cannot be read, or not within the limits
   */
  async loadAndSplit(content: Uint8Array, options: LoadOptions & SplitOptions = {}): Promise<SplitDocument> {
    const { chunkSize, chunkOverlap } = options;
    const result = await this.run(content, options, { chunkSize, chunkOverlap });
    if (!('chunks' in result))
      throw new TypeError('The worker answered with pages where chunks were asked for.');
    const { document, pageCount, characterCount, chunks } = result;
    return { ...document, pageCount, characterCount, chunks };
  }

  /** Ends the threads; what they work on, and what waits, is rejected. A later call starts them anew. */
  async close(): Promise<void> {
    const { pool, closing } = this;
    this.pool = null;
    this.closing = new AbortController();
    closing.abort(new Error('The document loader was closed.'));
    await pool?.destroy();
  }

  private async run(
    content: Uint8Array,
    { fileName, declaredMimeType, signal }: LoadOptions,
    split: SplitOptions | null,
  ): Promise<Exclude<LoadResult, { error: unknown }>> {
    const task: LoadTask = { content: transferable(content), source: { fileName, declaredMimeType }, split };
    const ended = signal ? AbortSignal.any([signal, this.closing.signal]) : this.closing.signal;
    const result = await this.queue.add(() => this.runTask(task, ended), { signal: ended });
    if ('error' in result) throw new DocumentError(result.error.code, result.error.message);
    return result;
  }

  private async runTask(task: LoadTask, signal: AbortSignal): Promise<LoadResult> {
    this.pool ??= this.start();
    const deadline = AbortSignal.timeout(this.timeLimit);
    try {
      return await this.pool.run(task, {
        transferList: [task.content.buffer as ArrayBuffer],
        signal: AbortSignal.any([signal, deadline]),
      });
    } catch (cause) {
      signal.throwIfAborted();
      if (deadline.aborted) {
        const seconds = Math.round(this.timeLimit / 1000);
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
    }
  }

  private start(): Piscina<LoadTask, LoadResult> {
    return new Piscina({
      ...workerEntry(import.meta.url, './document-loader.worker'),
      minThreads: 0,
      maxThreads: this.queue.concurrency,
      idleTimeout: IDLE_TIMEOUT,
      resourceLimits: { maxOldGenerationSizeMb: this.heapLimit },
      // The parsers need no settings, and a file that fooled one must not find secrets there.
      env: {},
    });
  }
}

/** A buffer of its own: small Node buffers share one, and moving it would take the others along. */
const transferable = (content: Uint8Array): Uint8Array =>
  content.byteLength === content.buffer.byteLength && content.buffer instanceof ArrayBuffer
    ? new Uint8Array(content.buffer)
    : Uint8Array.from(content);
