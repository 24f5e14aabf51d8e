import { tool } from 'langchain';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { anthropic, google, ollama, openai } from '../../../test/setup/model-dialects.js';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import { LangchainChat } from './langchain-chat.js';
import { type ChatMessage, type ChatOptions, ModelError } from './model.js';
import { toModelError } from './model-fault.js';
import type { ModelConnection, Provider } from './model-provider.js';
import { type Door, ModelTransport, type TransportOptions } from './model-transport.js';

const KEY = 'sk-secret-key';
const messages: ChatMessage[] = [
  { role: 'system', content: 'Answer from the passages.' },
  { role: 'user', content: '[1] The Normans came from Normandy. They spoke Norman.\n\nWho?' },
];

/** Where each dialect is spoken by the stub. */
const BASES: Array<[Provider, (server: ModelServer) => string]> = [
  ['openai', ({ url }) => url],
  ['openai_compatible', ({ url }) => url],
  ['azure_openai', ({ origin }) => origin],
  ['cohere', ({ origin }) => origin],
  ['anthropic', ({ origin }) => origin],
  ['ollama', ({ origin }) => origin],
  ['google', ({ origin }) => origin],
];

const dialectOf = (provider: Provider) =>
  ({ anthropic, google, ollama })[provider as 'anthropic' | 'google' | 'ollama'] ?? openai;

let server: ModelServer;

beforeEach(async () => {
  server = await startModelServer();
});
afterEach(() => server.close());

const used: number[] = [];

function chatOf(
  provider: Provider,
  transport: TransportOptions = {},
  connection: Partial<ModelConnection> = {},
): LangchainChat {
  used.length = 0;
  const base = BASES.find(([name]) => name === provider)?.[1](server) ?? server.url;
  return new LangchainChat(
    {
      provider,
      modelName: 'stub-1',
      apiBase: `${base}/`,
      apiKey: KEY,
      contextTokens: 16_000,
      dimensions: null,
      settings: {},
      ...connection,
    },
    new ModelTransport('The model "Stub"', { retryDelay: 10, ...transport }),
    { onTokens: tokens => used.push(tokens) },
  );
}

async function drain(chat: LangchainChat, options: ChatOptions = {}) {
  const deltas: string[] = [];
  const answer = chat.stream(messages, options);
  for (;;) {
    const step = await answer.next();
    if (step.done) return { deltas, completion: step.value };
    deltas.push(step.value);
  }
}

const faultOf = async (work: Promise<unknown>): Promise<ModelError> => {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ModelError);
  return error as ModelError;
};

const PATIENCE = { timeout: 3_000 };

/** A server that says the same without an end. */
const endlessDoor =
  (delta: (n: number) => object): Door =>
  () =>
    Promise.resolve({
      status: 200,
      headers: { 'content-type': 'text/event-stream' },
      body: (async function* () {
        for (let n = 0; ; n++) {
          const chunk = {
            id: 'x',
            object: 'chat.completion.chunk',
            choices: [{ index: 0, delta: delta(n) }],
          };
          yield Buffer.from(`data: ${JSON.stringify(chunk)}\n\n`);
        }
      })(),
      close: () => undefined,
    });

describe.each(BASES)('%s, through its own client', provider => {
  it('gives the text, who said it, and what it cost', async () => {
    const completion = await chatOf(provider).complete(messages, {});
    expect(completion).toMatchObject({ text: 'The Normans came from Normandy. [1]', model: 'stub-1' });
    expect(completion.promptTokens).toBeGreaterThan(0);
    expect(completion.completionTokens).toBe(9);
    expect(used).toEqual([completion.promptTokens + completion.completionTokens]);
    expect(server.requests.chat).toBe(1);
  });

  it('gives it piece by piece, with the same count', async () => {
    const { deltas, completion } = await drain(chatOf(provider));
    expect(deltas.length).toBeGreaterThan(3);
    expect(deltas.join('')).toBe('The Normans came from Normandy. [1]');
    expect(completion).toMatchObject({ text: deltas.join(''), model: 'stub-1', completionTokens: 9 });
    expect(completion.promptTokens).toBeGreaterThan(0);
    expect(used).toEqual([completion.promptTokens + completion.completionTokens]);
  });

  it('gives a piece as soon as it comes', async () => {
    server.next({ deltas: ['One', ' two'], every: 150 });
    const answer = chatOf(provider).stream(messages, {});
    const started = performance.now();
    await expect(answer.next()).resolves.toEqual({ done: false, value: 'One' });
    expect(performance.now() - started).toBeLessThan(600);
    await answer.return(undefined as never);
  });

  it('shows its key to nobody but the server, and asks for what was asked for', async () => {
    await chatOf(provider).complete(messages, { temperature: 0.5, maxTokens: 50 });
    const [{ headers, body } = { headers: {}, body: {} }] = server.received;
    const shown = JSON.stringify(headers) + (server.received[0]?.route ?? '');
    if (provider !== 'google') expect(shown).toContain(KEY);
    expect(JSON.stringify(body)).toContain('0.5');
    expect(JSON.stringify(body)).toContain('50');
    expect(JSON.stringify(body)).not.toContain(KEY);
  });

  it('is asked by the provider’s own library', async () => {
    await chatOf(provider).complete(messages, {});
    const { headers } = server.received[0]!;
    const agent = `${headers['user-agent']} ${String(headers['x-goog-api-client'])}`;
    const library = { anthropic: /anthropic/i, ollama: /ollama/i, google: /genai-js/i }[provider as string];
    expect(agent).toMatch(library ?? /openai/i);
  });

  it('tells the server nothing of this process’s environment', async () => {
    vi.stubEnv('ANTHROPIC_AUTH_TOKEN', 'of-the-installation');
    vi.stubEnv('OPENAI_ORG_ID', 'of-the-installation');
    vi.stubEnv('OPENAI_CUSTOM_HEADERS', 'x-gateway: of-the-installation');
    vi.stubEnv('ANTHROPIC_CUSTOM_HEADERS', 'x-gateway: of-the-installation');
    await chatOf(provider).complete(messages, {});
    vi.unstubAllEnvs();
    expect(JSON.stringify(server.received)).not.toContain('of-the-installation');
  });

  it('calls tools where an agent has some', async () => {
    const search = tool(() => 'nothing', {
      name: 'vector_search',
      description: 'Searches',
      schema: z.object({ query: z.string() }),
    });
    server.next({ toolCalls: [{ name: 'vector_search', args: { query: 'Normans' } }] });
    const [{ model }] = await chatOf(provider).langchain({});
    const answer = await model.bindTools!([search]).invoke('Who?');
    expect((answer as { tool_calls: unknown }).tool_calls).toMatchObject([
      { name: 'vector_search', args: { query: 'Normans' } },
    ]);
    expect(used).toHaveLength(1);
  });

  it.each(['complete', 'stream'] as const)('tries again after passing faults (%s)', async way => {
    server.failNext({ status: 500 }, { reset: true });
    const chat = chatOf(provider);
    const text =
      way === 'stream' ? (await drain(chat)).completion.text : (await chat.complete(messages, {})).text;
    expect(text).toBe('The Normans came from Normandy. [1]');
    expect(server.requests.chat).toBe(3);
  });

  it('waits as long as the server asks', async () => {
    server.failNext({ status: 429, headers: { 'retry-after': '1' } });
    const started = performance.now();
    await chatOf(provider).complete(messages, {});
    expect(performance.now() - started).toBeGreaterThan(950);
    expect(server.requests.chat).toBe(2);
  });

  it('gives up at once where it asks for more patience than a caller has, and says how long', async () => {
    server.failNext({ status: 429, headers: { 'retry-after': '600' } });
    const fault = await faultOf(drain(chatOf(provider)));
    expect(fault).toMatchObject({ code: 'model_unavailable', retryable: true, retryAfter: 600 });
    expect(server.requests.chat).toBe(1);
  });

  it.each([400, 401, 404])('does not repeat what was answered with %i, nor quote it', async status => {
    server.failNext({ status, body: JSON.stringify({ error: { message: `bad key ${KEY}` } }) });
    const fault = await faultOf(chatOf(provider).complete(messages, {}));
    expect(fault).toMatchObject({ code: 'model_rejected', retryable: false });
    expect(fault.message).toContain(`The model "Stub" answered ${status}`);
    expect(`${fault.stack} ${JSON.stringify(fault)}`).not.toContain(KEY);
    expect(server.requests.chat).toBe(1);
  });

  it.each(['complete', 'stream'] as const)('refuses garbage (%s)', async way => {
    server.failNext({ garbage: true });
    const chat = chatOf(provider);
    const fault = await faultOf(way === 'stream' ? drain(chat) : chat.complete(messages, {}));
    expect(fault).toMatchObject({ code: 'model_rejected', retryable: false });
  });

  it('waits no longer for the beginning than its time', async () => {
    server.failNext({ hang: 'headers' });
    const fault = await faultOf(drain(chatOf(provider, { limits: { first: 150 } })));
    expect(fault).toMatchObject({ code: 'model_timeout' });
    expect(server.requests.chat).toBe(1);
  });

  it('waits no longer for the end of an answer that has begun', async () => {
    server.failNext({ hang: 'body' });
    const fault = await faultOf(chatOf(provider, { limits: { whole: 150 } }).complete(messages, {}));
    expect(fault).toMatchObject({ code: 'model_timeout', retryable: true });
    expect(server.requests.chat).toBe(1);
  });

  it('waits no longer between two pieces, and keeps what came', async () => {
    server.next({ text: 'One two three.', hangAfter: 2 });
    const answer = chatOf(provider, { limits: { between: 150 } }).stream(messages, {});
    await expect(answer.next()).resolves.toMatchObject({ value: 'One' });
    await expect(answer.next()).resolves.toMatchObject({ value: ' two' });
    expect(await faultOf(answer.next())).toMatchObject({ code: 'model_timeout' });
  });

  it('waits as long as whoever reads takes between two pieces', async () => {
    const answer = chatOf(provider, { limits: { first: 300, between: 100 } }).stream(messages, {});
    await answer.next();
    await new Promise(resolve => {
      setTimeout(resolve, 400);
    });
    let step = await answer.next();
    while (!step.done) step = await answer.next();
    expect(step.value.text).toBe('The Normans came from Normandy. [1]');
  });

  it.each(['dieAfter', 'closeAfter', 'failAfter'] as const)(
    'says that the model broke off (%s)',
    async how => {
      server.next({ text: 'One two three.', [how]: 2, every: 20 });
      const answer = chatOf(provider).stream(messages, {});
      await expect(answer.next()).resolves.toMatchObject({ value: 'One' });
      await expect(answer.next()).resolves.toMatchObject({ value: ' two' });
      const fault = await faultOf(answer.next());
      expect(fault).toMatchObject({ code: 'model_unavailable', retryable: true });
      expect(fault.message).toBe('The model "Stub" broke off in the middle of its answer.');
      // What was given cannot be taken back: nobody is asked a second time.
      expect(server.requests.chat).toBe(1);
    },
  );

  it('tries again where a server that has begun well says that it failed', async () => {
    const dialect = dialectOf(provider);
    const { streamType } = dialect;
    const body = dialect.failure('Overloaded, and the key was sk-secret-key');
    server.failNext({ status: 200, body, headers: { 'content-type': streamType } });
    const { completion } = await drain(chatOf(provider));
    expect(completion.text).toBe('The Normans came from Normandy. [1]');
    expect(server.requests.chat).toBe(2);
    server.failNext({ status: 200, body, headers: { 'content-type': streamType } });
    const fault = await faultOf(drain(chatOf(provider, { maxRetries: 0 })));
    expect(fault).toMatchObject({ code: 'model_unavailable', retryable: true });
    expect(`${fault.stack} ${JSON.stringify(fault)}`).not.toContain(KEY);
  });

  it('takes an answer about errors for an answer', async () => {
    const text = 'It sends {"error": {"type": "error"}} and\nevent: error\ndata: {"error":{}}\n. Really.';
    server.next({ text });
    await expect(drain(chatOf(provider))).resolves.toMatchObject({ completion: { text } });
  });

  it('never takes garbage in the midst of an answer for a part of it', async () => {
    // Ollama's library leaves out what it cannot read, and says so here.
    const warned = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
    server.next({ text: 'One two three.', garbageAfter: 2 });
    const deltas: string[] = [];
    const answer = (async () => {
      for await (const delta of chatOf(provider).stream(messages, {})) deltas.push(delta);
    })();
    if (provider === 'ollama') await answer;
    else expect(await faultOf(answer)).toMatchObject({ code: 'model_rejected', retryable: false });
    expect('One two three.').toContain(deltas.join(''));
    warned.mockRestore();
  });

  it('ends an answer that does not end by itself', async () => {
    server.next({ endless: true });
    const fault = await faultOf(drain(chatOf(provider), { maxTokens: 20 }));
    expect(fault).toMatchObject({ code: 'model_rejected', retryable: false });
    await expect.poll(() => server.abandoned, PATIENCE).toBe(1);
  });

  it('ends the request when the caller gives up', async () => {
    server.next({ endless: true, every: 20 });
    const controller = new AbortController();
    const answer = chatOf(provider).stream(messages, { signal: controller.signal });
    await answer.next();
    controller.abort(new Error('gone'));
    await expect(answer.next()).rejects.toThrow('gone');
    await expect.poll(() => server.abandoned, PATIENCE).toBe(1);
  });

  it('ends the request when nobody takes the rest', async () => {
    server.next({ endless: true, every: 20 });
    const answer = chatOf(provider).stream(messages, {});
    await answer.next();
    await answer.return(undefined as never);
    await expect.poll(() => server.abandoned, PATIENCE).toBe(1);
  });

  it('asks nothing for a caller who has gone', async () => {
    const signal = AbortSignal.abort(new Error('gone'));
    await expect(chatOf(provider).complete(messages, { signal })).rejects.toThrow('gone');
    await expect(drain(chatOf(provider), { signal })).rejects.toThrow('gone');
    expect(server.requests.chat).toBe(0);
  });

  it('answers several at a time, one of which is given up', async () => {
    const chat = chatOf(provider);
    const controller = new AbortController();
    server.next({ endless: true, every: 20 }, { deltas: ['One', ' two', ' three'], every: 60 });
    const given = chat.stream(messages, { signal: controller.signal });
    await given.next();
    const kept = drain(chat);
    await new Promise(resolve => {
      setTimeout(resolve, 80);
    });
    controller.abort(new Error('gone'));
    await expect(given.next()).rejects.toThrow('gone');
    await expect(kept).resolves.toMatchObject({ completion: { text: 'One two three' } });
  });
});

describe('a server that keeps failing', () => {
  it('is left alone, and asked again after a while', async () => {
    const chat = chatOf('openai_compatible', { maxRetries: 0, breakAfter: 3, breakFor: 300 });
    server.failNext({ status: 503 }, { status: 503 }, { reset: true });
    for (let count = 0; count < 3; count++) await faultOf(chat.complete(messages, {}));
    expect(chat.transport.resting).toBe(true);
    const fault = await faultOf(chat.complete(messages, {}));
    expect(fault).toMatchObject({ code: 'model_unavailable', retryable: true, retryAfter: 1 });
    expect(fault.message).toContain('left alone');
    expect(server.requests.chat).toBe(3);
    await new Promise(resolve => {
      setTimeout(resolve, 350);
    });
    await expect(chat.complete(messages, {})).resolves.toMatchObject({ model: 'stub-1' });
    expect(chat.transport.resting).toBe(false);
  });

  it('is not taken for one that only limits how often it is asked, or refuses', async () => {
    const chat = chatOf('openai_compatible', { maxRetries: 0, breakAfter: 2 });
    for (const status of [429, 429, 401, 400]) {
      server.failNext({ status });
      await faultOf(chat.complete(messages, {}));
    }
    await expect(chat.complete(messages, {})).resolves.toMatchObject({ model: 'stub-1' });
  });

  it('is one that breaks off, too', async () => {
    const chat = chatOf('openai_compatible', { breakAfter: 2 });
    server.next({ text: 'One two.', dieAfter: 1 }, { text: 'One two.', dieAfter: 1 });
    await faultOf(drain(chat));
    await faultOf(drain(chat));
    expect(chat.transport.resting).toBe(true);
  });
});

describe('an agent’s model', () => {
  it('fails with what can be told', async () => {
    server.failNext({ status: 401, body: `bad key ${KEY}` });
    const [{ model }] = await chatOf('anthropic').langchain({});
    const error: unknown = await model.invoke('Hi').catch((reason: unknown) => reason);
    expect(toModelError('The model', error)).toMatchObject({
      code: 'model_rejected',
      message: 'The model "Stub" answered 401: its API key is missing or wrong.',
    });
  });

  it('ends with the signal of whoever asked for it', async () => {
    server.next({ endless: true, every: 20 });
    const controller = new AbortController();
    const [{ model }] = await chatOf('ollama').langchain({ signal: controller.signal });
    const stream = await model.stream('Hi');
    await stream[Symbol.asyncIterator]().next();
    controller.abort(new Error('gone'));
    await expect.poll(() => server.abandoned, PATIENCE).toBe(1);
  });
});

describe('where the server counts nothing', () => {
  it('says so, and estimates what was used', async () => {
    server.next({ text: 'Yes.', usage: null });
    await expect(chatOf('openai_compatible').complete(messages, {})).resolves.toMatchObject({
      promptTokens: 0,
      completionTokens: 0,
    });
    expect(used).toHaveLength(1);
    expect(used[0]).toBeGreaterThan(10);
  });
});

describe('an answer that does not end', () => {
  const call = (index: number, args: string) => ({
    tool_calls: [
      { index, id: `call-${index}`, type: 'function', function: { name: 'search', arguments: args } },
    ],
  });
  it.each<[string, (n: number) => object]>([
    ['says nothing but arguments of a tool', n => call(0, n === 0 ? '{"query": "' : 'x'.repeat(50))],
    ['calls ever more tools', n => call(n, '{}')],
    ['says nothing at all', () => ({ content: '' })],
    ['says ever the same', () => ({ content: 'again and again ' })],
  ])('is given up soon where it %s', async (_, delta) => {
    const chat = chatOf('openai_compatible', { door: endlessDoor(delta) });
    const started = performance.now();
    const fault = await faultOf(drain(chat, { maxTokens: 1_000 }));
    expect(fault).toMatchObject({
      code: 'model_rejected',
      message: 'The model "Stub" gave an answer that does not end.',
    });
    expect(performance.now() - started).toBeLessThan(4_000);
  });
});
