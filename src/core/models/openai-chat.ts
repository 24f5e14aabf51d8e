import type { ConfigurableModel } from 'langchain/chat_models/universal';
import { LRUCache } from 'lru-cache';
import type { ModelEndpoint } from '../../foundation/config/env.js';
import { Endpoint } from './endpoint.js';
import type { ChatCompletion, ChatMessage, ChatModel, ChatOptions, VisualMessage } from './model.js';

export interface OpenAIChatOptions {
  /** Milliseconds of one attempt. */
  timeout?: number;
  /** Attempts after the first that failed for a passing reason. */
  maxRetries?: number;
}

/** A chat model behind `POST {baseUrl}/chat/completions` of any OpenAI-compatible server, through langchain. */
export class OpenAIChat implements ChatModel {
  readonly name: string;

  readonly #endpoint: Endpoint;
  readonly #options: Required<OpenAIChatOptions>;
  /** Langchain takes these settings when the model is made; tenants use few different ones. */
  readonly #models = new LRUCache<string, Promise<ConfigurableModel>>({ max: 32 });

  /** @param kind as what it is named in errors */
  constructor(settings: ModelEndpoint, options: OpenAIChatOptions = {}, kind: 'chat' | 'vision' = 'chat') {
    this.name = settings.model;
    this.#endpoint = new Endpoint(kind, settings);
    this.#options = { timeout: 120_000, maxRetries: 2, ...options };
  }

  async complete(
    messages: Array<ChatMessage | VisualMessage>,
    options: ChatOptions,
  ): Promise<ChatCompletion> {
    const { signal } = options;
    signal?.throwIfAborted();
    const model = await this.#model(options);
    return this.#endpoint.call(async () => {
      const answer = await model.invoke(
        messages.map(({ role, content }) => ({ role, content })),
        { signal },
      );
      return {
        text: answer.text,
        promptTokens: answer.usage_metadata?.input_tokens ?? 0,
        completionTokens: answer.usage_metadata?.output_tokens ?? 0,
      };
    }, signal);
  }

  async isUp(): Promise<boolean> {
    return this.#endpoint.isUp();
  }

  async #model({ model: chosen, temperature, maxTokens }: ChatOptions): Promise<ConfigurableModel> {
    const key = `${chosen ?? this.name}/${temperature}/${maxTokens}`;
    let model = this.#models.get(key);
    if (!model) {
      const { timeout, maxRetries } = this.#options;
      const { model: own, ...fields } = this.#endpoint.clientFields(timeout);
      // Langchain is loaded with the first call: it takes 0.3 s and 30 MB.
      model = import('langchain/chat_models/universal').then(({ initChatModel }) =>
        initChatModel(chosen ?? own, {
          ...fields,
          modelProvider: 'openai',
          maxRetries,
          // Compatible servers speak chat completions; few speak responses.
          useResponsesApi: false,
          temperature,
          maxTokens,
        }),
      );
      this.#models.set(key, model);
    }
    return model;
  }
}
