import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import { auditOf } from '../setup/audit-entries.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('club');
});
afterAll(() => app?.close());

const members = '/tenants/club/members';
const statuses = (answers: Array<{ status: number }>) => answers.map(answer => answer.status).toSorted();
const read = async (id: string, tenant = 'club') =>
  (await expectStatus(200, app.admin.get(`/tenants/${tenant}/members/${id}`))).body;

describe('a member', () => {
  it('is read with roles, groups, status and whoever added them', async () => {
    const { id, email } = await app.createMember('club', 'editor');
    const { id: adminId } = (await app.admin.get('/auth/me')).body;
    expect(await read(id)).toEqual({
      user_id: id,
      email,
      email_verified: false,
      display_name: email.split('@')[0],
      username: null,
      avatar_url: null,
      roles: ['editor'],
      groups: [],
      status: 'active',
      joined_at: expect.any(String),
      joined_by: adminId,
    });
    const { body: group } = await expectStatus(
      201,
      app.admin.post('/tenants/club/groups', { name: 'Support' }),
    );
    await app.admin.post(`/tenants/club/groups/${group.id}/members`, { user_id: id });
    expect((await read(id)).groups).toEqual(['Support']);
    const stranger = await app.createUser();
    expectProblem(await app.admin.get(`${members}/${stranger.id}`), 404, 'not_found');
    expectProblem(await stranger.client.get(`${members}/${id}`), 404, 'not_found');
  });

  it('is found by status and role', async () => {
    await app.createTenant('filters');
    const editor = await app.createMember('filters', 'editor');
    await app.createMember('filters', 'viewer');
    await expectStatus(
      200,
      app.admin.patch(`/tenants/filters/members/${editor.id}`, { status: 'suspended' }),
    );
    const list = async (query: string) =>
      (await expectStatus(200, app.admin.get(`/tenants/filters/members?${query}`))).body;
    expect((await list('status=suspended')).items).toMatchObject([{ user_id: editor.id }]);
    expect((await list('status=active')).total).toBe(2);
    expect((await list('role=editor&status=active')).total).toBe(0);
    expect((await list('role=nobody')).total).toBe(0);
    expect((await list(`search=${encodeURIComponent(editor.email)}&sort=-joined_at`)).total).toBe(1);
    expectProblem(await app.admin.get('/tenants/filters/members?status=gone'), 422, 'validation_failed');
  });
});

describe('an account made on the way', () => {
  it('is a member at once, and signs in with the password that it was given', async () => {
    const { body } = await expectStatus(
      201,
      app.admin.post(members, {
        user: {
          username: 'newdev',
          email: 'NewDev@Example.com',
          password: 'a secure password',
          full_name: 'New Developer',
        },
        role: 'editor',
        send_welcome_email: true,
      }),
    );
    expect(body).toMatchObject({
      email: 'newdev@example.com',
      username: 'newdev',
      display_name: 'New Developer',
      roles: ['editor'],
    });
    const client = await signIn(app.anonymous, {
      email: 'newdev@example.com',
      password: 'a secure password',
    });
    expect((await client.get('/tenants')).body.items).toMatchObject([{ name: 'club' }]);
    const mail = await mailFolder(app.env.dataDir).waitFor('newdev@example.com');
    expect(mail.subject).toContain('club');
    expect(() => tokenIn(mail)).toThrow(/no token/);
  });

  it('without a password gets a link to choose one', async () => {
    await expectStatus(
      201,
      app.admin.post(members, {
        user: { email: 'waits@example.com' },
        role: 'viewer',
        send_welcome_email: true,
      }),
    );
    const login = { email: 'waits@example.com', password: 'a password of some length' };
    expectProblem(await app.anonymous.post('/auth/login', login), 401, 'invalid_credentials');
    const token = tokenIn(await mailFolder(app.env.dataDir).waitFor('waits@example.com'));
    const reset = await app.anonymous.post('/auth/reset-password', { token, new_password: login.password });
    expect(reset.status).toBeLessThan(300);
    const client = await signIn(app.anonymous, login);
    expect((await client.get('/tenants/club')).status).toBe(200);
    const { id } = (await client.get('/auth/me')).body;
    expect(await read(id)).toMatchObject({ email_verified: true, display_name: 'waits' });
  });

  it('is there with its membership or not at all', async () => {
    const attempts: Array<[object, number, string]> = [
      [{ user: { email: 'newdev@example.com' }, role: 'viewer' }, 409, 'email_taken'],
      [{ user: { email: 'other@example.com', username: 'NEWDEV' }, role: 'viewer' }, 409, 'username_taken'],
      [{ user: { email: 'other@example.com' }, role: 'operator' }, 422, 'validation_failed'],
      [{ user: { email: 'other@example.com' }, role: 'platform_admin' }, 422, 'validation_failed'],
      [{ user: { email: 'other@example.com' } }, 422, 'validation_failed'],
      [
        { user: { email: 'other@example.com' }, email: 'other@example.com', role: 'viewer' },
        422,
        'validation_failed',
      ],
      // Looks like an “o” and is not one.
      [{ user: { email: '\u043ether@example.com' }, role: 'viewer' }, 422, 'validation_failed'],
      [{ user: { email: 'other@ex\u0430mple.com' }, role: 'viewer' }, 422, 'validation_failed'],
      [{ user: { email: 'other@example.com', password: 'short' }, role: 'viewer' }, 422, 'validation_failed'],
    ];
    for (const [body, status, code] of attempts)
      expectProblem(await app.admin.post(members, body), status, code);
    expectProblem(
      await app.admin.post(members, { email: 'other@example.com', role: 'viewer' }),
      404,
      'not_found',
    );
    const admin = await app.createMember('club', 'admin');
    expectProblem(
      await admin.client.post(members, { user: { email: 'other@example.com' }, role: 'owner' }),
      403,
      'role_above_own',
    );
    expectProblem(
      await app.admin.post(members, { email: 'other@example.com', role: 'viewer' }),
      404,
      'not_found',
    );
    const both = await Promise.all(
      [1, 2].map(() => app.admin.post(members, { user: { email: 'other@example.com' }, role: 'viewer' })),
    );
    expect(statuses(both)).toEqual([201, 409]);
  });

  it('has an address that is the same in capitals, and another one with a plus sign', async () => {
    await expectStatus(201, app.admin.post(members, { user: { email: 'plus@example.com' }, role: 'viewer' }));
    expectProblem(
      await app.admin.post(members, { user: { email: 'PLUS@example.COM' }, role: 'viewer' }),
      409,
      'email_taken',
    );
    expectProblem(
      await app.admin.post(members, { email: 'Plus@Example.com', role: 'viewer' }),
      409,
      'already_member',
    );
    await expectStatus(
      201,
      app.admin.post(members, { user: { email: 'plus+two@example.com' }, role: 'viewer' }),
    );
  });
});

describe('roles of a member', () => {
  it('are given, replaced and taken one by one', async () => {
    const { id, client } = await app.createMember('club', 'viewer');
    const roles = `${members}/${id}/roles`;
    expect((await expectStatus(201, app.admin.post(roles, { role_name: 'editor' }))).body.roles).toEqual([
      'viewer',
      'editor',
    ]);
    expect((await client.post('/tenants/club/kbs', { name: 'Mine' })).status).toBe(201);
    expectProblem(await app.admin.post(roles, { role: 'editor' }), 409, 'role_held');
    expectProblem(await app.admin.post(roles, { role: 'nothing' }), 422, 'validation_failed');
    expectProblem(
      await app.admin.post(roles, { role: 'editor', role_name: 'editor' }),
      422,
      'validation_failed',
    );
    const replaced = await app.admin.patch(`${roles}/editor`, { role_name: 'admin' });
    expect(replaced.body.roles).toEqual(['viewer', 'admin']);
    expectProblem(await app.admin.patch(`${roles}/editor`, { role: 'admin' }), 404, 'not_found');
    expectProblem(await app.admin.patch(`${roles}/viewer`, { role: 'admin' }), 409, 'role_held');
    expect((await app.admin.delete(`${roles}/admin`)).status).toBe(204);
    expectProblem(await app.admin.delete(`${roles}/admin`), 404, 'not_found');
    expectProblem(await app.admin.delete(`${roles}/viewer`), 409, 'last_role');
    expectProblem(await client.post('/tenants/club/kbs', { name: 'Mine too' }), 403, 'forbidden');
    expect((await read(id)).roles).toEqual(['viewer']);
  });

  it('may be the tenant’s own', async () => {
    await expectStatus(
      201,
      app.admin.post('/tenants/club/roles', { name: 'librarian', permissions: ['tenant:read', 'kb:create'] }),
    );
    const { id, client } = await app.createMember('club', 'librarian');
    expect((await client.post('/tenants/club/kbs', { name: 'Shelf' })).status).toBe(201);
    expect((await read(id)).roles).toEqual(['librarian']);
    await app.createTenant('without-librarians');
    const elsewhere = await app.admin.post('/tenants/without-librarians/members', {
      user_id: id,
      role: 'librarian',
    });
    expectProblem(elsewhere, 422, 'validation_failed');
    expect(elsewhere.body.errors).toMatchObject([{ path: 'role', code: 'unknown_role' }]);
  });

  it('above one’s own are neither given nor taken', async () => {
    const admin = await app.createMember('club', 'admin');
    const owner = await app.createMember('club', 'owner');
    const viewer = await app.createMember('club', 'viewer');
    const refused = [
      admin.client.post(`${members}/${viewer.id}/roles`, { role: 'owner' }),
      admin.client.post(`${members}/${owner.id}/roles`, { role: 'viewer' }),
      admin.client.patch(`${members}/${viewer.id}/roles/viewer`, { role: 'owner' }),
      admin.client.patch(`${members}/${owner.id}/roles/owner`, { role: 'viewer' }),
      admin.client.delete(`${members}/${owner.id}/roles/owner`),
      admin.client.patch(`${members}/${owner.id}`, { status: 'suspended' }),
    ];
    for (const answer of await Promise.all(refused)) expectProblem(answer, 403, 'role_above_own');
    expect((await read(owner.id)).status).toBe('active');
    expect((await read(viewer.id)).roles).toEqual(['viewer']);
  });

  it('do not add up when two set them at once', async () => {
    const { id } = await app.createMember('club', 'viewer');
    const answers = await Promise.all(
      ['editor', 'admin'].map(role => app.admin.put(`${members}/${id}`, { role })),
    );
    expect(answers.some(answer => answer.status === 200)).toBe(true);
    expect((await read(id)).roles).toHaveLength(1);
  });
});

describe('a suspended member', () => {
  it('is refused at once and everywhere, and comes back with the same roles', async () => {
    const { id, client, email } = await app.createMember('club', 'editor');
    expect((await client.get('/tenants/club/kbs')).status).toBe(200);
    const suspended = await app.admin.patch(`${members}/${id}`, { status: 'suspended' });
    expect(suspended.body).toMatchObject({ status: 'suspended', roles: ['editor'] });
    for (const path of ['/tenants/club', '/tenants/club/kbs', '/tenants/club/kbs/docs', members]) {
      expectProblem(await client.get(path), 404, 'not_found');
    }
    expectProblem(await client.post('/tenants/club/kbs/docs/search', { query: 'x' }), 404, 'not_found');
    expectProblem(await client.post('/tenants/club/leave'), 404, 'not_found');
    expectProblem(await client.post('/auth/switch-tenant', { tenant: 'club' }), 404, 'not_found');
    expect((await client.get('/tenants')).body.total).toBe(0);
    // No way around it.
    expectProblem(await app.admin.post(members, { email, role: 'viewer' }), 409, 'already_member');
    expectProblem(
      await app.admin.post('/tenants/club/invitations', { email, role: 'viewer' }),
      409,
      'already_member',
    );
    expect((await app.admin.put(`${members}/${id}`, { status: 'active' })).body.status).toBe('active');
    expect((await client.get('/tenants/club/kbs')).status).toBe(200);
  });

  it('is never oneself', async () => {
    const owner = await app.createMember('club', 'owner');
    expectProblem(
      await owner.client.patch(`${members}/${owner.id}`, { status: 'suspended' }),
      409,
      'not_yourself',
    );
  });
});

describe('the last active owner', () => {
  /** A tenant of two owners and nobody else. */
  const twoOwners = async (name: string) => {
    await app.createTenant(name);
    const owners = [await app.createMember(name, 'owner'), await app.createMember(name, 'owner')] as const;
    await expectStatus(204, app.admin.post(`/tenants/${name}/leave`));
    return owners;
  };

  it('stays, however the other one went', async () => {
    const [first, second] = await twoOwners('suspended-other');
    const path = `/tenants/suspended-other/members/${first.id}`;
    await expectStatus(
      200,
      first.client.patch(`/tenants/suspended-other/members/${second.id}`, { status: 'suspended' }),
    );
    await expectStatus(201, app.admin.post(`${path}/roles`, { role: 'viewer' }));
    const refused = [
      () => app.admin.delete(path),
      () => app.admin.put(path, { role: 'viewer' }),
      () => app.admin.patch(path, { status: 'suspended' }),
      () => app.admin.delete(`${path}/roles/owner`),
      () => app.admin.patch(`${path}/roles/owner`, { role: 'editor' }),
      () => first.client.post('/tenants/suspended-other/leave'),
      () => first.client.delete(path),
    ];
    for (const attempt of refused) expectProblem(await attempt(), 409, 'last_owner');
    expect(await read(first.id, 'suspended-other')).toMatchObject({
      roles: ['owner', 'viewer'],
      status: 'active',
    });
    // The suspended one may go: somebody remains.
    await expectStatus(204, app.admin.delete(`/tenants/suspended-other/members/${second.id}`));
  });

  it.each([
    ['suspended', (path: string) => app.admin.patch(path, { status: 'suspended' })],
    [
      'removed or suspended',
      (path: string, index: number) =>
        index === 0 ? app.admin.delete(path) : app.admin.patch(path, { status: 'suspended' }),
    ],
    ['stripped', (path: string) => app.admin.patch(`${path}/roles/owner`, { role: 'viewer' })],
  ] as const)('stays when both are %s at once', async (what, change) => {
    const name = `both-${what.replaceAll(' ', '-')}`;
    const owners = await twoOwners(name);
    const answers = await Promise.all(
      owners.map(({ id }, index) => change(`/tenants/${name}/members/${id}`, index)),
    );
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(1);
    expect((await app.admin.get(`/tenants/${name}/members?role=owner&status=active`)).body.total).toBe(1);
  });
});

describe('whoever leaves', () => {
  it('is no member any more, whatever the role, and takes groups and grants along', async () => {
    const { id, client } = await app.createMember('club', 'viewer_readonly');
    const { body: group } = await expectStatus(
      201,
      app.admin.post('/tenants/club/groups', { name: 'Leavers' }),
    );
    await app.admin.post(`/tenants/club/groups/${group.id}/members`, { user_id: id });
    expect((await read(id)).groups).toEqual(['Leavers']);
    expect((await client.post('/tenants/club/leave')).status).toBe(204);
    expectProblem(await client.get('/tenants/club'), 404, 'not_found');
    await expectStatus(201, app.admin.post(members, { user_id: id, role: 'viewer' }));
    expect(await read(id)).toMatchObject({ groups: [], roles: ['viewer'] });
  });

  it('may be an owner among others, who removes themselves', async () => {
    const owner = await app.createMember('club', 'owner');
    expect((await owner.client.delete(`${members}/${owner.id}`)).status).toBe(204);
    expectProblem(await owner.client.get('/tenants/club'), 404, 'not_found');
  });

  it('was a member', async () => {
    const outsider = await app.createUser();
    expectProblem(await outsider.client.post('/tenants/club/leave'), 404, 'not_found');
  });
});

describe('the audit of the tenant', () => {
  it('has every change, without secrets', async () => {
    await app.createTenant('watched');
    const { id, email } = await app.createMember('watched', 'viewer');
    const path = `/tenants/watched/members/${id}`;
    await expectStatus(200, app.admin.put(path, { role: 'editor' }));
    await expectStatus(200, app.admin.patch(path, { status: 'suspended' }));
    await expectStatus(204, app.admin.delete(path));
    const entries = (await auditOf(app, 'watched')).filter(entry => entry.resource === id);
    expect(entries.map(({ action, details }) => [action, details])).toEqual(
      expect.arrayContaining([
        ['member.added', { email, roles: ['viewer'] }],
        ['member.roles_changed', { email, before: ['viewer'], after: ['editor'] }],
        ['member.suspended', { email, before: 'active', after: 'suspended' }],
        ['member.removed', { email, roles: ['editor'], groups: [] }],
      ]),
    );
    expect(entries).toHaveLength(4);
  });
});
