import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { QuotasService } from '../../src/core/quotas/quotas.service.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { type Answer, Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { mailFolder } from '../setup/mail-folder.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { type RedisServer, startRedisServer } from '../setup/redis-server.js';

const PER_MEMBER = 40;
const PER_ADDRESS = 60;

/** What the answer says is left. */
const allowance = ({ headers }: Answer) => ({
  limit: Number(headers.get('ratelimit-limit')),
  remaining: Number(headers.get('ratelimit-remaining')),
  reset: Number(headers.get('ratelimit-reset')),
  policy: headers.get('ratelimit-policy'),
});

function expectLimited(answer: Answer, mostSeconds: number): void {
  expectProblem(answer, 429, 'rate_limited');
  const wait = Number(answer.headers.get('retry-after'));
  expect(wait).toBeGreaterThan(0);
  expect(wait).toBeLessThanOrEqual(mostSeconds);
}

const times = async <T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)));

const statuses = (answers: Answer[]): Record<number, number> => {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};

/** Nobody else’s: counters must not go because another test empties its database. */
let redis: RedisServer | null = null;
let ownRedis: Record<string, string> = {};
beforeAll(async () => {
  if (!SERVER) return;
  redis = await startRedisServer();
  ownRedis = { REDIS_URL: redis.url };
});
afterAll(() => redis?.stop());

describe('who asks too often is told to wait', () => {
  let app: TestApplication;
  beforeAll(async () => {
    app = await startTestApplication({
      ...ownRedis,
      RATE_LIMIT_PER_MEMBER_PER_MINUTE: String(PER_MEMBER),
      RATE_LIMIT_PER_ADDRESS_PER_MINUTE: String(PER_ADDRESS),
      CORS_ORIGINS: 'https://app.example.com',
      TRUST_PROXY: 'true',
    });
    await app.createTenant('acme');
  });
  afterAll(() => app?.close());

  /** Somebody at an address of their own. */
  const from = (ip: string) => app.anonymous.withHeaders({ 'x-forwarded-for': ip });

  it('by member, whatever comes of it, with what is left on every answer', async () => {
    const { client } = await app.createUser();
    const first = await expectStatus(200, client.get('/auth/me'));
    expect(allowance(first)).toEqual({
      limit: PER_MEMBER,
      remaining: PER_MEMBER - 1,
      reset: expect.any(Number),
      policy: `${PER_MEMBER};w=60`,
    });
    expect(allowance(first).reset).toBeLessThanOrEqual(60);
    // What is refused or not there counts, too, and says so.
    const refused = await client.get('/tenants/acme');
    expectProblem(refused, 404, 'not_found');
    expect(allowance(refused).remaining).toBe(PER_MEMBER - 2);
    const invalid = await client.patch('/auth/me', { no_such_field: 1 });
    expectProblem(invalid, 422, 'validation_failed');
    expect(allowance(invalid).remaining).toBe(PER_MEMBER - 3);
    const rest = await times(PER_MEMBER, () => client.get('/auth/me'));
    expect(statuses(rest)).toEqual({ 200: PER_MEMBER - 3, 429: 3 });
    const last = await client.get('/auth/me');
    expectLimited(last, 60);
    expect(allowance(last)).toMatchObject({ limit: PER_MEMBER, remaining: 0 });
    // Nobody else waits for them.
    const { client: other } = await app.createUser();
    await expectStatus(200, other.get('/auth/me'));
  });

  it('by address on public routes, of IPv6 by network', async () => {
    const ask = (ip: string) => from(ip).get('/invitations/no-such-token');
    const answers = await times(PER_ADDRESS + 5, () => ask('203.0.113.7'));
    expect(statuses(answers)).toEqual({ 404: PER_ADDRESS, 429: 5 });
    expectLimited(await ask('203.0.113.7'), 60);
    expectProblem(await ask('203.0.113.8'), 404, 'not_found');
    const network = await times(PER_ADDRESS + 5, index => ask(`2001:db8:1:2::${index.toString(16)}`));
    expect(statuses(network)).toEqual({ 404: PER_ADDRESS, 429: 5 });
    expectProblem(await ask('2001:db8:1:3::1'), 404, 'not_found');
  });

  it('by address for credentials that are none', async () => {
    const guess = (ip: string) => from(ip).withToken('guessed').get('/auth/me');
    const answers = await times(PER_ADDRESS + 5, () => guess('203.0.113.20'));
    expect(statuses(answers)).toEqual({ 401: PER_ADDRESS, 429: 5 });
    expectLimited(await from('203.0.113.20').get('/auth/me'), 60);
    // Whoever has a good one goes on.
    const { client } = await app.createUser();
    await expectStatus(200, client.withHeaders({ 'x-forwarded-for': '203.0.113.20' }).get('/auth/me'));
  });

  it('but nobody who asks whether the process is well', async () => {
    const answers = await times(PER_ADDRESS + 20, () => from('203.0.113.30').get('/health/live'));
    expect(statuses(answers)).toEqual({ 200: PER_ADDRESS + 20 });
  });

  it('and pages of other origins may read it', async () => {
    const { client } = await app.createUser();
    const answer = await client.withHeaders({ origin: 'https://app.example.com' }).get('/auth/me');
    const exposed = answer.headers.get('access-control-expose-headers') ?? '';
    for (const name of ['ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'retry-after'])
      expect(exposed).toContain(name);
  });

  it('by recipient, who is not written to without end', async () => {
    const { client: owner } = await app.createMember('acme', 'owner');
    const email = 'written-to@example.com';
    const invitation = await expectStatus(
      201,
      owner.post('/tenants/acme/invitations', { email, role: 'viewer' }),
    );
    const resend = () => owner.post(`/tenants/acme/invitations/${invitation.body.id}/resend`);
    for (let count = 0; count < 9; count++) await expectStatus(200, resend());
    expectLimited(await resend(), 3_600);
    await expectStatus(204, owner.delete(`/tenants/acme/invitations/${invitation.body.id}`));
    expectLimited(await owner.post('/tenants/acme/invitations', { email, role: 'viewer' }), 3_600);
    await mailFolder(app.env.dataDir).waitFor(email, 10);
  });
});

describe('a tenant', () => {
  let app: TestApplication;
  let model: ModelServer;
  let tenants = 0;
  beforeAll(async () => {
    model = await startModelServer();
    app = await startTestApplication({ ...ownRedis, LLM_BASE_URL: model.url, LLM_MODEL: 'stub' });
  });
  afterAll(async () => {
    await app?.close();
    await model?.close();
  });

  /** A tenant that the platform admin is no member of, and its owner. */
  async function tenantWith(
    quotas: Record<string, number>,
  ): Promise<{ path: string; id: string; owner: Client }> {
    const name = `limited-${++tenants}`;
    const user = await app.createUser();
    const { body } = await expectStatus(
      201,
      app.admin.post('/tenants', { name, quotas, admin_user: { email: user.email } }),
    );
    await expectStatus(201, app.admin.post(`/tenants/${name}/kbs`, { name: 'Docs' }));
    return { path: `/tenants/${name}`, id: body.id, owner: user.client };
  }

  const setQuotas = (path: string, quotas: object, enforce = true) =>
    expectStatus(200, app.admin.put(`${path}/quotas`, { quotas, enforce_quotas: enforce }));

  it.each([
    ['minute', 60],
    ['hour', 3_600],
    ['day', 24 * 3_600],
    ['month', 31 * 24 * 3_600],
  ])('has so many calls a %s', async (window, seconds) => {
    const { path, owner } = await tenantWith({ [`max_api_calls_per_${window}`]: 5 });
    const first = await expectStatus(200, owner.get(path));
    expect(allowance(first)).toMatchObject({ limit: 5, remaining: 4 });
    expect(allowance(first).policy).toMatch(/^10000000;w=60, 5;w=\d+$/);
    expect(statuses(await times(6, () => owner.get(path)))).toEqual({ 200: 4, 429: 2 });
    const last = await owner.get(path);
    expectLimited(last, seconds);
    expect(last.body).toMatchObject({ limit: `max_api_calls_per_${window}`, max: 5 });
    // Whoever has run out sees why; what is no call of the tenant goes on, and so does the platform.
    await expectStatus(200, owner.get(`${path}/quotas/usage`));
    await expectStatus(200, owner.get('/auth/me'));
    await expectStatus(200, app.admin.get(path));
    await setQuotas(path, { [`max_api_calls_per_${window}`]: 20 });
    await expectStatus(200, owner.get(path));
  });

  it('does not pay with its month for what a minute refuses', async () => {
    const { path, owner } = await tenantWith({ max_api_calls_per_minute: 3, max_api_calls_per_month: 100 });
    expect(statuses(await times(20, () => owner.get(path)))).toEqual({ 200: 3, 429: 17 });
    const { body } = await expectStatus(200, owner.get(`${path}/quotas/usage`));
    expect(body.current_usage).toMatchObject({ api_calls_this_month: 3 });
  });

  it('is told, and let through, where its limits are not enforced', async () => {
    const { path, owner } = await tenantWith({});
    await setQuotas(path, { max_api_calls_per_day: 2, max_concurrent_queries: 0 }, false);
    expect(statuses(await times(5, () => owner.get(path)))).toEqual({ 200: 5 });
    await expectStatus(200, owner.post(`${path}/kbs/docs/search`, { query: 'x', mode: 'keyword' }));
  });

  it('is slowed down by a throttle until that is lifted', async () => {
    const { path, id, owner } = await tenantWith({});
    const throttle = (perMinute: number | null) =>
      app.application.nest
        .get(PlatformDatabase, { strict: false })
        .run(tx => app.application.nest.get(QuotasService, { strict: false }).throttle(tx, id, perMinute));
    await throttle(2);
    expect((await app.admin.get(`${path}/quotas`)).body.throttled_to).toBe(2);
    expect(statuses(await times(5, () => owner.get(path)))).toEqual({ 200: 2, 429: 3 });
    await setQuotas(path, {}, false);
    expectLimited(await owner.get(path), 60);
    await throttle(null);
    await expectStatus(200, owner.get(path));
  });

  it('has so many searches an hour, and other calls beside them', async () => {
    const { path, owner } = await tenantWith({ max_queries_per_hour: 2 });
    const search = () => owner.post(`${path}/kbs/docs/search`, { query: 'x', mode: 'keyword' });
    expect(statuses(await times(5, search))).toEqual({ 200: 2, 429: 3 });
    await expectStatus(200, owner.get(path));
    expect((await owner.get(`${path}/quotas/usage`)).body.current_usage.queries_this_hour).toBe(2);
  });

  it('asks so many questions at a time', async () => {
    const { path, owner } = await tenantWith({ max_concurrent_queries: 2 });
    // Each question is the model’s to answer.
    await expectStatus(200, app.admin.patch(`${path}/config`, { enable_llm_cache: false }));
    const added = await expectStatus(
      202,
      app.admin.post(`${path}/kbs/docs/documents/text`, { text: 'The keys hang behind the door.' }),
    );
    await app.settled(path.replace('/tenants/', ''), added.body.id);
    const ask = () => owner.post(`${path}/kbs/docs/query`, { query: 'Where do the keys hang?' });
    await expectStatus(200, ask());
    model.latency = 1_500;
    try {
      const slow = [ask(), ask()];
      await expect
        .poll(async () => (await owner.get(`${path}/quotas/usage`)).body.current_usage.concurrent_queries)
        .toBe(2);
      const third = await ask();
      expectProblem(third, 429, 'concurrency_limited');
      expect(third.headers.get('retry-after')).toBe('1');
      expect(third.body).toMatchObject({ limit: 'max_concurrent_queries', max: 2 });
      await expectStatus(200, owner.get(path));
      expect(statuses(await Promise.all(slow))).toEqual({ 200: 2 });
      // Whoever goes away gives their place back.
      const asked = model.requests.chat;
      const leaving = [new AbortController(), new AbortController()];
      const left = leaving.map(({ signal }) =>
        fetch(`${owner.url}/api/v1${path}/kbs/docs/query`, {
          method: 'POST',
          signal,
          headers: { authorization: `Bearer ${owner.token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ query: 'Where do the keys hang?' }),
        }).catch(() => null),
      );
      await expect.poll(() => model.requests.chat).toBe(asked + 2);
      expectProblem(await ask(), 429, 'concurrency_limited');
      for (const controller of leaving) controller.abort();
      await Promise.all(left);
      model.latency = 0;
      await expect.poll(async () => (await ask()).status).toBe(200);
    } finally {
      model.latency = 0;
    }
  });

  it('has so many tokens of chat models a month', async () => {
    const { path, owner } = await tenantWith({ max_llm_tokens_per_month: 20 });
    // Each question is the model’s to answer.
    await expectStatus(200, app.admin.patch(`${path}/config`, { enable_llm_cache: false }));
    const added = await expectStatus(
      202,
      app.admin.post(`${path}/kbs/docs/documents/text`, { text: 'The keys hang behind the door.' }),
    );
    await app.settled(path.replace('/tenants/', ''), added.body.id);
    const ask = () => owner.post(`${path}/kbs/docs/query`, { query: 'Where do the keys hang?' });
    // An answer that has begun is not cut off.
    const first = await expectStatus(200, ask());
    const { prompt_tokens, completion_tokens } = first.body.usage;
    const second = await ask();
    expectLimited(second, 31 * 24 * 3_600);
    expect(second.body).toMatchObject({
      limit: 'max_llm_tokens_per_month',
      used: prompt_tokens + completion_tokens,
      max: 20,
    });
    await expectStatus(200, owner.post(`${path}/kbs/docs/search`, { query: 'keys', mode: 'keyword' }));
    expect((await owner.get(`${path}/quotas/usage`)).body.current_usage.llm_tokens_this_month).toBe(
      prompt_tokens + completion_tokens,
    );
  });

  it('keeps what it has used when its limits change', async () => {
    const { path, owner } = await tenantWith({});
    for (let count = 0; count < 4; count++) await expectStatus(200, owner.get(path));
    await expect
      .poll(async () => (await owner.get(`${path}/quotas/usage`)).body.current_usage.api_calls_this_month, {
        timeout: 5_000,
      })
      .toBe(4);
    await setQuotas(path, { max_api_calls_per_month: 6 });
    expect(statuses(await times(5, () => owner.get(path)))).toEqual({ 200: 2, 429: 3 });
  });
});

describe('time', () => {
  let app: TestApplication;
  beforeAll(async () => {
    app = await startTestApplication(ownRedis);
  });
  afterEach(() => void vi.useRealTimers());
  afterAll(() => app?.close());

  const tenantWith = async (name: string, quotas: object) => {
    const { email } = await app.createUser(`owner-of-${name}`);
    await expectStatus(201, app.admin.post('/tenants', { name, quotas, admin_user: { email } }));
    return email;
  };
  const signIn = async (email: string): Promise<Client> => {
    const password = `the password of ${email.split('@')[0]}`;
    const { body } = await expectStatus(200, app.anonymous.post('/auth/login', { email, password }));
    return app.anonymous.withToken(body.access_token);
  };

  it('that a process was not there counts: the month goes on after a restart', async () => {
    const email = await tenantWith('monthly', { max_api_calls_per_month: 10, max_api_calls_per_day: 10 });
    const before = await signIn(email);
    expect(statuses(await times(8, () => before.get('/tenants/monthly')))).toEqual({ 200: 8 });
    await app.restart();
    const after = await signIn(email);
    expect(statuses(await times(10, () => after.get('/tenants/monthly')))).toEqual({ 200: 2, 429: 8 });
    const { body } = await expectStatus(200, after.get('/tenants/monthly/quotas/usage'));
    expect(body.current_usage).toMatchObject({ api_calls_this_month: 10, api_calls_today: 10 });
  });

  it('that goes back does no harm', async () => {
    const email = await tenantWith('backwards', {
      max_api_calls_per_hour: 5,
      max_api_calls_per_day: 6,
      max_api_calls_per_minute: 100,
    });
    const owner = await signIn(email);
    const now = Date.now();
    const ask = async () => (await owner.get('/tenants/backwards')).status;
    for (let count = 0; count < 3; count++) expect(await ask()).toBe(200);
    // Within the lifetime of the token, and with luck in another hour.
    vi.useFakeTimers({ toFake: ['Date'], now: now - 5 * 60_000 });
    const seen = new Set<number>();
    for (let count = 0; count < 4; count++) seen.add(await ask());
    expect([...seen].filter(status => status !== 200 && status !== 429)).toEqual([]);
    vi.useRealTimers();
    expect([200, 429]).toContain(await ask());
    await expectStatus(200, owner.get('/tenants/backwards/quotas/usage'));
  });
});

describe.skipIf(!SERVER)('two processes on one Redis', () => {
  let app: TestApplication;
  let breakable: RedisServer;
  let clients: Client[];
  let path: string;

  beforeAll(async () => {
    breakable = await startRedisServer();
    app = await startTestApplication(
      {
        REDIS_URL: breakable.url,
        WORKER: 'external',
        RATE_LIMIT_PER_MEMBER_PER_MINUTE: '500',
      },
      { http: true, jobs: false },
    );
    const other = await app.startAnother({ http: true, jobs: false });
    const user = await app.createUser();
    await expectStatus(
      201,
      app.admin.post('/tenants', { name: 'shared', admin_user: { email: user.email } }),
    );
    path = '/tenants/shared';
    clients = [user.client, new Client(other.url as string, user.client.token)];
  });
  afterAll(async () => {
    breakable?.thaw();
    await app?.close();
    await breakable?.stop();
  });

  const both = (count: number, work: (client: Client) => Promise<Answer>): Promise<Answer[]> =>
    times(count, index => work(clients[index % 2] as Client));

  it('hold a tenant’s rate together', async () => {
    await expectStatus(200, app.admin.put(`${path}/quotas`, { quotas: { max_api_calls_per_hour: 200 } }));
    await sleep(300);
    const answers = [
      ...(await both(200, client => client.get(path))),
      ...(await both(200, client => client.get(path))),
    ];
    const passed = statuses(answers)[200] as number;
    expect(passed).toBeGreaterThanOrEqual(198);
    expect(passed).toBeLessThanOrEqual(202);
    // A member’s 500 a minute are counted with them.
    const more = await both(200, client => client.get('/auth/me'));
    expect(statuses(more)).toEqual({ 200: 100, 429: 100 });
  });

  describe('that goes away', () => {
    /** A new member, whose rate nobody has used yet. */
    async function freshMember(): Promise<Client[]> {
      const { body } = await expectStatus(
        201,
        app.anonymous.post('/auth/register', {
          email: `fresh-${crypto.randomUUID()}@example.com`,
          password: 'a password of some length',
        }),
      );
      return clients.map(({ url }) => new Client(url, body.access_token));
    }

    const spread = (fresh: Client[], count: number) =>
      times(count, index => (fresh[index % 2] as Client).get('/auth/me'));

    /** How many of `count` requests get through, and how long the slowest takes. Milliseconds. */
    async function ask(fresh: Client[], count: number): Promise<{ passed: number; slowest: number }> {
      let slowest = 0;
      let passed = 0;
      for (let index = 0; index < count; index++) {
        const started = performance.now();
        const { status } = await (fresh[index % 2] as Client).get('/auth/me');
        slowest = Math.max(slowest, performance.now() - started);
        expect([200, 429]).toContain(status);
        if (status === 200) passed++;
      }
      return { passed, slowest };
    }

    /** Both processes count in the same place again. */
    async function expectShared(): Promise<void> {
      await expect
        .poll(
          async () => {
            const fresh = await freshMember();
            await (fresh[0] as Client).get('/auth/me');
            return allowance(await (fresh[1] as Client).get('/auth/me')).remaining;
          },
          { timeout: 15_000, interval: 200 },
        )
        .toBe(498);
    }

    it('answer on, within twice the limit, and count together when it is back', async () => {
      const fresh = await freshMember();
      await breakable.stop();
      const passed = statuses(await spread(fresh, 1_200))[200] as number;
      expect(passed).toBeGreaterThanOrEqual(500);
      expect(passed).toBeLessThanOrEqual(1_010);
      await breakable.start();
      await expectShared();
    });

    it('do not wait for one that hangs', async () => {
      const fresh = await freshMember();
      await ask(fresh, 4);
      breakable.freeze();
      // The first ones find out.
      const first = await ask(fresh, 2);
      expect(first.slowest).toBeLessThan(2_000);
      const then = await ask(fresh, 100);
      expect(then.passed).toBe(100);
      expect(then.slowest).toBeLessThan(250);
      breakable.thaw();
      await expectShared();
    });
  });
});
