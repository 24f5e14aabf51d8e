import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Door, ModelTransport } from './model-transport.js';

const chunk = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const FAILURE = 'data: {"error": {"message": "Overloaded"}}\n\n';
const END = 'data: [DONE]\n\n';

/** A server whose answers come in these pieces. */
function transportOf(answers: string[][], maxRetries = 0) {
  let asked = 0;
  let closed = 0;
  const door: Door = () => {
    const pieces = answers[asked++] ?? [];
    return Promise.resolve({
      status: 200,
      headers: { 'content-type': 'text/event-stream' },
      body: (async function* () {
        for (const piece of pieces) yield Buffer.from(piece);
      })(),
      close: () => void closed++,
    });
  };
  const transport = new ModelTransport('The model', { door, maxRetries, retryDelay: 1 });
  return {
    get asked() {
      return asked;
    },
    get closed() {
      return closed;
    },
    /** What a reader gets, and why it gets no more. */
    async read() {
      let text = '';
      try {
        const response = await transport.fetch('http://model/', { method: 'POST', body: '{"stream": true}' });
        for await (const piece of response.body!) text += Buffer.from(piece).toString('utf8');
        return { text, error: null };
      } catch (error) {
        return { text, error };
      }
    },
  };
}

const brokenOff = {
  code: 'model_unavailable',
  retryable: true,
  message: 'The model broke off in the middle of its answer.',
};

describe('a server that says in its stream that it failed', () => {
  it('is asked again where nobody has been given anything', async () => {
    const server = transportOf([[chunk('One') + FAILURE], [chunk('Two'), END]], 1);
    await expect(server.read()).resolves.toEqual({ text: chunk('Two') + END, error: null });
    expect(server).toMatchObject({ asked: 2, closed: 2 });
  });

  it.each([
    ['in a piece of its own', [chunk('One'), chunk('Two'), FAILURE, END]],
    ['behind something else', [chunk('One'), chunk('Two') + FAILURE + END]],
    ['as Anthropic does', [chunk('One'), `${chunk('Two')}event: error\ndata: {}\n\n`, END]],
    ['as Ollama does', [chunk('One'), `${chunk('Two')}{"error":"out of memory"}\n`]],
    ['as vLLM does', [chunk('One'), `${chunk('Two')}data: {"object": "error", "code": 400}\n\n${END}`]],
  ])('has broken off, and what came before is kept: %s', async (_, pieces) => {
    const server = transportOf([pieces], 1);
    const { text, error } = await server.read();
    expect(text).toBe(chunk('One') + chunk('Two'));
    expect(error).toMatchObject(brokenOff);
    expect(server).toMatchObject({ asked: 1, closed: 1 });
  });

  it('is understood wherever its words are cut', async () => {
    const whole = chunk('Two') + FAILURE + END;
    for (let at = 1; at < whole.length; at++) {
      const { text, error } = await transportOf([[chunk('One'), whole.slice(0, at), whole.slice(at)]]).read();
      expect(error).toMatchObject(brokenOff);
      expect(text.startsWith(chunk('One'))).toBe(true);
      expect(text).not.toContain('Overloaded');
      if (at >= chunk('Two').length) expect(text).toContain(chunk('Two'));
    }
  });

  it.each([
    ['text about errors', 'data: {"error": {}}\nevent: error\n{"type":"error"}'],
    ['a long line', `${'x'.repeat(5_000)}{"error":"`],
    ['no error', ''],
  ])('is not mistaken for %s', async (_, content) => {
    const whole = chunk(content) + `data: {"error":null,"choices":[]}\n\n${END}`;
    for (const size of [1, 7, 100, whole.length]) {
      const pieces = whole.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
      await expect(transportOf([pieces]).read()).resolves.toEqual({ text: whole, error: null });
    }
  });
});

describe('the time that an answer may take', () => {
  /** Gives each piece after so many milliseconds. */
  const slowDoor =
    (pieces: string[], every: number): Door =>
    ({ signal }) =>
      Promise.resolve({
        status: 200,
        headers: { 'content-type': 'text/event-stream' },
        body: (async function* () {
          for (const piece of pieces) {
            await sleep(every, undefined, { signal }).catch(() => {
              throw signal.reason;
            });
            yield Buffer.from(piece);
          }
        })(),
        close: () => undefined,
      });
  const ask = (transport: ModelTransport) =>
    transport.fetch('http://model/', { method: 'POST', body: '{"stream": true}' });

  it('is the server’s: its reader takes as long as it likes', async () => {
    const pieces = [chunk('One'), chunk('Two'), chunk('Three'), END];
    const door = slowDoor(pieces, 10);
    const transport = new ModelTransport('The model', { door, limits: { whole: 300 } });
    let text = '';
    for await (const piece of (await ask(transport)).body!) {
      text += Buffer.from(piece).toString('utf8');
      await sleep(150);
    }
    expect(text).toBe(pieces.join(''));
  });

  it('ends an answer that was still coming, and nobody leaves the server alone for that', async () => {
    const door = slowDoor(Array(100).fill(chunk('More')), 10);
    const transport = new ModelTransport('The model', { door, limits: { whole: 100 }, breakAfter: 1 });
    const read = async () => {
      for await (const _ of (await ask(transport)).body!);
    };
    await expect(read()).rejects.toMatchObject({ code: 'model_timeout' });
    expect(transport.resting).toBe(false);
    await expect(read()).rejects.toMatchObject({ code: 'model_timeout' });
  });

  it('that it leaves between two pieces counts: the server is left alone', async () => {
    const door = slowDoor([chunk('One'), chunk('Two')], 100);
    const transport = new ModelTransport('The model', { door, limits: { between: 30 }, breakAfter: 1 });
    const read = async () => {
      for await (const _ of (await ask(transport)).body!);
    };
    await expect(read()).rejects.toMatchObject({ code: 'model_timeout' });
    expect(transport.resting).toBe(true);
  });
});
