import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ModelServer, startModelServer } from './model-server.js';

describe('the stub model server', () => {
  let server: ModelServer;
  const post = (path: string, body: object) =>
    fetch(`${server.url}${path}`, { method: 'POST', body: JSON.stringify(body) });

  const vectors = async (encoding_format: string) => {
    const response = await post('/embeddings', { input: ['shock waves', ''], model: 'm', encoding_format });
    return ((await response.json()) as { data: { embedding: unknown }[] }).data.map(entry => entry.embedding);
  };
  const ask = async () => {
    const response = await post('/chat/completions', {
      model: 'm',
      messages: [{ role: 'user', content: 'Hi' }],
    });
    return ((await response.json()) as { choices: { message: { content: string } }[] }).choices[0]?.message
      .content;
  };

  beforeAll(async () => {
    server = await startModelServer({ dimensions: 8 });
  });
  afterAll(() => server.close());

  it('writes the same vector as floats and as base64', async () => {
    const floats = (await vectors('float')) as number[][];
    const decoded = ((await vectors('base64')) as string[]).map(text => {
      const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
      return Array.from(new Float32Array(bytes.buffer));
    });
    expect(decoded).toEqual(floats);
    for (const vector of floats) expect(Math.hypot(...vector)).toBeCloseTo(1, 6);
  });

  it('streams what it says, with usage where asked', async () => {
    const response = await post('/chat/completions', {
      model: 'm',
      messages: [{ role: 'user', content: '[1] One fact. Two facts.\n[2] Three.' }],
      stream: true,
      stream_options: { include_usage: true },
    });
    const events = (await response.text()).split('\n\n').filter(Boolean);
    expect(events.at(-1)).toBe('data: [DONE]');
    const chunks = events.slice(0, -1).map(
      event =>
        JSON.parse(event.slice('data: '.length)) as {
          choices: { delta: { content?: string } }[];
          usage?: { completion_tokens: number };
        },
    );
    expect(chunks.map(chunk => chunk.choices[0]?.delta.content ?? '').join('')).toBe('One fact. [1]');
    expect(chunks.at(-1)?.usage?.completion_tokens).toBe(4);
  });

  it('says what the test wants, and that there is no passage', async () => {
    await expect(ask()).resolves.toBe('The passages do not answer the question.');
    server.respond = messages => `${messages.length} message`;
    await expect(ask()).resolves.toBe('1 message');
  });
});
