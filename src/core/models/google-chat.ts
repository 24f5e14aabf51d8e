import { AsyncLocalStorage } from 'node:async_hooks';
import { ChatGoogleGenerativeAI } from '@langchain/google-genai';
import type { ChatFields } from './chat-fields.js';
import { type ModelConnection, baseOf } from './model-provider.js';
import type { ModelTransport } from './model-transport.js';

type Fetch = typeof globalThis.fetch;

/** Of Google's library, what langchain calls. */
interface GoogleClient {
  generateContent(...parameters: unknown[]): Promise<unknown>;
  generateContentStream(
    ...parameters: unknown[]
  ): Promise<{ stream: AsyncIterable<unknown>; response: Promise<unknown> }>;
}

/**
 * Google's library asks the global `fetch` and lets nobody choose another. While it does that for a model of ours, the
 * global one is the model's; for everybody else it stays what it was.
 */
const chosen = new AsyncLocalStorage<Fetch>();
const original = globalThis.fetch;
globalThis.fetch = (input, init) => (chosen.getStore() ?? original)(input, init);

/** Langchain's client for Gemini. In a file of its own, so that it is loaded with the first call only. */
export function openGoogleChat(
  connection: ModelConnection,
  transport: ModelTransport,
  { temperature, maxTokens, json, until, callbacks }: ChatFields,
): ChatGoogleGenerativeAI {
  const model = new ChatGoogleGenerativeAI({
    model: connection.modelName,
    // The client refuses to be made without a key.
    apiKey: connection.apiKey || 'none',
    baseUrl: baseOf(connection),
    temperature,
    maxOutputTokens: maxTokens,
    json,
    maxRetries: 0,
    callbacks,
  });
  guard((model as unknown as { client: GoogleClient }).client, transport.fetchUntil(until));
  return model;
}

/** The library's own errors tell no causes: what went wrong on the way is kept, and thrown instead of them. */
function guard(client: GoogleClient, fetch: Fetch): void {
  let fault: unknown;
  const watched: Fetch = async (input, init) => {
    try {
      const response = await fetch(input, init);
      const { body } = response;
      return body
        ? new Response(
            watch(body, error => (fault = error)),
            response,
          )
        : response;
    } catch (error) {
      fault = error;
      throw error;
    }
  };
  const generate = client.generateContent.bind(client);
  const stream = client.generateContentStream.bind(client);
  const told = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await chosen.run(watched, work);
    } catch (error) {
      throw fault ?? error;
    }
  };
  client.generateContent = (...parameters) => told(() => generate(...parameters));
  client.generateContentStream = async (...parameters) => {
    const answer = await told(() => stream(...parameters));
    // Nobody waits for the whole, whose failure would end the process.
    answer.response.catch(() => undefined);
    return { ...answer, stream: toldAmid(answer.stream, () => fault) };
  };
}

async function* toldAmid(pieces: AsyncIterable<unknown>, fault: () => unknown): AsyncGenerator {
  try {
    yield* pieces;
  } catch (error) {
    throw fault() ?? error;
  }
}

function watch(
  body: ReadableStream<Uint8Array>,
  onFault: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>(
    {
      pull: async controller => {
        try {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          onFault(error);
          controller.error(error);
        }
      },
      cancel: reason => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
