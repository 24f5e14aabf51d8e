import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

const TOKENS = '/tenants/acme/api-tokens';
const PAST = '2020-01-01T00:00:00Z';
const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString();

let app: TestApplication;
let owner: { id: string; client: Client };
let kbId: string;

beforeAll(async () => {
  app = await startTestApplication();
  ({ kbId } = await app.createTenant('acme'));
  await app.createTenant('other');
  owner = await app.createMember('acme', 'owner');
});
afterEach(() => vi.useRealTimers());
afterAll(() => app?.close());

const issue = (fields: Record<string, unknown> = {}, as = owner.client) =>
  issueToken(app, as, 'acme', fields);
const superuser = (statement: string): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement)).rows,
  );
/** A role of the tenant's own, and a member who has it. */
const memberWith = async (...permissions: string[]) => {
  const name = `role-${crypto.randomUUID().slice(0, 8)}`;
  await expectStatus(201, owner.client.post('/tenants/acme/roles', { name, permissions }));
  return { role: name, ...(await app.createMember('acme', name)) };
};

describe('an API token', () => {
  it('is shown once, and kept as a hash', async () => {
    for (const [kind, pattern] of [
      ['live', /^rk_live_[\w-]{43}$/],
      ['test', /^rk_test_[\w-]{43}$/],
    ] as const) {
      const { id, secret, body } = await issue({ kind });
      expect(secret).toMatch(pattern);
      expect(body).toMatchObject({ kind, is_active: true, rate_limit_per_minute: 60, created_by: owner.id });
      expect(body.prefix).toBe(secret.slice(0, 16));
      const read = await owner.client.get(`${TOKENS}/${id}`);
      const listed = await owner.client.get(TOKENS);
      expect(JSON.stringify([read.body, listed.body])).not.toContain(secret.slice(17));
      const stored = await superuser(
        'SELECT t::text, s::text AS secret FROM api_tokens t, api_token_secrets s',
      );
      expect(JSON.stringify(stored)).not.toContain(secret.slice(17));
    }
  });

  it('is not stored by whoever stands between', async () => {
    const { body } = await issue();
    const answers = [
      await owner.client.post(TOKENS, { name: 'uncached', scopes: ['query:run'] }),
      await owner.client.post(`${TOKENS}/${body.id}/rotate`, {}),
    ];
    for (const { headers } of answers) expect(headers.get('cache-control')).toBe('no-store');
  });

  it('is listed, searched, filtered and sorted', async () => {
    const first = await issue({ name: 'Ångström reader', kind: 'test', kb_ids: [kbId] });
    const second = await issue({ name: 'zz last', expires_at: inSeconds(3600) });
    await expectStatus(200, owner.client.patch(`${TOKENS}/${second.id}`, { is_active: false }));
    const ids = async (query: string) =>
      (await expectStatus(200, owner.client.get(`${TOKENS}?page_size=100&${query}`))).body.items.map(
        (item: any) => item.id,
      );
    expect(await ids('search=ångström')).toEqual([first.id]);
    expect(await ids(`search=${first.secret.slice(0, 16)}`)).toEqual([first.id]);
    expect(await ids('kind=test&search=reader')).toEqual([first.id]);
    expect(await ids('is_active=false')).toEqual([second.id]);
    expect(await ids(`kb_id=${kbId}`)).toEqual([first.id]);
    expect(await ids('expired=true')).toEqual([]);
    expect(await ids(`created_by=${crypto.randomUUID()}`)).toEqual([]);
    expect((await ids('sort=-name&search=zz last'))[0]).toBe(second.id);
    expect((await owner.client.get(`${TOKENS}?page=2&page_size=1`)).body).toMatchObject({
      page: 2,
      items: [expect.any(Object)],
    });
    expectProblem(await owner.client.get(`${TOKENS}?sort=secret`), 422, 'validation_failed');
  });

  it('has a name that no other of the tenant has', async () => {
    const { id } = await issue({ name: 'Unique' });
    const again = { name: 'uNIQUE', scopes: ['query:run'] };
    expectProblem(await owner.client.post(TOKENS, again), 409, 'name_taken');
    const other = await issue({ name: 'Another' });
    expectProblem(await owner.client.patch(`${TOKENS}/${other.id}`, { name: 'unique' }), 409, 'name_taken');
    await expectStatus(200, owner.client.patch(`${TOKENS}/${id}`, { name: 'UNIQUE' }));
    await expectStatus(201, app.admin.post('/tenants/other/api-tokens', again));
    const name = 'at once';
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => owner.client.post(TOKENS, { name, scopes: ['query:run'] })),
    );
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409, 409, 409, 409]);
  });

  it('is changed by one editor after the other', async () => {
    const { id } = await issue();
    const { headers } = await owner.client.get(`${TOKENS}/${id}`);
    const ifMatch = { 'if-match': headers.get('etag') as string };
    const at = owner.client.withHeaders(ifMatch);
    await expectStatus(200, at.patch(`${TOKENS}/${id}`, { monthly_credit_budget: 5_000_000 }));
    expectProblem(await at.patch(`${TOKENS}/${id}`, { name: 'late' }), 412, 'changed_meanwhile');
    expect((await owner.client.get(`${TOKENS}/${id}`)).body).toMatchObject({
      monthly_credit_budget: 5_000_000,
    });
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['no scopes', { scopes: [] }, 'scopes'],
    ['no scopes at all', { scopes: undefined }, 'scopes'],
    ['a permission of the platform', { scopes: ['platform:tenants'] }, 'scopes.0'],
    ['a permission of the user’s own', { scopes: ['user:read'] }, 'scopes.0'],
    ['no such permission', { scopes: ['kb:fly'] }, 'scopes.0'],
    ['an end in the past', { expires_at: PAST }, 'expires_at'],
    ['an end that is no time', { expires_at: 'tomorrow' }, 'expires_at'],
    ['an empty list of knowledge bases', { kb_ids: [] }, 'kb_ids'],
    ['a knowledge base that is not there', { kb_ids: [crypto.randomUUID()] }, 'kb_ids.0'],
    ['a rate of nothing', { rate_limit_per_minute: 0 }, 'rate_limit_per_minute'],
    ['a fraction of a credit', { monthly_credit_budget: 0.5 }, 'monthly_credit_budget'],
    ['less than no credits', { monthly_credit_budget: -1 }, 'monthly_credit_budget'],
    ['too many credits to count', { monthly_credit_budget: 2 ** 60 }, 'monthly_credit_budget'],
    ['web pages without being published', { allowed_origins: ['https://example.com'] }, 'allowed_origins'],
    ['a path for an origin', { allowed_origins: ['https://example.com/a'] }, 'allowed_origins.0'],
    ['a field that there is not', { hash: 'x' }, 'hash'],
  ])('is refused with %s', async (_, fields, path) => {
    const body = { name: 'bad', scopes: ['query:run'], ...fields };
    const answer = await owner.client.post(TOKENS, body);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0].path).toBe(path);
    expect((await owner.client.get(`${TOKENS}?search=bad`)).body.total).toBe(0);
  });

  it('that is kept to some knowledge bases makes no others', async () => {
    const both = { scopes: ['kb:create', 'kb:read'], kb_ids: [kbId] };
    const answer = await owner.client.post(TOKENS, { name: 'both', ...both });
    expect(answer.body.errors).toMatchObject([{ path: 'scopes', code: 'kept_to_kbs' }]);
    const { id } = await issue({ scopes: both.scopes });
    const kept = await owner.client.patch(`${TOKENS}/${id}`, { kb_ids: both.kb_ids });
    expect(kept.body.errors).toMatchObject([{ path: 'scopes', code: 'kept_to_kbs' }]);
  });

  it('names knowledge bases of its own tenant that its giver sees', async () => {
    const foreign = (await app.admin.get('/tenants/other/kbs/docs')).body.id;
    const answer = await owner.client.post(TOKENS, { name: 'x', scopes: ['query:run'], kb_ids: [foreign] });
    expect(answer.body.errors).toMatchObject([{ path: 'kb_ids.0', code: 'unknown_kb' }]);
    const closed = (await owner.client.post('/tenants/acme/kbs', { name: 'Closed', visibility: 'granted' }))
      .body;
    const maker = await memberWith('tenant:manage_tokens', 'query:run');
    const unseen = await maker.client.post(TOKENS, { name: 'x', scopes: ['query:run'], kb_ids: [closed.id] });
    expect(unseen.body.errors).toMatchObject([{ path: 'kb_ids.0', code: 'unknown_kb' }]);
  });

  it('writes down who made, changed, rotated and deleted it', async () => {
    const { id } = await issue({ name: 'audited' });
    await expectStatus(200, owner.client.patch(`${TOKENS}/${id}`, { scopes: ['query:run'] }));
    await expectStatus(200, owner.client.post(`${TOKENS}/${id}/rotate`, {}));
    await expectStatus(204, owner.client.delete(`${TOKENS}/${id}`));
    const { body } = await owner.client.get('/tenants/acme/audit?action=api_token.*&page_size=100');
    const actions = body.items
      .filter(({ resource }: any) => resource.id === id)
      .map(({ action }: any) => action);
    expect(actions.toSorted()).toEqual(
      ['created', 'deleted', 'rotated', 'updated'].map(what => `api_token.${what}`),
    );
  });

  it('is itself who acts, in the audit', async () => {
    const { id, client, body } = await issue({ name: 'Importer', scopes: ['kb:create', 'kb:read'] });
    await expectStatus(201, client.post('/tenants/acme/kbs', { name: 'Made by a token' }));
    const { body: audit } = await owner.client.get('/tenants/acme/audit?action=kb.created&page_size=100');
    expect(audit.items.map(({ actor }: any) => actor)).toContainEqual(
      expect.objectContaining({ type: 'api_token', id, name: body.name }),
    );
  });
});

describe('a credential', () => {
  it('is sent as Bearer or as X-API-Key, and once', async () => {
    const { secret, client } = await issue();
    const { secret: another } = await issue();
    const withKey = (key: string, as = app.anonymous) => as.withHeaders({ 'x-api-key': key });
    await expectStatus(200, client.get('/tenants/acme'));
    await expectStatus(200, withKey(secret).get('/tenants/acme'));
    await expectStatus(200, withKey(secret, client).get('/tenants/acme'));
    for (const as of [withKey(another, client), withKey(secret, owner.client)])
      expectProblem(await as.get('/tenants/acme'), 400, 'credential_mismatch');
    expectProblem(await withKey('').get('/tenants/acme'), 401, 'invalid_token');
    expectProblem(await withKey(owner.client.token as string).get('/tenants/acme'), 401, 'invalid_token');
    expectProblem(await app.anonymous.get('/tenants/acme'), 401, 'unauthorized');
  });

  it('that is not good any more is refused alike, whatever ended it', async () => {
    const creator = await app.createMember('acme', 'admin');
    const inactive = await issue();
    const revoked = await issue();
    const expired = await issue({ expires_at: inSeconds(600) });
    const disabled = await app.createMember('acme', 'admin');
    const removed = await app.createMember('acme', 'admin');
    const left = await app.createMember('acme', 'admin');
    const deleted = await app.createMember('acme', 'admin');
    const suspended = await app.createMember('acme', 'admin');
    const of = async ({ client }: { client: Client }) => (await issue({}, client)).secret;
    const good = await of(creator);
    const secrets = {
      unknown: `rk_live_${'A'.repeat(43)}`,
      wrong: good.slice(0, -4) + (good.endsWith('AAAA') ? 'BBBB' : 'AAAA'),
      malformed: 'rk_live_x',
      inactive: inactive.secret,
      revoked: revoked.secret,
      disabled: await of(disabled),
      removed: await of(removed),
      left: await of(left),
      deleted: await of(deleted),
      suspended: await of(suspended),
    };
    for (const secret of Object.values(secrets).slice(3))
      await expectStatus(200, app.anonymous.withToken(secret).get('/tenants/acme'));
    await expectStatus(200, owner.client.patch(`${TOKENS}/${inactive.id}`, { is_active: false }));
    await expectStatus(204, owner.client.delete(`${TOKENS}/${revoked.id}`));
    await expectStatus(200, app.admin.patch(`/users/${disabled.id}`, { is_active: false }));
    await expectStatus(204, owner.client.delete(`/tenants/acme/members/${removed.id}`));
    await expectStatus(204, left.client.post('/tenants/acme/leave'));
    await expectStatus(204, app.admin.delete(`/users/${deleted.id}`));
    await expectStatus(
      200,
      owner.client.patch(`/tenants/acme/members/${suspended.id}`, { status: 'suspended' }),
    );
    const details = new Set<string>();
    const refused = async (what: string, secret: string) => {
      const answer = await app.anonymous.withToken(secret).get('/tenants/acme');
      expect({ what, status: answer.status }).toEqual({ what, status: 401 });
      expectProblem(answer, 401, 'invalid_token');
      details.add(answer.body.detail);
    };
    for (const [what, secret] of Object.entries(secrets)) await refused(what, secret);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 601_000 });
    await refused('expired', expired.secret);
    vi.useRealTimers();
    expect(details.size).toBe(1);
    await expectStatus(200, app.anonymous.withToken(good).get('/tenants/acme'));
  });

  it('is good again when what stopped it has passed', async () => {
    const creator = await app.createMember('acme', 'admin');
    const { id, client } = await issue({}, creator.client);
    for (const is_active of [false, true])
      await expectStatus(200, owner.client.patch(`${TOKENS}/${id}`, { is_active }));
    await expectStatus(200, client.get('/tenants/acme'));
    for (const status of ['suspended', 'active'])
      await expectStatus(200, owner.client.patch(`/tenants/acme/members/${creator.id}`, { status }));
    await expectStatus(200, client.get('/tenants/acme'));
    for (const is_active of [false, true])
      await expectStatus(200, app.admin.patch(`/users/${creator.id}`, { is_active }));
    await expectStatus(200, client.get('/tenants/acme'));
  });

  it('says when it was last used, and only when it was', async () => {
    const { id, secret, client } = await issue({ scopes: ['query:run'] });
    const lastUsed = async () => (await owner.client.get(`${TOKENS}/${id}`)).body.last_used_at;
    await app.anonymous.withToken(`${secret.slice(0, -4)}xxxx`).get('/permissions');
    expectProblem(await client.get('/tenants/acme'), 403, 'forbidden');
    await sleep(1_300);
    expect(await lastUsed()).toBeNull();
    const before = Date.now();
    await Promise.all(Array.from({ length: 20 }, () => expectStatus(200, client.get('/permissions'))));
    await vi.waitFor(async () => expect(await lastUsed()).not.toBeNull(), { timeout: 5_000, interval: 100 });
    const first = await lastUsed();
    expect(new Date(first).getTime()).toBeGreaterThanOrEqual(before);
    await expectStatus(200, client.get('/permissions'));
    await sleep(1_300);
    expect(await lastUsed()).toBe(first);
  });
});

describe('an API token is rotated', () => {
  it('to a new secret, the old one good until the overlap ends', async () => {
    const { id, secret } = await issue();
    const { body } = await expectStatus(
      200,
      owner.client.post(`${TOKENS}/${id}/rotate`, { overlap_seconds: 600 }),
    );
    expect(body.secret).toMatch(/^rk_live_/);
    expect(body.secret).not.toBe(secret);
    expect(body.prefix).toBe(body.secret.slice(0, 16));
    expect(body.secrets.map((kept: any) => kept.prefix)).toEqual([body.prefix, secret.slice(0, 16)]);
    const status = async (token: string) =>
      (await app.anonymous.withToken(token).get('/tenants/acme')).status;
    expect([await status(secret), await status(body.secret)]).toEqual([200, 200]);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 601_000 });
    expect([await status(secret), await status(body.secret)]).toEqual([401, 200]);
    vi.useRealTimers();
    const again = await owner.client.post(`${TOKENS}/${id}/rotate`, { overlap_seconds: 0 });
    expect([await status(secret), await status(body.secret), await status(again.body.secret)]).toEqual([
      401, 401, 200,
    ]);
    expect(again.body.secrets).toHaveLength(1);
  });

  it('a day’s overlap where nothing is said, 30 days at most, and some times at most', async () => {
    const { id } = await issue();
    const { body } = await expectStatus(200, owner.client.send('POST', `${TOKENS}/${id}/rotate`));
    const end = new Date(body.secrets[1].expires_at).getTime();
    expect(Math.abs(end - Date.now() - 24 * 3600_000)).toBeLessThan(60_000);
    for (const overlap_seconds of [-1, 0.5, 30 * 24 * 3600 + 1])
      expectProblem(
        await owner.client.post(`${TOKENS}/${id}/rotate`, { overlap_seconds }),
        422,
        'validation_failed',
      );
    for (let i = 0; i < 8; i++) await expectStatus(200, owner.client.post(`${TOKENS}/${id}/rotate`, {}));
    expectProblem(await owner.client.post(`${TOKENS}/${id}/rotate`, {}), 409, 'too_many_secrets');
    await expectStatus(200, owner.client.post(`${TOKENS}/${id}/rotate`, { overlap_seconds: 0 }));
  });

  it('not once it has expired or is not active', async () => {
    const expired = await issue({ expires_at: inSeconds(1) });
    const inactive = await issue();
    await expectStatus(200, owner.client.patch(`${TOKENS}/${inactive.id}`, { is_active: false }));
    expectProblem(await owner.client.post(`${TOKENS}/${inactive.id}/rotate`, {}), 409, 'token_inactive');
    await sleep(1_100);
    expectProblem(await owner.client.post(`${TOKENS}/${expired.id}/rotate`, {}), 409, 'token_expired');
    expect((await owner.client.get(`${TOKENS}?expired=true`)).body.items).toMatchObject([{ id: expired.id }]);
    // Its name may still be mended, and its end put off.
    await expectStatus(200, owner.client.patch(`${TOKENS}/${expired.id}`, { name: 'was late' }));
    await expectStatus(200, owner.client.patch(`${TOKENS}/${expired.id}`, { expires_at: null }));
    await expectStatus(200, owner.client.post(`${TOKENS}/${expired.id}/rotate`, {}));
    expectProblem(await owner.client.post(`${TOKENS}/${crypto.randomUUID()}/rotate`, {}), 404, 'not_found');
  });
});

describe('a publishable token', () => {
  const fields = () => ({ name: 'widget', kind: 'publishable', kb_ids: [kbId], scopes: undefined });

  it('names pages and knowledge bases, and may ask and chat alone', async () => {
    const bad = { name: 'widget', kind: 'publishable', scopes: ['query:run'] };
    const { body } = await owner.client.post(TOKENS, bad);
    expect(body.errors.map(({ path }: any) => path).toSorted()).toEqual([
      'allowed_origins',
      'kb_ids',
      'scopes',
    ]);
    const token = await issue({
      ...fields(),
      allowed_origins: ['HTTPS://Www.Example.com:443', 'http://localhost:8080/'],
    });
    expect(token.secret).toMatch(/^rk_pub_[\w-]{43}$/);
    expect(token.body).toMatchObject({
      scopes: ['query:run', 'chat:own'],
      allowed_origins: ['https://www.example.com', 'http://localhost:8080'],
    });
    for (const change of [{ kb_ids: null }, { allowed_origins: [] }, { scopes: ['query:run'] }])
      expectProblem(await owner.client.patch(`${TOKENS}/${token.id}`, change), 422, 'validation_failed');
  });

  it('opens no route of this API', async () => {
    const { client } = await issue({ ...fields(), name: 'page', allowed_origins: ['https://example.com'] });
    for (const answer of [
      await client.post('/tenants/acme/kbs/docs/query', { query: 'What?' }),
      await client.post('/tenants/acme/kbs/docs/search', { query: 'What?' }),
      await client.get('/permissions'),
      await client.get('/tenants'),
    ])
      expectProblem(answer, 403, 'publishable_token');
  });
});
