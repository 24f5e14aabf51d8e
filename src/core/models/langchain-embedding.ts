import type { EmbeddingsInterface } from '@langchain/core/embeddings';
import { embedInBatches, unlessAborted } from './batches.js';
import { openEmbeddings } from './embedding-providers.js';
import { type CallOptions, type EmbedDocumentsOptions, type EmbeddingModel, ModelError } from './model.js';
import { toModelError } from './model-fault.js';
import type { ModelConnection } from './model-provider.js';
import type { ModelTransport } from './model-transport.js';
import { unitVector } from './unit-vector.js';

export interface LangchainEmbeddingOptions {
  /** Texts a request [10]. */
  batchSize?: number;
  /** Requests for documents at a time, over all callers [4]. */
  concurrency?: number;
  /** Is told the tokens of each call: as the server counts them, and else as they are estimated. */
  onTokens?: (tokens: number) => void;
}

interface Clients {
  questions: EmbeddingsInterface;
  documents: EmbeddingsInterface;
}

/** Neutral: nothing is known of the model until its fusion is calibrated on its own questions. */
const FUSION_WEIGHT = 0.5;

/** An embedding model of any provider, through langchain. */
export class LangchainEmbedding implements EmbeddingModel {
  readonly name: string;
  readonly fusionWeight: number;

  readonly #batchSize: number;
  readonly #concurrency: number;
  #clients: Promise<Clients> | null = null;
  /** Of all its vectors; found with the first, where the entry does not say it. */
  #dimensions: number | null;

  /** @param transports questions have one of their own: somebody waits for those */
  constructor(
    private readonly connection: ModelConnection,
    private readonly transports: { questions: ModelTransport; documents: ModelTransport },
    private readonly options: LangchainEmbeddingOptions = {},
  ) {
    this.name = connection.modelName;
    this.fusionWeight = connection.settings.fusion_weight ?? FUSION_WEIGHT;
    this.#batchSize = options.batchSize ?? connection.settings.batch_size ?? 10;
    this.#concurrency = options.concurrency ?? 4;
    this.#dimensions = connection.dimensions;
  }

  async embedQuery(text: string, { signal }: CallOptions = {}): Promise<number[]> {
    const { questions } = await this.#load();
    return this.#call(signal, async () => {
      const vector = await unlessAborted(() => questions.embedQuery(embeddable(text)), signal);
      return this.#checked([vector], 1)[0]!;
    });
  }

  async embedDocuments(texts: string[], options: EmbedDocumentsOptions = {}): Promise<number[][]> {
    const { documents } = await this.#load();
    return embedInBatches(
      texts,
      { batchSize: this.#batchSize, concurrency: this.#concurrency },
      batch =>
        this.#call(options.signal, async () =>
          this.#checked(await documents.embedDocuments(batch.map(embeddable)), batch.length),
        ),
      options,
    );
  }

  async #call<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw toModelError(this.transports.documents.subject, error);
    }
  }

  async #load(): Promise<Clients> {
    this.#clients ??= this.#open();
    try {
      return await this.#clients;
    } catch (error) {
      this.#clients = null;
      throw error;
    }
  }

  async #open(): Promise<Clients> {
    const { questions, documents } = this.transports;
    const fields = { batchSize: this.#batchSize, onTokens: this.options.onTokens };
    const [forQuestions, forDocuments] = await Promise.all([
      // A question never waits behind the batches of an ingestion, nor behind other questions.
      openEmbeddings(this.connection, questions, { ...fields, concurrency: Infinity }),
      openEmbeddings(this.connection, documents, { ...fields, concurrency: this.#concurrency }),
    ]);
    return { questions: forQuestions, documents: forDocuments };
  }

  #checked(vectors: number[][], expected: number): number[][] {
    if (!Array.isArray(vectors) || vectors.length !== expected)
      throw this.#malformed(`gave another number of vectors than of texts`);
    const units = vectors.map(vector => {
      const unit = Array.isArray(vector) ? unitVector(vector) : null;
      if (!unit) throw this.#malformed('gave a vector that is empty, zero or not finite');
      return unit;
    });
    const dimensions = this.#dimensions ?? units[0]!.length;
    const other = units.find(({ length }) => length !== dimensions);
    if (other)
      throw this.#malformed(`gave a vector of ${other.length} dimensions, where it has ${dimensions}`);
    this.#dimensions = dimensions;
    return units;
  }

  #malformed(what: string): ModelError {
    return new ModelError('model_rejected', `${this.transports.documents.subject} ${what}.`, false);
  }
}

/** OpenAI answers 400 to an empty text, and the whole batch fails with it. */
function embeddable(text: string): string {
  return text === '' ? ' ' : text;
}
