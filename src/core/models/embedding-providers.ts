import type { EmbeddingsInterface } from '@langchain/core/embeddings';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { type ModelConnection, baseOf } from './model-provider.js';
import { openAIFields } from './openai-fields.js';
import type { ModelTransport } from './model-transport.js';

export interface EmbeddingFields {
  /** Texts a request. */
  batchSize: number;
  /** Requests at a time. */
  concurrency: number;
  /** Is told the tokens of each request: as the server counts them, and else as they are estimated. */
  onTokens?: (tokens: number) => void;
}

/** Langchain’s client for an embedding model; its library is loaded with the first call. */
export async function openEmbeddings(
  connection: ModelConnection,
  transport: ModelTransport,
  { batchSize, concurrency, onTokens }: EmbeddingFields,
): Promise<EmbeddingsInterface> {
  const { modelName, apiKey, dimensions, settings } = connection;
  if (connection.provider === 'ollama') {
    const { OllamaEmbeddings } = await import('@langchain/ollama');
    const client = new OllamaEmbeddings({
      model: modelName,
      baseUrl: baseOf(connection),
      headers: apiKey ? { authorization: `Bearer ${apiKey}` } : undefined,
      keepAlive: settings.keep_alive,
      fetch: transport.fetch,
      maxRetries: 0,
      maxConcurrency: concurrency,
    });
    const count = (texts: readonly string[]) =>
      onTokens?.(texts.reduce((sum, text) => sum + estimateTokens(text), 0));
    return {
      embedQuery: async text => {
        const vector = await client.embedQuery(text);
        count([text]);
        return vector;
      },
      embedDocuments: async texts => {
        const vectors = await client.embedDocuments(texts);
        count(texts);
        return vectors;
      },
    };
  }
  const { OpenAIEmbeddingClient } = await import('./openai-embedding-client.js');
  const client = new OpenAIEmbeddingClient({
    ...openAIFields(connection, transport.fetch),
    batchSize,
    maxConcurrency: concurrency,
    stripNewLines: false,
    // The OpenAI client asks for base64 by default, which many compatible servers do not speak.
    encodingFormat: 'float',
    dimensions: settings.send_dimensions ? (dimensions ?? undefined) : undefined,
  });
  client.onTokens = onTokens;
  return client;
}
