import { setTimeout as sleep } from 'node:timers/promises';
import PQueue from 'p-queue';
import { Piscina } from 'piscina';
import type { WorkerEntry } from '../../foundation/worker-threads/worker-entry.js';
import { embedInBatches, unlessAborted } from './batches.js';
import { type CallOptions, type EmbedDocumentsOptions, type EmbeddingModel, ModelError } from './model.js';
import { unitVector } from './unit-vector.js';

const PRIORITY = { ingestion: 0, question: 1 } as const;

/** Several texts at once take as long as one by one, and the fewer there are the sooner a question gets in. */
const BATCH_SIZE = 1;

const HEALTH_TIMEOUT = 3_000;

/** Milliseconds that a thread has, when the process ends, for the text that it is at. */
const LAST_TEXT = 5_000;

export interface LocalEmbeddingOptions {
  /** Worker threads. Each holds the model while it is loaded. */
  threads?: number;
  /** Milliseconds without work after which a thread is ended and its memory given back. */
  idleTimeout?: number;
}

/** What the threads of a local model run. */
export interface LocalModel {
  /** Who fails, as a sentence begins: `The bundled embedding model`. */
  subject: string;
  /** Its default export takes texts and gives their vectors (Float32Array) in the same order. */
  worker: WorkerEntry;
  /** For the worker; see `workerData` of `node:worker_threads`. */
  workerData?: unknown;
  threads: number;
  idleTimeout?: number;
}

/**
 * An embedding model that runs in this process. Inference is synchronous, so it is left to worker threads; they start with
 * the first call.
 */
export abstract class LocalEmbedding implements EmbeddingModel {
  abstract readonly name: string;
  abstract readonly fusionWeight: number;

  readonly #model: LocalModel;
  readonly #queue: PQueue;
  #pool: Piscina<string[], Float32Array[]> | null = null;
  #closed = false;

  constructor(model: LocalModel) {
    this.#model = model;
    this.#queue = new PQueue({ concurrency: model.threads });
  }

  async embedQuery(text: string, { signal }: CallOptions = {}): Promise<number[]> {
    const prepared = [this.prepareQuery(text)];
    const [vector] = await unlessAborted(() => this.#embed(prepared, PRIORITY.question, signal), signal);
    return vector!;
  }

  async embedDocuments(texts: string[], options: EmbedDocumentsOptions = {}): Promise<number[][]> {
    return embedInBatches(
      texts,
      { batchSize: BATCH_SIZE, concurrency: this.#model.threads },
      batch =>
        this.#embed(
          batch.map(text => this.prepareDocument(text)),
          PRIORITY.ingestion,
          options.signal,
        ),
      options,
    );
  }

  /** Threads that hold the model at the moment. */
  get loadedThreads(): number {
    return this.#pool?.threads.length ?? 0;
  }

  /** Up when a worker answers within 3 s, and while none is loaded: asking would load it. */
  async isUp(): Promise<boolean> {
    if (this.#closed) return false;
    if (this.loadedThreads === 0) return true;
    return this.embedQuery('health', { signal: AbortSignal.timeout(HEALTH_TIMEOUT) }).then(
      () => true,
      () => false,
    );
  }

  /** Ends the worker threads. The text that each is at may still get its vector; what waits fails with `model_unavailable`. */
  async close(): Promise<void> {
    this.#closed = true;
    // An answer of a thread whose pool is gone already would be an error that nobody can catch.
    await Promise.race([this.#queue.onIdle(), sleep(LAST_TEXT, undefined, { ref: false })]);
    await this.#pool?.destroy();
    await this.#queue.onIdle();
  }

  /** What the model reads of a question. */
  protected prepareQuery(text: string): string {
    return text;
  }

  /** What the model reads of a passage. */
  protected prepareDocument(text: string): string {
    return text;
  }

  async #embed(texts: string[], priority: number, signal?: AbortSignal): Promise<number[][]> {
    // The queue is not given the signal: it would take a running task for ended while its thread still works.
    const vectors = await this.#queue.add(
      async () => {
        signal?.throwIfAborted();
        if (this.#closed) throw this.#unavailable();
        this.#pool ??= this.#start();
        return this.#pool.run(texts).catch((error: unknown) => {
          throw this.#unavailable(error);
        });
      },
      { priority },
    );
    return vectors.map(vector => {
      const unit = unitVector(vector);
      if (!unit)
        throw new ModelError('model_rejected', `${this.#model.subject} found no vector for a text.`, false);
      return unit;
    });
  }

  #start(): Piscina<string[], Float32Array[]> {
    const { worker, workerData, threads, idleTimeout = 10 * 60_000 } = this.#model;
    return new Piscina({ ...worker, workerData, minThreads: 0, maxThreads: threads, idleTimeout });
  }

  #unavailable(cause?: unknown): ModelError {
    return new ModelError('model_unavailable', `${this.#model.subject} is not running.`, true, { cause });
  }
}
