import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CreditJobs } from '../../src/core/credits/credit-jobs.service.js';
import { CreditsService } from '../../src/core/credits/credits.service.js';
import { EventsService } from '../../src/core/events/events.service.js';
import { UsageService } from '../../src/core/usage/usage.service.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { type Answer, Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

const MOST = Number.MAX_SAFE_INTEGER;
const FACT = 'Frames carry a warranty of ten years. Batteries are covered for two years.';
const QUESTION = 'How long is the warranty on frames?';

let app: TestApplication;
let model: ModelServer;
/** Set by a test, and withdrawn after it. */
const priced = new Map<string, { operation: string; model: string | null }>();
const heard: Array<{ tenantId: string; type: string; data: Record<string, unknown> }> = [];

beforeAll(async () => {
  model = await startModelServer();
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub-embedding',
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub-chat',
  });
  service(EventsService).listen(async (_, events) => void heard.push(...events));
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});
afterEach(async () => {
  model.latency = 0;
  if (priced.size > 0)
    await setPrices([...priced.values()].map(price => ({ ...price, micro_credits: null })));
  priced.clear();
});

function service<T>(type: new (...parameters: never[]) => T): T {
  return app.application.nest.get<T>(type, { strict: false });
}

type NewPrice = { operation: string; model?: string | null; micro_credits: number | null };

async function setPrices(prices: NewPrice[]): Promise<void> {
  await expectStatus(200, app.admin.put('/prices', { prices }));
  for (const { operation, model: name = null } of prices)
    priced.set(`${operation}/${name}`, { operation, model: name });
}

interface Fixture {
  id: string;
  name: string;
  kbId: string;
  owner: Client;
  path: string;
  kb: string;
}

/** A tenant with a document, made while nothing cost anything. */
async function tenantWithText(): Promise<Fixture> {
  const name = `t-${randomUUID().slice(0, 8)}`;
  const { id, kbId } = await app.createTenant(name);
  expect((await app.addText(name, FACT)).status).toBe('ready');
  const { client: owner } = await app.createMember(name, 'owner');
  return { id, name, kbId, owner, path: `/tenants/${name}/credits`, kb: `/tenants/${name}/kbs/docs` };
}

const grant = (tenant: Fixture, amount: number, fields: object = {}): Promise<Answer> =>
  expectStatus(201, app.admin.post(tenant.path, { type: 'grant', amount, ...fields }));
const account = async (tenant: Fixture) => (await expectStatus(200, tenant.owner.get(tenant.path))).body;
const ledger = async (tenant: Fixture, query = ''): Promise<any[]> =>
  (
    await expectStatus(200, tenant.owner.get(`${tenant.path}/ledger?page_size=100${query}`))
  ).body.items.toReversed();
const search = (tenant: Fixture, client = tenant.owner) =>
  client.post(`${tenant.kb}/search`, { query: QUESTION, mode: 'keyword' });
const ask = (tenant: Fixture, body: object = {}, client = tenant.owner) =>
  client.post(`${tenant.kb}/query`, { query: QUESTION, max_tokens: 1000, ...body });
const superuser = (statement: string, values: unknown[] = []): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement, values)).rows,
  );
const sweep = () => service(CreditJobs).sweep(new AbortController().signal);
const inTenant = <T>({ id, name }: Fixture, work: () => Promise<T>) =>
  service(TenantContext).runAsSystem({ id, name }, work);

/** The ledger, and what it must say of itself. */
async function checked(tenant: Fixture): Promise<any[]> {
  const entries = await ledger(tenant);
  const { balance, held } = await account(tenant);
  expect(entries.map(({ sequence }) => sequence)).toEqual(entries.map((_, index) => index + 1));
  let sum = 0;
  for (const { delta, balance_after: after } of entries) {
    sum += delta;
    expect(after).toBe(sum);
  }
  expect(sum).toBe(balance);
  expect(held).toBe(0);
  return entries;
}

describe('without prices', () => {
  it('nothing costs anything, and nothing is written down', async () => {
    const tenant = await tenantWithText();
    expect((await expectStatus(200, search(tenant))).body.usage).toEqual({ credits: 0 });
    const { body } = await expectStatus(200, ask(tenant));
    expect(body.usage).toMatchObject({ prompt_tokens: expect.any(Number), credits: 0 });
    expect(await ledger(tenant)).toEqual([]);
    expect(await account(tenant)).toEqual({
      balance: 0,
      held: 0,
      granted: 0,
      spent_this_month: 0,
      low_threshold: null,
      low_threshold_set: false,
      next_expiry: null,
      enforced: true,
    });
    expect(await superuser('SELECT 1 FROM credit_accounts WHERE tenant_id = $1', [tenant.id])).toEqual([]);
  });
});

describe('prices', () => {
  it('are set from now on, and keep their history', async () => {
    const before = new Date(Date.now() - 1).toISOString();
    await setPrices([
      { operation: 'query', micro_credits: 500 },
      { operation: 'output_tokens', micro_credits: 1000 },
      { operation: 'output_tokens', model: 'large', micro_credits: 1600 },
    ]);
    const { body: first } = await expectStatus(200, app.admin.get('/prices'));
    expect(first.items).toEqual([
      {
        operation: 'output_tokens',
        model: null,
        micro_credits: 1000,
        per: 1000,
        valid_from: expect.any(String),
      },
      {
        operation: 'output_tokens',
        model: 'large',
        micro_credits: 1600,
        per: 1000,
        valid_from: expect.any(String),
      },
      { operation: 'query', model: null, micro_credits: 500, per: 1, valid_from: expect.any(String) },
    ]);
    const then = first.items[2].valid_from;
    await sleep(5);
    await setPrices([
      { operation: 'query', micro_credits: 700 },
      { operation: 'output_tokens', model: 'large', micro_credits: null },
    ]);
    const now = (await app.admin.get('/prices')).body.items;
    expect(now.map((price: any) => price.micro_credits)).toEqual([1000, 700]);
    const at = async (moment: string) =>
      (await expectStatus(200, app.admin.get(`/prices?at=${moment}`))).body.items;
    expect(await at(then)).toEqual(first.items);
    expect(await at(before)).toEqual([]);
    const { body: history } = await expectStatus(200, app.admin.get('/prices/history?operation=query'));
    expect(history.items.slice(0, 2).map((price: any) => price.micro_credits)).toEqual([700, 500]);
    const { body: ofModel } = await app.admin.get('/prices/history?model=large');
    expect(ofModel.items.map((price: any) => price.micro_credits)).toEqual([null, 1600]);
    // The same again is no change.
    await setPrices([{ operation: 'query', micro_credits: 700 }]);
    expect((await app.admin.get('/prices/history?operation=query')).body.total).toBe(history.total);
    const { body: audit } = await app.admin.get('/audit?action=prices.changed&page_size=1');
    expect(audit.items[0].details.prices).toEqual([
      { operation: 'query', model: null, before: 500, after: 700 },
      { operation: 'output_tokens', model: 'large', before: 1600, after: null },
    ]);
  });

  it('are read by whoever pays, and set by the platform', async () => {
    const tenant = await tenantWithText();
    const { client: admin } = await app.createMember(tenant.name, 'admin');
    const { client: stranger } = await app.createUser();
    for (const path of ['/prices', '/prices/history']) {
      await expectStatus(200, tenant.owner.get(`${path}?tenant=${tenant.name}`));
      await expectStatus(200, tenant.owner.withHeaders({ 'x-tenant-id': tenant.id }).get(path));
      expectProblem(await tenant.owner.get(path), 400, 'tenant_missing');
      expectProblem(await admin.get(`${path}?tenant=${tenant.name}`), 403, 'forbidden');
      expectProblem(await stranger.get(`${path}?tenant=${tenant.name}`), 404, 'not_found');
      expectProblem(await stranger.get(path), 400, 'tenant_missing');
    }
    const body = { prices: [{ operation: 'query', micro_credits: 1 }] };
    expectProblem(await tenant.owner.put('/prices', body), 403, 'forbidden');
  });

  it.each([
    [[]],
    [[{ operation: 'query', micro_credits: -1 }]],
    [[{ operation: 'query', micro_credits: 0.5 }]],
    [[{ operation: 'query', micro_credits: '5' }]],
    [[{ operation: 'query', micro_credits: MOST + 1 }]],
    [[{ operation: 'query', micro_credits: 1e300 }]],
    [[{ operation: 'query' }]],
    [[{ operation: 'air', micro_credits: 1 }]],
    [[{ operation: 'query', model: 'large', micro_credits: 1 }]],
    [[{ operation: 'output_tokens', model: '', micro_credits: 1 }]],
    [
      [
        { operation: 'query', micro_credits: 1 },
        { operation: 'query', micro_credits: 2 },
      ],
    ],
    [[{ operation: 'query', micro_credits: 1, valid_from: '2020-01-01T00:00:00Z' }]],
  ])('are refused as %j', async prices => {
    expectProblem(await app.admin.put('/prices', { prices }), 422, 'validation_failed');
  });
});

describe('credits', () => {
  it('are needed before a model is asked', async () => {
    const tenant = await tenantWithText();
    await setPrices([
      { operation: 'query', micro_credits: 500 },
      { operation: 'embedding_tokens', micro_credits: 1000 },
    ]);
    const before = { ...model.requests };
    for (const path of ['search', 'query']) {
      const refused = await tenant.owner.post(`${tenant.kb}/${path}`, { query: QUESTION });
      expectProblem(refused, 402, 'insufficient_credits');
      expect(refused.body).toMatchObject({ required: 509, available: 0, missing: 509 });
    }
    await grant(tenant, 400);
    const refused = await tenant.owner.post(`${tenant.kb}/search`, { query: QUESTION });
    expect(refused.body).toMatchObject({ status: 402, required: 509, available: 400, missing: 109 });
    expect(model.requests).toEqual(before);
    expect((await checked(tenant)).map(({ type }) => type)).toEqual(['grant']);
  });

  it('are reserved, committed and released, at the prices of each model', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 1_000_000, { note: 'To begin with' });
    await setPrices([
      { operation: 'query', micro_credits: 500 },
      { operation: 'embedding_tokens', model: 'stub-embedding', micro_credits: 1000 },
      { operation: 'input_tokens', micro_credits: 2000 },
      { operation: 'output_tokens', micro_credits: 999_999 },
      { operation: 'output_tokens', model: 'stub-chat', micro_credits: 8000 },
    ]);
    const { body } = await expectStatus(200, ask(tenant));
    const tokens = { input: body.usage.prompt_tokens, output: body.usage.completion_tokens };
    expect(tokens.output).toBeGreaterThan(0);
    const cost = 500 + 9 + tokens.input * 2 + tokens.output * 8;
    expect(body.usage.credits).toBe(cost);
    expect(await account(tenant)).toMatchObject({
      balance: 1_000_000 - cost,
      held: 0,
      granted: 1_000_000,
      spent_this_month: cost,
      low_threshold: 100_000,
      low_threshold_set: false,
    });
    const entries = await checked(tenant);
    expect(entries.map(({ type, operation }) => `${type} ${operation}`)).toEqual([
      'grant null',
      'reserve query',
      'reserve chat',
      'commit chat',
      'release chat',
      'commit query',
    ]);
    expect(entries[0]).toMatchObject({ delta: 1_000_000, note: 'To begin with' });
    expect(entries[2].lines).toEqual([
      expect.objectContaining({
        operation: 'input_tokens',
        model: 'stub-chat',
        micro_credits: 2000,
        per: 1000,
      }),
      {
        operation: 'output_tokens',
        model: 'stub-chat',
        quantity: 1000,
        micro_credits: 8000,
        per: 1000,
        cost: 8000,
      },
    ]);
    expect(entries[3]).toMatchObject({ delta: 0, amount: tokens.input * 2 + tokens.output * 8 });
    expect(entries[4].delta).toBe(-entries[2].delta - entries[3].amount);
    expect(new Set(entries.map(({ idempotency_key: key }) => key)).size).toBe(entries.length);
    expect(entries[5].user_id).toEqual(expect.any(String));
    expect(await ledger(tenant, '&type=commit')).toHaveLength(2);
    expect(await ledger(tenant, '&operation=chat')).toHaveLength(3);
    expect(await ledger(tenant, '&start_date=2020-01-01&end_date=2020-12-31')).toEqual([]);
    expect(await ledger(tenant, `&start_date=${new Date().toISOString().slice(0, 10)}`)).toHaveLength(6);
  });

  it('come back where the model fails, and where nothing is found to answer from', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 100_000);
    await setPrices([
      { operation: 'query', micro_credits: 500 },
      { operation: 'output_tokens', micro_credits: 1000 },
    ]);
    model.failNext({ status: 400 });
    await expectStatus(502, ask(tenant, { mode: 'keyword' }));
    expect((await account(tenant)).balance).toBe(100_000);
    expectProblem(
      await tenant.owner.post(`/tenants/${tenant.name}/kbs/no-such-kb/search`, { query: 'x' }),
      404,
      'not_found',
    );
    expect((await account(tenant)).balance).toBe(100_000);
    // The answer’s longest form cannot be paid for: the search before it is not charged either.
    const refused = await ask(tenant, { mode: 'keyword', max_tokens: 100_000 });
    expectProblem(refused, 402, 'insufficient_credits');
    expect(refused.body).toMatchObject({ required: 100_000, available: 99_500, missing: 500 });
    expect((await account(tenant)).balance).toBe(100_000);
    await checked(tenant);
  });

  it('come back where whoever asked has left', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 100_000);
    await setPrices([
      { operation: 'query', micro_credits: 500 },
      { operation: 'output_tokens', micro_credits: 1000 },
    ]);
    model.latency = 1000;
    const asked = model.requests.chat;
    const left = new AbortController();
    const answer = fetch(`${app.application.url}/api/v1${tenant.kb}/query`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.owner.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ query: QUESTION, mode: 'keyword', max_tokens: 1000 }),
      signal: left.signal,
    });
    while (model.requests.chat === asked) await sleep(5);
    expect(await account(tenant)).toMatchObject({ balance: 98_500, held: 1500 });
    left.abort();
    await expect(answer).rejects.toThrow(/abort/);
    for (let waited = 0; waited < 3000 && (await account(tenant)).held > 0; waited += 50) await sleep(50);
    expect(await account(tenant)).toMatchObject({ balance: 100_000, held: 0, spent_this_month: 0 });
  });

  it('are counted as used, by the month and by the operation', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 10_000);
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await expectStatus(200, search(tenant));
    await expectStatus(200, ask(tenant, { mode: 'keyword' }));
    await service(UsageService).flush();
    const used = await superuser(
      'SELECT operation, credits::int FROM usage_events WHERE tenant_id = $1 AND credits > 0 ORDER BY operation',
      [tenant.id],
    );
    expect(used).toEqual([
      { operation: 'query', credits: 500 },
      { operation: 'search', credits: 500 },
    ]);
  });

  it.each([
    ['nothing', '{}'],
    ['no numbers', '{"prompt_tokens": 1e999, "completion_tokens": 1e999, "total_tokens": 1e999}'],
    ['less than nothing', '{"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12}'],
    ['half tokens', '{"prompt_tokens": 0.5, "completion_tokens": 0.5, "total_tokens": 1}'],
  ])('are taken for estimated tokens where the model counts %s', async (_, usage) => {
    const tenant = await tenantWithText();
    await grant(tenant, 1_000_000);
    await setPrices([
      { operation: 'input_tokens', micro_credits: 2000 },
      { operation: 'output_tokens', micro_credits: 8000 },
    ]);
    const message = '{"role": "assistant", "content": "Ten years [1]."}';
    model.failNext({
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: `{"id": "1", "object": "chat.completion", "created": 0, "model": "stub-chat", "usage": ${usage},
              "choices": [{"index": 0, "message": ${message}, "finish_reason": "stop"}]}`,
    });
    const { body } = await expectStatus(200, ask(tenant, { mode: 'keyword' }));
    expect(body.answer).toBe('Ten years [1].');
    const [input, output] = (await ledger(tenant, '&type=commit'))[0].lines;
    expect([input.operation, output.operation]).toEqual(['input_tokens', 'output_tokens']);
    expect(output.quantity).toBe(4);
    expect(body.usage.credits).toBe(input.quantity * 2 + output.quantity * 8);
    // What limits the tokens of a month begins with these, too, when a process starts.
    await service(UsageService).flush();
    const [event] = await superuser(
      'SELECT input_tokens::int, output_tokens::int FROM usage_events WHERE tenant_id = $1 AND operation = $2',
      [tenant.id, 'query'],
    );
    expect(event).toEqual({ input_tokens: input.quantity, output_tokens: output.quantity });
  });

  it('go with their tenant', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 10_000);
    await expectStatus(200, search(tenant));
    const { headers } = await expectStatus(204, app.admin.delete(`/tenants/${tenant.name}`));
    expect(await app.jobEnded(headers.get('location') as string)).toMatchObject({ status: 'succeeded' });
    expect(await superuser('SELECT 1 FROM credit_ledger WHERE tenant_id = $1', [tenant.id])).toEqual([]);
  });

  it.runIf(SERVER)('and prices hold in every process', async () => {
    const tenant = await tenantWithText();
    const other = await app.startAnother({ http: true, jobs: false });
    const there = new Client(other.url as string, tenant.owner.token);
    await expectStatus(200, search(tenant, there));
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 2600);
    await sleep(1000);
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, index) => search(tenant, index % 2 ? there : tenant.owner)),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5);
    expect(answers.filter(({ status }) => status === 402)).toHaveLength(25);
    await checked(tenant);
  });

  it('go by the prices with which the operation began', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 100_000);
    await setPrices([{ operation: 'output_tokens', micro_credits: 1000 }]);
    model.latency = 500;
    const asked = model.requests.chat;
    const answer = ask(tenant, { mode: 'keyword' });
    while (model.requests.chat === asked) await sleep(5);
    await setPrices([{ operation: 'output_tokens', micro_credits: 90_000 }]);
    const { body } = await expectStatus(200, answer);
    expect(body.usage.credits).toBe(body.usage.completion_tokens);
    model.latency = 0;
    const { body: after } = await expectStatus(200, ask(tenant, { mode: 'keyword' }));
    expect(after.usage.credits).toBe(after.usage.completion_tokens * 90);
  });

  it('are not overrun by parallel requests for the last of them', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 5 * 500 + 499);
    const answers = await Promise.all(Array.from({ length: 40 }, () => search(tenant)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5);
    expect(answers.filter(({ status }) => status === 402)).toHaveLength(35);
    expect(await account(tenant)).toMatchObject({ balance: 499, spent_this_month: 2500 });
    await checked(tenant);
  });

  it('that a process held which died are released, and cannot be committed any more', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 1000);
    const credits = service(CreditsService);
    const estimate = { operation: 'search', lines: [{ operation: 'query' as const, quantity: 1 }] };
    const reservation = await inTenant(tenant, () => credits.reserve(estimate));
    expect(await account(tenant)).toMatchObject({ balance: 500, held: 500 });
    expect(await sweep()).toEqual({ released: 0, expired: 0 });
    await superuser(
      `UPDATE credit_reservations SET expires_at = now() - interval '1 second' WHERE tenant_id = $1`,
      [tenant.id],
    );
    // Several at once release it once.
    const swept = await Promise.all([sweep(), sweep(), sweep()]);
    expect(swept.reduce((sum, { released }) => sum + released, 0)).toBe(1);
    expect(await inTenant(tenant, () => credits.commit(reservation!))).toBe(0);
    await inTenant(tenant, () => credits.release(reservation!));
    expect(await account(tenant)).toMatchObject({ balance: 1000, held: 0, spent_this_month: 0 });
    expect((await checked(tenant)).map(({ type }) => type)).toEqual(['grant', 'reserve', 'release']);
  });

  it('are reserved and committed once for a key', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 10_000);
    const credits = service(CreditsService);
    const reserve = (quantity: number, operation = 'search') =>
      inTenant(tenant, () =>
        credits.reserve({ operation, lines: [{ operation: 'query', quantity }] }, 'my-key'),
      );
    const [first, second] = await Promise.all([reserve(2), reserve(2)]);
    expect(second?.id).toBe(first?.id);
    await expect(reserve(3)).rejects.toMatchObject({ status: 422, code: 'idempotency_key_reused' });
    await expect(reserve(2, 'query')).rejects.toMatchObject({ status: 422, code: 'idempotency_key_reused' });
    const commit = (quantity: number) =>
      inTenant(tenant, () => credits.commit(first!, [{ operation: 'query', quantity }]));
    expect(await Promise.all([commit(1), commit(1)])).toEqual([500, 500]);
    await expect(commit(2)).rejects.toMatchObject({ status: 422, code: 'idempotency_key_reused' });
    expect(await account(tenant)).toMatchObject({ balance: 9500, spent_this_month: 500 });
  });

  it('beyond the estimate are taken as far as there are any', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 1200);
    const { credits } = await inTenant(tenant, () =>
      service(CreditsService).spend(
        { operation: 'search', lines: [{ operation: 'query', quantity: 1 }] },
        async meter => meter.used({ operation: 'query', quantity: 3 }),
      ),
    );
    expect(credits).toBe(1200);
    const entries = await checked(tenant);
    expect(entries.at(-1)).toMatchObject({
      type: 'commit',
      delta: -700,
      amount: 1200,
      note: '300 of 1500 could not be taken',
    });
  });

  it('may be overdrawn where limits are not enforced', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await expectStatus(
      200,
      app.admin.put(`/tenants/${tenant.name}/quotas`, { quotas: {}, enforce_quotas: false }),
    );
    await grant(tenant, 700);
    expect((await expectStatus(200, search(tenant))).body.usage).toEqual({ credits: 500 });
    expect((await expectStatus(200, search(tenant))).body.usage).toEqual({ credits: 500 });
    expect(await account(tenant)).toMatchObject({ balance: -300, enforced: false });
    await expectStatus(201, app.admin.post(tenant.path, { type: 'adjust', amount: -100 }));
    // What is granted pays the debt first.
    await grant(tenant, 1000);
    expect(await account(tenant)).toMatchObject({ balance: 600, spent_this_month: 1000 });
    await checked(tenant);
  });
});

describe('an API token', () => {
  const tokenWith = async (tenant: Fixture, budget: number | null, scopes = ['query:run']) => {
    const { body } = await expectStatus(
      201,
      tenant.owner.post(`/tenants/${tenant.name}/api-tokens`, {
        name: `token-${randomUUID()}`,
        scopes,
        monthly_credit_budget: budget,
      }),
    );
    return { id: body.id as string, client: app.anonymous.withToken(body.secret) };
  };

  it('spends no more than its budget of the month', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 100_000);
    const token = await tokenWith(tenant, 1200);
    const answers = await Promise.all(Array.from({ length: 10 }, () => search(tenant, token.client)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(2);
    const refused = await search(tenant, token.client);
    expectProblem(refused, 402, 'token_budget_exceeded');
    expect(refused.body).toMatchObject({ required: 500, available: 200, missing: 300 });
    await expectStatus(200, search(tenant));
    await expectStatus(200, search(tenant, (await tokenWith(tenant, null)).client));
    expect(await ledger(tenant, `&token_id=${token.id}&type=commit`)).toHaveLength(2);
    // The next month begins anew.
    await superuser(`UPDATE credit_months SET month = month - interval '1 month' WHERE token_id = $1`, [
      token.id,
    ]);
    await expectStatus(200, search(tenant, token.client));
  });

  it('has its documents ingested on its budget', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'page_parsed', micro_credits: 500 }]);
    await grant(tenant, 100_000);
    const token = await tokenWith(tenant, 700, ['document:create', 'document:read']);
    const add = async (text: string) => {
      const { body } = await expectStatus(202, token.client.post(`${tenant.kb}/documents/text`, { text }));
      return app.settled(tenant.name, body.id);
    };
    expect(await add('The first.')).toMatchObject({ status: 'ready' });
    const failed = await add('The second.');
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'token_budget_exceeded' } });
    await expectStatus(202, tenant.owner.post(`${tenant.kb}/documents/${failed.id}/reindex`));
    expect(await app.settled(tenant.name, failed.id)).toMatchObject({ status: 'ready' });
    expect(await ledger(tenant, `&token_id=${token.id}&type=commit`)).toHaveLength(1);
    expect(await ledger(tenant, '&type=commit')).toHaveLength(2);
  });
});

describe('an ingestion', () => {
  it('fails for good where there are too few credits, and works when there are enough', async () => {
    const tenant = await tenantWithText();
    await setPrices([
      { operation: 'page_parsed', micro_credits: 300 },
      { operation: 'embedding_tokens', micro_credits: 1000 },
    ]);
    const failed = await app.addText(tenant.name, 'Something else, of twenty-four characters or more.');
    expect(failed).toMatchObject({
      status: 'failed',
      attempts: 1,
      error: { code: 'insufficient_credits', message: expect.stringContaining('313 of them are missing') },
    });
    await grant(tenant, 10_000);
    await expectStatus(202, tenant.owner.post(`${tenant.kb}/documents/${failed.id}/reindex`));
    expect(await app.settled(tenant.name, failed.id)).toMatchObject({ status: 'ready', error: null });
    const entries = await checked(tenant);
    expect(entries.map(({ type, operation }) => `${type} ${operation}`)).toEqual([
      'grant null',
      'reserve ingestion',
      'commit ingestion',
    ]);
    expect(entries[2].lines.map(({ operation, cost }: any) => [operation, cost])).toEqual([
      ['page_parsed', 300],
      ['embedding_tokens', 13],
    ]);
    expect((await account(tenant)).balance).toBe(10_000 - 313);
  });
});

describe('a grant', () => {
  it('is made by the platform, and written down', async () => {
    const tenant = await tenantWithText();
    expectProblem(await tenant.owner.post(tenant.path, { type: 'grant', amount: 5 }), 403, 'forbidden');
    const expiry = new Date(Date.now() + 3_600_000).toISOString();
    const { body } = await grant(tenant, 1000, { expires_at: expiry, note: 'A gift' });
    expect(body).toMatchObject({
      type: 'grant',
      delta: 1000,
      amount: 1000,
      balance_after: 1000,
      note: 'A gift',
      sequence: 1,
    });
    expect(await account(tenant)).toMatchObject({
      balance: 1000,
      next_expiry: { expires_at: expiry, amount: 1000 },
    });
    const { body: audit } = await tenant.owner.get(`/tenants/${tenant.name}/audit?action=credits.granted`);
    expect(audit.items[0]).toMatchObject({
      actor: { name: 'admin@enclave.test' },
      details: { amount: 1000, balance: 1000, expires_at: expiry, note: 'A gift' },
    });
    const stranger = (await tenantWithText()).owner;
    for (const path of ['', '/ledger', '/export'])
      expectProblem(await stranger.get(`${tenant.path}${path}`), 404, 'not_found');
    const { client: admin } = await app.createMember(tenant.name, 'admin');
    for (const path of ['', '/ledger', '/export'])
      expectProblem(await admin.get(`${tenant.path}${path}`), 403, 'forbidden');
  });

  it('is made once for a key, in the body or in the header', async () => {
    const tenant = await tenantWithText();
    const body = { type: 'grant', amount: 1000, note: 'Invoice 1', idempotency_key: 'invoice-1' };
    const answers = await Promise.all(Array.from({ length: 5 }, () => app.admin.post(tenant.path, body)));
    expect(new Set(answers.map(({ status, body: { id } }) => `${status} ${id}`)).size).toBe(1);
    for (const other of [
      { amount: 1001 },
      { type: 'adjust' },
      { note: 'Invoice 2' },
      { expires_at: '2999-01-01T00:00:00Z' },
    ])
      expectProblem(await app.admin.post(tenant.path, { ...body, ...other }), 422, 'idempotency_key_reused');
    const keyed = app.admin.withHeaders({ 'idempotency-key': randomUUID() });
    const { idempotency_key: _, ...bare } = body;
    const first = await expectStatus(201, keyed.post(tenant.path, bare));
    expect((await expectStatus(201, keyed.post(tenant.path, bare))).body).toEqual(first.body);
    expectProblem(await keyed.post(tenant.path, { ...bare, amount: 7 }), 422, 'idempotency_key_reused');
    expectProblem(
      await app.admin.post(tenant.path, { ...body, idempotency_key: 'storage:2026-01-01' }),
      422,
      'validation_failed',
    );
    expect(await account(tenant)).toMatchObject({ balance: 2000, granted: 2000 });
  });

  it.each([
    { type: 'grant', amount: 0 },
    { type: 'grant', amount: -5 },
    { type: 'grant', amount: 1.5 },
    { type: 'grant', amount: '5' },
    { type: 'grant', amount: MOST + 1 },
    { type: 'grant', amount: 1e308 },
    { type: 'grant' },
    { type: 'adjust', amount: 0 },
    { type: 'adjust', amount: 0.1 },
    { type: 'adjust', amount: -MOST - 1 },
    { type: 'adjust', amount: 5, expires_at: '2999-01-01T00:00:00Z' },
    { type: 'gift', amount: 5 },
    { amount: 5 },
    { type: 'grant', amount: 5, expires_at: '2020-01-01T00:00:00Z' },
    { type: 'grant', amount: 5, expires_at: 'tomorrow' },
    { type: 'grant', amount: 5, expires_at: '9999-12-31T23:59:59-12:00' },
    { type: 'grant', amount: 5, note: '' },
    { type: 'grant', amount: 5, note: 'x'.repeat(501) },
    { type: 'grant', amount: 5, idempotency_key: '' },
    { type: 'grant', amount: 5, balance: 1_000_000 },
  ])('is refused as %j', async body => {
    const tenant = await tenants.bad;
    expectProblem(await app.admin.post(tenant.path, body), 422, 'validation_failed');
    expect(await ledger(tenant)).toEqual([]);
  });
  /** Of which nothing becomes anything. */
  const tenants = {
    made: null as Promise<Fixture> | null,
    get bad() {
      return (this.made ??= tenantWithText());
    },
  };

  it('is no larger than what can be counted', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, MOST);
    for (const body of [
      { type: 'grant', amount: 1 },
      { type: 'grant', amount: MOST },
      { type: 'adjust', amount: MOST },
    ])
      expectProblem(await app.admin.post(tenant.path, body), 422, 'amount_too_large');
    expect(await account(tenant)).toMatchObject({ balance: MOST, granted: MOST });
    await setPrices([{ operation: 'embedding_tokens', micro_credits: MOST }]);
    expectProblem(
      await tenant.owner.post(`${tenant.kb}/search`, { query: 'x'.repeat(9000) }),
      422,
      'amount_too_large',
    );
  });

  it('is spent before it expires, and what is left of it then is gone', async () => {
    const tenant = await tenantWithText();
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 1000);
    await grant(tenant, 800, { expires_at: new Date(Date.now() + 3_600_000).toISOString() });
    await expectStatus(200, search(tenant));
    await superuser(
      `UPDATE credit_grants SET expires_at = now() - interval '1 second' WHERE tenant_id = $1 AND expires_at IS NOT NULL`,
      [tenant.id],
    );
    expect(await sweep()).toEqual({ released: 0, expired: 1 });
    expect(await sweep()).toEqual({ released: 0, expired: 0 });
    expect(await account(tenant)).toMatchObject({ balance: 1000, next_expiry: null });
    expect((await checked(tenant)).at(-1)).toMatchObject({ type: 'expire', delta: -300 });
  });

  it('can be corrected, but not below what there is', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 1000);
    const adjusted = await expectStatus(
      201,
      app.admin.post(tenant.path, { type: 'adjust', amount: -400, note: 'Too many' }),
    );
    expect(adjusted.body).toMatchObject({ type: 'adjust', delta: -400, amount: 400, balance_after: 600 });
    const refused = await app.admin.post(tenant.path, { type: 'adjust', amount: -601 });
    expectProblem(refused, 409, 'balance_too_low');
    expect(refused.body).toMatchObject({ required: 601, available: 600, missing: 1 });
    await expectStatus(201, app.admin.post(tenant.path, { type: 'adjust', amount: 50 }));
    expect(await account(tenant)).toMatchObject({ balance: 650, granted: 1050 });
    await checked(tenant);
  });
});

describe('whoever listens', () => {
  const events = async (tenant: Fixture, type: string, count: number) => {
    const found = () => heard.filter(event => event.tenantId === tenant.id && event.type === type);
    for (let waited = 0; found().length < count && waited < 5000; waited += 50) await sleep(50);
    return found().map(({ data }) => data);
  };

  it('hears once that credits are few, and once that there are none', async () => {
    const tenant = await tenantWithText();
    await superuser('UPDATE tenants SET emits_events = true WHERE id = $1', [tenant.id]);
    await setPrices([{ operation: 'query', micro_credits: 500 }]);
    await grant(tenant, 2000);
    expect(await events(tenant, 'credits.granted', 1)).toMatchObject([{ details: { amount: 2000 } }]);
    const changed = await expectStatus(200, tenant.owner.patch(tenant.path, { low_threshold: 1500 }));
    expect(changed.body).toMatchObject({ low_threshold: 1500, low_threshold_set: true });
    for (let times = 0; times < 4; times++) await expectStatus(200, search(tenant));
    await expectStatus(402, search(tenant));
    expect(await events(tenant, 'credits.low', 1)).toEqual([{ balance: 1000, held: 0, low_threshold: 1500 }]);
    expect(await events(tenant, 'credits.exhausted', 1)).toMatchObject([{ balance: 0 }]);
    await grant(tenant, 1600);
    await expectStatus(200, search(tenant));
    await sleep(1500);
    expect(await events(tenant, 'credits.low', 2)).toHaveLength(2);
    expect(await events(tenant, 'credits.exhausted', 1)).toHaveLength(1);
    const reset = await expectStatus(200, tenant.owner.patch(tenant.path, { low_threshold: null }));
    expect(reset.body).toMatchObject({ low_threshold: 160, low_threshold_set: false });
    for (const low_threshold of [-1, 0.5, '5', MOST + 1, undefined])
      expectProblem(await tenant.owner.patch(tenant.path, { low_threshold }), 422, 'validation_failed');
  });
});

describe('the ledger', () => {
  it('is exported, safe for spreadsheets', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 1000, { note: '=HYPERLINK("http://evil.example")' });
    await expectStatus(201, app.admin.post(tenant.path, { type: 'adjust', amount: -10, note: 'a, "b"\nc' }));
    const csv = await expectStatus(200, tenant.owner.get(`${tenant.path}/export?format=csv`));
    expect(csv.headers.get('content-type')).toBe('text/csv; charset=utf-8');
    expect(csv.headers.get('content-disposition')).toMatch(/attachment; filename="credits-t-.*\.csv"/);
    expect(csv.body).toContain('sequence,created_at,type,delta,amount,balance_after');
    expect(csv.body).toContain(`"'=HYPERLINK(""http://evil.example"")"`);
    expect(csv.body).toMatch(/\n2,[^,]+,adjust,-10,10,990,/);
    const lines = await expectStatus(200, tenant.owner.get(`${tenant.path}/export`));
    const entries = lines.body
      .trim()
      .split('\n')
      .map((line: string) => JSON.parse(line));
    expect(entries).toEqual(await ledger(tenant));
    const filtered = await tenant.owner.get(`${tenant.path}/export?type=adjust`);
    expect(filtered.body.trim().split('\n')).toHaveLength(1);
    for (const query of [
      'format=xml',
      'type=gift',
      'token_id=7',
      'start_date=2026-02-01&end_date=2026-01-01',
      'start_date=9999-12-31',
      'end_date=0000-01-01',
      'x=1',
    ]) {
      expectProblem(await tenant.owner.get(`${tenant.path}/export?${query}`), 422, 'validation_failed');
      expectProblem(await tenant.owner.get(`${tenant.path}/ledger?${query}`), 422, 'validation_failed');
    }
    const page = await expectStatus(200, tenant.owner.get(`${tenant.path}/ledger?page=2&page_size=1`));
    expect(page.body).toMatchObject({ total: 2, page: 2, page_size: 1, items: [{ sequence: 1 }] });
  });
});

it('reservations that ended long ago are forgotten, and what they moved is not', async () => {
  const tenant = await tenantWithText();
  await grant(tenant, 10_000);
  await setPrices([{ operation: 'query', micro_credits: 500 }]);
  const credits = service(CreditsService);
  const reserve = () =>
    inTenant(tenant, () =>
      credits.reserve({ operation: 'search', lines: [{ operation: 'query', quantity: 1 }] }),
    );
  const [over, open] = [await reserve(), await reserve()];
  const commit = () => inTenant(tenant, () => credits.commit(over!));
  expect(await commit()).toBe(500);
  const left = async () => {
    const query = 'SELECT id FROM credit_reservations WHERE tenant_id = $1';
    return (await superuser(query, [tenant.id])).map(({ id }) => id);
  };
  const deleteIn = (days: number) =>
    service(CreditJobs).deleteClosed(
      new Date(Date.now() + days * 24 * 3_600_000),
      new AbortController().signal,
    );
  await deleteIn(89);
  expect(await left()).toHaveLength(2);
  expect((await deleteIn(91)).deleted).toBeGreaterThanOrEqual(1);
  expect(await left()).toEqual([open!.id]);
  // It is not taken a second time.
  expect(await commit()).toBe(0);
  await inTenant(tenant, () => credits.release(over!));
  expect(await account(tenant)).toMatchObject({ balance: 9000, held: 500 });
  await inTenant(tenant, () => credits.release(open!));
  await checked(tenant);
});

describe('storage', () => {
  it('is charged for once a day, in as many parts as the month has days', async () => {
    const tenant = await tenantWithText();
    await grant(tenant, 100_000);
    await setPrices([{ operation: 'storage_mb_month', micro_credits: 31_000_000 }]);
    const charge = (day: string) =>
      service(CreditJobs).chargeStorage(new Date(day), new AbortController().signal);
    await Promise.all([charge('2030-01-10T01:00:00Z'), charge('2030-01-10T23:00:00Z')]);
    await charge('2030-01-10T12:00:00Z');
    const perDay = Math.ceil((FACT.length * 31_000_000) / (1024 * 1024 * 31));
    expect((await checked(tenant)).slice(1)).toMatchObject([
      { type: 'commit', operation: 'storage', delta: -perDay, idempotency_key: 'storage:2030-01-10' },
    ]);
    await charge('2030-01-11T00:00:00Z');
    // A clock that goes back charges for no day twice.
    await charge('2030-01-10T00:00:00Z');
    expect((await account(tenant)).balance).toBe(100_000 - 2 * perDay);
    // Nor does one that was years ahead give anybody these years.
    await charge('2050-01-01T00:00:00Z');
    await charge('2030-01-12T00:00:00Z');
    expect((await account(tenant)).balance).toBe(100_000 - 4 * perDay);
  });
});
