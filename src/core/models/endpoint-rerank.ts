import { z } from 'zod';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { type CallOptions, ModelError, type RerankModel } from './model.js';
import { toModelError } from './model-fault.js';
import { type ModelConnection, baseOf } from './model-provider.js';
import type { ModelTransport } from './model-transport.js';

/** Documents of one request: what Text Embeddings Inference takes unless it is told otherwise, and what others do. */
const BATCH_OF_TEI = 32;
const BATCH = 100;

const cohereSchema = z.object({
  results: z.array(z.object({ index: z.int().min(0), relevance_score: z.number() })),
});
const teiSchema = z.array(z.object({ index: z.int().min(0), score: z.number() }));

interface Score {
  index: number;
  score: number;
}

/**
 * A rerank model behind an endpoint of its own: Cohere's `/v2/rerank`, `/rerank` as Jina has it and servers like vLLM and
 * Infinity copy it, or `/rerank` of Text Embeddings Inference.
 */
export class EndpointRerank implements RerankModel {
  readonly name: string;

  constructor(
    private readonly connection: ModelConnection,
    private readonly transport: ModelTransport,
    /** Is told the tokens of each call, as they are estimated: servers count as they please. */
    private readonly onTokens?: (tokens: number) => void,
  ) {
    this.name = connection.modelName;
  }

  async rerank(query: string, documents: readonly string[], { signal }: CallOptions): Promise<number[]> {
    const size = this.connection.provider === 'tei' ? BATCH_OF_TEI : BATCH;
    const scores: number[] = [];
    for (let start = 0; start < documents.length; start += size) {
      const batch = documents.slice(start, start + size);
      scores.push(...(await this.#ask(query, batch, signal)));
    }
    // Some servers give what their model says before it is squeezed between 0 and 1.
    if (scores.every(score => score >= 0 && score <= 1)) return scores;
    return scores.map(score => 1 / (1 + Math.exp(-score)));
  }

  async #ask(
    query: string,
    documents: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<number[]> {
    const { apiKey } = this.connection;
    let json: unknown;
    try {
      const response = await this.transport.fetch(this.#url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(apiKey && { authorization: `Bearer ${apiKey}` }),
        },
        body: JSON.stringify(this.#body(query, documents)),
        signal,
      });
      json = await response.json();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw toModelError(this.transport.subject, error);
    }
    const answer = this.#parse(json);
    this.onTokens?.(documents.reduce((sum, text) => sum + estimateTokens(query) + estimateTokens(text), 0));
    const scores = Array.from(documents, () => 0);
    for (const { index, score } of answer) {
      if (index >= documents.length || !Number.isFinite(score)) throw this.#malformed();
      scores[index] = score;
    }
    return scores;
  }

  get #url(): string {
    const base = baseOf(this.connection);
    return this.connection.provider === 'cohere' ? `${base}/v2/rerank` : `${base}/rerank`;
  }

  #body(query: string, documents: readonly string[]): object {
    switch (this.connection.provider) {
      case 'tei':
        return { query, texts: documents, raw_scores: false, truncate: true };
      case 'jina':
        return { model: this.name, query, documents, top_n: documents.length, return_documents: false };
      default:
        return { model: this.name, query, documents, top_n: documents.length };
    }
  }

  #parse(json: unknown): Score[] {
    if (this.connection.provider === 'tei') {
      const answer = teiSchema.safeParse(json);
      if (!answer.success || answer.data.length === 0) throw this.#malformed();
      return answer.data;
    }
    const answer = cohereSchema.safeParse(json);
    if (!answer.success || answer.data.results.length === 0) throw this.#malformed();
    return answer.data.results.map(({ index, relevance_score: score }) => ({ index, score }));
  }

  #malformed(): ModelError {
    const message = `${this.transport.subject} gave an answer that is not in its format.`;
    return new ModelError('model_rejected', message, false);
  }
}
