import { setTimeout as delay } from 'node:timers/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  type Dialect,
  type StubAnswer,
  type StubChat,
  type StubMessage,
  anthropic,
  google,
  ollama,
  openai,
} from './model-dialects.js';

export type { StubAnswer, StubMessage, StubToolCall } from './model-dialects.js';

/*
 * A local server that speaks what this product uses of the APIs of OpenAI, Anthropic, Ollama, Google, Cohere (rerank), Jina
 * (rerank) and Text Embeddings Inference. It is deterministic: vectors are words hashed to dimensions, relevance is the share
 * of the question's words that stand in a document, and the chat model quotes the first sentence of passage [1], with its
 * citation, unless `respond` says otherwise.
 *
 *   const server = await startModelServer();
 *   server.respond = messages => `You said ${messages.at(-1)?.content}`;          // from now on
 *   server.respond = ({ length }) => length > 3 ? 'Done.' : { toolCalls: [{ name: 'vector_search', args: { query: 'x' } }] };
 *
 *   server.next({ text: 'Only once.' });                                          // one request, then as before
 *   server.next({ toolCalls: [{ name: 'vector_search', args: { query: 'x' } }] }, { text: 'Found it. [1]' });
 *   server.next({ deltas: ['Found', ' it. ', '[1', ']'], every: 20 });            // in these pieces, 20 ms apart
 *
 * and misbehaves on command, each time for one request:
 *
 *   server.next({ for: 'chat', status: 429, headers: { 'retry-after': '2' } });   // refuses
 *   server.next({ garbage: true });                                               // 200 with a page of HTML
 *   server.next({ hang: 'headers' }, { hang: 'body' });                           // never answers, or never ends
 *   server.next({ text: 'One two three.', hangAfter: 2 });                        // streams two pieces, and no more
 *   server.next({ text: 'One two three.', dieAfter: 2 });                         // … and drops the connection
 *   server.next({ text: 'One two three.', closeAfter: 2 });                       // … and ends politely, without an end
 *   server.next({ text: 'One two three.', failAfter: 2 });                        // … and says that it failed
 *   server.next({ text: 'One two three.', garbageAfter: 2 });                     // … and something else in between
 *   server.next({ endless: true, every: 1 });                                     // streams until the client leaves
 *   server.next({ reset: true });                                                 // drops the connection at once
 *   server.next({ for: 'embeddings', dimensions: 7 });                            // vectors of another length
 *   server.next({ text: 'Hi', usage: null });                                     // counts no tokens
 *
 * `for` keeps a command for the first request of its kind: a question is embedded before it is answered. Commands without
 * meet whatever comes first.
 */

export interface ModelServerOptions {
  /** Dimensions of the vectors [256]. */
  dimensions?: number;
  /** Milliseconds before every answer [0]. */
  latency?: number;
  /** What the chat model says [the first sentence of passage [1], cited]. */
  respond?: Respond;
}

export type Respond = (messages: StubMessage[], chat: StubChat) => string | StubAnswer;

/** What kind of request a command waits for. */
export type RequestKind = 'chat' | 'embeddings' | 'rerank' | 'models' | 'audio';

/** What happens to one request instead of its answer. */
export type Fault = (
  | { status: number; body?: string; headers?: Record<string, string> }
  /** Never answers, or begins to and never ends. */
  | { hang: 'headers' | 'body' }
  /** Drops the connection. */
  | { reset: true }
  /** 200 with a page of HTML. */
  | { garbage: true }
) & { for?: RequestKind };

/** How one request is answered. */
export interface Behaviour extends StubAnswer {
  for?: RequestKind;
  /** The pieces of a streamed text [its words]. */
  deltas?: string[];
  /** Milliseconds before each piece [0]. */
  every?: number;
  /** Pieces after which the connection is dropped, nothing more comes, or the answer ends without saying so. */
  dieAfter?: number;
  hangAfter?: number;
  closeAfter?: number;
  /** Pieces after which the server says that it failed, or garbage stands in their midst. */
  failAfter?: number;
  garbageAfter?: number;
  /** Words without end, until the client leaves. */
  endless?: boolean;
  /** Of this one answer's vectors. */
  dimensions?: number;
  /** Null: no tokens are counted. */
  usage?: null;
}

export type Command = Behaviour | Fault;

export interface ModelServer {
  /** The base URL, with `/v1`. */
  readonly url: string;
  /** Without a path: the base URL of the other dialects. */
  readonly origin: string;
  /** Requests received, by kind; a request that met a fault counts. */
  readonly requests: Record<RequestKind, number>;
  /** Texts embedded. */
  readonly texts: number;
  readonly lastRequest: { authorization: string | undefined; body: unknown } | null;
  /** The latest requests, the last one at the end. */
  readonly received: Array<{ route: string; headers: IncomingMessage['headers']; body: any }>;
  /** Requests whose client left before the answer had ended. */
  readonly abandoned: number;
  /** Milliseconds before every answer; may be changed. */
  latency: number;
  /** May be changed between requests. */
  respond: Respond;
  /** How the next requests are answered, in turn. */
  next(...commands: Command[]): void;
  /** The same, for faults. */
  failNext(...faults: Fault[]): void;
  close(): Promise<void>;
}

interface EmbeddingsRequest {
  input: string | string[];
  model: string;
  encoding_format?: 'float' | 'base64';
}

const MOST_RECEIVED = 200;

interface Route {
  kind: RequestKind;
  pattern: RegExp;
  answer(exchange: Exchange): Promise<void> | void;
}

interface Exchange {
  path: string;
  body: any;
  response: ServerResponse;
  behaviour: Behaviour;
}

export async function startModelServer(options: ModelServerOptions = {}): Promise<ModelServer> {
  const commands: Command[] = [];
  const requests: ModelServer['requests'] = { chat: 0, embeddings: 0, rerank: 0, models: 0, audio: 0 };
  const received: ModelServer['received'] = [];
  let texts = 0;
  let abandoned = 0;
  let lastRequest: ModelServer['lastRequest'] = null;

  const vectorsOf = (input: string[], behaviour: Behaviour): Float32Array[] => {
    texts += input.length;
    return input.map(text => hashedBagOfWords(text, behaviour.dimensions ?? options.dimensions ?? 256));
  };

  const embeddings = ({ body, response, behaviour }: Exchange): void => {
    const request = body as EmbeddingsRequest;
    const input = [request.input].flat();
    const tokens = input.reduce((sum, text) => sum + countTokens(text), 0);
    json(response, {
      object: 'list',
      model: request.model,
      data: vectorsOf(input, behaviour).map((vector, index) => ({
        object: 'embedding',
        index,
        embedding:
          request.encoding_format === 'base64'
            ? Buffer.from(vector.buffer).toString('base64')
            : Array.from(vector),
      })),
      ...(behaviour.usage !== null && { usage: { prompt_tokens: tokens, total_tokens: tokens } }),
    });
  };

  const chat =
    (dialect: Dialect) =>
    async ({ path, body, response, behaviour }: Exchange): Promise<void> => {
      const asked: StubChat = { ...dialect.parse(body, path), body };
      const said =
        behaviour.text !== undefined || behaviour.toolCalls || behaviour.deltas || behaviour.endless
          ? behaviour
          : server.respond(asked.messages, asked);
      const answer: StubAnswer = typeof said === 'string' ? { text: said } : { ...said };
      answer.text ??= behaviour.deltas?.join('');
      const input = asked.messages.reduce((sum, message) => sum + countTokens(message.content), 0);
      const usage = behaviour.usage === null ? null : { input, output: countTokens(answer.text ?? '') };
      if (!asked.stream) {
        if (behaviour.every) await delay(behaviour.every);
        if (behaviour.dieAfter !== undefined) return void response.destroy();
        if (behaviour.hangAfter !== undefined || behaviour.endless) return;
        return json(response, dialect.whole(asked, answer, usage));
      }
      response.writeHead(200, { 'content-type': dialect.streamType });
      response.write(dialect.begin(asked, usage));
      const write = async (data: string): Promise<void> => {
        if (behaviour.every) await delay(behaviour.every);
        // Whoever is slow to read is waited for.
        if (!response.write(data)) await drained(response);
      };
      const pieces = behaviour.deltas ?? answer.text?.match(/\s*\S+/g) ?? [];
      for (let count = 0; behaviour.endless || count < pieces.length; count++) {
        if (response.destroyed) return;
        if (count === behaviour.dieAfter) return drop(response);
        if (count === behaviour.hangAfter) return;
        if (count === behaviour.closeAfter) return void response.end();
        if (count === behaviour.failAfter) return void response.end(dialect.failure('Overloaded'));
        if (count === behaviour.garbageAfter) await write(dialect.garbage);
        await write(dialect.delta(asked, behaviour.endless ? ' word' : (pieces[count] as string)));
      }
      if (behaviour.dieAfter !== undefined) return drop(response);
      if (behaviour.hangAfter !== undefined) return;
      if (behaviour.closeAfter !== undefined) return void response.end();
      if (answer.toolCalls?.length) await write(dialect.toolCalls(asked, answer.toolCalls));
      response.end(dialect.end(asked, answer, usage));
    };

  const routes: Route[] = [
    {
      kind: 'embeddings',
      pattern: /^POST \/(v1|compatibility\/v1|v1beta\/openai|openai\/deployments\/[^/]+)\/embeddings$/,
      answer: embeddings,
    },
    {
      kind: 'embeddings',
      pattern: /^POST \/api\/embed$/,
      answer: ({ body, response, behaviour }) => {
        const input = [body.input].flat() as string[];
        const vectors = vectorsOf(input, behaviour).map(vector => Array.from(vector));
        json(response, { model: body.model, embeddings: vectors, prompt_eval_count: input.length });
      },
    },
    {
      kind: 'chat',
      pattern: /^POST \/(v1|compatibility\/v1|v1beta\/openai|openai\/deployments\/[^/]+)\/chat\/completions$/,
      answer: chat(openai),
    },
    { kind: 'chat', pattern: /^POST \/v1\/messages$/, answer: chat(anthropic) },
    { kind: 'chat', pattern: /^POST \/api\/chat$/, answer: chat(ollama) },
    {
      kind: 'chat',
      pattern: /^POST \/v1(?:beta|alpha)?\/models\/[^/]+:(?:stream)?[gG]enerateContent$/,
      answer: chat(google),
    },
    {
      kind: 'rerank',
      pattern: /^POST \/(v1|v2)\/rerank$/,
      answer: ({ body, response }) => {
        const documents = (body.documents as Array<string | { text: string }>).map(document =>
          typeof document === 'string' ? document : document.text,
        );
        const results = documents
          .map((text, index) => ({ index, relevance_score: relevance(body.query, text) }))
          .toSorted((a, b) => b.relevance_score - a.relevance_score)
          .slice(0, body.top_n ?? documents.length);
        json(response, { id: 'rerank-1', model: body.model, results });
      },
    },
    {
      kind: 'rerank',
      pattern: /^POST \/rerank$/,
      answer: ({ body, response }) => {
        const results = (body.texts as string[]).map((text, index) => ({
          index,
          score: relevance(body.query, text),
        }));
        json(
          response,
          results.toSorted((a, b) => b.score - a.score),
        );
      },
    },
    {
      kind: 'models',
      pattern: /^GET \/v1\/models$/,
      answer: ({ response }) =>
        json(response, {
          object: 'list',
          data: [{ id: 'stub', object: 'model', created: 0, owned_by: 'test' }],
        }),
    },
    {
      kind: 'audio',
      pattern: /^POST \/v1\/audio\/transcriptions$/,
      answer: ({ response }) => json(response, { text: 'What was said.' }),
    },
    {
      kind: 'audio',
      pattern: /^POST \/v1\/audio\/speech$/,
      answer: ({ response }) => {
        response.writeHead(200, { 'content-type': 'audio/mpeg' }).end(Buffer.from('ID3 not much of a sound'));
      },
    },
  ];

  /** The first command that is for requests of this kind. */
  const take = (kind: RequestKind | null): Command => {
    const index = commands.findIndex(command => command.for === undefined || command.for === kind);
    return index < 0 ? {} : (commands.splice(index, 1)[0] as Command);
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readBody(request);
    lastRequest = { authorization: request.headers.authorization, body };
    const path = (request.url ?? '').split('?')[0] as string;
    const named = `${request.method} ${path}`;
    const found = routes.find(({ pattern }) => pattern.test(named));
    received.push({ route: named, headers: request.headers, body });
    if (received.length > MOST_RECEIVED) received.shift();
    if (found) requests[found.kind]++;

    // A request that came before, and waits, leaves the command to the one that it is for.
    const command = take(found?.kind ?? null);
    if (server.latency > 0) await delay(server.latency);
    if (isFault(command)) return fail(response, command);
    if (!found) return json(response, { error: { message: `No route ${named}` } }, 404);
    await found.answer({ path, body, response, behaviour: command });
  };

  const http = createServer((request, response) => {
    response.on('close', () => {
      if (!response.writableFinished) abandoned++;
    });
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else json(response, { error: { message: String(error) } }, 400);
    });
  });
  await new Promise<void>(resolve => {
    http.listen(0, '127.0.0.1', resolve);
  });
  const origin = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;

  const server: ModelServer = {
    url: `${origin}/v1`,
    origin,
    requests,
    get texts() {
      return texts;
    },
    get lastRequest() {
      return lastRequest;
    },
    received,
    get abandoned() {
      return abandoned;
    },
    latency: options.latency ?? 0,
    respond: options.respond ?? quoteFirstPassage,
    next: (...more) => {
      commands.push(...more);
    },
    failNext: (...more) => {
      commands.push(...more);
    },
    close: () =>
      new Promise((resolve, reject) => {
        http.close(error => (error ? reject(error) : resolve()));
        http.closeAllConnections();
      }),
  };
  return server;
}

function isFault(command: Command): command is Fault {
  return 'status' in command || 'hang' in command || 'reset' in command || 'garbage' in command;
}

/** Answers a request with a fault. */
export function fail(response: ServerResponse, fault: Fault): void {
  if ('reset' in fault) {
    response.destroy();
  } else if ('garbage' in fault) {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>Welcome!</body></html>');
  } else if ('hang' in fault) {
    if (fault.hang === 'body') response.writeHead(200, { 'content-type': 'application/json' }).write('{');
  } else {
    const body = fault.body ?? JSON.stringify({ error: { message: 'stub fault', type: 'stub' } });
    response.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers }).end(body);
  }
}

/** What was written has gone out before. */
async function drop(response: ServerResponse): Promise<void> {
  await delay(10);
  response.destroy();
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}

function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** What is no JSON is as good as nothing here. */
async function readBody(request: IncomingMessage): Promise<any> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  if (parts.length === 0) return null;
  const text = Buffer.concat(parts).toString('utf8');
  return (request.headers['content-type'] ?? '').startsWith('multipart/') ? null : JSON.parse(text);
}

/** Share of the question's words that stand in a document. */
function relevance(query: string, document: string): number {
  const wordsOf = (text: string) => new Set(text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  const asked = [...wordsOf(query)];
  const there = wordsOf(document);
  return asked.length === 0 ? 0 : asked.filter(word => there.has(word)).length / asked.length;
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
