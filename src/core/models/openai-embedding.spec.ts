import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import { ModelError } from './model.js';
import { OpenAIEmbedding, type OpenAIEmbeddingOptions } from './openai-embedding.js';

const KEY = 'sk-secret-key';
const answer = (...vectors: unknown[]) => ({
  status: 200,
  body: JSON.stringify({ object: 'list', data: vectors.map((embedding, index) => ({ index, embedding })) }),
});

const failure = async (call: Promise<unknown>) => {
  const error = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ModelError);
  return error as ModelError;
};

describe('OpenAIEmbedding', () => {
  let server: ModelServer;
  const model = (options?: OpenAIEmbeddingOptions, apiKey = KEY) =>
    new OpenAIEmbedding({ baseUrl: server.url, apiKey, model: 'stub-embedding' }, options);
  beforeEach(async () => {
    server = await startModelServer({ dimensions: 64 });
  });
  afterEach(() => server.close());

  it('asks for floats of the model and nothing that only some servers know', async () => {
    const vector = await model().embedQuery('two\nlines');
    expect(vector).toHaveLength(64);
    expect(server.lastRequest).toEqual({
      authorization: `Bearer ${KEY}`,
      body: { model: 'stub-embedding', input: 'two\nlines', encoding_format: 'float' },
    });
  });

  it('needs no key', async () => {
    await expect(model({}, '').embedQuery('hello')).resolves.toHaveLength(64);
  });

  it('makes vectors of unit length', async () => {
    server.failNext(answer([3, 4]));
    await expect(model().embedQuery('hello')).resolves.toEqual([0.6, 0.8]);
  });

  it('embeds documents ten a request, in order, reporting progress', async () => {
    const texts = Array.from({ length: 25 }, (_, i) => `word${i}`);
    const done: number[] = [];
    const vectors = await model().embedDocuments(texts, { onProgress: count => void done.push(count) });
    expect(server.requests.embeddings).toBe(3);
    expect(done.at(-1)).toBe(25);
    expect(vectors[24]).toEqual(await model().embedQuery('word24'));
    expect(vectors[7]).toEqual(await model().embedQuery('word7'));
  });

  it('puts vectors where their index says', async () => {
    const data = [
      { index: 1, embedding: [0, 1] },
      { index: 0, embedding: [1, 0] },
    ];
    server.failNext({ status: 200, body: JSON.stringify({ data }) });
    await expect(model().embedDocuments(['a', 'b'])).resolves.toEqual([
      [1, 0],
      [0, 1],
    ]);
  });

  it('tries again after a passing fault', async () => {
    server.failNext({ status: 500 });
    await expect(model().embedQuery('hello')).resolves.toHaveLength(64);
    expect(server.requests.embeddings).toBe(2);
  });

  it('tries again after a dropped connection', async () => {
    server.failNext({ reset: true });
    await expect(model().embedQuery('hello')).resolves.toHaveLength(64);
    expect(server.requests.embeddings).toBe(2);
  });

  it('waits as long as the server asks', async () => {
    server.failNext({ status: 429, headers: { 'retry-after': '3' } });
    const started = performance.now();
    await model().embedQuery('hello');
    expect(performance.now() - started).toBeGreaterThan(2_900);
  });

  it('gives up at once when the server asks for more patience than a caller has', async () => {
    server.failNext({ status: 429, headers: { 'retry-after': '600' } });
    const error = await failure(model().embedQuery('hello'));
    expect(error).toMatchObject({ code: 'model_unavailable', retryable: true });
    expect(server.requests.embeddings).toBe(1);
  });

  it.each([400, 401, 403, 404, 422])('does not repeat what was answered with %i', async status => {
    server.failNext({
      status,
      body: JSON.stringify({ error: { message: `bad key ${KEY} for "private text"` } }),
    });
    const error = await failure(model().embedQuery('private text'));
    expect(error).toMatchObject({ code: 'model_rejected', retryable: false });
    expect(server.requests.embeddings).toBe(1);
    expect(error.message).toContain(String(status));
    expect(`${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`).not.toMatch(
      /sk-secret|private text/,
    );
  });

  it('does not wait for an account without money', async () => {
    server.failNext({
      status: 429,
      body: JSON.stringify({ error: { code: 'insufficient_quota', message: 'pay' } }),
    });
    await expect(failure(model().embedQuery('hello'))).resolves.toMatchObject({ code: 'model_rejected' });
    expect(server.requests.embeddings).toBe(1);
  });

  it('says that a server keeps failing', async () => {
    server.failNext({ status: 503 }, { status: 503 });
    const error = await failure(model({ maxRetries: 1 }).embedQuery('hello'));
    expect(error).toMatchObject({ code: 'model_unavailable', retryable: true });
    expect(server.requests.embeddings).toBe(2);
  });

  it.each(['headers', 'body'] as const)('times out when the %s never come', async hang => {
    server.failNext({ hang });
    const error = await failure(model({ queryTimeout: 200 }).embedQuery('hello'));
    expect(error).toMatchObject({ code: 'model_timeout', retryable: true });
    expect(server.requests.embeddings).toBe(1);
  });

  it('says that nobody listens', async () => {
    const nowhere = await startModelServer();
    await nowhere.close();
    const error = await failure(
      new OpenAIEmbedding({ baseUrl: nowhere.url, apiKey: '', model: 'm' }, { maxRetries: 0 }).embedQuery(
        'hello',
      ),
    );
    expect(error).toMatchObject({ code: 'model_unavailable', retryable: true });
    expect(error.message).toContain('ECONNREFUSED');
  });

  it.each([
    ['too few vectors', answer([1, 0])],
    ['too many vectors', answer([1, 0], [0, 1], [1, 1])],
    ['different dimensions', answer([1, 0], [1, 0, 0])],
    ['a value that is no number', answer([1, 0], [null, 1])],
    [
      'NaN, as Python writes it',
      { status: 200, body: '{"data":[{"index":0,"embedding":[NaN]},{"index":1,"embedding":[1]}]}' },
    ],
    ['a zero vector', answer([1, 0], [0, 0])],
    ['an empty vector', answer([], [])],
    ['no vectors', { status: 200, body: '{"ok":true}' }],
    ['a page', { status: 200, body: '<html></html>', headers: { 'content-type': 'text/html' } }],
  ])('refuses %s', async (_, fault) => {
    server.failNext(fault);
    await expect(failure(model().embedDocuments(['a', 'b']))).resolves.toMatchObject({
      code: 'model_rejected',
      retryable: false,
    });
    expect(server.requests.embeddings).toBe(1);
  });

  it('refuses a dimension that changes between batches', async () => {
    server.failNext(answer([1, 0]));
    const call = model({ batchSize: 1, concurrency: 1 }).embedDocuments(['a', 'b']);
    await expect(failure(call)).resolves.toMatchObject({ code: 'model_rejected' });
  });

  it('stops when the caller aborts', async () => {
    server.latency = 300;
    const controller = new AbortController();
    const texts = Array.from({ length: 100 }, (_, i) => `word${i}`);
    const started = performance.now();
    const call = model({ concurrency: 2 }).embedDocuments(texts, { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('cancelled')), 100);
    await expect(call).rejects.toThrow('cancelled');
    expect(performance.now() - started).toBeLessThan(280);
    await new Promise(resolve => {
      setTimeout(resolve, 500);
    });
    expect(server.requests.embeddings).toBe(2);
  });

  it('lets a question pass while documents wait for their turn', async () => {
    server.latency = 100;
    const client = model({ batchSize: 1, concurrency: 1 });
    let finished = false;
    const ingestion = client
      .embedDocuments(Array.from({ length: 8 }, (_, i) => `word${i}`))
      .then(() => (finished = true));
    await client.embedQuery('now');
    expect(finished).toBe(false);
    await ingestion;
  });

  it('is up when the server answers, knows its models or not', async () => {
    await expect(model().isUp()).resolves.toBe(true);
    expect(server.requests.models).toBe(1);
    server.failNext({ status: 404 });
    await expect(model().isUp()).resolves.toBe(true);
    server.failNext({ status: 401 });
    await expect(model().isUp()).resolves.toBe(false);
    server.failNext({ status: 503 });
    await expect(model().isUp()).resolves.toBe(false);
  });

  it('takes a call that succeeded for proof', async () => {
    const client = model();
    await client.embedQuery('hello');
    await expect(client.isUp()).resolves.toBe(true);
    expect(server.requests.models).toBe(0);
  });

  it('asks again after a call that failed', async () => {
    const client = model();
    await client.embedQuery('hello');
    server.failNext({ status: 401 }, { status: 401 });
    await failure(client.embedQuery('hello'));
    await expect(client.isUp()).resolves.toBe(false);
    expect(server.requests.models).toBe(1);
  });

  it('is down when the probe hangs', async () => {
    server.failNext({ hang: 'headers' });
    await expect(model().isUp()).resolves.toBe(false);
  });
});
