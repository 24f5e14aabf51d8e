import { createHash, randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IdempotencyService } from '../../src/core/idempotency/idempotency.service.js';
import { keyId } from '../../src/core/idempotency/idempotency-key.js';
import { BackgroundJobs } from '../../src/core/jobs/background-jobs.service.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { issueToken } from '../setup/api-tokens.js';
import { type Answer, Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;
let owner: { id: string; client: Client };
let tenantId: string;

beforeAll(async () => {
  app = await startTestApplication();
  tenantId = (await app.createTenant('acme')).id;
  await app.createTenant('other');
  owner = await app.createMember('acme', 'owner');
  await expectStatus(201, app.admin.post('/tenants/other/members', { user_id: owner.id, role: 'owner' }));
});
afterAll(() => app?.close());

const withKey = (client: Client, key: string) => client.withHeaders({ 'idempotency-key': key });
const isReplay = ({ headers }: Answer) => headers.get('idempotency-replayed') === 'true';
const superuser = (statement: string, values: unknown[] = []): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement, values)).rows,
  );
const kbs = async () => (await app.admin.get('/tenants/acme/kbs?page_size=100')).body.total as number;
const service = () => app.application.nest.get(IdempotencyService, { strict: false });

/** An upload whose parts are the same each time. */
const upload = (text: string) => {
  const form = new FormData();
  form.append('file', new Blob([text], { type: 'text/plain' }), 'a.txt');
  return form;
};

describe('the same request with the same key', () => {
  const requests: Array<[what: string, as: () => Client, path: string, body: () => unknown, status: number]> =
    [
      ['a tenant', () => app.admin, '/tenants', () => ({ name: 'once' }), 201],
      ['a knowledge base', () => owner.client, '/tenants/acme/kbs', () => ({ name: 'Once' }), 201],
      [
        'a text',
        () => owner.client,
        '/tenants/acme/kbs/docs/documents/text',
        () => ({ text: 'A text that is sent twice.', metadata: { b: 1, a: [1.5, null] } }),
        202,
      ],
      [
        'an upload',
        () => owner.client,
        '/tenants/acme/kbs/docs/documents',
        () => upload('A file that is sent twice.'),
        202,
      ],
      [
        'an invitation',
        () => owner.client,
        '/tenants/acme/invitations',
        () => ({ email: 'guest@example.com', role: 'viewer' }),
        201,
      ],
      [
        'a question',
        () => owner.client,
        '/tenants/acme/kbs/docs/search',
        () => ({ query: 'twice', mode: 'keyword' }),
        200,
      ],
      [
        'a role',
        () => owner.client,
        '/tenants/acme/roles',
        () => ({ name: 'r', permissions: ['tenant:read'] }),
        201,
      ],
    ];

  it.each(requests)('does %s once, and is answered alike', async (_, as, path, body, status) => {
    const client = withKey(as(), randomUUID());
    const first = await expectStatus(status, client.post(path, body()));
    expect(isReplay(first)).toBe(false);
    const again = await expectStatus(status, client.post(path, body()));
    expect(isReplay(again)).toBe(true);
    expect(again.body).toEqual(first.body);
    for (const name of ['etag', 'location', 'content-type', 'cache-control'])
      expect([name, again.headers.get(name)]).toEqual([name, first.headers.get(name)]);
    // Its own.
    expect(again.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
  });

  it('adds a member once, and gives an empty answer again', async () => {
    const user = await app.createUser();
    const client = withKey(owner.client, randomUUID());
    const add = () => client.post('/tenants/acme/members', { user_id: user.id, role: 'viewer' });
    const first = await expectStatus(201, add());
    expect((await expectStatus(201, add())).body).toEqual(first.body);
    const change = () =>
      withKey(user.client, 'change').post('/auth/change-password', {
        current_password: user.password,
        new_password: 'another password of some length',
      });
    for (const replayed of [false, true]) {
      const answer = await expectStatus(204, change());
      expect({ body: answer.body, replayed: isReplay(answer) }).toEqual({ body: '', replayed });
    }
  });

  it('does not depend on the order of the fields', async () => {
    const client = withKey(owner.client, randomUUID());
    await expectStatus(201, client.post('/tenants/acme/kbs', { name: 'Ordered', description: 'd' }));
    const spelled = client.withHeaders({ 'content-type': 'application/json' });
    const again = await expectStatus(
      201,
      spelled.post('/tenants/acme/kbs', '{ "description": "d",\n "n\\u0061me": "Ordered" }'),
    );
    expect(isReplay(again)).toBe(true);
  });

  it('takes the key in quotes, as the draft has it, for the same key', async () => {
    const key = randomUUID();
    const first = await expectStatus(
      201,
      withKey(owner.client, `"${key}"`).post('/tenants/acme/kbs', { name: 'Quoted' }),
    );
    const again = await expectStatus(
      201,
      withKey(owner.client, key).post('/tenants/acme/kbs', { name: 'Quoted' }),
    );
    expect(again.body.id).toBe(first.body.id);
  });

  it('twenty times at once makes one row', async () => {
    const before = await kbs();
    const client = withKey(owner.client, randomUUID());
    const send = () => client.post('/tenants/acme/kbs', { name: 'Parallel' });
    const answers = await Promise.all(Array.from({ length: 20 }, send));
    const made = answers.filter(({ status }) => status === 201);
    expect(made.filter(answer => !isReplay(answer))).toHaveLength(1);
    expect(new Set(made.map(({ body }) => body.id)).size).toBe(1);
    for (const answer of answers.filter(({ status }) => status !== 201)) {
      expectProblem(answer, 409, 'idempotency_in_progress');
      expect(answer.headers.get('retry-after')).toBe('1');
    }
    expect(await kbs()).toBe(before + 1);
    expect(isReplay(await expectStatus(201, send()))).toBe(true);
  });

  it.skipIf(!SERVER)('does so across processes', async () => {
    const other = await app.startAnother({ http: true, jobs: false });
    const before = await kbs();
    const key = randomUUID();
    const there = () => new Client(other.url as string, owner.client.token);
    const send = (client: Client) => withKey(client, key).post('/tenants/acme/kbs', { name: 'Spread' });
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => send(i % 2 ? owner.client : there())),
    );
    expect(answers.filter(answer => answer.status === 201 && !isReplay(answer))).toHaveLength(1);
    expect(answers.every(({ status }) => status === 201 || status === 409)).toBe(true);
    expect(await kbs()).toBe(before + 1);
    expect(isReplay(await expectStatus(201, send(there())))).toBe(true);
  });
});

describe('the same key', () => {
  it('with another request is refused', async () => {
    const client = withKey(owner.client, randomUUID());
    await expectStatus(201, client.post('/tenants/acme/kbs', { name: 'First' }));
    const others: Array<[string, unknown]> = [
      ['/tenants/acme/kbs', { name: 'Second' }],
      ['/tenants/acme/kbs', { name: 'First', description: '' }],
      ['/tenants/acme/groups', { name: 'First' }],
      ['/tenants/acme/kbs', undefined],
      ['/tenants/acme/kbs/docs/documents', upload('Of another kind.')],
    ];
    for (const [path, body] of others)
      expectProblem(await client.post(path, body), 422, 'idempotency_key_reused');
  });

  it('with a file of another length is refused, also where much of it has not been read', async () => {
    const client = withKey(owner.client, randomUUID());
    await expectStatus(202, client.post('/tenants/acme/kbs/docs/documents', upload('Short.')));
    expectProblem(
      await client.post('/tenants/acme/kbs/docs/documents', upload('Long. '.repeat(500_000))),
      422,
      'idempotency_key_reused',
    );
  });

  it('of another user, of another tenant or of nobody is another key', async () => {
    const key = randomUUID();
    const body = { name: 'Mine' };
    const first = await expectStatus(201, withKey(owner.client, key).post('/tenants/acme/kbs', body));
    const elsewhere = await expectStatus(201, withKey(owner.client, key).post('/tenants/other/kbs', body));
    expect(elsewhere.body.id).not.toBe(first.body.id);
    const somebody = await app.createMember('acme', 'owner');
    expectProblem(
      await withKey(somebody.client, key).post('/tenants/acme/kbs', { name: 'Mine', slug: 'mine' }),
      409,
      'name_taken',
    );
    const register = () =>
      withKey(app.anonymous, key).post('/auth/register', {
        email: 'registered@example.com',
        password: 'a password of some length',
      });
    await expectStatus(201, register());
    expect((await register()).status).toBe(409);
  });

  it('of an API token is its own', async () => {
    const key = randomUUID();
    const token = (
      await expectStatus(
        201,
        owner.client.post('/tenants/acme/api-tokens', { name: 'Builder', scopes: ['kb:create', 'kb:read'] }),
      )
    ).body;
    const first = await expectStatus(
      201,
      withKey(owner.client, key).post('/tenants/acme/kbs', { name: 'By hand' }),
    );
    const bearer = withKey(app.anonymous.withToken(token.secret), key);
    const made = await expectStatus(201, bearer.post('/tenants/acme/kbs', { name: 'By token' }));
    expect(made.body.id).not.toBe(first.body.id);
    const again = await expectStatus(201, bearer.post('/tenants/acme/kbs', { name: 'By token' }));
    expect({ id: again.body.id, replayed: isReplay(again) }).toEqual({ id: made.body.id, replayed: true });
  });

  it('grants credits once in each tenant', async () => {
    const client = withKey(app.admin, randomUUID());
    const grant = { type: 'grant', amount: 1000, note: 'Once' };
    for (const tenant of ['acme', 'other']) {
      const path = `/tenants/${tenant}/credits`;
      const before = (await expectStatus(200, app.admin.get(path))).body.balance;
      const answers = await Promise.all(Array.from({ length: 5 }, () => client.post(path, grant)));
      expect(answers.every(({ status }) => status === 201 || status === 409)).toBe(true);
      const again = await expectStatus(201, client.post(path, grant));
      expect(isReplay(again)).toBe(true);
      expectProblem(await client.post(path, { ...grant, amount: 1 }), 422, 'idempotency_key_reused');
      expect((await app.admin.get(path)).body.balance).toBe(before + 1000);
    }
  });

  it('on a route of no tenant is the same, whichever tenant was chosen', async () => {
    const key = randomUUID();
    const first = await expectStatus(201, withKey(app.admin, key).post('/tenants', { name: 'chosen' }));
    const { body } = await expectStatus(200, app.admin.post('/auth/switch-tenant', { tenant: 'acme' }));
    const again = await withKey(app.admin.withToken(body.access_token), key).post('/tenants', {
      name: 'chosen',
    });
    expect(again.body.id).toBe(first.body.id);
    expect(isReplay(again)).toBe(true);
  });

  it('does nothing for other methods', async () => {
    const client = withKey(owner.client, randomUUID());
    for (const description of ['one', 'two']) {
      const answer = await expectStatus(200, client.patch('/tenants/acme/kbs/docs', { description }));
      expect(answer.body.description).toBe(description);
    }
  });

  it('gives nothing to whoever may no longer do what it was for', async () => {
    const editor = await app.createMember('acme', 'editor');
    const client = withKey(editor.client, randomUUID());
    const send = () => client.post('/tenants/acme/kbs', { name: 'While it lasted' });
    await expectStatus(201, send());
    await expectStatus(200, app.admin.put(`/tenants/acme/members/${editor.id}`, { role: 'viewer' }));
    expectProblem(await send(), 403, 'forbidden');
  });

  it('gives nothing to an API token that is kept to less by now', async () => {
    const make = async (name: string) =>
      (await expectStatus(201, owner.client.post('/tenants/acme/kbs', { name }))).body.id as string;
    const [before, after] = [await make('Seen before'), await make('Seen after')];
    const token = await issueToken(app, owner.client, 'acme', { kb_ids: [before, after] });
    const client = withKey(token.client, randomUUID());
    const send = () => client.post(`/tenants/acme/kbs/${before}/search`, { query: 'what was seen' });
    const keep = (kb_ids: string[] | null) =>
      expectStatus(200, owner.client.patch(`/tenants/acme/api-tokens/${token.id}`, { kb_ids }));
    await expectStatus(200, send());
    await keep([after]);
    expectProblem(await send(), 409, 'idempotency_not_replayable');
    await keep(null);
    expect(isReplay(await expectStatus(200, send()))).toBe(true);
  });

  it.each(['', 'with space', 'ü', 'x'.repeat(256), '""', 'tab\there'])('%j is malformed', async key => {
    // A header is bytes: what is no Latin-1 cannot even be sent.
    expectProblem(
      await withKey(owner.client, key).post('/tenants/acme/kbs', { name: 'Never' }),
      400,
      'malformed_idempotency_key',
    );
  });

  it.each(['x'.repeat(255), '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~'])('%j is taken', async key => {
    const name = `Kb ${randomUUID()}`;
    await expectStatus(201, withKey(owner.client, key).post('/tenants/acme/kbs', { name }));
  });
});

describe('after an error', () => {
  it('the key may be used again, also for what was mended', async () => {
    const client = withKey(owner.client, randomUUID());
    expectProblem(await client.post('/tenants/acme/kbs', { nmae: 'Typo' }), 422, 'validation_failed');
    expectProblem(await client.post('/tenants/acme/kbs', { name: 'Docs', slug: 'docs' }), 409, 'name_taken');
    const made = await expectStatus(201, client.post('/tenants/acme/kbs', { name: 'Mended' }));
    expect(isReplay(made)).toBe(false);
  });

  it('numbers that are no numbers are the sender’s fault', async () => {
    const client = withKey(owner.client, randomUUID()).withHeaders({ 'content-type': 'application/json' });
    const answer = await client.post('/tenants/acme/kbs/docs/search', '{"query": "a", "top_k": 1e999}');
    expectProblem(answer, 422, 'validation_failed');
  });
});

describe('a first request that', () => {
  const use = (key: string, text: string) => ({
    id: keyId(owner.id, tenantId, key),
    tenantId,
    fingerprint: Buffer.from(text.padEnd(32)),
    access: null,
  });
  const inTenant = <T>(work: () => Promise<T>): Promise<T> =>
    app.application.nest.get(TenantContext).runAsSystem({ id: tenantId, name: 'acme' }, work);
  const begin = (key: string, text = 'one') => inTenant(() => service().begin(use(key, text)));

  it('still runs makes others wait', async () => {
    const key = randomUUID();
    const begun = await begin(key);
    await expect(begin(key)).rejects.toMatchObject({ status: 409, code: 'idempotency_in_progress' });
    await expect(begin(key, 'two')).rejects.toMatchObject({ status: 422, code: 'idempotency_key_reused' });
    if ('attempt' in begun) await inTenant(() => begun.attempt.release());
    expect(await begin(key, 'two')).toHaveProperty('attempt');
  });

  it('died is tried again by one of those who come', async () => {
    const key = randomUUID();
    const dead = await begin(key);
    await superuser(
      `UPDATE idempotency_keys SET lease_expires_at = now() - interval '1 second' WHERE id = $1`,
      [use(key, '').id],
    );
    await expect(begin(key, 'two')).rejects.toMatchObject({ code: 'idempotency_key_reused' });
    const results = await Promise.allSettled(Array.from({ length: 10 }, () => begin(key)));
    const taken = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
    expect(taken).toHaveLength(1);
    // Whoever was only thought to be dead changes nothing any more.
    if ('attempt' in dead)
      await inTenant(() => dead.attempt.complete({ status: 200, headers: {}, body: 'late' }));
    const [first] = taken;
    if (first && 'attempt' in first)
      await inTenant(() => first.attempt.complete({ status: 201, headers: {}, body: { of: 'the second' } }));
    expect(await begin(key)).toEqual({ replay: { status: 201, headers: {}, body: { of: 'the second' } } });
  });

  it('was answered with a stream, or with too much, cannot be had again', async () => {
    for (const answer of [null, { status: 200, headers: {}, body: 'x'.repeat(1024 * 1024) }]) {
      const key = randomUUID();
      const begun = await begin(key);
      if ('attempt' in begun) await inTenant(() => begun.attempt.complete(answer));
      await expect(begin(key)).rejects.toMatchObject({ status: 409, code: 'idempotency_not_replayable' });
    }
  });

  it('is older than a day is forgotten', async () => {
    const key = randomUUID();
    const client = withKey(owner.client, key);
    const first = await expectStatus(201, client.post('/tenants/acme/groups', { name: 'Old' }));
    await expectStatus(204, owner.client.delete(`/tenants/acme/groups/${first.body.id}`));
    await superuser(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE id = $1`, [
      use(key, '').id,
    ]);
    const again = await expectStatus(201, client.post('/tenants/acme/groups', { name: 'Old' }));
    expect(again.body.id).not.toBe(first.body.id);
  });
});

it('keeps secrets sealed that are shown once', async () => {
  const client = withKey(owner.client, randomUUID());
  const send = () => client.post('/tenants/acme/api-tokens', { name: 'Shown once', scopes: ['query:run'] });
  const { body } = await expectStatus(201, send());
  expect(body.secret).toMatch(/^rk_live_/);
  const again = await expectStatus(201, send());
  expect({ body: again.body, replayed: isReplay(again) }).toEqual({ body, replayed: true });
  expect(again.headers.get('cache-control')).toBe('no-store');
  const rows = await superuser(`SELECT encode(answer, 'escape') AS answer FROM idempotency_keys`);
  expect(rows.length).toBeGreaterThan(5);
  for (const { answer } of rows) {
    expect(answer ?? '').not.toContain(body.secret.slice(10));
    expect(answer ?? '').not.toContain('secret');
  }
});

it('keeps nothing that a password can be tried out on', async () => {
  const body = { email: 'keyed@example.com', display_name: 'Keyed', password: 'a password of some length' };
  await expectStatus(201, withKey(app.admin, randomUUID()).post('/users', body));
  const texts = Object.values({ sorted: ['display_name', 'email', 'password'], asSent: Object.keys(body) });
  const guesses = texts.map(names =>
    createHash('sha256')
      .update(`POST\n/api/v1/users\napplication/json\n${JSON.stringify(body, names)}`)
      .digest('hex'),
  );
  const rows = await superuser(`SELECT encode(fingerprint, 'hex') AS fingerprint FROM idempotency_keys`);
  for (const { fingerprint } of rows) expect(guesses).not.toContain(fingerprint);
});

it('keeps what was answered over a restart', async () => {
  const key = randomUUID();
  const send = () => withKey(app.admin, key).post('/tenants/acme/kbs', { name: 'Lasting' });
  const first = await expectStatus(201, send());
  await app.restart();
  const after = await expectStatus(201, send());
  expect(isReplay(after)).toBe(true);
  expect(after.body).toEqual(first.body);
});

it('removes what is old', async () => {
  await superuser(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`);
  const [{ before }] = await superuser('SELECT count(*)::int AS before FROM idempotency_keys');
  expect(before).toBeGreaterThan(10);
  await expectStatus(201, withKey(app.admin, randomUUID()).post('/tenants/acme/kbs', { name: 'Young' }));
  const definition = app.application.nest
    .get(BackgroundJobs, { strict: false })
    .definitionOf('idempotency.clean_up');
  expect(definition?.every).toBe(3600);
  await definition?.run({ signal: new AbortController().signal } as never);
  const [{ after }] = await superuser('SELECT count(*)::int AS after FROM idempotency_keys');
  expect(after).toBe(1);
});

describe.skipIf(!SERVER)('a request that took too long, but was done after all', () => {
  let slow: TestApplication;
  beforeAll(async () => {
    slow = await startTestApplication({ REQUEST_TIMEOUT_SECONDS: '1' });
    await slow.createTenant('acme');
  });
  afterAll(() => slow?.close());

  it('is answered with what was done', async () => {
    const client = withKey(slow.admin, randomUUID());
    const send = () => client.post('/tenants/acme/kbs', { name: 'Slow' });
    const dataSource = slow.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    await asSuperuser(slow.env, dataSource, async superuserClient => {
      await superuserClient.query('LOCK TABLE knowledge_bases IN ACCESS EXCLUSIVE MODE');
      expectProblem(await send(), 503, 'timeout');
      expectProblem(await send(), 409, 'idempotency_in_progress');
    });
    await expect.poll(async () => (await send()).status, { timeout: 5_000, interval: 50 }).toBe(201);
    const again = await send();
    expect({ name: again.body.name, replayed: isReplay(again) }).toEqual({ name: 'Slow', replayed: true });
    expect(again.headers.get('content-type')).toMatch(/^application\/json/);
  });
});

it('is in the API document', async () => {
  const { body } = await app.anonymous.get('//openapi.json');
  const names = (path: string, method: string) =>
    (body.paths[`/api/v1${path}`][method].parameters ?? []).map(({ name }: { name: string }) => name);
  expect(names('/tenants', 'post')).toContain('Idempotency-Key');
  expect(names('/tenants/{tenant}/kbs', 'post')).toContain('Idempotency-Key');
  expect(
    names('/tenants/{tenant}/credits', 'post').filter((name: string) => /^idempotency/i.test(name)),
  ).toHaveLength(1);
  expect(names('/tenants', 'get')).not.toContain('Idempotency-Key');
  expect(names('/auth/login', 'post')).not.toContain('Idempotency-Key');
});
