import { type RequestListener, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { ApiClient } from './api-client.js';

const closing: Array<() => void> = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function clientOf(...answers: RequestListener[]): Promise<ApiClient> {
  const server = createServer((request, response) => answers.shift()?.(request, response));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { signal } = new AbortController();
  return new ApiClient({ url, token: 'token', signal }, { tenant: 'acme', missing: 'Nothing there.' });
}

const whole: RequestListener = (_, response) =>
  response.writeHead(200, { 'content-type': 'application/json' }).end('{"id": 1}');

it.each<[string, RequestListener]>([
  [
    'breaks off',
    (_, response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' });
      response.write('{"id"', () => response.destroy());
    },
  ],
  [
    'is no JSON',
    (_, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{"id"'),
  ],
])('asks again where an answer %s', async (_, broken) => {
  const client = await clientOf(broken, whole);
  await expect(client.send('GET', '/x')).resolves.toMatchObject({ status: 200, body: { id: 1 } });
});

it('says so where it stays broken', async () => {
  const broken: RequestListener = (_, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"id"');
  const client = await clientOf(broken);
  await expect(client.send('GET', '/x', undefined, 1)).rejects.toMatchObject({ code: 'unreachable' });
});
