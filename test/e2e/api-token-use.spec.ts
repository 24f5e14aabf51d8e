import { get as httpGet, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { type Answer, Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

const TOKENS = '/tenants/acme/api-tokens';
/** What a stream holds that has not been read: more than all buffers between here and there. */
const LARGE = 24 * 1024 * 1024;
const WITHIN_MS = 1_000;

let app: TestApplication;
let models: ModelServer;
let owner: { id: string; client: Client };
let kbId: string;
let largeDocument: string;
/** The process that makes the change, and on a server another one. */
let processes: Array<[name: string, at: (client: Client) => Client]>;

beforeAll(async () => {
  models = await startModelServer();
  app = await startTestApplication({ LLM_BASE_URL: models.url, LLM_MODEL: 'stub' });
  ({ kbId } = await app.createTenant('acme'));
  await app.createTenant('other');
  owner = await app.createMember('acme', 'owner');
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

const issue = (fields: Record<string, unknown> = {}, as = owner.client) =>
  issueToken(app, as, 'acme', { scopes: ['kb:read', 'document:read', 'query:run'], ...fields });

describe('an application in production', () => {
  it('has a key of a workspace, checked in seven steps', async () => {
    // An organization with a workspace; a key for that, with what it is for and how often.
    const key = {
      name: 'Production Key',
      scopes: ['query:run', 'kb:read'],
      kb_ids: [kbId],
      rate_limit_per_minute: 100,
    };
    const { body: made } = await expectStatus(201, owner.client.post(TOKENS, key));
    expect(made).toMatchObject({ name: key.name, kb_ids: [kbId], rate_limit_per_minute: 100 });
    const ask = (credential: string | null, kb = 'docs', as = app.anonymous.withToken(credential)) =>
      as.post(`/tenants/acme/kbs/${kb}/search`, { query: 'warranty' });
    // 1: the header. 2: the prefix finds the key. 3: the hash of all of it.
    expectProblem(await ask(null), 401, 'unauthorized');
    expectProblem(await ask(`rk_live_${'0'.repeat(43)}`), 401, 'invalid_token');
    expectProblem(await ask(`${made.prefix}${'0'.repeat(35)}`), 401, 'invalid_token');
    // 4: active, and not past its end.
    await expectStatus(200, owner.client.patch(`${TOKENS}/${made.id}`, { is_active: false }));
    expectProblem(await ask(made.secret), 401, 'invalid_token');
    await expectStatus(200, owner.client.patch(`${TOKENS}/${made.id}`, { is_active: true }));
    // 5: the workspace is among those that it is for.
    await expectStatus(201, owner.client.post('/tenants/acme/kbs', { name: 'Sales', slug: 'sales' }));
    expectProblem(await ask(made.secret, 'sales'), 404, 'not_found');
    expect((await owner.client.get(`${TOKENS}/${made.id}`)).body.last_used_at).toBeNull();
    // 6: when it was used. 7: the request goes on.
    const { body } = await expectStatus(200, ask(made.secret));
    expect(body.passages[0]).toMatchObject({ text: expect.stringContaining('two years') });
    await vi.waitFor(
      async () => expect((await owner.client.get(`${TOKENS}/${made.id}`)).body.last_used_at).not.toBeNull(),
      { timeout: 5_000, interval: 100 },
    );
    // Lists name it by how it begins; revoked, it is gone at once.
    const listed = await owner.client.get(`${TOKENS}?search=Production`);
    expect(listed.body.items).toMatchObject([{ id: made.id, prefix: made.secret.slice(0, 16) }]);
    await expectStatus(204, owner.client.delete(`${TOKENS}/${made.id}`));
    expectProblem(await ask(made.secret), 401, 'invalid_token');
  });

  it('makes, lists and deletes tokens that are bound to their tenant', async () => {
    const making = { name: 'new_token', scopes: ['tenant:read', 'query:run'] };
    const { body: made } = await expectStatus(201, owner.client.post(TOKENS, making));
    const token = app.anonymous.withToken(made.secret);
    const { body: tenant } = await expectStatus(200, token.get('/tenants/acme'));
    expect(tenant.name).toBe('acme');
    expectProblem(await token.get('/tenants/other'), 404, 'not_found');
    expect((await owner.client.get(TOKENS)).body.items.map(({ id }: any) => id)).toContain(made.id);
    expect((await app.admin.get('/tenants/other/api-tokens')).body.items).toEqual([]);
    // Nobody deletes it from the other tenant.
    expectProblem(await app.admin.delete(`/tenants/other/api-tokens/${made.id}`), 404, 'not_found');
    await expectStatus(204, owner.client.delete(`${TOKENS}/${made.id}`));
    expectProblem(await owner.client.delete(`${TOKENS}/${made.id}`), 404, 'not_found');
    expectProblem(await token.get('/tenants/acme'), 401, 'invalid_token');
  });
});

describe('a request of an API token ends', () => {
  it('when the token is deleted', async () => {
    const { id, client } = await issue();
    await expectEnd(client, () => owner.client.delete(`${TOKENS}/${id}`), 401, 'invalid_token');
  });

  it('when it is stopped', async () => {
    const { id, client } = await issue();
    await expectEnd(
      client,
      () => owner.client.patch(`${TOKENS}/${id}`, { is_active: false }),
      401,
      'invalid_token',
    );
  });

  it('when its secret is replaced without an overlap', async () => {
    const { id, client } = await issue();
    const rotate = () => owner.client.post(`${TOKENS}/${id}/rotate`, { overlap_seconds: 0 });
    await expectEnd(client, rotate, 401, 'invalid_token');
  });

  it('when it is kept to other knowledge bases, or loses the scope', async () => {
    const { body } = await expectStatus(
      201,
      owner.client.post('/tenants/acme/kbs', { name: crypto.randomUUID() }),
    );
    const moved = await issue();
    await expectEnd(
      moved.client,
      () => owner.client.patch(`${TOKENS}/${moved.id}`, { kb_ids: [body.id] }),
      403,
      'token_changed',
      404,
    );
    const narrowed = await issue();
    await expectEnd(
      narrowed.client,
      () => owner.client.patch(`${TOKENS}/${narrowed.id}`, { scopes: ['kb:read'] }),
      403,
      'forbidden',
    );
  });

  it('when its creator goes, or loses the right', async () => {
    for (const [status, code, change] of [
      [401, 'invalid_token', (id: string) => app.admin.patch(`/users/${id}`, { is_active: false })],
      [401, 'invalid_token', (id: string) => app.admin.delete(`/tenants/acme/members/${id}`)],
      [
        401,
        'invalid_token',
        (id: string) => app.admin.patch(`/tenants/acme/members/${id}`, { status: 'suspended' }),
      ],
      [403, 'forbidden', (id: string) => app.admin.put(`/tenants/acme/members/${id}`, { role: 'reader' })],
    ] as const) {
      await app.admin.post('/tenants/acme/roles', { name: 'reader', permissions: ['tenant:read'] });
      const creator = await app.createMember('acme', 'admin');
      const { client } = await issue({}, creator.client);
      await expectEnd(client, () => change(creator.id), status, code);
    }
  });

  it('when its tenant is suspended', async () => {
    const { client } = await issue();
    await expectEnd(client, () => app.admin.post('/tenants/acme/suspend'), 403, 'tenant_suspended');
    await expectStatus(200, app.admin.post('/tenants/acme/activate'));
    await expectStatus(200, client.get('/tenants/acme/kbs'));
  });
});

it('a request of an API token goes on when what changes takes nothing from it', async () => {
  const { id, client } = await issue();
  const another = await issue();
  const stream = await openStream(client);
  await expectStatus(
    200,
    owner.client.patch(`${TOKENS}/${id}`, { name: 'Renamed', rate_limit_per_minute: 10 }),
  );
  await expectStatus(200, owner.client.post(`${TOKENS}/${id}/rotate`, {}));
  await expectStatus(204, owner.client.delete(`${TOKENS}/${another.id}`));
  await sleep(300);
  expect(stream.response.destroyed).toBe(false);
  expect(await stream.bytes()).toBe(Math.floor(LARGE / 26) * 26);
});

it('an API token that is new is good everywhere at once', async () => {
  for (let i = 0; i < 5; i++) {
    const { client } = await issue();
    for (const [name, at] of processes)
      expect((await at(client).get('/tenants/acme/kbs')).status, name).toBe(200);
  }
});

/** A running stream and a waiting question, in each process, when `change` is made. */
async function expectEnd(
  client: Client,
  change: () => Promise<Answer>,
  status: number,
  code: string,
  again = status,
): Promise<void> {
  const before = models.requests.chat;
  const running = await Promise.all(
    processes.map(async ([name, at]) => {
      models.failNext({ hang: 'headers' });
      const stream = await openStream(at(client));
      const asked = at(client)
        .post('/tenants/acme/kbs/docs/query', { query: 'How long is the warranty?' })
        .then(answer => ({ answer, answeredAt: Date.now() }));
      return { name, stream, asked };
    }),
  );
  await expect.poll(() => models.requests.chat, { timeout: 10_000 }).toBe(before + processes.length);
  const answer = await change();
  expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
  const changedAt = Date.now();
  await sleep(WITHIN_MS / 2);
  for (const { name, stream, asked } of running) {
    // What had been sent by now can be read; the rest was never sent.
    await expect(stream.bytes(), `${name}: the stream`).rejects.toThrow('aborted');
    const { answer: refusal, answeredAt } = await asked;
    expectProblem(refusal, status, code);
    expect(answeredAt - changedAt, name).toBeLessThan(WITHIN_MS);
  }
  for (const [name, at] of processes) {
    expect((await at(client).get(largeDocument)).status, name).toBe(again);
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
      { headers: { 'x-api-key': client.token as string } },
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

describe('whoever guesses API tokens', () => {
  it('is slowed down by address, and nobody else is', async () => {
    const strict = await startTestApplication({ RATE_LIMIT_PER_ADDRESS_PER_MINUTE: '20' });
    try {
      await strict.createTenant('acme');
      const { client } = await issueToken(strict, strict.admin, 'acme');
      const guess = () => strict.anonymous.withToken(`rk_live_${'A'.repeat(43)}`).get('/tenants/acme');
      const statuses: number[] = [];
      for (let i = 0; i < 25; i++) statuses.push((await guess()).status);
      expect(statuses.slice(0, 3)).toEqual([401, 401, 401]);
      expect(statuses.at(-1)).toBe(429);
      expect((await guess()).headers.get('retry-after')).toMatch(/^\d+$/);
      await expectStatus(200, client.get('/tenants/acme'));
    } finally {
      await strict.close();
    }
  });
});
