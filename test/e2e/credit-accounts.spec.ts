import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { CreditJobs } from '../../src/core/credits/credit-jobs.service.js';
import { CreditsService } from '../../src/core/credits/credits.service.js';
import { expectStatus } from '../setup/application.js';
import { expectProblem } from '../setup/problem.js';
import {
  MOST,
  FACT,
  app,
  heard,
  service,
  setPrices,
  type Fixture,
  tenantWithText,
  grant,
  account,
  ledger,
  search,
  superuser,
  sweep,
  inTenant,
  checked,
  useCreditsApplication,
} from '../setup/credits.js';

useCreditsApplication();

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
