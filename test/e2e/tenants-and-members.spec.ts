import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
});
afterAll(() => app?.close());

const namesOf = (answer: { body: { items: Array<{ name: string }> } }) =>
  answer.body.items.map(item => item.name);
const statuses = (answers: Array<{ status: number }>) => answers.map(answer => answer.status).toSorted();

describe('tenants', () => {
  it('are created, read by id and name, changed, replaced and deleted', async () => {
    const { body: made } = await expectStatus(
      201,
      app.admin.post('/tenants', {
        name: 'acme',
        display_name: 'Acme',
        plan_tier: 'pro',
        metadata: { region: 'eu' },
      }),
    );
    expect(made).toMatchObject({
      name: 'acme',
      display_name: 'Acme',
      type: 'organization',
      plan_tier: 'pro',
      status: 'active',
      parent_id: null,
      metadata: { region: 'eu' },
      settings: {},
      kb_count: 0,
      document_count: 0,
      storage_mb: 0,
      member_count: 1,
    });
    expect((await app.admin.get(`/tenants/${made.id}`)).body).toEqual(made);
    expect((await app.admin.get(`/tenants/${made.id.toUpperCase()}`)).body).toEqual(made);
    expect((await app.admin.get('/tenants/acme')).body).toEqual(made);

    const patched = await expectStatus(200, app.admin.patch('/tenants/acme', { description: 'Everything' }));
    expect(patched.body).toMatchObject({
      ...made,
      description: 'Everything',
      updated_at: expect.any(String),
    });
    const replaced = await expectStatus(
      200,
      app.admin.put(`/tenants/${made.id}`, {
        display_name: 'Acme Ltd',
        description: '',
        settings: { a: 1 },
        metadata: {},
      }),
    );
    expect(replaced.body).toMatchObject({
      display_name: 'Acme Ltd',
      description: '',
      settings: { a: 1 },
      metadata: {},
      plan_tier: 'pro',
    });
    expectProblem(
      await app.admin.put('/tenants/acme', { display_name: 'Only this' }),
      422,
      'validation_failed',
    );

    const { status, headers } = await app.admin.delete('/tenants/acme');
    expect(status).toBe(204);
    expectProblem(await app.admin.get('/tenants/acme'), 404, 'not_found');
    expectProblem(await app.admin.get(`/tenants/${made.id}`), 404, 'not_found');
    expectProblem(await app.admin.delete('/tenants/acme'), 404, 'not_found');
    await app.jobEnded(headers.get('location') as string);
    expect((await app.admin.post('/tenants', { name: 'acme' })).body.display_name).toBe('acme');
  });

  it('have names of their own, also when two ask for one at once', async () => {
    expectProblem(await app.admin.post('/tenants', { name: 'acme' }), 409, 'name_taken');
    const both = await Promise.all([1, 2].map(() => app.admin.post('/tenants', { name: 'wanted' })));
    expect(statuses(both)).toEqual([201, 409]);
    expectProblem(
      both.find(answer => answer.status === 409)!,
      409,
      'name_taken',
    );
    expect((await app.admin.get('/tenants?search=wanted')).body.total).toBe(1);
  });

  it('stand below an organization, one level deep', async () => {
    const { body: parent } = await app.admin.get('/tenants/acme');
    const child = await expectStatus(
      201,
      app.admin.post('/tenants', { name: 'acme-lab', type: 'department', parent_id: parent.id }),
    );
    expect(child.body.parent_id).toBe(parent.id);
    const wrong = [
      { type: 'project', parent_id: child.body.id },
      { type: 'organization', parent_id: parent.id },
      { type: 'department', parent_id: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11' },
    ];
    for (const fields of wrong) {
      const answer = await app.admin.post('/tenants', { name: 'misplaced', ...fields });
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path: 'parent_id' }]);
    }
    expectProblem(await app.admin.get('/tenants/misplaced'), 404, 'not_found');
  });

  it('are listed whole for the platform, and for others as far as they are members', async () => {
    for (const name of ['zulu', 'yankee', 'xray']) await app.createTenant(name);
    const member = await app.createMember('zulu', 'viewer');
    await expectStatus(201, app.admin.post('/tenants/xray/members', { user_id: member.id, role: 'viewer' }));
    expect((await member.client.get('/tenants')).body).toMatchObject({
      items: [{ name: 'xray' }, { name: 'zulu' }],
      total: 2,
      page: 1,
      page_size: 20,
    });
    const all = await app.admin.get('/tenants?sort=-name&page_size=2');
    expect(namesOf(all)).toEqual(['zulu', 'yankee']);
    expect(all.body.total).toBeGreaterThan(4);
    expect(namesOf(await app.admin.get('/tenants?sort=-name&page_size=2&page=2'))).toEqual([
      'xray',
      'wanted',
    ]);
    expect(namesOf(await app.admin.get('/tenants?type=department'))).toEqual(['acme-lab']);
    expect(namesOf(await app.admin.get('/tenants?search=YANK'))).toEqual(['yankee']);
    expect(namesOf(await app.admin.get('/tenants?search=%25'))).toEqual([]);
    expect(namesOf(await app.admin.get('/tenants?page=1000'))).toEqual([]);
  });

  it('are made by the platform alone', async () => {
    const owner = await app.createMember('zulu', 'owner');
    expectProblem(await owner.client.post('/tenants', { name: 'mine' }), 403, 'forbidden');
    expectProblem(await owner.client.post('/tenants/zulu/suspend'), 403, 'forbidden');
    expectProblem(await app.admin.get('/tenants/mine'), 404, 'not_found');
    const admin = await app.createMember('zulu', 'admin');
    expectProblem(await admin.client.delete('/tenants/zulu'), 403, 'forbidden');
    const viewer = await app.createMember('zulu', 'viewer');
    expectProblem(await viewer.client.patch('/tenants/zulu', { display_name: 'Mine' }), 403, 'forbidden');
    expect((await app.admin.get('/tenants/zulu')).body).toMatchObject({
      display_name: 'zulu',
      status: 'active',
      member_count: 5,
    });
  });

  it('count what they hold', async () => {
    await app.addText('yankee', 'One fact. '.repeat(6000));
    expect((await app.admin.get('/tenants/yankee')).body).toMatchObject({
      kb_count: 1,
      document_count: 1,
      storage_mb: 0.06,
      member_count: 1,
    });
    await expectStatus(204, app.admin.delete('/tenants/yankee/kbs/docs'));
    expect((await app.admin.get('/tenants/yankee')).body).toMatchObject({
      kb_count: 0,
      document_count: 0,
      storage_mb: 0,
    });
  });

  it('that are suspended refuse their members, not the platform, until they are active again', async () => {
    await app.createTenant('asleep');
    const { client } = await app.createMember('asleep', 'owner');
    expect((await client.get('/tenants/asleep')).status).toBe(200);
    expect((await app.admin.post('/tenants/asleep/suspend')).body.status).toBe('suspended');
    expectProblem(await client.get('/tenants/asleep'), 403, 'tenant_suspended');
    expectProblem(await client.get('/tenants/asleep/kbs/docs'), 403, 'tenant_suspended');
    expectProblem(
      await client.post('/tenants/asleep/kbs/docs/search', { query: 'x' }),
      403,
      'tenant_suspended',
    );
    expect((await client.get('/auth/me')).status).toBe(200);
    expect((await app.admin.get('/tenants/asleep/kbs/docs')).status).toBe(200);
    expect(namesOf(await app.admin.get('/tenants?status=suspended'))).toEqual(['asleep']);
    expect((await app.admin.post('/tenants/asleep/activate')).body.status).toBe('active');
    expect((await client.get('/tenants/asleep/kbs/docs')).status).toBe(200);
  });

  it('are the same 404 for strangers as those that do not exist', async () => {
    const { client } = await app.createUser();
    const { id } = (await app.admin.get('/tenants/zulu')).body;
    for (const reference of ['zulu', id, 'absent', '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11']) {
      const answer = await client.get(`/tenants/${reference}`);
      expectProblem(answer, 404, 'not_found');
      expect(answer.body.detail).toBe('There is no such tenant.');
    }
  });
});

describe('members', () => {
  beforeAll(() => app.createTenant('club'));

  it('are added by id or address, listed, searched, sorted, paged, given other roles and removed', async () => {
    const ids: Record<string, string> = {};
    for (const name of ['berta', 'anton', 'caesar']) ids[name] = (await app.createUser(name)).id;
    const added = await app.admin.post('/tenants/club/members', { user_id: ids['berta'], role: 'editor' });
    expect(added).toMatchObject({
      status: 201,
      body: {
        user_id: ids['berta'],
        email: 'berta@example.com',
        roles: ['editor'],
        status: 'active',
        joined_by: expect.any(String),
      },
    });
    await expectStatus(
      201,
      app.admin.post('/tenants/club/members', {
        email: 'Anton@example.com',
        roles: ['viewer', 'editor', 'viewer'],
      }),
    );
    await expectStatus(
      201,
      app.admin.post('/tenants/club/members', { user_id: ids['caesar'], role: 'viewer' }),
    );

    const list = async (query: string) =>
      (await expectStatus(200, app.admin.get(`/tenants/club/members?${query}`))).body as {
        items: Array<{ email: string; roles: string[] }>;
        total: number;
      };
    const names = async (query: string) => (await list(query)).items.map(item => item.email.split('@')[0]);
    expect(await names('')).toEqual(['admin', 'berta', 'anton', 'caesar']);
    expect(await names('sort=email')).toEqual(['admin', 'anton', 'berta', 'caesar']);
    expect(await names('sort=-display_name&page_size=2&page=2')).toEqual(
      ['anton', 'admin'].toSorted().toReversed(),
    );
    expect(await names('search=CAES')).toEqual(['caesar']);
    expect(await names('search=_')).toEqual([]);
    expect(await names('role=editor&sort=email')).toEqual(['anton', 'berta']);
    expect((await list('page_size=1')).total).toBe(4);

    expectProblem(
      await app.admin.post('/tenants/club/members', { user_id: ids['berta'], role: 'viewer' }),
      409,
      'already_member',
    );
    expectProblem(
      await app.admin.post('/tenants/club/members', { email: 'nobody@example.com', role: 'viewer' }),
      404,
      'not_found',
    );
    const changed = await app.admin.put(`/tenants/club/members/${ids['anton']}`, { roles: ['admin'] });
    expect(changed).toMatchObject({ status: 200, body: { roles: ['admin'] } });
    expect(
      (await app.admin.patch(`/tenants/club/members/${ids['berta']}`, { role: 'viewer' })).body.roles,
    ).toEqual(['viewer']);
    expect((await app.admin.delete(`/tenants/club/members/${ids['caesar']}`)).status).toBe(204);
    expectProblem(await app.admin.delete(`/tenants/club/members/${ids['caesar']}`), 404, 'not_found');
    expectProblem(
      await app.admin.put(`/tenants/club/members/${ids['caesar']}`, { role: 'viewer' }),
      404,
      'not_found',
    );
    expect(await names('sort=email')).toEqual(['admin', 'anton', 'berta']);
    // Whoever comes back has the new roles alone.
    await expectStatus(
      201,
      app.admin.post('/tenants/club/members', { user_id: ids['caesar'], role: 'viewer_readonly' }),
    );
    expect((await list('search=caesar')).items[0]?.roles).toEqual(['viewer_readonly']);
  });

  it('are added once, also when two add them at once', async () => {
    const { id } = await app.createUser();
    const both = await Promise.all(
      [1, 2].map(() => app.admin.post('/tenants/club/members', { user_id: id, role: 'viewer' })),
    );
    expect(statuses(both)).toEqual([201, 409]);
  });

  it('feel a change of role, and a removal, with their next request', async () => {
    const { id, client } = await app.createMember('club', 'viewer');
    const create = (name: string) => client.post('/tenants/club/kbs', { name });
    expectProblem(await create('First'), 403, 'forbidden');
    await expectStatus(200, app.admin.put(`/tenants/club/members/${id}`, { role: 'editor' }));
    expect((await create('First')).status).toBe(201);
    await expectStatus(200, app.admin.patch(`/tenants/club/members/${id}`, { role: 'viewer_readonly' }));
    expectProblem(await create('Second'), 403, 'forbidden');
    expectProblem(await client.get('/tenants/club/kbs'), 403, 'forbidden');
    expect((await client.get('/tenants/club')).status).toBe(200);
    await expectStatus(204, app.admin.delete(`/tenants/club/members/${id}`));
    expectProblem(await client.get('/tenants/club'), 404, 'not_found');
    expect((await client.get('/tenants')).body.total).toBe(0);
  });

  it('give and take only what they hold themselves', async () => {
    const admin = await app.createMember('club', 'admin');
    const owner = await app.createMember('club', 'owner');
    const viewer = await app.createMember('club', 'viewer');
    const stranger = await app.createUser();
    const members = '/tenants/club/members';
    expectProblem(
      await admin.client.post(members, { user_id: stranger.id, role: 'owner' }),
      403,
      'role_above_own',
    );
    expectProblem(
      await admin.client.post(members, { user_id: stranger.id, roles: ['viewer', 'owner'] }),
      403,
      'role_above_own',
    );
    expectProblem(
      await admin.client.put(`${members}/${viewer.id}`, { role: 'owner' }),
      403,
      'role_above_own',
    );
    expectProblem(await admin.client.put(`${members}/${admin.id}`, { role: 'owner' }), 403, 'role_above_own');
    expectProblem(
      await admin.client.put(`${members}/${owner.id}`, { role: 'viewer' }),
      403,
      'role_above_own',
    );
    expectProblem(await admin.client.delete(`${members}/${owner.id}`), 403, 'role_above_own');
    expectProblem(
      await viewer.client.post(members, { user_id: stranger.id, role: 'viewer' }),
      403,
      'forbidden',
    );
    expectProblem(await viewer.client.delete(`${members}/${viewer.id}`), 403, 'forbidden');
    const roleOf = async (email: string) =>
      (await app.admin.get(`${members}?search=${email}`)).body.items[0]?.roles;
    expect(await roleOf(owner.email)).toEqual(['owner']);
    expect(await roleOf(viewer.email)).toEqual(['viewer']);
    expect(await roleOf(admin.email)).toEqual(['admin']);
    expect(await roleOf(stranger.email)).toBeUndefined();
    expect((await admin.client.put(`${members}/${viewer.id}`, { role: 'admin' })).status).toBe(200);
  });

  describe('of whom one owner is kept', () => {
    /** A tenant whose two last owners are users, and nobody else. */
    const twoOwners = async (name: string) => {
      await app.createTenant(name);
      const owners = [await app.createMember(name, 'owner'), await app.createMember(name, 'owner')] as const;
      const { id } = (await app.admin.get('/auth/me')).body;
      await expectStatus(204, app.admin.delete(`/tenants/${name}/members/${id}`));
      return owners;
    };
    const ownersOf = async (name: string) =>
      (await app.admin.get(`/tenants/${name}/members?role=owner`)).body.total;

    it('alone, or with a request of the platform', async () => {
      const [first, second] = await twoOwners('guild');
      await expectStatus(204, first.client.delete(`/tenants/guild/members/${second.id}`));
      for (const client of [first.client, app.admin]) {
        expectProblem(await client.delete(`/tenants/guild/members/${first.id}`), 409, 'last_owner');
        expectProblem(
          await client.put(`/tenants/guild/members/${first.id}`, { role: 'viewer' }),
          409,
          'last_owner',
        );
      }
      expect(
        (await first.client.put(`/tenants/guild/members/${first.id}`, { roles: ['owner', 'viewer'] })).status,
      ).toBe(200);
      expect(await ownersOf('guild')).toBe(1);
    });

    const ways: Array<
      [string, (path: string) => Promise<{ status: number; body: { code?: string } }>, number]
    > = [
      ['removed', path => app.admin.delete(path), 204],
      ['demoted with PUT', path => app.admin.put(path, { roles: ['viewer'] }), 200],
      ['demoted with PATCH', path => app.admin.patch(path, { role: 'viewer' }), 200],
    ];
    it.each(ways)('when both are %s at once', async (what, change, success) => {
      const name = what.replaceAll(' ', '-').toLowerCase();
      const owners = await twoOwners(name);
      const answers = await Promise.all(owners.map(({ id }) => change(`/tenants/${name}/members/${id}`)));
      expect(statuses(answers)).toEqual([success, 409]);
      expect(answers.find(answer => answer.status === 409)?.body.code).toBe('last_owner');
      expect(await ownersOf(name)).toBe(1);
    });

    it('when one is removed while the other is demoted', async () => {
      const [first, second] = await twoOwners('mixed');
      const answers = await Promise.all([
        app.admin.delete(`/tenants/mixed/members/${first.id}`),
        app.admin.put(`/tenants/mixed/members/${second.id}`, { role: 'editor' }),
      ]);
      expect(answers.filter(answer => answer.status === 409)).toHaveLength(1);
      expect(await ownersOf('mixed')).toBe(1);
    });
  });
});

describe('permissions', () => {
  it('are listed with the roles that hold them, and one’s own in the chosen tenant', async () => {
    const { client } = await app.createMember('club', 'viewer_readonly');
    const without = (await expectStatus(200, client.get('/permissions'))).body;
    expect(without.granted).toBeNull();
    expect(without.items).toContainEqual({
      name: 'kb:create',
      domain: 'tenant',
      description: 'Create knowledge bases',
    });
    expect(without.roles.map((role: { name: string }) => role.name)).toEqual([
      'owner',
      'admin',
      'editor',
      'viewer',
      'viewer_readonly',
    ]);
    const granted = ['tenant:read', 'query:run', 'chat:own'];
    expect((await client.withHeaders({ 'x-tenant-id': 'club' }).get('/permissions')).body.granted).toEqual(
      granted,
    );
    expect((await client.get('/permissions?tenant=club')).body.granted).toEqual(granted);
    expect(without.roles.at(-1).permissions).toEqual(granted);
    const platform = (await app.admin.withHeaders({ 'x-tenant-id': 'club' }).get('/permissions')).body
      .granted;
    expect(platform).toContain('tenant:delete');
  });
});

describe('a tenant chosen in several places', () => {
  it('is one and the same', async () => {
    await app.createTenant('here');
    await app.createTenant('there');
    const { client, id } = await app.createMember('here', 'editor');
    await expectStatus(201, app.admin.post('/tenants/there/members', { user_id: id, role: 'editor' }));
    const search = (from: typeof client, body: object = {}, query = '') =>
      from.post(`/tenants/here/kbs/docs/search${query}`, { query: 'anything', ...body });
    const hereId = (await client.get('/tenants/here')).body.id;
    expect(
      (await search(client.withHeaders({ 'x-tenant-id': hereId }), { tenant_id: 'here' }, '?tenant=here'))
        .status,
    ).toBe(200);
    expectProblem(await search(client.withHeaders({ 'x-tenant-id': 'there' })), 400, 'tenant_mismatch');
    expectProblem(await search(client, {}, '?tenant=there'), 400, 'tenant_mismatch');
    expectProblem(await search(client, { tenant_id: 'there' }), 400, 'tenant_mismatch');
    expectProblem(
      await client.withHeaders({ 'x-tenant-id': 'here' }).get('/permissions?tenant=there'),
      400,
      'tenant_mismatch',
    );
    expectProblem(await client.get('/permissions?tenant=here&tenant=there'), 400, 'tenant_mismatch');
    // Naming somebody else's is no way to learn whether it exists.
    expectProblem(await search(client.withHeaders({ 'x-tenant-id': 'club' })), 404, 'not_found');
    expectProblem(await search(client.withHeaders({ 'x-tenant-id': 'absent' })), 404, 'not_found');
    expectProblem(await search(client, { tenant_id: 'club' }), 404, 'not_found');
  });
});
