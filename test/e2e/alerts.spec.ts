import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Application } from '../../src/application.js';
import { EventsService } from '../../src/core/events/events.service.js';
import { UsageService } from '../../src/core/usage/usage.service.js';
import { AlertEvaluationService } from '../../src/features/notifications/alert-evaluation.service.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { mailFolder } from '../setup/mail-folder.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

/** A tenant of one test, with people. */
interface Watched {
  id: string;
  name: string;
  alerts: string;
  owner: { id: string; email: string; client: Client };
}

let app: TestApplication;
const happened: Array<{ tenantId: string; type: string; data: any }> = [];
let tenants = 0;

beforeAll(async () => {
  app = await startTestApplication({ ACCESS_TOKEN_TTL_SECONDS: '86400' });
  app.application.nest.get(EventsService, { strict: false }).listen((_tx, events) => {
    happened.push(...events);
    return Promise.resolve();
  });
});
afterAll(() => app?.close());

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] });
  // In the middle of an hour, so that a few minutes more do not begin another.
  const now = new Date();
  now.setUTCMinutes(30, 0, 0);
  vi.setSystemTime(now);
  return () => vi.useRealTimers();
});

const superuser = (statement: string, values: unknown[] = []): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement, values)).rows,
  );

async function watched(quotas: Record<string, number | null> = { max_users: 10 }): Promise<Watched> {
  const name = `watched-${++tenants}`;
  const { body } = await expectStatus(
    201,
    app.admin.post('/tenants', { name, display_name: `Watched ${tenants}` }),
  );
  await superuser(
    `UPDATE tenants SET quotas = $2, plan_tier = 'enterprise', emits_events = true WHERE id = $1`,
    [body.id, quotas],
  );
  const owner = await app.createMember(name, 'owner');
  // Whoever makes a tenant is its first owner.
  const maker = (await app.admin.get('/auth/me')).body.id;
  await expectStatus(204, owner.client.delete(`/tenants/${name}/members/${maker}`));
  return { id: body.id, name, alerts: `/tenants/${name}/alerts`, owner };
}

/** As if there were as many. */
const count = (tenant: Watched, column: string, value: number) =>
  superuser(`UPDATE tenant_counters SET ${column} = $2 WHERE tenant_id = $1`, [tenant.id, value]);

const evaluate = (application: Application = app.application) =>
  application.nest.get(AlertEvaluationService, { strict: false }).evaluateAll(new AbortController().signal);

const pass = (seconds: number) => vi.setSystemTime(Date.now() + seconds * 1000);

const ALERT = {
  metric: 'users',
  threshold: 90,
  threshold_type: 'percentage_of_quota',
  actions: ['webhook'],
  cooldown_seconds: 0,
};
const make = async (tenant: Watched, fields: object = {}) =>
  (await expectStatus(201, tenant.owner.client.post(tenant.alerts, { ...ALERT, ...fields }))).body;
const read = async (tenant: Watched, id: string) =>
  (await expectStatus(200, tenant.owner.client.get(`${tenant.alerts}/${id}`))).body;
const kinds = async (tenant: Watched, id: string): Promise<string[]> =>
  (await expectStatus(200, tenant.owner.client.get(`${tenant.alerts}/${id}/events`))).body.items
    .map(({ kind, told }: any) => `${kind}${told ? '' : ' (untold)'}`)
    .toReversed();
/** Which events of alerts have left the outbox, in their order. */
const told = async (tenant: Watched): Promise<string[]> => {
  for (let waited = 0; waited < 10_000; waited += 50) {
    const [{ waiting }] = await superuser(
      'SELECT count(*)::int AS waiting FROM events WHERE tenant_id = $1',
      [tenant.id],
    );
    if (waiting === 0) break;
    await sleep(50);
  }
  return happened
    .filter(({ tenantId, type }) => tenantId === tenant.id && /^alert\.(fired|recovered)$/.test(type))
    .map(({ type }) => type);
};
/** Every e-mail to people of a tenant that is about an alert, once all have been sent. */
const mails = async (
  tenant: Watched,
): Promise<Array<{ to: string; subject: string; text: string; html: string }>> => {
  for (let waited = 0; waited < 15_000; waited += 50) {
    const [{ open }] = await superuser(
      `SELECT count(*)::int AS open FROM jobs WHERE tenant_id = $1 AND status IN ('queued', 'running')`,
      [tenant.id],
    );
    if (open === 0) break;
    await sleep(50);
  }
  const [{ display_name: displayName }] = await superuser('SELECT display_name FROM tenants WHERE id = $1', [
    tenant.id,
  ]);
  return (await mailFolder(app.env.dataDir).messages())
    .filter(({ subject }) => subject?.startsWith(`${displayName}: `))
    .map(({ recipients, subject, text, html }) => ({
      to: recipients.join(),
      subject: subject as string,
      text: text as string,
      html: html as string,
    }));
};
const throttle = async (tenant: Watched): Promise<number | null> =>
  (await superuser('SELECT throttled_to FROM tenants WHERE id = $1', [tenant.id]))[0].throttled_to;

describe('an alert', () => {
  it('fires once and recovers once', async () => {
    const tenant = await watched();
    const { id } = await make(tenant, { name: 'Almost full' });
    await evaluate();
    expect(await read(tenant, id)).toMatchObject({ state: 'ok', last_value: 1, limit: 10, fired_at: null });

    await count(tenant, 'users', 9);
    const firedAt = new Date().toISOString();
    for (let i = 0; i < 3; i++) await evaluate();
    expect(await read(tenant, id)).toMatchObject({
      state: 'firing',
      last_value: 9,
      limit: 10,
      fired_at: firedAt,
      recovered_at: null,
    });
    await count(tenant, 'users', 10);
    pass(60);
    await evaluate();
    expect(await kinds(tenant, id)).toEqual(['fired']);
    expect((await read(tenant, id)).last_value).toBe(10);

    await count(tenant, 'users', 8);
    pass(60);
    const recoveredAt = new Date().toISOString();
    for (let i = 0; i < 3; i++) await evaluate();
    expect(await read(tenant, id)).toMatchObject({
      state: 'ok',
      fired_at: firedAt,
      recovered_at: recoveredAt,
    });
    expect(await kinds(tenant, id)).toEqual(['fired', 'recovered']);
    expect(await told(tenant)).toEqual(['alert.fired', 'alert.recovered']);
    expect(
      happened.find(({ tenantId, type }) => tenantId === tenant.id && type === 'alert.fired')?.data,
    ).toEqual({
      alert_id: id,
      name: 'Almost full',
      metric: 'users',
      threshold: 90,
      threshold_type: 'percentage_of_quota',
      value: 9,
      limit: 10,
    });
    const events = await tenant.owner.client.get(`${tenant.alerts}/${id}/events?page_size=1`);
    expect(events.body).toMatchObject({
      total: 2,
      items: [
        { alert_id: id, kind: 'recovered', value: 8, threshold: 90, limit: 10, created_at: recoveredAt },
      ],
    });
    const { body: audit } = await tenant.owner.client.get(
      `/tenants/${tenant.name}/audit?action=alert.state_changed&page_size=50`,
    );
    expect(audit.items.map(({ actor, details }: any) => [actor.type, details.state])).toEqual([
      ['system', 'ok'],
      ['system', 'firing'],
    ]);
  });

  it('is told again only when its cooldown is over', async () => {
    const tenant = await watched();
    const { id } = await make(tenant, { actions: ['webhook', 'email_admins'], cooldown_seconds: 600 });
    const swing = async (users: number, seconds: number) => {
      pass(seconds);
      await count(tenant, 'users', users);
      await evaluate();
    };
    await swing(9, 0);
    await swing(1, 60);
    // Within the cooldown: tracked, not told.
    await swing(9, 60);
    expect((await read(tenant, id)).state).toBe('firing');
    await swing(1, 60);
    expect(await kinds(tenant, id)).toEqual(['fired', 'recovered', 'fired (untold)', 'recovered (untold)']);
    expect(await told(tenant)).toEqual(['alert.fired', 'alert.recovered']);
    // One that lasts until it is over is told then.
    await swing(9, 60);
    await swing(9, 300);
    expect(await told(tenant)).toHaveLength(2);
    await swing(9, 60);
    await swing(9, 60);
    expect(await told(tenant)).toEqual(['alert.fired', 'alert.recovered', 'alert.fired']);
    expect((await kinds(tenant, id)).at(-1)).toBe('fired');
    await swing(1, 60);
    expect(await told(tenant)).toHaveLength(4);
    expect(await mails(tenant)).toHaveLength(4);
  });

  it('writes to admins or to all active members, with the tenant’s face', async () => {
    const tenant = await watched();
    await expectStatus(
      200,
      tenant.owner.client.patch(`/tenants/${tenant.name}`, {
        branding: { company_name: 'Widgets & Co', primary_color: '#123456' },
      }),
    );
    const admin = await app.createMember(tenant.name, 'admin');
    const viewer = await app.createMember(tenant.name, 'viewer');
    const away = await app.createMember(tenant.name, 'admin');
    await expectStatus(
      200,
      tenant.owner.client.patch(`/tenants/${tenant.name}/members/${away.id}`, { status: 'suspended' }),
    );
    await make(tenant, { name: 'For <admins>', actions: ['email_admins'] });
    await make(tenant, {
      metric: 'kbs',
      threshold: 3,
      threshold_type: 'absolute',
      actions: ['email_members', 'email_admins'],
    });
    await count(tenant, 'users', 9);
    await evaluate();
    await evaluate();
    const first = await mails(tenant);
    expect(first.map(({ to }) => to).toSorted()).toEqual([tenant.owner.email, admin.email].toSorted());
    const [mail] = first;
    expect(mail?.subject).toMatch(/: Members reached 90 % of the limit$/);
    expect(mail?.text).toContain('now it is 9 of 10.');
    expect(mail?.text).toContain('“For <admins>”');
    expect(mail?.text).toContain('Widgets & Co');
    expect(mail?.html).toContain('#123456');
    expect(mail?.html).toContain('For &lt;admins&gt;');

    await count(tenant, 'kbs', 3);
    await evaluate();
    const second = (await mails(tenant)).filter(({ subject }) =>
      subject.includes('Knowledge bases reached 3'),
    );
    expect(second.map(({ to }) => to).toSorted()).toEqual(
      [tenant.owner.email, admin.email, viewer.email].toSorted(),
    );
  });

  it('says nothing to webhooks, or by mail, where it was not asked to', async () => {
    const tenant = await watched();
    const { id } = await make(tenant, { actions: ['throttle'], throttle_to_per_minute: 100_000 });
    await count(tenant, 'users', 9);
    await evaluate();
    expect((await read(tenant, id)).state).toBe('firing');
    expect(await told(tenant)).toEqual([]);
    expect(await mails(tenant)).toEqual([]);
  });

  it('slows the tenant down while it fires; of several the strictest counts', async () => {
    const tenant = await watched({ max_users: 10, max_kbs: 10 });
    const users = await make(tenant, { actions: ['throttle'], throttle_to_per_minute: 300_000 });
    const kbs = await make(tenant, { metric: 'kbs', actions: ['throttle'], throttle_to_per_minute: 200_000 });
    await count(tenant, 'users', 9);
    await evaluate();
    expect(await throttle(tenant)).toBe(300_000);
    await count(tenant, 'kbs', 9);
    await evaluate();
    expect(await throttle(tenant)).toBe(200_000);
    await count(tenant, 'kbs', 0);
    await evaluate();
    expect(await throttle(tenant)).toBe(300_000);
    // Changed while it fires.
    const path = `${tenant.alerts}/${users.id}`;
    await expectStatus(200, tenant.owner.client.patch(path, { throttle_to_per_minute: 400_000 }));
    expect(await throttle(tenant)).toBe(400_000);
    await count(tenant, 'kbs', 9);
    await evaluate();
    expect(await throttle(tenant)).toBe(200_000);
    // Deleted while it fires.
    await expectStatus(204, tenant.owner.client.delete(`${tenant.alerts}/${kbs.id}`));
    expect(await throttle(tenant)).toBe(400_000);
    // Switched off while it fires.
    const off = await expectStatus(200, tenant.owner.client.patch(path, { is_active: false }));
    expect(off.body).toMatchObject({ is_active: false, state: 'ok' });
    expect(await throttle(tenant)).toBe(null);
    await evaluate();
    expect((await read(tenant, users.id)).state).toBe('ok');
    await expectStatus(200, tenant.owner.client.patch(path, { is_active: true }));
    await evaluate();
    expect(await throttle(tenant)).toBe(400_000);
    // Without the action.
    await expectStatus(200, tenant.owner.client.patch(path, { action: 'webhook' }));
    expect(await throttle(tenant)).toBe(null);
    expect((await read(tenant, users.id)).state).toBe('firing');
  });

  it('refuses what comes too fast while it fires, and nothing more when it has recovered', async () => {
    const tenant = await watched();
    await make(tenant, { actions: ['throttle'], throttle_to_per_minute: 5 });
    await count(tenant, 'users', 9);
    await evaluate();
    const status = async () => (await tenant.owner.client.get(tenant.alerts)).status;
    await expect.poll(status, { timeout: 5_000, interval: 20 }).toBe(429);
    await count(tenant, 'users', 1);
    await evaluate();
    await expect.poll(status, { timeout: 5_000, interval: 20 }).toBe(200);
    for (let i = 0; i < 20; i++) expect(await status()).toBe(200);
  });

  it('begins anew when its condition changes', async () => {
    const tenant = await watched();
    const { id } = await make(tenant, { cooldown_seconds: 600 });
    await count(tenant, 'users', 9);
    await evaluate();
    const path = `${tenant.alerts}/${id}`;
    const renamed = await expectStatus(200, tenant.owner.client.patch(path, { name: 'Renamed' }));
    expect(renamed.body.state).toBe('firing');
    const changed = await expectStatus(200, tenant.owner.client.patch(path, { threshold: 80 }));
    expect(changed.body).toMatchObject({ state: 'ok', last_value: null });
    await evaluate();
    expect(await told(tenant)).toEqual(['alert.fired', 'alert.fired']);
  });

  it('rests when its limit is taken away', async () => {
    const tenant = await watched();
    const { id } = await make(tenant);
    await count(tenant, 'users', 9);
    await evaluate();
    await superuser(`UPDATE tenants SET quotas = '{}' WHERE id = $1`, [tenant.id]);
    await evaluate();
    expect(await read(tenant, id)).toMatchObject({ state: 'ok', last_value: 9, limit: null });
    expect(await kinds(tenant, id)).toEqual(['fired', 'recovered']);
    // What it says otherwise can be changed all the same.
    await expectStatus(200, tenant.owner.client.patch(`${tenant.alerts}/${id}`, { name: 'Resting' }));
  });

  it('leaves other tenants alone', async () => {
    const [tenant, neighbour] = [await watched(), await watched()];
    const mine = await make(tenant, { actions: ['throttle', 'webhook'], throttle_to_per_minute: 50_000 });
    const theirs = await make(neighbour, {
      actions: ['throttle', 'webhook'],
      throttle_to_per_minute: 50_000,
    });
    await count(tenant, 'users', 9);
    await evaluate();
    expect((await read(tenant, mine.id)).state).toBe('firing');
    expect(await read(neighbour, theirs.id)).toMatchObject({ state: 'ok', last_value: 1 });
    expect(await throttle(neighbour)).toBe(null);
    expect(await told(neighbour)).toEqual([]);
    for (const path of [theirs.id, `${theirs.id}/events`])
      expectProblem(await tenant.owner.client.get(`${tenant.alerts}/${path}`), 404, 'not_found');
    expectProblem(await tenant.owner.client.delete(`${tenant.alerts}/${theirs.id}`), 404, 'not_found');
    expectProblem(await tenant.owner.client.get(neighbour.alerts), 404, 'not_found');
  });

  it('of a suspended tenant waits', async () => {
    const tenant = await watched();
    const { id } = await make(tenant);
    await count(tenant, 'users', 9);
    await expectStatus(200, app.admin.post(`/tenants/${tenant.name}/suspend`));
    await evaluate();
    await expectStatus(200, app.admin.post(`/tenants/${tenant.name}/activate`));
    expect((await read(tenant, id)).state).toBe('ok');
    await evaluate();
    expect((await read(tenant, id)).state).toBe('firing');
  });

  it('that cannot be evaluated does not keep others from it', async () => {
    const [broken, whole] = [await watched(), await watched()];
    const alerts = [await make(broken), await make(whole)];
    await count(broken, 'users', 9);
    await count(whole, 'users', 9);
    const [stored] = await superuser('DELETE FROM tenant_counters WHERE tenant_id = $1 RETURNING *', [
      broken.id,
    ]);
    await evaluate();
    expect((await read(whole, alerts[1].id)).state).toBe('firing');
    await superuser(
      'INSERT INTO tenant_counters SELECT * FROM jsonb_populate_record(NULL::tenant_counters, $1)',
      [stored],
    );
    await evaluate();
    expect((await read(broken, alerts[0].id)).state).toBe('firing');
  });

  it.each([['one process', false] as const, ...(SERVER ? [['two processes', true] as const] : [])])(
    'fires once, whoever evaluates it at once: %s',
    async (_, two) => {
      const tenant = await watched();
      const { id } = await make(tenant, { actions: ['webhook', 'email_admins'] });
      await count(tenant, 'users', 9);
      const others = two ? [await app.startAnother({ http: true, jobs: false })] : [app.application];
      await Promise.all([app.application, ...others, app.application, ...others].map(one => evaluate(one)));
      expect(await kinds(tenant, id)).toEqual(['fired']);
      expect(await told(tenant)).toEqual(['alert.fired']);
      expect(await mails(tenant)).toHaveLength(1);
      await count(tenant, 'users', 1);
      await Promise.all([app.application, ...others, app.application, ...others].map(one => evaluate(one)));
      expect(await kinds(tenant, id)).toEqual(['fired', 'recovered']);
      expect(await mails(tenant)).toHaveLength(2);
    },
  );

  it('is evaluated every minute', async () => {
    const [row] = await superuser(
      `SELECT extract(epoch FROM next_at - now()) AS seconds FROM job_schedules WHERE kind = 'alerts.evaluate'`,
    );
    expect(Number(row.seconds)).toBeGreaterThan(-15);
    expect(Number(row.seconds)).toBeLessThanOrEqual(60);
  });
});

describe('every metric', () => {
  const MIB = 1024 * 1024;
  const usage = (tenant: Watched, values: Record<string, number | string>, minutesAgo = 0) => {
    const at = new Date(Date.now() - minutesAgo * 60_000).toISOString();
    const row = { calls: 0, failures: 0, input: 0, output: 0, kind: 'query', ...values };
    return superuser(
      `INSERT INTO usage_totals (tenant_id, grain, at, kind, calls, failures, duration_us, input_tokens, output_tokens,
                                 embedding_tokens, credits)
       SELECT $1, grain, date_trunc(grain, $2::timestamptz, 'UTC'), $3, $4, $5, 0, $6, $7, 999999, 0
       FROM (VALUES ('hour'), ('day')) AS g (grain)
       ON CONFLICT (tenant_id, grain, at, kind) DO UPDATE SET
         calls = usage_totals.calls + excluded.calls, failures = usage_totals.failures + excluded.failures,
         input_tokens = usage_totals.input_tokens + excluded.input_tokens,
         output_tokens = usage_totals.output_tokens + excluded.output_tokens`,
      [tenant.id, at, row.kind, row.calls, row.failures, row.input, row.output],
    );
  };
  /** What waits in memory, too. */
  const forgetUsage = async (tenant: Watched) => {
    await sleep(20);
    await app.application.nest.get(UsageService, { strict: false }).flush();
    await superuser('DELETE FROM usage_totals WHERE tenant_id = $1', [tenant.id]);
  };
  const credits = (tenant: Watched, balance: number, lastGrant: number | null) =>
    superuser(
      `INSERT INTO credit_accounts (tenant_id, balance, last_grant) VALUES ($1, $2, $3)
       ON CONFLICT (tenant_id) DO UPDATE SET balance = excluded.balance, last_grant = excluded.last_grant`,
      [tenant.id, balance, lastGrant],
    );

  const METRICS: Array<{
    metric: string;
    limit?: Record<string, number>;
    percentage?: { below: number; at: number };
    absolute: { threshold: number; value: number };
    set: (tenant: Watched, value: number) => Promise<unknown>;
  }> = [
    {
      metric: 'users',
      limit: { max_users: 200 },
      percentage: { below: 99, at: 100 },
      absolute: { threshold: 50, value: 50 },
      set: (tenant, value) => count(tenant, 'users', value),
    },
    {
      metric: 'kbs',
      limit: { max_kbs: 200 },
      percentage: { below: 99, at: 100 },
      absolute: { threshold: 50, value: 50 },
      set: (tenant, value) => count(tenant, 'kbs', value),
    },
    {
      metric: 'documents',
      limit: { max_documents: 200 },
      percentage: { below: 99, at: 100 },
      absolute: { threshold: 50, value: 50 },
      set: (tenant, value) => count(tenant, 'documents', value),
    },
    {
      metric: 'storage',
      limit: { max_storage_mb: 200 },
      percentage: { below: 99.99, at: 100 },
      absolute: { threshold: 0.5, value: 0.5 },
      set: (tenant, value) => count(tenant, 'storage_bytes', Math.floor(value * MIB)),
    },
    {
      metric: 'api_calls',
      limit: { max_api_calls_per_month: 1_000_000 },
      // The requests of the test itself count, too.
      percentage: { below: 499_000, at: 500_000 },
      absolute: { threshold: 600_000, value: 600_000 },
      set: async (tenant, value) => {
        await forgetUsage(tenant);
        await usage(tenant, { kind: 'api', calls: value - 1 });
        await usage(tenant, { kind: 'query', calls: 1 });
        await usage(tenant, { kind: 'job', calls: 1_000_000 });
        // Of the month before.
        await usage(tenant, { kind: 'api', calls: 1_000_000 }, 32 * 24 * 60);
      },
    },
    {
      metric: 'queries_per_hour',
      limit: { max_queries_per_hour: 1_000_000 },
      percentage: { below: 499_999, at: 500_000 },
      absolute: { threshold: 800, value: 800 },
      set: async (tenant, value) => {
        await forgetUsage(tenant);
        await usage(tenant, { calls: value });
        await usage(tenant, { kind: 'api', calls: 1_000_000 });
        await usage(tenant, { calls: 1_000_000 }, 60);
      },
    },
    {
      metric: 'llm_tokens',
      limit: { max_llm_tokens_per_month: 1_000_000 },
      percentage: { below: 499_999, at: 500_000 },
      absolute: { threshold: 1_000, value: 1_000 },
      set: async (tenant, value) => {
        await forgetUsage(tenant);
        await usage(tenant, { input: value - 10, output: 7 });
        await usage(tenant, { kind: 'job', input: 1, output: 2 });
      },
    },
    {
      metric: 'failure_rate',
      absolute: { threshold: 19.5, value: 20 },
      set: async (tenant, value) => {
        await forgetUsage(tenant);
        await usage(tenant, { calls: 50_000, failures: value * 500 });
        await usage(tenant, { kind: 'api', calls: 50_000, failures: value * 500 }, 60);
        await usage(tenant, { calls: 1_000_000, failures: 1_000_000 }, 180);
        await usage(tenant, { kind: 'job', calls: 1_000_000, failures: 1_000_000 });
      },
    },
  ];

  it.each(METRICS)('$metric fires at its threshold', async ({ metric, limit, percentage, absolute, set }) => {
    const tenant = await watched(limit ?? {});
    const common = { metric, cooldown_seconds: 0 };
    if (!percentage) {
      expectProblem(
        await tenant.owner.client.post(tenant.alerts, { ...ALERT, metric, threshold: 50 }),
        422,
        'validation_failed',
      );
    } else {
      const half = await make(tenant, { ...common, threshold: 50 });
      await set(tenant, percentage.below);
      await evaluate();
      expect(await read(tenant, half.id)).toMatchObject({
        state: 'ok',
        limit: Object.values(limit ?? {})[0],
      });
      await set(tenant, percentage.at);
      await evaluate();
      const fired = await read(tenant, half.id);
      expect(fired.state).toBe('firing');
      expect(fired.last_value / percentage.at).toBeCloseTo(1, 3);
    }
    const { id } = await make(tenant, {
      ...common,
      threshold: absolute.threshold,
      threshold_type: 'absolute',
    });
    await set(tenant, absolute.value * 0.96);
    await evaluate();
    expect((await read(tenant, id)).state).toBe('ok');
    await set(tenant, absolute.value);
    await evaluate();
    const fired = await read(tenant, id);
    expect(fired.state).toBe('firing');
    expect(fired.last_value / absolute.value).toBeCloseTo(1, 3);
  });

  it('credits fire below it', async () => {
    const tenant = await watched({});
    const absolute = await make(tenant, { metric: 'credits', threshold: 500, threshold_type: 'absolute' });
    expect(absolute.direction).toBe('below');
    // There is nothing yet that it could be a percentage of.
    const answer = await tenant.owner.client.post(tenant.alerts, {
      ...ALERT,
      metric: 'credits',
      threshold: 10,
    });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0]).toMatchObject({ path: 'threshold_type', code: 'no_limit' });
    await credits(tenant, 500, 10_000);
    const tenth = await make(tenant, { metric: 'credits', threshold: 10 });
    const states = async () => [
      (await read(tenant, absolute.id)).state,
      (await read(tenant, tenth.id)).state,
    ];
    await evaluate();
    expect(await states()).toEqual(['ok', 'firing']);
    await credits(tenant, 499, 10_000);
    await evaluate();
    expect(await states()).toEqual(['firing', 'firing']);
    await credits(tenant, 1_000, 10_000);
    await evaluate();
    expect(await states()).toEqual(['ok', 'ok']);
    await credits(tenant, -3, 10_000);
    await evaluate();
    expect(await read(tenant, tenth.id)).toMatchObject({ state: 'firing', last_value: -3, limit: 10_000 });
  });

  it('of few requests no failure rate is made', async () => {
    const tenant = await watched({});
    const { id } = await make(tenant, { metric: 'failure_rate', threshold: 20, threshold_type: 'absolute' });
    await forgetUsage(tenant);
    await usage(tenant, { calls: 9, failures: 9 });
    await evaluate();
    expect(await read(tenant, id)).toMatchObject({ state: 'ok', last_value: 0 });
    await usage(tenant, { calls: 1, failures: 1 });
    await evaluate();
    const { state, last_value: rate } = await read(tenant, id);
    expect(state).toBe('firing');
    // The request that has read it meanwhile may count.
    expect(rate).toBeGreaterThan(90);
  });
});

describe('alerts are managed', () => {
  let tenant: Watched;
  beforeAll(async () => {
    tenant = await watched();
  });

  it('by owners and admins', async () => {
    const { id } = await make(tenant);
    const admin = await app.createMember(tenant.name, 'admin');
    const editor = await app.createMember(tenant.name, 'editor');
    await expectStatus(200, admin.client.get(`${tenant.alerts}/${id}`));
    for (const [method, path, body] of [
      ['GET', tenant.alerts, undefined],
      ['POST', tenant.alerts, ALERT],
      ['GET', `${tenant.alerts}/${id}`, undefined],
      ['PATCH', `${tenant.alerts}/${id}`, {}],
      ['DELETE', `${tenant.alerts}/${id}`, undefined],
      ['GET', `${tenant.alerts}/${id}/events`, undefined],
    ] as const)
      expectProblem(await editor.client.send(method, path, body), 403, 'forbidden');
    await expectStatus(204, admin.client.delete(`${tenant.alerts}/${id}`));
    expectProblem(await admin.client.get(`${tenant.alerts}/${id}`), 404, 'not_found');
    expectProblem(await admin.client.delete(`${tenant.alerts}/${id}`), 404, 'not_found');
    expectProblem(await admin.client.get(`${tenant.alerts}/no-uuid`), 404, 'not_found');
  });

  it('with defaults, and one action or several', async () => {
    const { body } = await expectStatus(
      201,
      tenant.owner.client.post(tenant.alerts, {
        metric: 'storage',
        threshold: 85.5,
        threshold_type: 'absolute',
        action: 'email_admins',
      }),
    );
    expect(body).toMatchObject({
      name: '',
      metric: 'storage',
      threshold: 85.5,
      threshold_type: 'absolute',
      direction: 'above',
      actions: ['email_admins'],
      throttle_to_per_minute: null,
      cooldown_seconds: 3600,
      is_active: true,
      state: 'ok',
      last_value: null,
      limit: null,
      fired_at: null,
      recovered_at: null,
      created_by: tenant.owner.id,
    });
    const { body: page } = await tenant.owner.client.get(
      `${tenant.alerts}?metric=storage&state=ok&sort=-name`,
    );
    expect(page.items).toEqual([body]);
    expect(page.total).toBe(1);
  });

  it('without overwriting what somebody else has changed', async () => {
    const { id } = await make(tenant);
    const path = `${tenant.alerts}/${id}`;
    const tag = (await tenant.owner.client.get(path)).headers.get('etag') as string;
    const as = (etag: string) => tenant.owner.client.withHeaders({ 'if-match': etag });
    await sleep(2);
    await expectStatus(200, as(tag).patch(path, { name: 'First' }));
    expectProblem(await as(tag).patch(path, { name: 'Second' }), 412, 'changed_meanwhile');
    // An evaluation is no change of somebody's.
    const next = (await tenant.owner.client.get(path)).headers.get('etag') as string;
    await count(tenant, 'users', 9);
    await evaluate();
    await expectStatus(200, as(next).patch(path, { name: 'Third' }));
    await count(tenant, 'users', 1);
  });

  it('but not past a hundred', async () => {
    const full = await watched();
    for (let i = 0; i < 98; i++) await make(full);
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => full.owner.client.post(full.alerts, ALERT)),
    );
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 201, 409, 409, 409, 409]);
    expectProblem(await full.owner.client.post(full.alerts, ALERT), 409, 'too_many_alerts');
  });

  const absolute = { threshold_type: 'absolute' };
  it.each<[string, object, string]>([
    ['a metric that is none', { metric: 'weather' }, 'metric'],
    ['no threshold', { threshold: undefined }, 'threshold'],
    ['zero', { threshold: 0 }, 'threshold'],
    ['a negative threshold', { threshold: -5, ...absolute }, 'threshold'],
    ['a text', { threshold: '90' }, 'threshold'],
    ['nothing', { threshold: null }, 'threshold'],
    ['more than any number', { threshold: 1e300, ...absolute }, 'threshold'],
    ['more than 1000 percent', { threshold: 1000.01 }, 'threshold'],
    ['more failures than requests', { metric: 'failure_rate', threshold: 101, ...absolute }, 'threshold'],
    ['a percentage of failures', { metric: 'failure_rate' }, 'threshold_type'],
    ['a percentage of no limit', { metric: 'kbs' }, 'threshold_type'],
    ['a type that is none', { threshold_type: 'relative' }, 'threshold_type'],
    ['no action', { actions: [] }, 'actions'],
    ['actions left out', { actions: undefined }, 'actions'],
    ['an action twice', { actions: ['webhook', 'webhook'] }, 'actions'],
    ['action and actions', { action: 'webhook' }, 'actions'],
    ['an unknown action', { actions: ['explode'] }, 'actions.0'],
    ['throttle without a rate', { actions: ['throttle'] }, 'throttle_to_per_minute'],
    ['throttle to nothing', { actions: ['throttle'], throttle_to_per_minute: 0 }, 'throttle_to_per_minute'],
    ['throttle to a part', { actions: ['throttle'], throttle_to_per_minute: 1.5 }, 'throttle_to_per_minute'],
    ['a negative cooldown', { cooldown_seconds: -1 }, 'cooldown_seconds'],
    ['a cooldown of a year', { cooldown_seconds: 365 * 24 * 3600 }, 'cooldown_seconds'],
    ['a name with a line break', { name: 'a\nb' }, 'name'],
    ['a name that is too long', { name: 'x'.repeat(101) }, 'name'],
    ['a state', { state: 'firing' }, 'state'],
  ])('never with %s', async (_, fields, path) => {
    const answer = await tenant.owner.client.post(tenant.alerts, { ...ALERT, ...fields });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors.map((error: any) => error.path)).toContain(path);
  });

  it.each(['{"threshold": NaN}', '{"threshold": Infinity}'])('nor with %s', async body => {
    const client = tenant.owner.client.withHeaders({ 'content-type': 'application/json' });
    expectProblem(await client.post(tenant.alerts, body), 400, 'malformed_json');
  });

  it('nor with a number that overflows', async () => {
    const client = tenant.owner.client.withHeaders({ 'content-type': 'application/json' });
    const body = JSON.stringify({ ...ALERT, ...absolute }).replace('90', '1e999');
    expectProblem(await client.post(tenant.alerts, body), 422, 'validation_failed');
  });

  it('nor changed into what makes no sense', async () => {
    const { id } = await make(tenant);
    const patch = (body: object) => tenant.owner.client.patch(`${tenant.alerts}/${id}`, body);
    for (const body of [
      { metric: 'failure_rate' },
      { metric: 'kbs' },
      { actions: ['throttle'] },
      { threshold: 5000 },
      { threshold: null },
      { action: 'webhook', actions: ['webhook'] },
      { told: true },
    ])
      expectProblem(await patch(body), 422, 'validation_failed');
    await expectStatus(200, patch({ actions: ['throttle'], throttle_to_per_minute: 10 }));
    expectProblem(await patch({ throttle_to_per_minute: null }), 422, 'validation_failed');
    expectProblem(await app.admin.patch(`${tenant.alerts}/${crypto.randomUUID()}`, {}), 404, 'not_found');
  });
});
