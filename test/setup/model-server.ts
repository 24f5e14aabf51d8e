import { setTimeout as delay } from 'node:timers/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ModelServerOptions {
  /** Dimensions of the vectors [256]. */
  dimensions?: number;
  /** Milliseconds before every answer [0]. */
  latency?: number;
  /** What the chat model says [the first sentence of passage [1], cited]. */
  respond?: (messages: StubMessage[]) => string;
}

export interface StubMessage {
  role: string;
  content: string;
}

/** What happens to one request instead of its answer. */
export type Fault =
  | { status: number; body?: string; headers?: Record<string, string> }
  /** Never answers, or begins to and never ends. */
  | { hang: 'headers' | 'body' }
  /** Drops the connection. */
  | { reset: true };

export interface ModelServer {
  /** The base URL, with `/v1`. */
  readonly url: string;
  /** Requests received, by route; a request that met a fault counts. */
  readonly requests: { embeddings: number; chat: number; models: number };
  /** Texts embedded. */
  readonly texts: number;
  readonly lastRequest: { authorization: string | undefined; body: unknown } | null;
  /** Milliseconds before every answer; may be changed. */
  latency: number;
  /** May be changed between requests. */
  respond: (messages: StubMessage[]) => string;
  /** The next requests meet these faults, in turn. */
  failNext(...faults: Fault[]): void;
  close(): Promise<void>;
}

interface EmbeddingsRequest {
  input: string | string[];
  model: string;
  encoding_format?: 'float' | 'base64';
}

interface ChatRequest {
  messages: StubMessage[];
  model: string;
  stream?: boolean;
  stream_options?: { include_usage?: boolean };
}

/** A local server that speaks the part of the OpenAI API that this product uses; deterministic. */
export async function startModelServer(options: ModelServerOptions = {}): Promise<ModelServer> {
  const dimensions = options.dimensions ?? 256;
  const faults: Fault[] = [];
  const requests = { embeddings: 0, chat: 0, models: 0 };
  let texts = 0;
  let lastRequest: ModelServer['lastRequest'] = null;

  const embeddings = (request: EmbeddingsRequest, response: ServerResponse): void => {
    const input = [request.input].flat();
    texts += input.length;
    const tokens = input.reduce((sum, text) => sum + countTokens(text), 0);
    json(response, {
      object: 'list',
      model: request.model,
      data: input.map((text, index) => {
        const vector = hashedBagOfWords(text, dimensions);
        return {
          object: 'embedding',
          index,
          embedding:
            request.encoding_format === 'base64'
              ? Buffer.from(vector.buffer).toString('base64')
              : Array.from(vector),
        };
      }),
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    });
  };

  const chat = (request: ChatRequest, response: ServerResponse): void => {
    const text = server.respond(request.messages);
    const promptTokens = request.messages.reduce((sum, message) => sum + countTokens(message.content), 0);
    const completionTokens = countTokens(text);
    const usage = {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
    };
    const envelope = { id: 'chatcmpl-1', created: 0, model: request.model };
    if (!request.stream) {
      const message = { role: 'assistant', content: text };
      json(response, {
        ...envelope,
        object: 'chat.completion',
        choices: [{ index: 0, message, finish_reason: 'stop' }],
        usage,
      });
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (choices: unknown[], rest: object = {}) =>
      response.write(
        `data: ${JSON.stringify({ ...envelope, object: 'chat.completion.chunk', choices, ...rest })}\n\n`,
      );
    send([{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }]);
    for (const word of text.match(/\s*\S+/g) ?? []) {
      send([{ index: 0, delta: { content: word }, finish_reason: null }]);
    }
    send([{ index: 0, delta: {}, finish_reason: 'stop' }]);
    if (request.stream_options?.include_usage) send([], { usage });
    response.end('data: [DONE]\n\n');
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readJson(request);
    lastRequest = { authorization: request.headers.authorization, body };
    const route = `${request.method} ${request.url}`;
    if (route === 'POST /v1/embeddings') requests.embeddings++;
    else if (route === 'POST /v1/chat/completions') requests.chat++;
    else if (route === 'GET /v1/models') requests.models++;

    // A request that came before, and waits, leaves the fault to the one that it is for.
    const fault = faults.shift();
    if (server.latency > 0) await delay(server.latency);
    if (fault) return fail(response, fault);
    if (route === 'POST /v1/embeddings') return embeddings(body as EmbeddingsRequest, response);
    if (route === 'POST /v1/chat/completions') return chat(body as ChatRequest, response);
    if (route === 'GET /v1/models') {
      return json(response, {
        object: 'list',
        data: [{ id: 'stub', object: 'model', created: 0, owned_by: 'test' }],
      });
    }
    return json(response, { error: { message: `No route ${route}` } }, 404);
  };

  const http = createServer((request, response) => {
    answer(request, response).catch((error: unknown) =>
      json(response, { error: { message: String(error) } }, 400),
    );
  });
  await new Promise<void>(resolve => {
    http.listen(0, '127.0.0.1', resolve);
  });

  const server: ModelServer = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/v1`,
    requests,
    get texts() {
      return texts;
    },
    get lastRequest() {
      return lastRequest;
    },
    latency: options.latency ?? 0,
    respond: options.respond ?? quoteFirstPassage,
    failNext: (...next) => {
      faults.push(...next);
    },
    close: () =>
      new Promise((resolve, reject) => {
        http.close(error => (error ? reject(error) : resolve()));
        http.closeAllConnections();
      }),
  };
  return server;
}

/** Answers a request with a fault. */
export function fail(response: ServerResponse, fault: Fault): void {
  if ('reset' in fault) {
    response.destroy();
  } else if ('hang' in fault) {
    if (fault.hang === 'body') response.writeHead(200, { 'content-type': 'application/json' }).write('{');
  } else {
    const body = fault.body ?? JSON.stringify({ error: { message: 'stub fault', type: 'stub' } });
    response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers }).end(body);
  }
}

function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return parts.length === 0 ? null : JSON.parse(Buffer.concat(parts).toString('utf8'));
}

/** Words hashed (FNV-1a) to dimensions, as a unit vector: texts that share words are near each other. */
function hashedBagOfWords(text: string, dimensions: number): Float32Array {
  const vector = new Float32Array(dimensions);
  for (const word of text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []) {
    let hash = 0x811c9dc5;
    for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193) >>> 0;
    const dimension = hash % dimensions;
    vector[dimension] = vector[dimension]! + 1;
  }
  let squares = 0;
  for (const value of vector) squares += value * value;
  // A text without words still has a direction.
  if (squares === 0) vector[0] = squares = 1;
  const length = Math.sqrt(squares);
  return vector.map(value => value / length);
}

/** Roughly: four characters a token. */
function countTokens(text: string): number {
  return Math.ceil(text.length / 4);
}

/** The first sentence of the passage numbered [1] in the last message that has one, with its citation. */
function quoteFirstPassage(messages: StubMessage[]): string {
  for (const { content } of messages.toReversed()) {
    const passage = /(?:^|\n)[ \t]*\[1\][ \t]*\n?([^]*?)(?=\n[ \t]*\[\d+\]|\n\s*\n|$)/
      .exec(content)?.[1]
      ?.trim();
    if (passage) return `${/^[^]*?[.!?](?=\s|$)/.exec(passage)?.[0] ?? passage} [1]`;
  }
  return 'The passages do not answer the question.';
}
