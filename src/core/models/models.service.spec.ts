import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from '../../../test/setup/model-server.js';
import { ConfigModule } from '../../foundation/config/config.module.js';
import { parseEnv } from '../../foundation/config/env.js';
import { ModelsModule } from './models.module.js';
import { ModelsService } from './models.service.js';

const start = async (settings: NodeJS.ProcessEnv) => {
  const module = await Test.createTestingModule({
    imports: [ConfigModule.forRoot(parseEnv(settings)), ModelsModule],
  }).compile();
  return { module, models: module.get(ModelsService) };
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
    const { module, models } = await start({});
    expect(models.embedding().name).toBe('bundled/universal-sentence-encoder-lite');
    expect(models.chat()).toBeNull();
    await expect(models.health()).resolves.toEqual({ embedding: 'up', chat: 'none' });
    await expect(models.embedding().embedQuery('hello')).resolves.toHaveLength(512);
    await module.close();
    await expect(models.embedding().embedQuery('hello')).rejects.toMatchObject({ code: 'model_unavailable' });
  });

  it('takes the endpoints that the settings name', async () => {
    const { module, models } = await start(endpoints());
    expect(models.embedding().name).toBe('stub-embedding');
    expect(models.chat()?.name).toBe('stub-chat');
    await expect(models.embedding().embedQuery('hello')).resolves.toHaveLength(256);
    await module.close();
  });

  it('asks for health once, however many ask', async () => {
    const { module, models } = await start(endpoints());
    const up = { embedding: 'up', chat: 'up' };
    await expect(Promise.all([models.health(), models.health()])).resolves.toEqual([up, up]);
    await expect(models.health()).resolves.toEqual(up);
    expect(server.requests.models).toBe(2);
    await module.close();
  });

  it('tells which endpoint is down', async () => {
    const { module, models } = await start({ ...endpoints(), LLM_BASE_URL: 'http://127.0.0.1:9/v1' });
    await expect(models.health()).resolves.toEqual({ embedding: 'up', chat: 'down' });
    await module.close();
  });
});
