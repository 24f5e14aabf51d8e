import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';

const TOKENS = '/tenants/acme/api-tokens';
const inHours = (hours: number) => new Date(Date.now() + hours * 3600_000).toISOString();

let app: TestApplication;
let owner: { id: string; email: string; client: Client };
let kbId: string;

beforeAll(async () => {
  app = await startTestApplication();
  ({ kbId } = await app.createTenant('acme'));
  await app.createTenant('other');
  owner = await app.createMember('acme', 'owner');
});
afterAll(() => app?.close());

const issue = (fields: Record<string, unknown> = {}, as = owner.client, tenant = 'acme') =>
  issueToken(app, as, tenant, fields);
const makeRole = async (...permissions: string[]) => {
  const name = `role-${crypto.randomUUID().slice(0, 8)}`;
  await expectStatus(201, owner.client.post('/tenants/acme/roles', { name, permissions }));
  return name;
};
const setRole = (user: string, role: string) =>
  expectStatus(200, owner.client.put(`/tenants/acme/members/${user}`, { role }));

describe('an API token is never above its creator', () => {
  it('who loses a role, and gets it again', async () => {
    const creator = await app.createMember('acme', 'admin');
    const { client } = await issue({ scopes: ['tenant:read', 'tenant:read_audit'] }, creator.client);
    await expectStatus(200, client.get('/tenants/acme/audit'));
    await setRole(creator.id, 'viewer');
    expectProblem(await client.get('/tenants/acme/audit'), 403, 'forbidden');
    await expectStatus(200, client.get('/tenants/acme'));
    expect((await client.get('/permissions')).body.granted).toEqual(['tenant:read']);
    await setRole(creator.id, 'admin');
    await expectStatus(200, client.get('/tenants/acme/audit'));
  });

  it('nor does it do all that its creator may', async () => {
    const { client } = await issue({ scopes: ['kb:read'] });
    await expectStatus(200, client.get('/tenants/acme/kbs/docs'));
    for (const answer of [
      await client.get('/tenants/acme'),
      await client.post('/tenants/acme/kbs/docs/search', { query: 'What?' }),
      await client.post('/tenants/acme/kbs', { name: 'New' }),
      await client.delete('/tenants/acme/kbs/docs'),
      await client.get(TOKENS),
    ])
      expectProblem(answer, 403, 'forbidden');
  });

  it('sees of closed knowledge bases and restricted documents what its creator sees', async () => {
    const [insider, outsider] = [
      await app.createMember('acme', 'admin'),
      await app.createMember('acme', 'admin'),
    ];
    const closed = { name: 'Closed', slug: 'closed', visibility: 'granted' };
    await expectStatus(201, owner.client.post('/tenants/acme/kbs', closed));
    const grant = { user_id: insider.id, role: 'viewer' };
    await expectStatus(201, owner.client.post('/tenants/acme/kbs/closed/grants', grant));
    const { id } = await app.addText('acme', `Only one may read this: ${crypto.randomUUID()}`);
    const document = `/tenants/acme/kbs/docs/documents/${id}`;
    await expectStatus(200, owner.client.put(`${document}/acl`, { acl: { members: [insider.id] } }));
    const scopes = ['kb:read', 'document:read'];
    const [inside, outside] = [
      await issue({ scopes }, insider.client),
      await issue({ scopes }, outsider.client),
    ];
    for (const user of [insider, outsider]) await setRole(user.id, 'viewer');
    await expectStatus(200, inside.client.get('/tenants/acme/kbs/closed'));
    await expectStatus(200, inside.client.get(document));
    expectProblem(await outside.client.get('/tenants/acme/kbs/closed'), 404, 'not_found');
    expectProblem(await outside.client.get(document), 404, 'not_found');
    expect((await outside.client.get('/tenants/acme/kbs')).body.items.map(({ slug }: any) => slug)).toEqual([
      'docs',
    ]);
    await setRole(insider.id, 'viewer_readonly');
    await expectStatus(200, inside.client.get('/tenants/acme/kbs/closed'));
    expectProblem(await inside.client.get('/tenants/acme/kbs/docs'), 403, 'forbidden');
  });

  it('also where that is somebody of the platform, in a tenant that is not theirs', async () => {
    const user = await app.createUser();
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { platform_roles: ['platform_admin'] }));
    const { client } = await issue({ scopes: ['tenant:read'] }, user.client);
    await expectStatus(200, client.get('/tenants/acme'));
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { platform_roles: [] }));
    expectProblem(await client.get('/tenants/acme'), 401, 'invalid_token');
  });
});

describe('an API token is for its own tenant', () => {
  it('and for no other, in which its creator is', async () => {
    await expectStatus(201, app.admin.post('/tenants/other/members', { user_id: owner.id, role: 'owner' }));
    const { client } = await issue();
    for (const path of ['/tenants/other', '/tenants/other/kbs', '/tenants/other/kbs/docs', '/tenants/none'])
      expectProblem(await client.get(path), 404, 'not_found');
    expectProblem(await client.post('/tenants/other/suspend'), 404, 'not_found');
    for (const header of ['other', 'none'])
      expectProblem(
        await client.withHeaders({ 'x-tenant-id': header }).get('/tenants/acme'),
        404,
        'not_found',
      );
    expectProblem(await client.get('/permissions?tenant=other'), 404, 'not_found');
    await expectStatus(200, client.withHeaders({ 'x-tenant-id': 'acme' }).get('/tenants/acme'));
  });

  it('which it need not name', async () => {
    const { client } = await issue({ scopes: ['kb:read', 'query:run'] });
    expect((await client.get('/permissions')).body.granted).toEqual(['kb:read', 'query:run']);
  });

  it('while that is active', async () => {
    await app.createTenant('paused');
    const { client } = await issue({}, app.admin, 'paused');
    await expectStatus(200, app.admin.post('/tenants/paused/suspend'));
    for (const path of ['/tenants/paused', '/permissions'])
      expectProblem(await client.get(path), 403, 'tenant_suspended');
    await expectStatus(200, app.admin.post('/tenants/paused/activate'));
    await expectStatus(200, client.get('/tenants/paused'));
    await expectStatus(204, app.admin.delete('/tenants/paused'));
    expectProblem(await client.get('/tenants/paused'), 401, 'invalid_token');
  });

  it('and not for the platform, nor for its creator’s own account', async () => {
    const { client } = await issue({ scopes: ['tenant:read', 'tenant:manage_members'] }, app.admin);
    for (const [method, path] of [
      ['GET', '/tenants'],
      ['POST', '/tenants'],
      ['GET', '/users'],
      ['GET', '/audit'],
      ['GET', '/auth/me'],
      ['PATCH', '/auth/me'],
      ['POST', '/auth/change-password'],
      ['POST', '/auth/logout'],
      ['POST', '/auth/switch-tenant'],
      ['GET', '/auth/sessions'],
      ['DELETE', '/auth/sessions'],
      ['GET', '/auth/invitations'],
      ['POST', '/tenants/acme/suspend'],
      ['POST', '/tenants/acme/leave'],
    ] as const)
      expectProblem(await client.send(method, path), 403, 'token_not_allowed');
  });

  it('and accepts no invitations in its creator’s name', async () => {
    // Somebody who has not shown that the address is theirs may accept signed in to the account, and not otherwise.
    const guest = await app.createMember('acme', 'admin');
    const { client } = await issue({}, guest.client);
    await expectStatus(
      201,
      app.admin.post('/tenants/other/invitations', { email: guest.email, role: 'viewer' }),
    );
    const invitation = tokenIn(await mailFolder(app.env.dataDir).waitFor(guest.email, 1));
    expectProblem(await client.post(`/invitations/${invitation}/accept`, {}), 403, 'account_unproven');
    await expectStatus(200, guest.client.post(`/invitations/${invitation}/accept`, {}));
  });

  it('and does with its creator’s groups, grants and rights what it may with anybody’s', async () => {
    const creator = await app.createMember('acme', 'admin');
    const group = (await owner.client.post('/tenants/acme/groups', { name: 'Writers' })).body.id;
    await expectStatus(
      201,
      owner.client.post(`/tenants/acme/groups/${group}/members`, { user_ids: [creator.id] }),
    );
    const given = { group_id: group, role: 'editor' };
    await expectStatus(201, owner.client.post('/tenants/acme/kbs/docs/grants', given));
    const own = { user_id: creator.id, role: 'editor' };
    const grant = (await owner.client.post('/tenants/acme/kbs/docs/grants', own)).body.id;
    const { client } = await issue(
      { scopes: ['tenant:read', 'tenant:manage_members', 'kb:update'] },
      creator.client,
    );
    const asEditor = `/tenants/acme/groups/${group}/members/${creator.id}`;
    expectProblem(await client.delete(asEditor), 403, 'role_above_own');
    expectProblem(await client.delete(`/tenants/acme/kbs/docs/grants/${grant}`), 403, 'role_above_own');
    const reader = await issue({ scopes: ['tenant:read'] }, creator.client);
    const rights = `/tenants/acme/members/${creator.id}/permissions`;
    expectProblem(await reader.client.get(rights), 403, 'forbidden');
    await expectStatus(200, client.get(rights));
    await expectStatus(204, creator.client.delete(asEditor));
    await expectStatus(204, creator.client.delete(`/tenants/acme/kbs/docs/grants/${grant}`));
  });

  it('and sees the jobs that it has asked for itself', async () => {
    const scopes = ['tenant:read', 'tenant:manage_members', 'query:run', 'chat:own'];
    const [one, another] = [await issue({ scopes }), await issue({ scopes: ['tenant:read'] })];
    const rows = {
      users: Array.from({ length: 1_001 }, (_, i) => ({
        email: `bulk${i}@example.com`,
        role: 'viewer_readonly',
      })),
    };
    const start = async (as: Client, tenant = 'acme') =>
      `/jobs/${(await expectStatus(202, as.post(`/tenants/${tenant}/members/bulk`, rows))).body.id}`;
    const own = await start(one.client);
    expect(await app.jobEnded(own)).toMatchObject({ status: 'succeeded' });
    await expectStatus(200, one.client.get(own));
    expectProblem(await another.client.get(own), 404, 'not_found');
    const owners = await start(owner.client);
    expectProblem(await another.client.get(owners), 404, 'not_found');
    // Whoever may do what a job does may look at it.
    await expectStatus(200, one.client.get(owners));
    expectProblem(await one.client.get(await start(app.admin, 'other')), 404, 'not_found');
  });
});

describe('nobody gives an API token what they do not hold', () => {
  it('when it is made', async () => {
    const admin = await app.createMember('acme', 'admin');
    const body = { name: 'above', scopes: ['tenant:read', 'tenant:delete'] };
    expectProblem(await admin.client.post(TOKENS, body), 403, 'scope_above_own');
    expect((await admin.client.get(`${TOKENS}?search=above`)).body.total).toBe(0);
    await expectStatus(201, owner.client.post(TOKENS, body));
    const viewer = await app.createMember('acme', 'viewer');
    expectProblem(await viewer.client.post(TOKENS, { name: 'x', scopes: ['kb:read'] }), 403, 'forbidden');
    expectProblem(await viewer.client.get(TOKENS), 403, 'forbidden');
  });

  it('when it is changed, but takes what they like', async () => {
    const admin = await app.createMember('acme', 'admin');
    const { id } = await issue({ scopes: ['tenant:read', 'tenant:delete'], rate_limit_per_minute: 10 });
    const change = (fields: object, as = admin.client) => as.patch(`${TOKENS}/${id}`, fields);
    for (const fields of [
      { scopes: ['tenant:read', 'tenant:delete'] },
      { scopes: ['tenant:delete'] },
      { rate_limit_per_minute: 11 },
    ])
      expectProblem(await change(fields), 403, 'scope_above_own');
    for (const fields of [
      { name: 'renamed' },
      { rate_limit_per_minute: 5 },
      { monthly_credit_budget: 0 },
      { kb_ids: [kbId] },
      { expires_at: inHours(1) },
      { is_active: false },
    ])
      await expectStatus(200, change(fields));
    for (const fields of [
      { monthly_credit_budget: null },
      { kb_ids: null },
      { expires_at: inHours(2) },
      { is_active: true },
    ])
      expectProblem(await change(fields), 403, 'scope_above_own');
    await expectStatus(200, change({ scopes: ['tenant:read'], is_active: true }));
    expectProblem(await change({ scopes: ['tenant:read_usage', 'tenant:delete'] }), 403, 'scope_above_own');
  });

  it('when its creator has lost a scope meanwhile', async () => {
    const creator = await app.createMember('acme', 'admin');
    const scopes = ['tenant:read', 'tenant:read_audit'];
    const { id, secret } = await issue({ scopes }, creator.client);
    const rotate = (as: Client) => as.post(`${TOKENS}/${id}/rotate`, { overlap_seconds: 0 });
    await setRole(creator.id, await makeRole('tenant:read', 'tenant:manage_tokens'));
    expectProblem(await rotate(creator.client), 403, 'scope_above_own');
    expectProblem(await rotate(owner.client), 403, 'scope_above_own');
    expectProblem(await creator.client.patch(`${TOKENS}/${id}`, { scopes }), 403, 'scope_above_own');
    expectProblem(await owner.client.patch(`${TOKENS}/${id}`, { scopes }), 403, 'scope_above_own');
    await expectStatus(200, app.anonymous.withToken(secret).get('/tenants/acme'));
    await expectStatus(200, creator.client.patch(`${TOKENS}/${id}`, { scopes: ['tenant:read'] }));
    await expectStatus(200, rotate(creator.client));
    expectProblem(await app.anonymous.withToken(secret).get('/tenants/acme'), 401, 'invalid_token');
  });

  it('nor the eyes of somebody who sees more', async () => {
    const { id } = await issue({ scopes: ['kb:read'], kb_ids: [kbId] });
    const keeper = await app.createMember('acme', await makeRole('tenant:manage_tokens', 'kb:read'));
    expectProblem(await keeper.client.post(`${TOKENS}/${id}/rotate`, {}), 403, 'limit_above_own');
    expectProblem(await keeper.client.patch(`${TOKENS}/${id}`, { kb_ids: null }), 403, 'limit_above_own');
    await expectStatus(200, keeper.client.patch(`${TOKENS}/${id}`, { is_active: false }));
    await expectStatus(204, keeper.client.delete(`${TOKENS}/${id}`));
    const own = await issue({ scopes: ['kb:read'] }, keeper.client);
    await expectStatus(200, keeper.client.post(`${TOKENS}/${own.id}/rotate`, {}));
  });
});

describe('an API token that makes others', () => {
  const scopes = ['tenant:manage_tokens', 'kb:read', 'query:run'];

  it('gives them no more than it has itself', async () => {
    const limits = {
      scopes,
      kb_ids: [kbId],
      rate_limit_per_minute: 3_000,
      monthly_credit_budget: 1_000,
      expires_at: inHours(2),
    };
    const maker = await issue(limits);
    const { secret: _, ...child } = (await issue({ scopes: ['kb:read'] }, maker.client)).body;
    expect(child).toMatchObject({
      kb_ids: [kbId],
      rate_limit_per_minute: 60,
      monthly_credit_budget: 1_000,
      expires_at: limits.expires_at,
      created_by: owner.id,
    });
    await issue({ scopes: ['kb:read'], rate_limit_per_minute: 1, expires_at: inHours(1) }, maker.client);
    const closed = (await owner.client.post('/tenants/acme/kbs', { name: 'Another' })).body.id;
    for (const [fields, status, code] of [
      [{ scopes: ['tenant:read'] }, 403, 'scope_above_own'],
      [{ kb_ids: null }, 403, 'limit_above_own'],
      [{ kb_ids: [kbId, closed] }, 403, 'limit_above_own'],
      [{ rate_limit_per_minute: 3_001 }, 403, 'limit_above_own'],
      [{ monthly_credit_budget: 1_001 }, 403, 'limit_above_own'],
      [{ monthly_credit_budget: null }, 403, 'limit_above_own'],
      [{ expires_at: inHours(3) }, 403, 'limit_above_own'],
      [{ expires_at: null }, 403, 'limit_above_own'],
    ] as const) {
      const body = { name: 'more', scopes: ['kb:read'], ...fields };
      expectProblem(await maker.client.post(TOKENS, body), status, code);
      expectProblem(await maker.client.patch(`${TOKENS}/${child.id}`, fields), status, code);
    }
    const { id: larger } = await issue({ scopes: ['kb:read'] });
    expectProblem(await maker.client.post(`${TOKENS}/${larger}/rotate`, {}), 403, 'limit_above_own');
    expectProblem(
      await maker.client.patch(`${TOKENS}/${larger}`, { rate_limit_per_minute: 61 }),
      403,
      'limit_above_own',
    );
    await expectStatus(200, maker.client.post(`${TOKENS}/${child.id}/rotate`, {}));
    await expectStatus(204, maker.client.delete(`${TOKENS}/${larger}`));
    // It may go on with itself, and end itself.
    await expectStatus(200, maker.client.patch(`${TOKENS}/${maker.id}`, { rate_limit_per_minute: 2_000 }));
    expectProblem(
      await maker.client.patch(`${TOKENS}/${maker.id}`, { rate_limit_per_minute: 3_000 }),
      403,
      'limit_above_own',
    );
    await expectStatus(204, maker.client.delete(`${TOKENS}/${maker.id}`));
    expectProblem(await maker.client.get(TOKENS), 401, 'invalid_token');
  });

  it('and is above itself in no other way', async () => {
    const managing = ['tenant:read', 'tenant:manage_members', 'kb:read', 'query:run'];
    const { client } = await issue({ scopes: managing, kb_ids: [kbId] });
    const guest = await app.createUser();
    // What a role gives in all knowledge bases, it holds in one.
    expectProblem(
      await client.post('/tenants/acme/members', { user_id: guest.id, role: 'viewer_readonly' }),
      403,
      'role_above_own',
    );
    const role = { name: 'reader', permissions: ['kb:read'] };
    expectProblem(await client.post('/tenants/acme/roles', role), 403, 'role_above_own');
    await expectStatus(201, client.post('/tenants/acme/roles', { ...role, permissions: ['tenant:read'] }));
    await expectStatus(201, client.post('/tenants/acme/members', { user_id: guest.id, role: 'reader' }));
    const group = (await client.post('/tenants/acme/groups', { name: 'Readers' })).body.id;
    expectProblem(
      await client.post(`/tenants/acme/groups/${group}/members`, { user_ids: [guest.id] }),
      403,
      'role_above_own',
    );
  });
});

describe('the API document', () => {
  it('says how API tokens are sent, and where they are let in', async () => {
    const { body } = await app.anonymous.get('//openapi.json');
    expect(body.components.securitySchemes.apiKey).toMatchObject({
      type: 'apiKey',
      in: 'header',
      name: 'X-API-Key',
    });
    const security = (path: string, method: string) => body.paths[`/api/v1${path}`][method].security;
    const either = [{ apiKey: [] }, { bearer: [] }];
    expect(security('/tenants/{tenant}/kbs', 'get')).toEqual(expect.arrayContaining(either));
    expect(security('/jobs/{job}', 'get')).toEqual(expect.arrayContaining(either));
    for (const [path, method] of [
      ['/auth/me', 'get'],
      ['/users', 'get'],
      ['/tenants/{tenant}/leave', 'post'],
    ] as const)
      expect(security(path, method)).toEqual([{ bearer: [] }]);
  });
});
