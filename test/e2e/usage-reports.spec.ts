import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { UsageJobs } from '../../src/core/usage/usage-jobs.service.js';
import type { UsageEvent } from '../../src/core/usage/usage-event.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';
import { usageOf } from '../setup/usage-events.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const GONE = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';

let app: TestApplication;
let globex: { id: string };
let owner: { id: string; email: string; client: Client };
let editor: { id: string; email: string; client: Client };

/** Records what has been used in the past; `ago` is in hours, from the middle of the current one. */
async function used(
  tenantId: string,
  ...events: Array<Partial<UsageEvent> & { ago: number }>
): Promise<void> {
  const middle = Math.floor(Date.now() / HOUR) * HOUR + HOUR / 2;
  for (const { ago, ...event } of events) {
    usageOf(app).record({
      tenantId,
      operation: 'search',
      durationMs: 10,
      outcome: 'success',
      status: event.operation === 'document.ingest' ? null : 200,
      time: new Date(middle - ago * HOUR),
      ...event,
    });
  }
  await usageOf(app).flush();
}

const get = async (client: Client, path: string) => (await expectStatus(200, client.get(path))).body;

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('acme');
  globex = await app.createTenant('globex');
  owner = await app.createMember('acme', 'owner');
  editor = await app.createMember('acme', 'editor');
});
afterAll(() => app?.close());

describe('metrics of a tenant', () => {
  let quiet: { id: string };
  beforeAll(async () => {
    quiet = await app.createTenant('quiet');
    const [a, b, c] = [owner.id, editor.id, GONE];
    await used(
      quiet.id,
      // The last seven days: five queries, one of which failed; 8 calls; two users. The ninth is a job.
      { ago: 1, userId: a, durationMs: 100, inputTokens: 50, outputTokens: 5, embeddingTokens: 2 },
      { ago: 30, userId: a, durationMs: 200, credits: 7 },
      { ago: 31, userId: b, durationMs: 300, operation: 'query' },
      { ago: 100, userId: b, durationMs: 400, operation: 'query', outcome: 'failure', status: 503 },
      { ago: 167, userId: a, durationMs: 1000, operation: 'query' },
      { ago: 1, userId: a, durationMs: 9_000, operation: 'document.create' },
      { ago: 60, userId: c, durationMs: 9_000, operation: 'api', byPlatform: true },
      { ago: 61, userId: c, tokenId: GONE, tokenKind: 'live', durationMs: 9_000, operation: 'api' },
      { ago: 61, userId: c, operation: 'document.ingest', durationMs: 60_000, embeddingTokens: 1000 },
      // The seven days before: four queries, five calls, three users.
      { ago: 168, userId: a },
      { ago: 200, userId: b },
      { ago: 300, userId: c },
      { ago: 335, userId: c, operation: 'query' },
      { ago: 335, userId: c, operation: 'api', credits: 14 },
      // Before that.
      { ago: 336, userId: GONE },
    );
  });

  it('are what one counts by hand, with their trends', async () => {
    const body = await get(app.admin, '/tenants/quiet/metrics?period=7d');
    const { p95_duration_ms: p95, ...metrics } = body.metrics;
    expect(body.period).toBe('7d');
    expect(new Date(body.to).getTime() - new Date(body.from).getTime()).toBeGreaterThan(167 * HOUR);
    // The test’s own requests of this hour come on top of what is asked for by name.
    expect(metrics).toMatchObject({
      queries: 5,
      successful_queries: 4,
      failed_queries: 1,
      average_duration_ms: 400,
      total_compute_time_ms: 2000,
      failed_api_calls: 1,
      storage_used_mb: 0,
      documents: 0,
      input_tokens: 50,
      output_tokens: 5,
      embedding_tokens: 1002,
      credits: 7,
    });
    expect(Math.abs(p95 - 1000)).toBeLessThan(50);
    expect(body.trends).toMatchObject({
      queries_change_pct: 25,
      credits_change_pct: -50,
      storage_change_pct: null,
      members_change_pct: null,
    });
  });

  it('count as active whoever came themselves, and no API token', async () => {
    const now = await usageOf(app).totals(quiet.id, new Date(Date.now() - 7 * DAY), null);
    const { metrics, trends } = await get(app.admin, '/tenants/quiet/metrics?period=7d');
    // Ada and Ben, and the admin who is asking.
    expect(metrics.active_users).toBe(3);
    expect(trends.users_change_pct).toBe(0);
    expect(metrics.api_calls).toBeGreaterThanOrEqual(now.apiCalls - 1);
  });

  it('know nothing of a period in which there was nothing', async () => {
    const empty = await app.createTenant('empty');
    expect(empty.id).toBeTruthy();
    const { metrics, trends } = await get(app.admin, '/tenants/empty/metrics?period=90d');
    expect(metrics).toMatchObject({ queries: 0, average_duration_ms: null, p95_duration_ms: null });
    expect(new Set(Object.values(trends))).toEqual(new Set([null]));
  });

  it('have levels of storage and members to compare with, from the day before', async () => {
    await app.createTenant('grown');
    await app.createMember('grown', 'viewer');
    await app.addText('grown', 'x'.repeat(1000));
    const jobs = app.application.nest.get(UsageJobs, { strict: false });
    await jobs.writeLevels();
    await jobs.writeLevels();
    const database = app.application.nest.get(PlatformDatabase, { strict: false });
    const now = await get(app.admin, '/tenants/grown/metrics?period=24h');
    await database.run(tx =>
      tx.query(
        `INSERT INTO usage_levels SELECT tenant_id, day - 2, 1, kbs, documents, storage_bytes / 2 FROM usage_levels
         WHERE tenant_id = (SELECT id FROM tenants WHERE name = 'grown')`,
      ),
    );
    const { trends } = await get(app.admin, '/tenants/grown/metrics?period=24h');
    expect(trends).toMatchObject({
      storage_change_pct: 100,
      documents_change_pct: 0,
      members_change_pct: (now.metrics.members - 1) * 100,
    });
  });
});

describe('usage of a tenant, taken apart', () => {
  let busy: { id: string; kbId: string };
  let token: string;
  let hidden: string;
  const groups = ['kb', 'member', 'token', 'model', 'operation', 'day', 'hour'];

  beforeAll(async () => {
    busy = await app.createTenant('busy');
    await expectStatus(201, app.admin.post('/tenants/busy/members', { user_id: owner.id, role: 'owner' }));
    const { body } = await expectStatus(
      201,
      owner.client.post('/tenants/busy/api-tokens', { name: '=HYPERLINK("x")', scopes: ['query:run'] }),
    );
    token = body.id;
    const closed = { name: 'Salaries', visibility: 'granted' };
    hidden = (await expectStatus(201, app.admin.post('/tenants/busy/kbs', closed))).body.id;
    await used(
      busy.id,
      { ago: 2, kbId: busy.kbId, userId: owner.id, model: 'small', embeddingTokens: 10, credits: 3 },
      { ago: 2, kbId: busy.kbId, userId: owner.id, tokenId: token, model: 'large', inputTokens: 70 },
      { ago: 30, kbId: hidden, userId: owner.id, model: 'large', operation: 'query', outputTokens: 9 },
      { ago: 31, kbId: GONE, userId: GONE, model: 'large', outcome: 'failure', status: 500 },
      { ago: 500, kbId: busy.kbId, operation: 'document.ingest', embeddingTokens: 4_000 },
      { ago: 80 * 24, userId: editor.id, operation: 'api', credits: 1 },
      { ago: 91 * 24, operation: 'api', credits: 1_000_000 },
    );
  });

  it.each(groups)('by %s adds up to the whole', async group => {
    const body = await get(app.admin, `/tenants/busy/usage?group_by=${group}&period=90d&page_size=100`);
    expect(body.items.length).toBe(body.total);
    for (const field of Object.keys(body.totals)) {
      const sum = body.items.reduce((total: number, item: any) => total + item[field], 0);
      expect([field, sum]).toEqual([field, body.totals[field]]);
    }
    expect(body.totals).toMatchObject({ jobs: 1, embedding_tokens: 4_010, credits: 4, failed_queries: 1 });
  });

  it('names knowledge bases, members and tokens, and what is gone by its id', async () => {
    const names = async (group: string, client = app.admin) => {
      const { items } = await get(client, `/tenants/busy/usage?group_by=${group}&period=90d`);
      return new Map(items.map((item: any) => [item.key, item.name]));
    };
    const kbs = await names('kb');
    expect([kbs.get(busy.kbId), kbs.get(hidden), kbs.get(GONE)]).toEqual(['Docs', 'Salaries', null]);
    const members = await names('member');
    expect([members.get(owner.id), members.get(GONE)]).toEqual([owner.email, null]);
    // She never was a member of this tenant: who she is, is none of its business.
    expect(members.get(editor.id)).toBeNull();
    expect((await names('token')).get(token)).toBe('=HYPERLINK("x")');
  });

  it('does not name a closed knowledge base to whoever may read usage, and not the knowledge base', async () => {
    const role = { name: 'controller', permissions: ['tenant:read', 'tenant:read_usage'] };
    await expectStatus(201, app.admin.post('/tenants/busy/roles', role));
    const controller = await app.createMember('busy', 'controller');
    const { items } = await get(controller.client, '/tenants/busy/usage?group_by=kb&period=90d');
    const named = new Map(items.map((item: any) => [item.key, item.name]));
    expect([named.get(busy.kbId), named.has(hidden), named.get(hidden)]).toEqual(['Docs', true, null]);
  });

  it('pages and sorts', async () => {
    const page = (number: number) =>
      get(app.admin, `/tenants/busy/usage?group_by=model&period=90d&sort=-tokens&page=${number}&page_size=1`);
    const [first, second, beyond] = [await page(1), await page(2), await page(9)];
    expect(first.items[0]).toMatchObject({ key: null, embedding_tokens: 4_000 });
    expect(second.items[0]).toMatchObject({ key: 'large', calls: 3 });
    expect(beyond).toMatchObject({ items: [], total: 3, page: 9, totals: { credits: 4, jobs: 1 } });
    const { items } = await get(app.admin, '/tenants/busy/usage?group_by=day&period=90d');
    const days = items.map(({ key }: any) => key);
    expect(days).toEqual(days.toSorted());
  });

  it('takes days and moments', async () => {
    const day = new Date(Date.now() - 30 * HOUR - HOUR / 2).toISOString().slice(0, 10);
    const body = await get(app.admin, `/tenants/busy/usage?group_by=hour&from=${day}&until=${day}`);
    expect(body).toMatchObject({ from: `${day}T00:00:00.000Z` });
    expect(new Date(body.until).getTime() - new Date(body.from).getTime()).toBe(DAY);
    const moment = encodeURIComponent(new Date(Date.now() - 2 * HOUR).toISOString());
    const recent = await get(app.admin, `/tenants/busy/usage?group_by=model&from=${moment}`);
    expect(recent.items.filter(({ key }: any) => key).map(({ key }: any) => key)).toEqual(
      expect.arrayContaining(['small', 'large']),
    );
    expect(recent.totals.embedding_tokens).toBe(10);
  });

  it.each([
    'group_by=colour',
    'period=1y',
    'period=7d&from=2026-01-01',
    'until=2026-01-01',
    'from=2026-01-02&until=2026-01-01',
    'from=2020-01-01&until=2026-01-01',
    'from=yesterday',
    'from=0001-01-01&until=0001-01-02',
    'sort=name;DROP',
    'format=xml',
    'page_size=101',
    'unknown=1',
  ])('refuses %s', async query => {
    expectProblem(await app.admin.get(`/tenants/busy/usage?${query}`), 422, 'validation_failed');
  });

  it('exports all groups as CSV that no spreadsheet runs', async () => {
    const response = await fetch(
      `${app.admin.url}/api/v1/tenants/busy/usage?group_by=token&period=90d&format=csv&page_size=1`,
      { headers: { authorization: `Bearer ${app.admin.token}` } },
    );
    expect(response.headers.get('content-type')).toBe('text/csv; charset=utf-8');
    expect(response.headers.get('content-disposition')).toMatch(/filename="usage-busy-by-token-[\d-]+\.csv"/);
    const bytes = Buffer.from(await response.arrayBuffer());
    expect([...bytes.subarray(0, 3)]).toEqual([0xef, 0xbb, 0xbf]);
    const lines = bytes.subarray(3).toString().trim().split('\n');
    expect(lines[0]).toMatch(/^token,name,calls,failures,/);
    expect(lines).toHaveLength(3);
    expect(lines.find(line => line.startsWith(token))).toContain(`,"'=HYPERLINK(""x"")",1,0,`);
  });

  it('is for those who may read it', async () => {
    const viewer = await app.createMember('busy', 'viewer');
    const stranger = await app.createUser();
    for (const path of ['usage', 'metrics']) {
      expectProblem(await viewer.client.get(`/tenants/busy/${path}`), 403, 'forbidden');
      expectProblem(await stranger.client.get(`/tenants/busy/${path}`), 404, 'not_found');
    }
    expectProblem(await owner.client.get('/analytics/tenants'), 403, 'forbidden');
  });

  it('holds nothing of another tenant', async () => {
    await used(globex.id, { ago: 1, kbId: GONE, model: 'of globex', userId: GONE, credits: 5 });
    for (const group of groups) {
      const { items } = await get(app.admin, `/tenants/acme/usage?group_by=${group}&period=90d`);
      expect(JSON.stringify(items)).not.toContain('of globex');
      expect(JSON.stringify(items)).not.toContain(GONE);
    }
    const { totals } = await get(app.admin, '/tenants/globex/usage?group_by=model&period=24h');
    expect(totals.credits).toBe(5);
  });
});

describe('tenants side by side', () => {
  beforeAll(async () => {
    const large = await app.createTenant('large');
    const small = await app.createTenant('small');
    const many = Array.from({ length: 30 }, (_, i) => ({ ago: i, inputTokens: 100, credits: 1_000_000_000 }));
    await used(large.id, ...many, { ago: 8 * 24, credits: 15_000_000_000 });
    await used(small.id, { ago: 3, credits: 500_000_000 }, { ago: 8 * 24, credits: 1_000_000_000 });
  });

  it('shows who used how much of it all, and how that has changed', async () => {
    const { items, totals, total } = await get(app.admin, '/analytics/tenants?metric=credits&period=7d');
    expect(total).toBe(totals.tenants);
    const sum = items.reduce((all: number, { value }: any) => all + value, 0);
    expect(totals.value).toBe(sum);
    expect(items.slice(0, 2)).toMatchObject([
      { name: 'large', value: 30e9, share_pct: Math.round((30e9 / sum) * 1000) / 10, change_pct: 100 },
      { name: 'small', value: 5e8, change_pct: -50 },
    ]);
    expect(items.filter(({ value }: any) => value === 0)[0]).toMatchObject({ change_pct: null });
  });

  it.each([
    'queries',
    'failed_queries',
    'api_calls',
    'failures',
    'tokens',
    'compute_time_ms',
    'active_users',
    'users',
    'kbs',
    'documents',
    'storage_mb',
  ])('by %s agrees with what the tenant itself is told', async metric => {
    const { items } = await get(app.admin, `/analytics/tenants?metric=${metric}&period=30d&search=quiet`);
    const { metrics } = await get(app.admin, '/tenants/quiet/metrics?period=30d');
    const own: Record<string, number> = {
      queries: metrics.queries,
      failed_queries: metrics.failed_queries,
      api_calls: metrics.api_calls,
      failures: metrics.failed_api_calls,
      tokens: metrics.input_tokens + metrics.output_tokens + metrics.embedding_tokens,
      active_users: metrics.active_users,
      users: metrics.members,
      documents: metrics.documents,
      storage_mb: metrics.storage_used_mb,
      kbs: 1,
    };
    expect(items).toHaveLength(1);
    if (metric === 'compute_time_ms') expect(items[0].value).toBeGreaterThan(60_000);
    // The requests of this test are counted a second later at the latest.
    else expect(Math.abs(items[0].value - (own[metric] as number))).toBeLessThanOrEqual(15);
  });

  it('pages, sorts, searches and exports', async () => {
    const { items, total } = await get(
      app.admin,
      '/analytics/tenants?metric=credits&period=7d&sort=name&search=l&page=1&page_size=2',
    );
    expect(items.map(({ name }: any) => name)).toEqual(['globex', 'large']);
    expect(total).toBeGreaterThanOrEqual(3);
    const { body } = await expectStatus(200, app.admin.get('/analytics/tenants?metric=credits&format=csv'));
    const lines = String(body).trim().split('\n');
    expect(lines[0]).toContain('tenant_id,name,display_name,plan_tier,status,credits,share_pct,change_pct');
    expect(lines[1]).toContain(',large,');
    expectProblem(await app.admin.get('/analytics/tenants?metric=colour'), 422, 'validation_failed');
  });
});

describe('the day before, told to whoever listens', () => {
  const stored = () =>
    app.application.nest
      .get(PlatformDatabase, { strict: false })
      .run((tx): Promise<any[]> =>
        tx.query(`SELECT tenant_id, data FROM events WHERE type = 'usage.rollup' ORDER BY id`),
      );

  it('is told once, also of the days that were missed', async () => {
    // Where nobody works on jobs, what is told stays in the outbox.
    await app.close();
    app = await startTestApplication({}, { http: true, jobs: false });
    const listens = await app.createTenant('listens');
    const quiet = await app.createTenant('quiet');
    await app.application.nest
      .get(PlatformDatabase, { strict: false })
      .run(tx =>
        tx.query('UPDATE tenants SET emits_events = true, created_at = $2 WHERE id = $1', [
          listens.id,
          new Date('2026-01-01'),
        ]),
      );
    const at = (text: string) => new Date(`2026-03-${text}Z`);
    usageOf(app).record({
      tenantId: listens.id,
      operation: 'search',
      userId: GONE,
      durationMs: 1,
      outcome: 'failure',
      status: 500,
      credits: 12,
      time: at('09T23:59:59.900'),
    });
    await usageOf(app).flush();
    const jobs = app.application.nest.get(UsageJobs, { strict: false });
    expect(await jobs.announce(at('10T00:04:00'))).toBe(1);
    expect(await jobs.announce(at('10T00:06:00'))).toBe(1);
    expect(await jobs.announce(at('10T23:00:00'))).toBe(0);
    expect(await jobs.announce(at('13T12:00:00'))).toBe(3);
    const told = await stored();
    expect(told.map(({ data }) => data.day)).toEqual([
      '2026-03-08',
      '2026-03-09',
      '2026-03-10',
      '2026-03-11',
      '2026-03-12',
    ]);
    expect(told[1]).toMatchObject({
      tenant_id: listens.id,
      data: { api_calls: 1, queries: 1, failed_queries: 1, active_users: 1, credits: 12, jobs: 0 },
    });
    expect(told[2].data).toMatchObject({ api_calls: 0, credits: 0 });
    expect(told.some(({ tenant_id: id }) => id === quiet.id)).toBe(false);
  });
});
