import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { CreditsService } from '../../src/core/credits/credits.service.js';
import { UsageService } from '../../src/core/usage/usage.service.js';
import { expectStatus } from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { expectProblem } from '../setup/problem.js';
import {
  MOST,
  QUESTION,
  app,
  model,
  service,
  setPrices,
  type Fixture,
  tenantWithText,
  grant,
  account,
  ledger,
  search,
  ask,
  superuser,
  sweep,
  inTenant,
  checked,
  useCreditsApplication,
} from '../setup/credits.js';

useCreditsApplication();

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
      { operation: 'output_tokens', micro_credits: 25_000 },
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
    // The answer’s longest form, half of what the model takes in, cannot be paid for: the search before it is not charged either.
    const refused = await ask(tenant, { mode: 'keyword', max_tokens: 100_000 });
    expectProblem(refused, 402, 'insufficient_credits');
    expect(refused.body).toMatchObject({ required: 102_400, available: 99_500, missing: 2_900 });
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
