import type { ModelEndpoint } from '../../foundation/config/env.js';
import { embedInBatches, unlessAborted } from './batches.js';
import { Endpoint } from './endpoint.js';
import type { CallOptions, EmbedDocumentsOptions, EmbeddingModel } from './model.js';
import type { OpenAIEmbeddingClient } from './openai-embedding-client.js';
import { unitVector } from './unit-vector.js';

export interface OpenAIEmbeddingOptions {
  /** Texts a request. */
  batchSize?: number;
  /** Requests for documents at a time, over all callers. */
  concurrency?: number;
  /** Milliseconds of one attempt to embed a question. */
  queryTimeout?: number;
  /** Milliseconds of one attempt to embed a batch. */
  batchTimeout?: number;
  /** Attempts after the first that failed for a passing reason. */
  maxRetries?: number;
}

interface Clients {
  questions: OpenAIEmbeddingClient;
  documents: OpenAIEmbeddingClient;
}

/** An embedding model behind `POST {baseUrl}/embeddings` of any OpenAI-compatible server, through langchain. */
export class OpenAIEmbedding implements EmbeddingModel {
  readonly name: string;
  /** Neutral: nothing is known of the model until its fusion is calibrated on the installation's own questions. */
  readonly fusionWeight = 0.5;

  readonly #endpoint: Endpoint;
  readonly #options: Required<OpenAIEmbeddingOptions>;
  #clients: Promise<Clients> | null = null;

  constructor(settings: ModelEndpoint, options: OpenAIEmbeddingOptions = {}) {
    this.name = settings.model;
    this.#endpoint = new Endpoint('embedding', settings);
    this.#options = {
      batchSize: 10,
      concurrency: 4,
      queryTimeout: 10_000,
      batchTimeout: 60_000,
      maxRetries: 2,
      ...options,
    };
  }

  async embedQuery(text: string, { signal }: CallOptions = {}): Promise<number[]> {
    const { questions } = await this.#load();
    return this.#endpoint.call(async () => {
      const vector = await unlessAborted(() => questions.embedQuery(embeddable(text)), signal);
      return this.#checked([vector])[0]!;
    }, signal);
  }

  async embedDocuments(texts: string[], options: EmbedDocumentsOptions = {}): Promise<number[][]> {
    const { documents } = await this.#load();
    const { batchSize, concurrency } = this.#options;
    let dimension: number | undefined;
    return embedInBatches(
      texts,
      { batchSize, concurrency },
      batch =>
        this.#endpoint.call(async () => {
          const vectors = this.#checked(await documents.embedDocuments(batch.map(embeddable)));
          dimension ??= vectors[0]?.length;
          if (vectors.some(vector => vector.length !== dimension)) {
            throw this.#endpoint.malformed('gave vectors of different dimensions');
          }
          return vectors;
        }, options.signal),
      options,
    );
  }

  async isUp(): Promise<boolean> {
    return this.#endpoint.isUp();
  }

  async #load(): Promise<Clients> {
    this.#clients ??= import('./openai-embedding-client.js').then(({ OpenAIEmbeddingClient }) => {
      const { batchSize, concurrency, queryTimeout, batchTimeout, maxRetries } = this.#options;
      const fields = {
        maxRetries,
        batchSize,
        stripNewLines: false,
        // The OpenAI client asks for base64 by default, which many compatible servers do not speak.
        encodingFormat: 'float' as const,
      };
      return {
        // A question never waits behind the batches of an ingestion, nor behind other questions.
        questions: new OpenAIEmbeddingClient({
          ...this.#endpoint.clientFields(queryTimeout),
          ...fields,
          maxConcurrency: Infinity,
        }),
        documents: new OpenAIEmbeddingClient({
          ...this.#endpoint.clientFields(batchTimeout),
          ...fields,
          maxConcurrency: concurrency,
        }),
      };
    });
    return this.#clients;
  }

  #checked(vectors: number[][]): number[][] {
    return vectors.map(vector => {
      const unit = Array.isArray(vector) ? unitVector(vector) : null;
      if (!unit) throw this.#endpoint.malformed('gave a vector that is empty, zero or not finite');
      return unit;
    });
  }
}

/** OpenAI answers 400 to an empty text, and the whole batch fails with it. */
function embeddable(text: string): string {
  return text === '' ? ' ' : text;
}
