import { ChatRerank } from './chat-rerank.js';
import { EndpointRerank } from './endpoint-rerank.js';
import { LangchainChat } from './langchain-chat.js';
import { LangchainEmbedding } from './langchain-embedding.js';
import type { EmbeddingModel, RerankModel, TranscriptionModel, VisionModel } from './model.js';
import type { ModelConnection } from './model-provider.js';
import { type Door, ModelTransport, type TransportOptions } from './model-transport.js';
import { BATCH_TIMEOUT, QUERY_TIMEOUT } from './openai-embedding.js';
import { OpenAITranscription } from './transcription.js';
import { ChatVision } from './vision.js';

export interface ModelClientOptions {
  /** Who fails, as a sentence begins. */
  subject: string;
  connection: ModelConnection;
  door: Door;
  /** Is told the tokens of each call. */
  onTokens: (tokens: number) => void;
  /** Instead of what the entry's settings say. */
  transport?: TransportOptions;
}

/** One entry's model, ready to be asked. What is made of it is made once. */
export class ModelClient {
  #chat: LangchainChat | null = null;
  #embedding: EmbeddingModel | null = null;
  #rerank: RerankModel | null = null;
  #vision: VisionModel | null = null;
  #transcription: TranscriptionModel | null = null;

  constructor(private readonly options: ModelClientOptions) {}

  get connection(): ModelConnection {
    return this.options.connection;
  }

  get chat(): LangchainChat {
    const { connection, onTokens } = this.options;
    this.#chat ??= new LangchainChat(connection, this.transport(), { onTokens });
    return this.#chat;
  }

  get embedding(): EmbeddingModel {
    const { connection, onTokens } = this.options;
    this.#embedding ??= new LangchainEmbedding(
      connection,
      { questions: this.transport(QUERY_TIMEOUT), documents: this.transport(BATCH_TIMEOUT) },
      { onTokens },
    );
    return this.#embedding;
  }

  get rerank(): RerankModel {
    const { connection, onTokens } = this.options;
    this.#rerank ??= hasRerankEndpoint(connection)
      ? new EndpointRerank(connection, this.transport(QUERY_TIMEOUT), onTokens)
      : new ChatRerank(this.chat);
    return this.#rerank;
  }

  get vision(): VisionModel {
    this.#vision ??= new ChatVision(this.chat);
    return this.#vision;
  }

  get transcription(): TranscriptionModel {
    const { connection, subject, door, transport } = this.options;
    const { apiBase: baseUrl, apiKey, modelName: model, settings } = connection;
    const maxRetries = transport?.maxRetries ?? settings.max_retries;
    const whole = transport?.limits?.whole ?? (settings.timeout_seconds ?? 0) * 1000;
    this.#transcription ??= new OpenAITranscription(
      { baseUrl, apiKey, model },
      { subject, door, maxRetries, ...(whole > 0 && { timeout: () => whole }) },
    );
    return this.#transcription;
  }

  /** @param whole milliseconds of one attempt, where the entry does not say it */
  transport(whole?: number): ModelTransport {
    const { subject, connection, door, transport } = this.options;
    const { settings } = connection;
    const seconds = settings.timeout_seconds;
    const first = settings.first_token_timeout_seconds;
    return new ModelTransport(subject, {
      door,
      maxRetries: settings.max_retries,
      limits: {
        ...(first && { first: first * 1000 }),
        ...(seconds ? { whole: seconds * 1000 } : whole && { whole }),
      },
      ...transport,
    });
  }
}

/** Compatible servers have an endpoint for it unless the entry says otherwise; the great chat models have none. */
export function hasRerankEndpoint({ provider, settings }: ModelConnection): boolean {
  if (settings.rerank_with) return settings.rerank_with === 'endpoint';
  return ['cohere', 'jina', 'tei', 'openai_compatible'].includes(provider);
}
