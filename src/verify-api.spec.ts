import { createServer, type Server, type ServerResponse } from 'node:http';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Caller, VerifyServer } from './verify-api.js';

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** Hands each request on as it comes. @returns its address */
async function listening(answer: (method: string, response: ServerResponse) => void): Promise<string> {
  const begun = createServer((request, response) => answer(request.method as string, response));
  server = begun;
  await new Promise<void>(done => begun.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(begun.address() as { port: number }).port}`;
}

describe('a request of the command', () => {
  it.each([
    ['no answer', () => undefined],
    ['an answer that does not end', (response: ServerResponse) => void response.write(':\n\n')],
  ])('is given up where there is %s', async (_, answer) => {
    let requests = 0;
    const url = await listening((__, response) => {
      requests++;
      answer(response);
    });
    const asked = new VerifyServer(url, new AbortController().signal, 200).send('GET', '/');
    await expect(asked).rejects.toThrow(`${url} does not answer: no answer within 0.2 s`);
    expect(requests).toBe(3);
  });

  it('is not sent where the run was stopped before', async () => {
    const asked = vi.fn();
    const url = await listening(asked);
    await expect(new VerifyServer(url, AbortSignal.abort()).send('POST', '/')).rejects.toThrow('abort');
    expect(asked).not.toHaveBeenCalled();
  });

  it.each([
    ['waited for, where it makes something', true],
    ['cut off, where it does not', false],
  ])('under way when the run is stopped is %s', async (_, whole) => {
    const stop = new AbortController();
    let cut = false;
    let closed: () => void;
    const answered = new Promise<void>(done => (closed = done));
    const url = await listening((__, response) => {
      response.on('close', () => {
        cut = !response.writableFinished;
        closed();
      });
      stop.abort();
      if (whole) setTimeout(() => response.end('{}'), 50);
    });
    const asked = new Caller(new VerifyServer(url, stop.signal), 'somebody').must(
      'POST',
      '/users',
      {},
      { whole },
    );
    await expect(asked).rejects.toThrow('abort');
    await answered;
    expect(cut).toBe(!whole);
  });
});
