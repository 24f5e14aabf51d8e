import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import { ModelClient } from './model-client.js';
import type { ModelConnection, Provider } from './model-provider.js';
import { type TransportOptions, openDoor } from './model-transport.js';

const BASES: Array<[Provider, (server: ModelServer) => string]> = [
  ['openai', ({ url }) => url],
  ['openai_compatible', ({ url }) => url],
  ['azure_openai', ({ origin }) => origin],
  ['cohere', ({ origin }) => origin],
  ['google', ({ origin }) => origin],
  ['jina', ({ url }) => url],
  ['tei', ({ origin }) => origin],
  ['ollama', ({ origin }) => origin],
];

describe.each(BASES)('embeddings of %s', (provider, baseOf) => {
  let server: ModelServer;
  const used: number[] = [];

  beforeEach(async () => {
    used.length = 0;
    server = await startModelServer({ dimensions: 64 });
  });
  afterEach(() => server.close());

  const modelOf = (connection: Partial<ModelConnection> = {}, transport: TransportOptions = {}) =>
    new ModelClient({
      subject: 'The model "Stub"',
      connection: {
        provider,
        modelName: 'stub-embedding',
        apiBase: baseOf(server),
        apiKey: 'key',
        contextTokens: null,
        dimensions: null,
        settings: {},
        ...connection,
      },
      door: openDoor,
      onTokens: tokens => used.push(tokens),
      transport: { retryDelay: 10, ...transport },
    }).embedding;

  it('are unit vectors, in the order of the texts', async () => {
    const model = modelOf();
    const question = await model.embedQuery('two words');
    expect(question).toHaveLength(64);
    expect(Math.hypot(...question)).toBeCloseTo(1, 6);
    const vectors = await model.embedDocuments(['something else', 'two words']);
    expect(vectors[1]).toEqual(question);
    expect(used.length).toBeGreaterThanOrEqual(2);
    expect(used.every(tokens => tokens > 0)).toBe(true);
  });

  it('are asked for again after passing faults', async () => {
    server.failNext({ status: 503 }, { reset: true });
    await expect(modelOf().embedQuery('words')).resolves.toHaveLength(64);
    expect(server.requests.embeddings).toBe(3);
  });

  it('are waited for as long as the server asks, and no longer than its time', async () => {
    server.failNext({ status: 429, headers: { 'retry-after': '1' } });
    const started = performance.now();
    await modelOf().embedDocuments(['words']);
    expect(performance.now() - started).toBeGreaterThan(950);
    expect(server.requests.embeddings).toBe(2);
    for (const hang of ['headers', 'body'] as const) {
      server.failNext({ hang });
      const model = modelOf({}, { limits: { whole: 150 } });
      await expect(model.embedQuery('words')).rejects.toMatchObject({ code: 'model_timeout' });
    }
    expect(server.requests.embeddings).toBe(4);
  });

  it('are not asked for again where the server refuses, nor is it quoted', async () => {
    server.failNext({ status: 401, body: JSON.stringify({ error: 'bad key sk-secret' }) });
    const fault: unknown = await modelOf({ apiKey: 'sk-secret' })
      .embedQuery('words')
      .catch((error: unknown) => error);
    expect(fault).toMatchObject({ code: 'model_rejected', retryable: false });
    expect(`${(fault as Error).stack} ${JSON.stringify(fault)}`).not.toContain('sk-secret');
    expect(server.requests.embeddings).toBe(1);
  });

  it('end with the signal of whoever wants them', async () => {
    server.failNext({ hang: 'headers' });
    const controller = new AbortController();
    const call = modelOf().embedDocuments(['words'], { signal: controller.signal });
    setTimeout(() => controller.abort(new Error('gone')), 100);
    await expect(call).rejects.toThrow('gone');
  });

  it('must have the dimensions that the entry says', async () => {
    await expect(modelOf({ dimensions: 64 }).embedQuery('words')).resolves.toHaveLength(64);
    await expect(modelOf({ dimensions: 32 }).embedQuery('words')).rejects.toMatchObject({
      code: 'model_rejected',
      message: 'The model "Stub" gave a vector of 64 dimensions, where it has 32.',
    });
  });

  it('must keep the dimensions that they had', async () => {
    const model = modelOf();
    await model.embedQuery('words');
    server.next({ dimensions: 7 }, { dimensions: 7 });
    await expect(model.embedQuery('words')).rejects.toMatchObject({
      code: 'model_rejected',
      retryable: false,
    });
    await expect(model.embedDocuments(['words'])).rejects.toMatchObject({ code: 'model_rejected' });
    await expect(model.embedQuery('words')).resolves.toHaveLength(64);
  });

  it('are refused where they are garbage', async () => {
    server.failNext({ garbage: true });
    await expect(modelOf().embedDocuments(['words'])).rejects.toMatchObject({ code: 'model_rejected' });
  });
});
