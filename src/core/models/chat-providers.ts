import type { BaseChatModel } from '@langchain/core/language_models/chat_models';
import type { ChatFields } from './chat-fields.js';
import { type ModelConnection, baseOf } from './model-provider.js';
import { openAIFields } from './openai-fields.js';
import type { ModelTransport } from './model-transport.js';

/** Answers of Anthropic’s models must have a limit. */
const ANTHROPIC_MAX_TOKENS = 4096;

/**
 * Langchain’s client for a chat model. Its library is loaded with the first call: each takes a tenth of a second and tens of
 * megabytes.
 */
export async function openChat(
  connection: ModelConnection,
  transport: ModelTransport,
  fields: ChatFields,
): Promise<BaseChatModel> {
  const { provider, modelName: model, apiKey, contextTokens, settings } = connection;
  const { temperature, maxTokens, json = false, until, callbacks } = fields;
  // Repetitions are the transport's, which knows of Retry-After in every dialect.
  const shared = { model, maxRetries: 0, callbacks };
  switch (provider) {
    case 'anthropic': {
      const { ChatAnthropic } = await import('@langchain/anthropic');
      return new ChatAnthropic({
        ...shared,
        apiKey,
        anthropicApiUrl: baseOf(connection),
        // Its scale ends at 1.
        temperature: temperature === undefined ? undefined : Math.min(1, temperature),
        maxTokens: maxTokens ?? ANTHROPIC_MAX_TOKENS,
        // Null keeps the client from reading ANTHROPIC_AUTH_TOKEN.
        clientOptions: { authToken: null, fetch: transport.fetch, logLevel: 'off', maxRetries: 0 },
      });
    }
    case 'ollama': {
      const { ChatOllama } = await import('@langchain/ollama');
      return new ChatOllama({
        ...shared,
        baseUrl: baseOf(connection),
        headers: apiKey ? { authorization: `Bearer ${apiKey}` } : undefined,
        temperature,
        numPredict: maxTokens,
        // Without it Ollama cuts prompts at a few thousand tokens, and says nothing.
        numCtx: contextTokens ?? undefined,
        keepAlive: settings.keep_alive,
        format: json ? 'json' : undefined,
        fetch: transport.fetchUntil(until),
      });
    }
    case 'google': {
      const { openGoogleChat } = await import('./google-chat.js');
      return openGoogleChat(connection, transport, fields);
    }
    default: {
      const { ChatOpenAI } = await import('@langchain/openai');
      return new ChatOpenAI({
        ...shared,
        ...openAIFields(connection, transport.fetch),
        // Compatible servers speak chat completions; few speak responses.
        useResponsesApi: false,
        temperature,
        maxTokens,
        modelKwargs: json ? { response_format: { type: 'json_object' } } : undefined,
      });
    }
  }
}

/**
 * Whether one client may serve several requests at a time. Ollama’s ends all of them when one is given up, and Google’s
 * keeps the system prompt of the one before.
 */
export const isShareable = ({ provider }: ModelConnection): boolean =>
  provider !== 'ollama' && provider !== 'google';
