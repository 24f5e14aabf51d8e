import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Caller, VerifyServer } from './verify-api.js';
import { ThrowAway } from './verify-tenants.js';

let server: Server;
let url: string;
const tenants = new Set<string>();
const users = new Map<string, string>();
/** What befalls a request that has done its work. */
let befall: (made: string, response: ServerResponse) => Promise<void> | void;
let jobStatus: string;

beforeEach(async () => {
  tenants.clear();
  users.clear();
  befall = () => undefined;
  jobStatus = 'succeeded';
  server = createServer((request, response) => void answer(request, response));
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** As much of a server as keeps tenants and accounts; it knows nothing else. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url as string, url);
  const [kind, name = ''] = pathname.replace('/api/v1/', '').split('/');
  const route = `${request.method} ${kind}${name && '/'}`;
  const body = JSON.parse((await text(request)) || '{}') as Record<string, string>;
  const told = async (status: number, value: object = {}, headers: Record<string, string> = {}) => {
    await befall(body['email'] ?? body['name'] ?? '', response);
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(status === 204 ? '' : JSON.stringify(value));
  };
  if (pathname.endsWith('/credits') || pathname.endsWith('/members')) return told(201);
  if (route === 'POST tenants' && body['name']) {
    if (tenants.has(body['name'])) return told(409);
    tenants.add(body['name']);
    return told(201, { id: body['name'] });
  }
  if (route === 'POST users' && body['email']) {
    if (users.has(body['email'])) return told(409);
    users.set(body['email'], `id-${users.size}`);
    return told(201, { id: users.get(body['email']) });
  }
  if (route === 'GET users') {
    const search = searchParams.get('search') as string;
    const items = [...users].map(([email, id]) => ({ email, id }));
    return told(200, { items: items.filter(({ email }) => email.includes(search)) });
  }
  if (route === 'DELETE tenants/')
    return tenants.delete(name) ? told(204, {}, { location: '/api/v1/jobs/1' }) : told(404);
  if (route === 'DELETE users/') {
    const [email] = [...users].find(([, id]) => id === name) ?? [];
    return email && users.delete(email) ? told(204) : told(404);
  }
  if (route === 'GET jobs/') return told(jobStatus === '500' ? 500 : 200, { status: jobStatus });
  return told(404);
}

const adminAt = (signal: AbortSignal) => new Caller(new VerifyServer(url, signal), 'admin');

async function madeAndRemoved(signal = new AbortController().signal) {
  const world = new ThrowAway(new VerifyServer(url, signal), adminAt(signal));
  await expect(world.make()).rejects.toThrow(/refuses|does not (answer|let)|abort/);
  const made = { tenants: tenants.size, users: users.size };
  const problems = await world.remove(adminAt(new AbortController().signal));
  return { made, problems, left: [...tenants, ...users.keys()] };
}

describe('what a run has made', () => {
  it.each([
    ['a tenant', /-b$/, { tenants: 2, users: 0 }],
    ['an account', /^viewer-of-b/, { tenants: 2, users: 7 }],
  ])('is removed where the answer to the making of %s was lost', async (_, name, made) => {
    befall = (of, response) => void (name.test(of) && response.destroy());
    expect(await madeAndRemoved()).toEqual({ made, problems: [], left: [] });
  });

  it.each([
    ['a tenant', /-a$/],
    ['an account', /^reader-of-a/],
  ])('is removed where the run is stopped while %s is being made', async (_, name) => {
    const stop = new AbortController();
    befall = async of => {
      if (!name.test(of)) return;
      stop.abort();
      await sleep(100);
    };
    const { problems, left } = await madeAndRemoved(stop.signal);
    expect({ problems, left }).toEqual({ problems: [], left: [] });
  });

  it.each([
    ['failed', 'the job that removes its rows ended as failed'],
    ['cancelled', 'the job that removes its rows ended as cancelled'],
    ['500', 'its rows are still being removed'],
  ])('is said to be left where its removal is %s', async (status, sentence) => {
    jobStatus = status;
    const { problems } = await madeAndRemoved();
    expect(problems).toEqual([expect.stringContaining(sentence), expect.stringContaining(sentence)]);
  });

  it('is removed as far as it can be', async () => {
    befall = (of, response) => void (of === '' && tenants.size === 1 && users.size > 0 && response.destroy());
    const { problems, left } = await madeAndRemoved();
    expect(left).toEqual([]);
    expect(problems).toEqual([expect.stringContaining('could not be removed')]);
  });
});
