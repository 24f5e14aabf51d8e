import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventsService } from '../../src/core/events/events.service.js';
import { BackgroundJobs } from '../../src/core/jobs/background-jobs.service.js';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { LIMIT_NAMES } from '../../src/core/tenancy/tenant-limits.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { uploadOf } from '../setup/files.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

/** At once. The embedded database takes one statement after the other, however many wait. */
const ASKING = SERVER ? { documents: 200, kbs: 1_000 } : { documents: 60, kbs: 250 };

let app: TestApplication;
let tenants = 0;
/** What was told, by tenant. */
const told: Array<{ tenantId: string; type: string; data: any }> = [];

beforeAll(async () => {
  app = await startTestApplication({ DEFAULT_PLAN_TIER: '', SELF_SERVICE_TENANTS: 'true' });
  app.application.nest.get(EventsService, { strict: false }).listen(async (_tx, events) => {
    told.push(...events.filter(event => event.type === 'quota.exceeded'));
  });
});
afterAll(() => app?.close());

const sql = (statement: string, values: unknown[] = []): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement, values)).rows,
  );

interface TestTenant {
  id: string;
  name: string;
  path: string;
}

/** A tenant of the plan `enterprise` with limits of its own, and one knowledge base, `docs`. */
async function tenantWith(quotas: Record<string, number | null>, more: object = {}): Promise<TestTenant> {
  const name = `tenant-${++tenants}`;
  const { body } = await expectStatus(
    201,
    app.admin.post('/tenants', { name, plan_tier: 'enterprise', quotas, ...more }),
  );
  await expectStatus(201, app.admin.post(`/tenants/${name}/kbs`, { name: 'Docs' }));
  return { id: body.id, name, path: `/tenants/${name}` };
}

const setQuotas = (tenant: TestTenant, quotas: object, enforce = true) =>
  expectStatus(200, app.admin.put(`${tenant.path}/quotas`, { quotas, enforce_quotas: enforce }));

const addText = (tenant: TestTenant, text: string, client = app.admin) =>
  client.post(`${tenant.path}/kbs/docs/documents/text`, { text });

const usageOf = async (tenant: TestTenant) =>
  (await expectStatus(200, app.admin.get(`${tenant.path}/quotas/usage`))).body;

/** At most so many under way at a time. */
async function inParallel<T>(
  count: number,
  atOnce: number,
  work: (index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let index = next++; index < count; index = next++) results[index] = await work(index);
    }),
  );
  return results;
}

const tally = (answers: Array<{ status: number }>): Record<number, number> => {
  const counts: Record<number, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};

/** What stands in the tables, which the counters must say, too. */
const rowsOf = async ({ id }: TestTenant) => {
  const [counted] = await sql(
    `SELECT c.users::int, c.kbs::int, c.documents::int, c.storage_bytes::int, c.api_tokens::int
     FROM tenant_counters c WHERE tenant_id = $1`,
    [id],
  );
  const [there] = await sql(
    `SELECT (SELECT count(*) FROM members WHERE tenant_id = $1)::int AS users,
            (SELECT count(*) FROM knowledge_bases WHERE tenant_id = $1)::int AS kbs,
            (SELECT count(*) FROM documents WHERE tenant_id = $1)::int AS documents,
            (SELECT coalesce(sum(size_bytes), 0) FROM documents WHERE tenant_id = $1)::int AS storage_bytes,
            (SELECT count(*) FROM api_tokens WHERE tenant_id = $1)::int AS api_tokens`,
    [id],
  );
  expect(counted).toEqual(there);
  return there;
};

describe('plans', () => {
  it('have the limits of their tiers', async () => {
    const { client } = await app.createUser();
    const { body } = await expectStatus(200, client.get('/plans'));
    const columns = [
      'max_kbs',
      'max_documents_per_kb',
      'max_api_calls_per_month',
      'max_users',
      'max_storage_mb',
      'max_concurrent_queries',
    ];
    expect(body.items.map((plan: any) => [plan.name, ...columns.map(name => plan.limits[name])])).toEqual([
      ['free', 1, 100, 1_000, 3, 1_024, 2],
      ['starter', 3, 500, 10_000, 10, 10_240, 5],
      ['pro', 10, 5_000, 100_000, 50, 102_400, 10],
      ['enterprise', null, null, null, null, null, null],
    ]);
    expect(Object.keys(body.items[0].limits)).toEqual(LIMIT_NAMES);
    expectProblem(await app.anonymous.get('/plans'), 401, 'unauthorized');
  });

  it('hold for tenants that are made without saying more', async () => {
    const { client, id } = await app.createUser();
    await expectStatus(201, client.post('/tenants', { name: 'free' }));
    await expectStatus(201, client.post('/tenants/free/kbs', { name: 'One' }));
    const second = await client.post('/tenants/free/kbs', { name: 'Two' });
    expectProblem(second, 403, 'quota_exceeded');
    expect(second.body).toMatchObject({ limit: 'max_kbs', used: 1, max: 1, plan_tier: 'free' });
    for (let member = 0; member < 2; member++) await app.createMember('free', 'viewer');
    const fourth = await client.post('/tenants/free/members', {
      user: { email: 'fourth@example.com' },
      role: 'viewer',
    });
    expectProblem(fourth, 403, 'quota_exceeded');
    expect(fourth.body).toMatchObject({ limit: 'max_users', used: 3, max: 3 });
    // The account that would have been made on the way was not.
    expect((await app.admin.get('/users?search=fourth@example.com')).body.total).toBe(0);
    expect((await client.get('/tenants/free/quotas')).body).toMatchObject({
      plan_tier: 'free',
      enforce_quotas: true,
      quotas: { max_kbs: 1, max_users: 3, max_agents: null },
      overrides: {},
    });
    const platform = { quotas: { max_kbs: 2 } };
    expectProblem(await client.put('/tenants/free/quotas', platform), 403, 'forbidden');
    expectProblem(await client.patch('/tenants/free', { plan_tier: 'pro' }), 403, 'platform_field');
    expectProblem(await client.post('/tenants', { name: 'mine', ...platform }), 403, 'platform_field');
    await expectStatus(200, app.admin.patch('/tenants/free', { plan_tier: 'starter' }));
    await expectStatus(201, client.post('/tenants/free/kbs', { name: 'Two' }));
    expect(id).toBeTruthy();
  });
});

describe('limits of a tenant', () => {
  it('are the plan’s, with its own over them', async () => {
    const tenant = await tenantWith({});
    await expectStatus(200, app.admin.patch(tenant.path, { plan_tier: 'pro' }));
    const { body } = await setQuotas(tenant, { max_users: 100, max_kbs: null, max_upload_mb: 5 }, false);
    expect(body).toMatchObject({
      plan_tier: 'pro',
      enforce_quotas: false,
      throttled_to: null,
      quotas: { max_users: 100, max_kbs: null, max_upload_mb: 5, max_storage_mb: 102_400 },
      overrides: { max_users: 100, max_kbs: null, max_upload_mb: 5 },
    });
    expect((await setQuotas(tenant, { max_users: 7 })).body).toMatchObject({
      enforce_quotas: true,
      quotas: { max_users: 7, max_kbs: 10 },
      overrides: { max_users: 7 },
    });
    expect((await app.admin.get(`${tenant.path}/quotas`)).body.overrides).toEqual({ max_users: 7 });
  });

  it.each([
    [{ max_user: 3 }, 'quotas.max_user'],
    [{ max_users: -1 }, 'quotas.max_users'],
    [{ max_users: 1.5 }, 'quotas.max_users'],
    [{ max_users: '5' }, 'quotas.max_users'],
    [{ max_storage_mb: 1e13 }, 'quotas.max_storage_mb'],
    [{ max_storage_mb: 2 ** 53 }, 'quotas.max_storage_mb'],
    [null, 'quotas'],
  ])('are not %j', async (quotas, path) => {
    const answer = await app.admin.put('/tenants/free/quotas', { quotas });
    expectProblem(answer, 422, 'validation_failed');
    expect(JSON.stringify(answer.body.errors)).toContain(path.split('.').at(-1));
    expectProblem(
      await app.admin.post('/tenants', { name: `bad-${++tenants}`, quotas: quotas ?? 7 }),
      422,
      'validation_failed',
    );
  });

  it('come from templates, too', async () => {
    const quotas = { max_users: 2, max_kbs: 5 };
    await expectStatus(
      201,
      app.admin.post('/tenant-templates', {
        name: 'small',
        plan_tier: 'starter',
        quotas,
        enforce_quotas: false,
      }),
    );
    expect((await app.admin.get('/tenant-templates/small')).body).toMatchObject({
      quotas,
      enforce_quotas: false,
    });
    await expectStatus(
      201,
      app.admin.post('/tenants', { name: 'smaller', template: 'small', quotas: { max_kbs: 1 } }),
    );
    expect((await app.admin.get('/tenants/smaller/quotas')).body).toMatchObject({
      plan_tier: 'starter',
      enforce_quotas: false,
      overrides: { max_users: 2, max_kbs: 1 },
    });
  });

  it('are seen by those who may see the usage', async () => {
    const tenant = await tenantWith({});
    const { client: viewer } = await app.createMember(tenant.name, 'viewer');
    const { client: owner } = await app.createMember(tenant.name, 'owner');
    for (const path of ['/quotas', '/quotas/usage']) {
      expectProblem(await viewer.get(`${tenant.path}${path}`), 403, 'forbidden');
      await expectStatus(200, owner.get(`${tenant.path}${path}`));
    }
    const { client: stranger } = await app.createUser();
    expectProblem(await stranger.get(`${tenant.path}/quotas`), 404, 'not_found');
    expectProblem(await stranger.put(`${tenant.path}/quotas`, { quotas: {} }), 404, 'not_found');
  });
});

it('says what is used, and how much of it that is', async () => {
  const tenant = await tenantWith({
    max_users: 4,
    max_storage_mb: 2,
    max_api_calls_per_day: 50,
    max_api_calls_per_month: 400,
    max_queries_per_hour: 8,
    max_api_calls_per_minute: 1_000,
    max_agents: 0,
  });
  const { client: owner } = await app.createMember(tenant.name, 'owner');
  await expectStatus(
    202,
    owner.post(
      `${tenant.path}/kbs/docs/documents`,
      uploadOf([['x'.repeat(512 * 1024), 'half.txt', 'text/plain']]),
    ),
  );
  for (let count = 0; count < 2; count++) {
    await expectStatus(200, owner.post(`${tenant.path}/kbs/docs/search`, { query: 'x', mode: 'keyword' }));
  }
  for (let count = 0; count < 9; count++) await expectStatus(200, owner.get(tenant.path));
  // Asking for it counts against nothing.
  await expectStatus(200, owner.get(`${tenant.path}/quotas/usage`));
  const { body } = await expectStatus(200, owner.get(`${tenant.path}/quotas/usage`));
  expect(body).toMatchObject({
    current_usage: {
      users: 2,
      kbs: 1,
      documents: 1,
      storage_mb: 0.5,
      agents: 0,
      api_tokens: 0,
      api_calls_this_minute: 14,
      api_calls_today: 14,
      api_calls_this_month: 14,
      queries_this_hour: 2,
      concurrent_queries: 0,
      llm_tokens_this_month: 0,
    },
    quotas: { max_users: 4, max_kbs: null },
    usage_percentages: { users: 50, storage: 25, api_calls: 28, queries: 25, agents: 100 },
    plan_tier: 'enterprise',
    enforce_quotas: true,
  });
  expect(body.usage_percentages).not.toHaveProperty('documents');
});

describe('the last places', () => {
  it('are given out once, however many ask: documents', async () => {
    const tenant = await tenantWith({ max_documents: 30 });
    for (let count = 0; count < 20; count++) await expectStatus(202, addText(tenant, `Before ${count}.`));
    const clients = [app.admin];
    if (SERVER) {
      const other = await app.startAnother({ http: true, jobs: false });
      clients.push(new Client(other.url as string, app.admin.token));
    }
    const answers = await Promise.all(
      Array.from({ length: ASKING.documents }, (_, index) => {
        const client = clients[index % clients.length] as Client;
        return client.post(
          `${tenant.path}/kbs/docs/documents`,
          uploadOf([[`Number ${index}.`, `${index}.txt`, 'text/plain']]),
        );
      }),
    );
    expect(tally(answers)).toEqual({ 202: 10, 403: ASKING.documents - 10 });
    for (const answer of answers.filter(({ status }) => status === 403)) {
      expectProblem(answer, 403, 'quota_exceeded');
      expect(answer.body).toMatchObject({ limit: 'max_documents', used: 30, max: 30 });
    }
    expect(await rowsOf(tenant)).toMatchObject({ documents: 30 });
    // Nothing is left of the files that found no place.
    expect((await app.admin.get(`${tenant.path}/kbs/docs`)).body.document_count).toBe(30);
  }, 120_000);

  it('are given out once, however many ask: knowledge bases', async () => {
    const tenant = await tenantWith({ max_kbs: 5 });
    for (let count = 0; count < 3; count++)
      await expectStatus(201, app.admin.post(`${tenant.path}/kbs`, { name: `Before ${count}` }));
    const answers = await inParallel(ASKING.kbs, 100, index =>
      app.admin.post(`${tenant.path}/kbs`, { name: `Number ${index}` }),
    );
    expect(tally(answers)).toEqual({ 201: 1, 403: ASKING.kbs - 1 });
    expect(await rowsOf(tenant)).toMatchObject({ kbs: 5 });
  }, 240_000);

  it('are free again when something goes', async () => {
    const tenant = await tenantWith({ max_documents: 1 });
    const { body } = await expectStatus(202, addText(tenant, 'The first.'));
    expectProblem(await addText(tenant, 'The second.'), 403, 'quota_exceeded');
    await expectStatus(204, app.admin.delete(`${tenant.path}/kbs/docs/documents/${body.id}`));
    await expectStatus(202, addText(tenant, 'The second.'));
    await expectStatus(204, app.admin.delete(`${tenant.path}/kbs/docs`));
    expect(await rowsOf(tenant)).toEqual({ users: 1, kbs: 0, documents: 0, storage_bytes: 0, api_tokens: 0 });
  });

  it('of several kinds are all held', async () => {
    const tenant = await tenantWith({
      max_documents_per_kb: 2,
      max_storage_mb: 1,
      max_api_tokens: 1,
      max_upload_mb: 1,
    });
    const big = (size: number, seed: string) =>
      app.admin.post(
        `${tenant.path}/kbs/docs/documents`,
        uploadOf([[seed.repeat(size), `${seed}.txt`, 'text/plain']]),
      );
    const tooLarge = await big(1024 * 1024 + 1, 'l');
    expectProblem(tooLarge, 413, 'too_large');
    expect(tooLarge.body).toMatchObject({ limit: 'max_upload_mb', max: 1 });
    expectProblem(await addText(tenant, 'l'.repeat(1024 * 1024 + 1)), 413, 'too_large');
    await expectStatus(202, big(700 * 1024, 'a'));
    const full = await big(400 * 1024, 'b');
    expectProblem(full, 403, 'quota_exceeded');
    expect(full.body).toMatchObject({ limit: 'max_storage_mb', used: 0.684, max: 1 });
    await expectStatus(202, big(100 * 1024, 'c'));
    const third = await big(10, 'd');
    expectProblem(third, 403, 'quota_exceeded');
    expect(third.body).toMatchObject({ limit: 'max_documents_per_kb', used: 2, max: 2 });
    await expectStatus(201, app.admin.post(`${tenant.path}/kbs`, { name: 'Other' }));
    await expectStatus(
      202,
      app.admin.post(`${tenant.path}/kbs/other/documents/text`, { text: 'In another one.' }),
    );
    const { client: owner } = await app.createMember(tenant.name, 'owner');
    const token = (name: string) => owner.post(`${tenant.path}/api-tokens`, { name, scopes: ['query:run'] });
    await expectStatus(201, token('one'));
    expectProblem(await token('two'), 403, 'quota_exceeded');
    expect(await rowsOf(tenant)).toMatchObject({ documents: 3, api_tokens: 1 });
  });

  it('of one upload go to its first files', async () => {
    const tenant = await tenantWith({ max_documents: 2 });
    const { body } = await expectStatus(
      202,
      app.admin.post(
        `${tenant.path}/kbs/docs/documents`,
        uploadOf(['a', 'b', 'c'].map(name => [`File ${name}.`, `${name}.txt`, 'text/plain'])),
      ),
    );
    expect(body.items).toHaveLength(2);
    expect(body.rejected).toMatchObject([
      { file_name: 'c.txt', status: 403, code: 'quota_exceeded', limit: 'max_documents' },
    ]);
  });
});

it('a limit below what is used stops growth, and deletes nothing', async () => {
  const tenant = await tenantWith({});
  for (let count = 0; count < 3; count++) await expectStatus(202, addText(tenant, `Text ${count}.`));
  await setQuotas(tenant, { max_documents: 1, max_users: 0 });
  const { body } = await expectStatus(200, app.admin.get(`${tenant.path}/kbs/docs/documents`));
  expect(body.total).toBe(3);
  const refused = await addText(tenant, 'One more.');
  expectProblem(refused, 403, 'quota_exceeded');
  expect(refused.body).toMatchObject({ used: 3, max: 1 });
  expect((await usageOf(tenant)).usage_percentages).toMatchObject({ documents: 300, users: 100 });
  await expectStatus(204, app.admin.delete(`${tenant.path}/kbs/docs/documents/${body.items[0].id}`));
  expectProblem(await addText(tenant, 'One more.'), 403, 'quota_exceeded');
  await setQuotas(tenant, {});
  await expectStatus(202, addText(tenant, 'One more.'));
});

describe('members', () => {
  const people = (...names: string[]) =>
    names.map(name => ({ email: `${name}-${tenants}@example.com`, role: 'viewer' }));

  it('are imported where all have room', async () => {
    const tenant = await tenantWith({ max_users: 3 });
    const path = `${tenant.path}/members/bulk`;
    const refused = await app.admin.post(path, { users: people('a', 'b', 'c') });
    expectProblem(refused, 403, 'quota_exceeded');
    expect(refused.body).toMatchObject({ limit: 'max_users', used: 1, max: 3 });
    expectProblem(
      await app.admin.post(path, { users: people('a', 'b', 'c'), dry_run: true }),
      403,
      'quota_exceeded',
    );
    expect(await rowsOf(tenant)).toMatchObject({ users: 1 });
    const { body } = await expectStatus(
      200,
      app.admin.post(path, { users: people('a', 'b', 'c'), on_error: 'skip' }),
    );
    expect(body.summary).toMatchObject({ created: 2, skipped: 1 });
    expect(body.rows.map((row: any) => row.outcome).toSorted()).toEqual(['created', 'created', 'skipped']);
    expect(body.rows.at(-1).errors).toMatchObject([{ code: 'quota_exceeded' }]);
    // Those who are in already take no room.
    const again = await expectStatus(
      200,
      app.admin.post(path, { users: people('a', 'b', 'd'), on_error: 'skip' }),
    );
    expect(again.body.summary).toMatchObject({ unchanged: 2, skipped: 1 });
    expect(await rowsOf(tenant)).toMatchObject({ users: 3 });
  });

  it('are imported as a job up to the limit', async () => {
    const tenant = await tenantWith({ max_users: 700 });
    const users = Array.from({ length: 1_001 }, (_, index) => people(`row${index}`)).flat();
    const started = await expectStatus(
      202,
      app.admin.post(`${tenant.path}/members/bulk`, { users, on_error: 'skip' }),
    );
    const { result } = await app.jobEnded(`/api/v1/jobs/${started.body.job_id}`);
    expect(result.summary).toMatchObject({ created: 699, skipped: 302 });
    expect(await rowsOf(tenant)).toMatchObject({ users: 700 });
  });

  it('accept an invitation when there is room again', async () => {
    const tenant = await tenantWith({ max_users: 2 });
    const { client: owner } = await app.createMember(tenant.name, 'owner');
    const email = `guest-${tenants}@example.com`;
    await expectStatus(201, owner.post(`${tenant.path}/invitations`, { email, role: 'viewer' }));
    const token = tokenIn(await mailFolder(app.env.dataDir).waitFor(email, 1));
    const accept = () =>
      app.anonymous.post(`/invitations/${token}/accept`, { password: 'a password of some length' });
    expectProblem(await accept(), 403, 'quota_exceeded');
    expect((await app.admin.get(`/users?search=${email}`)).body.total).toBe(0);
    await setQuotas(tenant, { max_users: 3 });
    await expectStatus(200, accept());
    expect(await rowsOf(tenant)).toMatchObject({ users: 3 });
  });

  it('who leave the installation leave every tenant’s count', async () => {
    const [first, second] = [await tenantWith({}), await tenantWith({})];
    const user = await app.createUser();
    for (const tenant of [first, second]) {
      const member = { user_id: user.id, role: 'viewer' };
      await expectStatus(201, app.admin.post(`${tenant.path}/members`, member));
      expect(await rowsOf(tenant)).toMatchObject({ users: 2 });
    }
    await expectStatus(204, app.admin.delete(`/users/${user.id}`));
    for (const tenant of [first, second]) expect(await rowsOf(tenant)).toMatchObject({ users: 1 });
  });
});

describe('what goes past a limit is told', () => {
  const listenIn = ({ id }: TestTenant) => sql('UPDATE tenants SET emits_events = true WHERE id = $1', [id]);
  const toldOf = ({ id }: TestTenant) =>
    told.filter(({ tenantId }) => tenantId === id).map(({ data }) => data);

  it('once an hour for each limit', async () => {
    const tenant = await tenantWith({ max_documents: 1, max_kbs: 1 });
    await listenIn(tenant);
    await expectStatus(202, addText(tenant, 'The first.'));
    for (let count = 0; count < 5; count++)
      expectProblem(await addText(tenant, 'The second.'), 403, 'quota_exceeded');
    expectProblem(await app.admin.post(`${tenant.path}/kbs`, { name: 'Two' }), 403, 'quota_exceeded');
    await expect.poll(() => toldOf(tenant).length, { timeout: 10_000 }).toBe(2);
    expect(toldOf(tenant)).toEqual(
      expect.arrayContaining([
        { limit: 'max_documents', used: 1, max: 1, plan_tier: 'enterprise', enforced: true },
        { limit: 'max_kbs', used: 1, max: 1, plan_tier: 'enterprise', enforced: true },
      ]),
    );
    const [row] = await sql('SELECT told_at FROM tenant_counters WHERE tenant_id = $1', [tenant.id]);
    expect(Object.keys(row.told_at).toSorted()).toEqual(['max_documents', 'max_kbs']);
  });

  it('also where it is let through', async () => {
    const tenant = await tenantWith(
      { max_documents: 1, max_api_calls_per_day: 1 },
      { enforce_quotas: false },
    );
    await listenIn(tenant);
    const { client: owner } = await app.createMember(tenant.name, 'owner');
    for (let count = 0; count < 3; count++) await expectStatus(202, addText(tenant, `Text ${count}.`, owner));
    expect(await rowsOf(tenant)).toMatchObject({ documents: 3 });
    const nest = app.application.nest;
    const jobs = nest.get(BackgroundJobs, { strict: false });
    await nest
      .get(PlatformDatabase, { strict: false })
      .run(tx => jobs.enqueue(tx, { kind: 'quota-overruns', payload: null, tenantId: null }));
    await expect.poll(() => toldOf(tenant).length, { timeout: 20_000 }).toBe(2);
    expect(toldOf(tenant)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ limit: 'max_documents', max: 1, enforced: false }),
        expect.objectContaining({ limit: 'max_api_calls_per_day', max: 1, enforced: false }),
      ]),
    );
  });
});

it('a tenant that is deleted takes its counters along', async () => {
  const tenant = await tenantWith({ max_documents: 5 });
  for (let count = 0; count < 3; count++) await expectStatus(202, addText(tenant, `Text ${count}.`));
  const deleted = await expectStatus(204, app.admin.delete(tenant.path));
  const job = await app.jobEnded(deleted.headers.get('location') as string);
  expect(job.status).toBe('succeeded');
  expect(await sql('SELECT FROM tenant_counters WHERE tenant_id = $1', [tenant.id])).toEqual([]);
});

it('members who leave while documents are made readable to them leave no count behind', async () => {
  const tenant = await tenantWith({ max_documents: 1_000, max_users: 1_000 });
  const members = await Promise.all(Array.from({ length: 6 }, () => app.createMember(tenant.name, 'viewer')));
  const answers = await Promise.all(
    members.flatMap(({ id }, index) => [
      ...Array.from({ length: 4 }, (_, round) =>
        app.admin.post(`${tenant.path}/kbs/docs/documents/text`, {
          text: `For ${index}, ${round}.`,
          acl: { members: [id], groups: [] },
        }),
      ),
      app.admin.delete(`${tenant.path}/members/${id}`),
    ]),
  );
  expect(Object.keys(tally(answers)).filter(status => !['202', '204', '422'].includes(status))).toEqual([]);
  await rowsOf(tenant);
});
