import type { BaseChatModel } from '@langchain/core/language_models/chat_models';
import type { AIMessageChunk, UsageMetadata } from '@langchain/core/messages';
import { LRUCache } from 'lru-cache';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { AnswerBounds } from './answer-bounds.js';
import type { ChatFields } from './chat-fields.js';
import { isShareable, openChat } from './chat-providers.js';
import {
  type ChatCompletion,
  type ChatMessage,
  type ChatModel,
  type ChatOptions,
  type LangchainModel,
  type VisualMessage,
} from './model.js';
import { toModelError } from './model-fault.js';
import type { ModelConnection } from './model-provider.js';
import type { ModelTransport } from './model-transport.js';

export interface LangchainChatOptions {
  /** Is told the tokens of each call: as the server counts them, and else as they are estimated. */
  onTokens?: (tokens: number) => void;
}

/** Where nothing is known. */
const CONTEXT_TOKENS = 8192;

/** A chat model of any provider, through langchain. */
export class LangchainChat implements ChatModel {
  readonly name: string;
  readonly contextTokens: number;

  /** Langchain takes these settings when a client is made; tenants use few different ones. */
  readonly #clients = new LRUCache<string, Promise<BaseChatModel>>({ max: 16 });

  constructor(
    private readonly connection: ModelConnection,
    readonly transport: ModelTransport,
    private readonly options: LangchainChatOptions = {},
  ) {
    this.name = connection.modelName;
    this.contextTokens = connection.contextTokens ?? CONTEXT_TOKENS;
  }

  async complete(
    messages: ReadonlyArray<ChatMessage | VisualMessage>,
    options: ChatOptions,
  ): Promise<ChatCompletion> {
    const { signal } = options;
    return this.#call(signal, async () => {
      const client = await this.#client(options, signal);
      const answer = await client.invoke(toLangchain(messages), { signal });
      return this.#completed(messages, answer.text, answer.usage_metadata);
    });
  }

  async *stream(
    messages: readonly ChatMessage[],
    options: ChatOptions,
  ): AsyncGenerator<string, ChatCompletion> {
    const { signal } = options;
    signal?.throwIfAborted();
    const stop = new AbortController();
    const abort = () => stop.abort(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    const bounds = new AnswerBounds(this.transport.subject, options.maxTokens);
    const usage = { input_tokens: 0, output_tokens: 0 };
    let text = '';
    try {
      const client = await this.#client(options, stop.signal);
      const chunks = await client.stream(toLangchain(messages), { signal: stop.signal });
      for await (const chunk of chunks as AsyncIterable<AIMessageChunk>) {
        bounds.add(chunk);
        usage.input_tokens += chunk.usage_metadata?.input_tokens ?? 0;
        usage.output_tokens += chunk.usage_metadata?.output_tokens ?? 0;
        const delta = chunk.text;
        if (delta === '') continue;
        if (text === '') options.onModel?.(this.name);
        text += delta;
        yield delta;
        signal?.throwIfAborted();
      }
      signal?.throwIfAborted();
      return this.#completed(messages, text, usage);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw toModelError(this.transport.subject, error);
    } finally {
      signal?.removeEventListener('abort', abort);
      // Whoever takes no more wants no more to be made.
      stop.abort();
    }
  }

  /** A client of its own: whoever gets it keeps it for as long as it likes. */
  async langchain(options: ChatOptions): Promise<[LangchainModel]> {
    const { onTokens } = this.options;
    return [{ name: this.name, model: await this.#open(options, options.signal, onTokens) }];
  }

  async #call<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw toModelError(this.transport.subject, error);
    }
  }

  #client(options: ChatOptions, stop: AbortSignal | undefined): Promise<BaseChatModel> {
    if (!isShareable(this.connection)) return this.#open(options, stop);
    const { temperature, maxTokens, json } = options;
    const key = `${temperature}/${maxTokens}/${json}`;
    let client = this.#clients.get(key);
    if (!client) {
      client = this.#open(options, undefined);
      this.#clients.set(key, client);
      client.catch(() => this.#clients.delete(key));
    }
    return client;
  }

  async #open(
    { temperature, maxTokens, json }: ChatOptions,
    until: AbortSignal | undefined,
    onTokens?: (tokens: number) => void,
  ): Promise<BaseChatModel> {
    const fields: ChatFields = { temperature, maxTokens, json, until };
    if (onTokens) {
      const { tokenCounter } = await import('./token-counter.js');
      fields.callbacks = [tokenCounter(onTokens)];
    }
    return openChat(this.connection, this.transport, fields);
  }

  #completed(
    messages: ReadonlyArray<ChatMessage | VisualMessage>,
    text: string,
    usage: Pick<UsageMetadata, 'input_tokens' | 'output_tokens'> | undefined,
  ): ChatCompletion {
    const promptTokens = usage?.input_tokens ?? 0;
    const completionTokens = usage?.output_tokens ?? 0;
    const counted = promptTokens + completionTokens;
    this.options.onTokens?.(counted > 0 ? counted : estimateTokens(messages.map(textOf).join('\n') + text));
    return { text, model: this.name, promptTokens, completionTokens };
  }
}

const textOf = ({ content }: ChatMessage | VisualMessage): string =>
  typeof content === 'string'
    ? content
    : content.map(part => (part.type === 'text' ? part.text : '')).join('');

const toLangchain = (messages: ReadonlyArray<ChatMessage | VisualMessage>) =>
  messages.map(({ role, content }) => ({ role, content }));
