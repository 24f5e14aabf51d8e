import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PNG } from '../../../test/setup/files.js';
import { type RemoteServers, startRemoteServers } from '../../../test/setup/remote-servers.js';
import { OpenAIVision } from './vision.js';

describe('OpenAIVision', () => {
  let servers: RemoteServers;

  beforeEach(async () => {
    servers = await startRemoteServers();
  });
  afterEach(() => servers.close());

  const read = (options = {}, signal?: AbortSignal) =>
    new OpenAIVision(
      { baseUrl: servers.url, apiKey: servers.settings['VISION_API_KEY']!, model: 'stub-vision' },
      options,
    ).read({ content: PNG, mimeType: 'image/png' }, { signal });

  it('shows the picture, and gives what stands in it and what it cost', async () => {
    await expect(read()).resolves.toEqual({ text: 'A picture of words.', inputTokens: 100, outputTokens: 7 });
    expect(servers.pictures).toEqual([`data:image/png;base64,${PNG.toString('base64')}`]);
  });

  it.each([
    ['nothing', 'NO_TEXT', ''],
    ['blanks', ' \n', ''],
    ['a fence around it', '```markdown\n# Title\n\nText\n```', '# Title\n\nText'],
    ['fences of its own', '```js\n1\n```\n\nand\n\n```js\n2\n```', '```js\n1\n```\n\nand\n\n```js\n2\n```'],
  ])('understands %s', async (_, answer, text) => {
    servers.see = () => answer;
    await expect(read()).resolves.toMatchObject({ text });
  });

  it('tries again after a passing fault, and not after a refusal', async () => {
    servers.failNext({ status: 500 });
    await expect(read()).resolves.toMatchObject({ text: 'A picture of words.' });
    servers.failNext({ status: 400 });
    await expect(read()).rejects.toMatchObject({
      code: 'model_rejected',
      message: 'The vision endpoint answered 400.',
    });
  });

  it.each([
    ['garbage', { status: 200, body: '<html>' }],
    ['more than a page holds', { status: 200, body: ' '.repeat(65 * 1024 * 1024) }],
  ])('refuses %s', async (_, fault) => {
    servers.failNext(fault);
    await expect(read()).rejects.toMatchObject({ code: 'model_rejected', retryable: false });
  });

  it('times out', async () => {
    servers.failNext({ hang: 'body' });
    await expect(read({ timeout: 200 })).rejects.toMatchObject({ code: 'model_timeout' });
  });
});
