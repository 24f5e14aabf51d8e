import { get as httpGet, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { type Answer, Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

/** What a stream holds that has not been read: more than all buffers between here and there. */
const LARGE = 24 * 1024 * 1024;
const WITHIN_MS = 1_000;

let app: TestApplication;
let models: ModelServer;
let largeDocument: string;
/** The process that makes the change, and on a server another one. */
let processes: Array<[name: string, at: (client: Client) => Client]>;

beforeAll(async () => {
  models = await startModelServer();
  app = await startTestApplication({ LLM_BASE_URL: models.url, LLM_MODEL: 'stub' });
  await app.createTenant('acme');
  await app.addText('acme', 'The warranty of a bicycle lasts two years.');
  const form = new FormData();
  form.append('file', new Blob(['a text that nobody reads. '.repeat(LARGE / 26)]), 'large.txt');
  const { body } = await expectStatus(202, app.admin.post('/tenants/acme/kbs/docs/documents', form));
  largeDocument = `/tenants/acme/kbs/docs/documents/${body.items[0].id}`;
  await app.admin.post(`${largeDocument}/cancel`);
  processes = [['the same process', client => client]];
  if (SERVER) {
    const other = await app.startAnother({ http: true, jobs: false });
    processes.push(['another process', client => new Client(other.url as string, client.token)]);
  }
});
afterAll(async () => {
  await app?.close();
  await models?.close();
});

describe('a request that was let in ends', () => {
  it('when its tenant is suspended', async () => {
    const { client } = await app.createMember('acme', 'viewer');
    await expectEnd(client, () => app.admin.post('/tenants/acme/suspend'), 403, 'tenant_suspended');
    await expectStatus(200, app.admin.post('/tenants/acme/activate'));
    await expectStatus(200, client.get('/tenants/acme'));
  });

  it('when its user is made inactive', async () => {
    const { id, client } = await app.createMember('acme', 'viewer');
    await expectEnd(
      client,
      () => app.admin.patch(`/users/${id}`, { is_active: false }),
      401,
      'invalid_token',
    );
  });

  it('when its session is ended from another one', async () => {
    const user = await app.createUser();
    await expectStatus(201, app.admin.post('/tenants/acme/members', { user_id: user.id, role: 'viewer' }));
    const { body } = await app.anonymous.post('/auth/login', { email: user.email, password: user.password });
    const elsewhere = app.anonymous.withToken(body.access_token);
    await expectEnd(user.client, () => elsewhere.delete('/auth/sessions'), 401, 'invalid_token');
  });

  it('when its member is suspended, removed, or given a role that may not', async () => {
    for (const [status, change] of [
      [404, (path: string) => app.admin.patch(path, { status: 'suspended' })],
      [404, (path: string) => app.admin.delete(path)],
      [403, (path: string) => app.admin.put(path, { role: 'viewer_readonly' })],
    ] as const) {
      const { id, client } = await app.createMember('acme', 'viewer');
      await expectEnd(client, () => change(`/tenants/acme/members/${id}`), status, null);
      // What a viewer_readonly still asks ends with the membership.
      await app.admin.delete(`/tenants/acme/members/${id}`);
    }
  });
});

describe('a request goes on', () => {
  it('when something changes for somebody else', async () => {
    const { client } = await app.createMember('acme', 'viewer');
    const { id } = await app.createMember('acme', 'viewer');
    const stream = await openStream(client);
    await expectStatus(200, app.admin.put(`/tenants/acme/members/${id}`, { role: 'editor' }));
    await sleep(300);
    expect(stream.response.destroyed).toBe(false);
    expect(await stream.bytes()).toBe(Math.floor(LARGE / 26) * 26);
  });

  it('when it is itself what ends the session', async () => {
    for (let i = 0; i < 5; i++) {
      const { client } = await app.createUser();
      expect((await client.post('/auth/logout')).status).toBe(204);
    }
  });
});

/** A running stream and a waiting question, in each process, when `change` is made. */
async function expectEnd(
  client: Client,
  change: () => Promise<Answer>,
  status: number,
  code: string | null,
): Promise<void> {
  for (const [, at] of processes) await expectStatus(200, at(client).get('/tenants/acme'));
  const before = models.requests.chat;
  const running = await Promise.all(
    processes.map(async ([name, at]) => {
      models.failNext({ hang: 'headers' });
      const stream = await openStream(at(client));
      const asked = at(client).post('/tenants/acme/kbs/docs/query', { query: 'How long is the warranty?' });
      return { name, stream, asked };
    }),
  );
  await expect.poll(() => models.requests.chat, { timeout: 10_000 }).toBe(before + processes.length);
  const answer = await change();
  expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
  const changedAt = Date.now();
  await sleep(WITHIN_MS / 2);
  for (const { name, stream, asked } of running) {
    // What had been sent can be read; the rest was never sent.
    await expect(stream.bytes(), `${name}: the stream`).rejects.toThrow('aborted');
    expect(Date.now() - changedAt, `${name}: the stream`).toBeLessThan(WITHIN_MS);
    // A viewer_readonly may ask still: only what its role has lost ends.
    if (status === 403 && code === null) continue;
    const answered = await asked;
    expect(Date.now() - changedAt, `${name}: the question`).toBeLessThan(WITHIN_MS);
    if (code) expectProblem(answered, status, code);
    else expect(answered.status, name).toBe(status);
  }
  for (const [name, at] of processes) {
    expect((await at(client).get(largeDocument)).status, name).toBe(status);
  }
}

interface Stream {
  response: IncomingMessage;
  /** Reads it to its end. */
  bytes(): Promise<number>;
}

/** Downloads the large document, and does not read it. */
function openStream(client: Client): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const request = httpGet(
      `${client.url}/api/v1${largeDocument}/content`,
      { headers: { authorization: `Bearer ${client.token}` } },
      response => {
        if (response.statusCode !== 200) {
          reject(new Error(`Answered ${response.statusCode}`));
          return;
        }
        resolve({
          response,
          async bytes() {
            let count = 0;
            for await (const chunk of response) count += (chunk as Buffer).length;
            return count;
          },
        });
      },
    );
    request.on('error', reject);
  });
}
