import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import { parseEnv } from '../../foundation/config/env.js';
import { openInstallationEmbedding } from './installation-embedding.js';
import { ModelsService } from './models.service.js';

/** Where no tenant acts there are the models of the settings alone. */
const start = async (settings: NodeJS.ProcessEnv) => {
  const env = parseEnv(settings);
  const embedding = await openInstallationEmbedding(env);
  return new ModelsService(env, embedding, { tenantOrNull: null } as never, {} as never, {} as never);
};

describe('ModelsService', () => {
  let server: ModelServer;
  const endpoints = () => ({
    EMBEDDING_BASE_URL: server.url,
    EMBEDDING_MODEL: 'stub-embedding',
    LLM_BASE_URL: server.url,
    LLM_MODEL: 'stub-chat',
  });

  beforeEach(async () => {
    server = await startModelServer();
  });
  afterEach(() => server.close());

  it('falls back to the bundled model and no chat, and ends its threads with the app', async () => {
    const models = await start({});
    const embedding = await models.embedding();
    expect(embedding.name).toBe('bundled/universal-sentence-encoder-lite');
    await expect(models.chat()).resolves.toBeNull();
    await expect(models.chat('whatever')).resolves.toBeNull();
    await expect(models.rerank()).resolves.toBeNull();
    await expect(models.vision()).resolves.toBeNull();
    await expect(models.transcription()).resolves.toBeNull();
    await expect(models.health()).resolves.toEqual({ embedding: 'up', chat: 'none' });
    await expect(embedding.embedQuery('hello')).resolves.toHaveLength(512);
    await models.onApplicationShutdown();
    await expect(embedding.embedQuery('hello')).rejects.toMatchObject({ code: 'model_unavailable' });
  });

  it('takes the endpoints that the settings name', async () => {
    const models = await start(endpoints());
    const embedding = await models.embedding('stub-embedding');
    expect(embedding.name).toBe('stub-embedding');
    await expect(embedding.embedQuery('hello')).resolves.toHaveLength(256);
    expect((await models.chat())?.name).toBe('stub-chat');
  });

  it('asks the endpoint for no other model than the settings name', async () => {
    const models = await start(endpoints());
    expect((await models.chat('stub-chat'))?.name).toBe('stub-chat');
    for (const name of ['another', 'STUB-CHAT', '0198c2f4-0000-7000-8000-000000000000'])
      await expect(models.chat(name)).rejects.toMatchObject({ status: 409, code: 'unknown_model' });
    expect(server.requests.chat).toBe(0);
  });

  it('says that nothing makes vectors of that name', async () => {
    const models = await start({});
    await expect(models.embedding('gone')).rejects.toMatchObject({
      status: 409,
      code: 'embedding_model_changed',
    });
    await expect(models.embeddingOf('gone')).resolves.toBeNull();
  });

  it('asks for health once, however many ask', async () => {
    const models = await start(endpoints());
    const up = { embedding: 'up', chat: 'up' };
    await expect(Promise.all([models.health(), models.health()])).resolves.toEqual([up, up]);
    await expect(models.health()).resolves.toEqual(up);
    expect(server.requests.models).toBe(2);
  });

  it('tells which endpoint is down', async () => {
    const models = await start({ ...endpoints(), LLM_BASE_URL: 'http://127.0.0.1:9/v1' });
    await expect(models.health()).resolves.toEqual({ embedding: 'up', chat: 'down' });
  });
});
