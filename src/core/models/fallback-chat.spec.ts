import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import { FallbackChat } from './fallback-chat.js';
import { LangchainChat } from './langchain-chat.js';
import type { ChatMessage } from './model.js';
import { ModelTransport, type TransportOptions } from './model-transport.js';

const messages: ChatMessage[] = [{ role: 'user', content: 'Hi' }];

describe('FallbackChat', () => {
  let first: ModelServer;
  let second: ModelServer;

  beforeEach(async () => {
    [first, second] = await Promise.all([startModelServer(), startModelServer()]);
    first.respond = () => 'Said by the first.';
    second.respond = () => 'Said by the second.';
  });
  afterEach(() => Promise.all([first.close(), second.close()]));

  const modelOf = (
    name: string,
    server: ModelServer,
    contextTokens: number | null,
    options: TransportOptions = {},
  ) =>
    new LangchainChat(
      {
        provider: 'openai_compatible',
        modelName: name,
        apiBase: server.url,
        apiKey: '',
        contextTokens,
        dimensions: null,
        settings: {},
      },
      new ModelTransport(`The model "${name}"`, { maxRetries: 0, ...options }),
    );
  const chatOf = (options: TransportOptions = {}) =>
    new FallbackChat([modelOf('first', first, 32_000, options), modelOf('second', second, 4_000)]);

  async function drain(chat: FallbackChat) {
    const deltas: string[] = [];
    const answer = chat.stream(messages, {});
    for (;;) {
      const step = await answer.next();
      if (step.done) return { deltas, completion: step.value };
      deltas.push(step.value);
    }
  }

  it('asks the first as long as it answers', async () => {
    const chat = chatOf();
    await expect(chat.complete(messages, {})).resolves.toMatchObject({ model: 'first' });
    await expect(drain(chat)).resolves.toMatchObject({ completion: { model: 'first' } });
    expect(second.requests.chat).toBe(0);
  });

  it('is called like the first, and takes what fits into each', () => {
    expect(chatOf()).toMatchObject({ name: 'first', contextTokens: 4_000 });
  });

  it.each([
    ['is overloaded', { status: 503 }],
    ['limits how often it is asked', { status: 429, headers: { 'retry-after': '600' } }],
    ['drops the connection', { reset: true as const }],
    ['hangs', { hang: 'headers' as const }],
  ])('asks the next where the first %s', async (_, fault) => {
    first.failNext(fault, fault);
    const chat = chatOf({ limits: { first: 150, whole: 150 } });
    await expect(chat.complete(messages, {})).resolves.toMatchObject({
      model: 'second',
      text: 'Said by the second.',
    });
    const { deltas, completion } = await drain(chat);
    expect(deltas.join('')).toBe('Said by the second.');
    expect(completion.model).toBe('second');
  });

  it.each([
    ['refuses the key', { status: 401 }],
    ['gives garbage', { garbage: true as const }],
  ])('asks nobody else where the first %s: that does not pass', async (_, fault) => {
    first.failNext(fault);
    await expect(chatOf().complete(messages, {})).rejects.toMatchObject({ code: 'model_rejected' });
    expect(second.requests.chat).toBe(0);
  });

  it('asks nobody else once something was said', async () => {
    first.next({ text: 'One two three.', dieAfter: 1 });
    await expect(drain(chatOf())).rejects.toMatchObject({ code: 'model_unavailable' });
    expect(second.requests.chat).toBe(0);
  });

  it('says why the one that was wanted failed, where all do', async () => {
    first.failNext({ status: 503 });
    second.failNext({ reset: true });
    await expect(chatOf().complete(messages, {})).rejects.toMatchObject({
      message: 'The model "first" answered 503.',
    });
  });

  it('asks nobody for a caller who has gone', async () => {
    first.next({ hang: 'headers' });
    const controller = new AbortController();
    const call = chatOf().complete(messages, { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('gone')), 50);
    await expect(call).rejects.toThrow('gone');
    expect(second.requests.chat).toBe(0);
  });

  it('gives agents those that are not known to fail first, each by its name', async () => {
    const names = async () => (await chat.langchain({})).map(({ name }) => name);
    first.failNext({ status: 503 });
    const chat = chatOf({ breakAfter: 1 });
    expect(await names()).toEqual(['first', 'second']);
    await chat.complete(messages, {});
    expect(await names()).toEqual(['second', 'first']);
    const [chosen] = await chat.langchain({});
    await expect(chosen?.model.invoke('Hi')).resolves.toMatchObject({ content: 'Said by the second.' });
  });

  it('tells who answers with the first piece of it', async () => {
    const told: string[] = [];
    first.failNext({ status: 503 });
    second.next({ text: 'One two three.', dieAfter: 2 });
    const answer = chatOf().stream(messages, { onModel: name => told.push(name) });
    await answer.next();
    expect(told).toEqual(['second']);
    await expect(answer.next().then(() => answer.next())).rejects.toMatchObject({
      code: 'model_unavailable',
    });
  });

  it('ends the request when nobody takes the rest', async () => {
    first.failNext({ status: 503 });
    second.next({ endless: true, every: 10 });
    const answer = chatOf().stream(messages, {});
    await answer.next();
    await answer.return(undefined as never);
    for (let waited = 0; second.abandoned === 0 && waited < 2_000; waited += 10)
      await new Promise(resolve => {
        setTimeout(resolve, 10);
      });
    expect(second.abandoned).toBe(1);
  });
});
