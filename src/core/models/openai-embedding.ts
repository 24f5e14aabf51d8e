import type { ModelEndpoint } from '../../foundation/config/env.js';
import { EndpointProbe } from './endpoint-probe.js';
import { LangchainEmbedding } from './langchain-embedding.js';
import { ModelTransport } from './model-transport.js';

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

/** Milliseconds of one attempt to embed a question, and a batch. */
export const QUERY_TIMEOUT = 10_000;
export const BATCH_TIMEOUT = 60_000;

/** The embedding model that the settings name, behind `POST {baseUrl}/embeddings` of any OpenAI-compatible server. */
export class OpenAIEmbedding extends LangchainEmbedding {
  readonly #probe: EndpointProbe;

  constructor(settings: ModelEndpoint, options: OpenAIEmbeddingOptions = {}) {
    const { queryTimeout = QUERY_TIMEOUT, batchTimeout = BATCH_TIMEOUT, maxRetries } = options;
    const subject = 'The embedding endpoint';
    const questions = new ModelTransport(subject, { limits: { whole: queryTimeout }, maxRetries });
    const documents = new ModelTransport(subject, { limits: { whole: batchTimeout }, maxRetries });
    super(
      {
        provider: 'openai_compatible',
        modelName: settings.model,
        apiBase: settings.baseUrl,
        apiKey: settings.apiKey,
        contextTokens: null,
        dimensions: null,
        settings: {},
      },
      { questions, documents },
      options,
    );
    this.#probe = new EndpointProbe(settings, questions, documents);
  }

  isUp(): Promise<boolean> {
    return this.#probe.isUp();
  }
}
