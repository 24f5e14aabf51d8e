import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import type { ChatMessage } from './model.js';
import { OpenAIChat, type OpenAIChatOptions } from './openai-chat.js';

const KEY = 'sk-secret-key';
const messages: ChatMessage[] = [
  { role: 'system', content: 'Answer from the passages.' },
  {
    role: 'user',
    content: 'Passages:\n[1] The Normans came from Normandy. They spoke Norman.\n[2] Other.\n\nWho?',
  },
];

describe('OpenAIChat', () => {
  let server: ModelServer;
  const chat = (options?: OpenAIChatOptions, apiKey = KEY, name = 'llama3:8b') =>
    new OpenAIChat({ baseUrl: server.url, apiKey, model: name }, options);

  beforeEach(async () => {
    server = await startModelServer();
  });
  afterEach(() => server.close());

  it('gives the text and what it cost', async () => {
    const completion = await chat().complete(messages, {});
    expect(completion).toEqual({
      text: 'The Normans came from Normandy. [1]',
      model: 'llama3:8b',
      promptTokens: 28,
      completionTokens: 9,
    });
    expect(server.lastRequest).toMatchObject({
      authorization: `Bearer ${KEY}`,
      body: { model: 'llama3:8b', messages },
    });
  });

  it('sends temperature and length only where they are given', async () => {
    const client = chat();
    await client.complete(messages, { temperature: 0, maxTokens: 50 });
    expect(server.lastRequest?.body).toMatchObject({ temperature: 0, max_tokens: 50 });
    await client.complete(messages, {});
    expect(server.lastRequest?.body).not.toHaveProperty('temperature');
    expect(server.lastRequest?.body).not.toHaveProperty('max_tokens');
  });

  it('needs no key, and no usage in the answer', async () => {
    const body = JSON.stringify({ choices: [{ index: 0, message: { role: 'assistant', content: 'Yes.' } }] });
    server.failNext({ status: 200, body });
    await expect(chat({}, '').complete(messages, {})).resolves.toEqual({
      text: 'Yes.',
      model: 'llama3:8b',
      promptTokens: 0,
      completionTokens: 0,
    });
  });

  it('tries again after a passing fault', async () => {
    server.failNext({ status: 500 });
    await expect(chat().complete(messages, {})).resolves.toMatchObject({ completionTokens: 9 });
    expect(server.requests.chat).toBe(2);
  });

  it('does not repeat what was refused, and does not quote it', async () => {
    server.failNext({ status: 401, body: JSON.stringify({ error: { message: `bad key ${KEY}` } }) });
    const error: unknown = await chat()
      .complete(messages, {})
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'model_rejected', retryable: false });
    expect(`${(error as Error).stack} ${JSON.stringify(error)}`).not.toContain(KEY);
    expect(server.requests.chat).toBe(1);
  });

  it.each(['headers', 'body'] as const)('times out when the %s never come', async hang => {
    server.failNext({ hang });
    await expect(chat({ timeout: 200 }).complete(messages, {})).rejects.toMatchObject({
      code: 'model_timeout',
    });
    expect(server.requests.chat).toBe(1);
  });

  it.each([
    ['a page', { status: 200, body: '<html></html>', headers: { 'content-type': 'text/html' } }],
    ['no choices', { status: 200, body: '{"choices":[]}' }],
    ['other JSON', { status: 200, body: '{"ok":true}' }],
  ])('refuses %s', async (_, fault) => {
    server.failNext(fault);
    await expect(chat().complete(messages, {})).rejects.toMatchObject({
      code: 'model_rejected',
      retryable: false,
    });
  });

  it('ends the request when the caller aborts', async () => {
    server.failNext({ hang: 'headers' });
    const signal = AbortSignal.timeout(100);
    await expect(chat().complete(messages, { signal })).rejects.toBe(await aborted(signal));
    await expect(chat().complete(messages, { signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow(
      'gone',
    );
    expect(server.requests.chat).toBe(1);
  });

  it('is up when the server answers', async () => {
    await expect(chat().isUp()).resolves.toBe(true);
    server.failNext({ reset: true });
    await expect(chat().isUp()).resolves.toBe(false);
  });
});

async function aborted(signal: AbortSignal): Promise<unknown> {
  await new Promise(resolve => {
    signal.addEventListener('abort', resolve, { once: true });
  });
  return signal.reason;
}
