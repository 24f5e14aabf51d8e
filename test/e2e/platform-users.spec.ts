import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import {
  ADMIN,
  type TestApplication,
  expectStatus,
  signIn,
  startTestApplication,
} from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { platformAudit } from '../setup/platform-audit.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
});
afterAll(() => app?.close());

let made = 0;
const password = 'a password of some length';
const login = (email: string, secret = password) =>
  app.anonymous.post('/auth/login', { email, password: secret });
/** An account with roles on the platform, signed in. */
const createPlatformUser = async (...roles: string[]) => {
  const email = `platform${++made}@example.com`;
  const { body } = await expectStatus(
    201,
    app.admin.post('/users', { email, display_name: email, password, platform_roles: roles }),
  );
  return { id: body.id as string, email, client: await signIn(app.anonymous, { email, password }) };
};
const adminId = async () => (await app.admin.get('/auth/me')).body.id as string;
const statuses = (answers: Array<{ status: number }>) => answers.map(answer => answer.status).toSorted();

describe('the users of the installation', () => {
  it('are made, read, changed and deleted', async () => {
    const { body } = await expectStatus(
      201,
      app.admin.post('/users', {
        email: 'New@Example.com',
        display_name: ' New ',
        username: 'newcomer',
        password,
      }),
    );
    expect(body).toMatchObject({
      email: 'new@example.com',
      email_verified: false,
      display_name: 'New',
      username: 'newcomer',
      is_active: true,
      last_login_at: null,
      platform_roles: [],
      tenant_memberships: [],
    });
    expect(JSON.stringify(body)).not.toMatch(/hash|argon2/);
    expect((await app.admin.get(`/users/${body.id}`)).body).toEqual(body);
    const client = await signIn(app.anonymous, { email: 'new@example.com', password });
    const changed = await expectStatus(
      200,
      app.admin.patch(`/users/${body.id}`, {
        email: 'moved@example.com',
        display_name: 'Moved',
        username: null,
        platform_roles: ['platform_auditor', 'platform_auditor'],
      }),
    );
    expect(changed.body).toMatchObject({
      email: 'moved@example.com',
      display_name: 'Moved',
      username: null,
      platform_roles: ['platform_auditor'],
    });
    expect((await client.get('/users')).status).toBe(200);
    expect((await app.admin.delete(`/users/${body.id}`)).status).toBe(204);
    expectProblem(await client.get('/auth/me'), 401, 'invalid_token');
    expectProblem(await login('moved@example.com'), 401, 'invalid_credentials');
    expectProblem(await app.admin.get(`/users/${body.id}`), 404, 'not_found');
    expectProblem(await app.admin.delete(`/users/${body.id}`), 404, 'not_found');
    expectProblem(await app.admin.patch(`/users/${body.id}`, { display_name: 'x' }), 404, 'not_found');
    expect((await app.admin.post('/users', { email: 'new@example.com', display_name: 'Again' })).status).toBe(
      201,
    );
    const entries = [
      ...(await platformAudit(app, 'user.created')),
      ...(await platformAudit(app, 'user.updated')),
      ...(await platformAudit(app, 'user.deleted')),
    ].filter(entry => entry.resource_id === body.id);
    expect(entries).toMatchObject([
      { action: 'user.created', actor_type: 'platform_admin', details: { email: 'new@example.com' } },
      {
        action: 'user.updated',
        details: {
          before: { email: 'new@example.com', username: 'newcomer' },
          after: { email: 'moved@example.com', username: null },
          platform_roles: { before: [], after: ['platform_auditor'] },
        },
      },
      { action: 'user.deleted', details: { email: 'moved@example.com' } },
    ]);
    expect(JSON.stringify(entries)).not.toContain(password);
  });

  it('are listed, searched, filtered and sorted', async () => {
    for (const name of ['zoe', 'yan', 'xia']) {
      await expectStatus(
        201,
        app.admin.post('/users', {
          email: `${name}@listed.example`,
          display_name: `Listed ${name}`,
          username: name,
        }),
      );
    }
    const auditor = await createPlatformUser('platform_auditor');
    const list = async (query: string) => (await expectStatus(200, app.admin.get(`/users?${query}`))).body;
    const emails = (body: { items: Array<{ email: string }> }) => body.items.map(item => item.email);
    expect(emails(await list('search=LISTED&sort=email'))).toEqual([
      'xia@listed.example',
      'yan@listed.example',
      'zoe@listed.example',
    ]);
    expect(await list('search=listed&sort=-email&page_size=2')).toMatchObject({ total: 3, page_size: 2 });
    expect(emails(await list('search=listed&sort=-email&page_size=2&page=2'))).toEqual([
      'xia@listed.example',
    ]);
    expect(emails(await list('search=%25'))).toEqual([]);
    expect(emails(await list('platform_role=platform_auditor'))).toContain(auditor.email);
    expect(emails(await list('platform_role=platform_admin'))).toEqual([ADMIN.email]);
    const { items } = await list('search=yan%40');
    await expectStatus(200, app.admin.patch(`/users/${items[0].id}`, { is_active: false }));
    expect(emails(await list('is_active=false&search=listed'))).toEqual(['yan@listed.example']);
    expect((await list('is_active=true&search=listed')).total).toBe(2);
    for (const query of ['is_active=maybe', 'platform_role=owner', 'sort=password_hash', 'page=0', 'x=1']) {
      expectProblem(await app.admin.get(`/users?${query}`), 422, 'validation_failed');
    }
  });

  it('are named once, by address and user name, also when two are made at once', async () => {
    const make = (fields: object) => app.admin.post('/users', { display_name: 'Twin', ...fields });
    expect(
      statuses(await Promise.all(['twin@x.example', 'TWIN@x.example'].map(email => make({ email })))),
    ).toEqual([201, 409]);
    const named = await Promise.all(
      ['Twin', 'tWIN'].map((username, i) => make({ email: `named${i}@x.example`, username })),
    );
    expect(statuses(named)).toEqual([201, 409]);
    expectProblem(
      named.find(({ status }) => status === 409)!,
      409,
      'username_taken',
    );
    expectProblem(await make({ email: 'twin@x.example', username: 'unused' }), 409, 'email_taken');
    const { body } = await expectStatus(201, make({ email: 'third@x.example' }));
    expectProblem(
      await app.admin.patch(`/users/${body.id}`, { email: 'Twin@x.example' }),
      409,
      'email_taken',
    );
    expectProblem(await app.admin.patch(`/users/${body.id}`, { username: 'TWIN' }), 409, 'username_taken');
  });

  it.each([
    {},
    { email: 'x@example.com' },
    { email: 'x@example.com', display_name: 'X', password: 'short' },
    { email: '\u0430@example.com', display_name: 'X' },
    { email: 'x@example.com', display_name: 'X', platform_roles: ['owner'] },
    { email: 'x@example.com', display_name: 'X', platform_roles: 'platform_admin' },
    { email: 'x@example.com', display_name: 'X', is_active: false },
    { email: 'x@example.com', display_name: 'X', username: 'a b' },
  ])('are not made of %j', async body => {
    expectProblem(await app.admin.post('/users', body), 422, 'validation_failed');
  });

  it('choose their own first password with a token that they are sent', async () => {
    await expectStatus(
      201,
      app.admin.post('/users', {
        email: 'welcome@example.com',
        display_name: 'Welcome',
        send_welcome_email: true,
      }),
    );
    const mail = await mailFolder(app.env.dataDir).waitFor('welcome@example.com');
    expect(mail.subject).toBe('Your new account');
    expect(mail.raw).not.toContain(password);
    await expectStatus(
      204,
      app.anonymous.post('/auth/reset-password', { token: tokenIn(mail), new_password: password }),
    );
    expect((await login('welcome@example.com')).body.user.email_verified).toBe(true);
  });

  it('are the platform’s alone to see and to change', async () => {
    await app.createTenant('owned');
    const owner = await app.createMember('owned', 'owner');
    const auditor = await createPlatformUser('platform_auditor');
    const target = await app.createUser();
    const attempts = (client: Client) => [
      client.post('/users', { email: 'y@example.com', display_name: 'Y' }),
      client.patch(`/users/${target.id}`, { display_name: 'Changed' }),
      client.delete(`/users/${target.id}`),
      client.post(`/users/${target.id}/tenants`, { tenant_id: 'owned', role: 'viewer' }),
      client.delete(`/users/${target.id}/tenants/owned`),
    ];
    for (const answer of await Promise.all([...attempts(owner.client), ...attempts(auditor.client)])) {
      expectProblem(answer, 403, 'forbidden');
    }
    expectProblem(await owner.client.get('/users'), 403, 'forbidden');
    expectProblem(await owner.client.get(`/users/${owner.id}`), 403, 'forbidden');
    expect((await auditor.client.get(`/users/${target.id}`)).status).toBe(200);
  });
});

describe('an account that is closed', () => {
  it('ends every session at once, and is opened again without them', async () => {
    const user = await app.createUser();
    const second = (await expectStatus(200, login(user.email, user.password))).body;
    const clients = [user.client, app.anonymous.withToken(second.access_token)];
    for (const client of clients) expect((await client.get('/auth/me')).status).toBe(200);
    const closed = await expectStatus(200, app.admin.patch(`/users/${user.id}`, { is_active: false }));
    expect(closed.body.is_active).toBe(false);
    for (const client of clients) expectProblem(await client.get('/auth/me'), 401, 'invalid_token');
    const refused = await login(user.email, user.password);
    expectProblem(refused, 401, 'invalid_credentials');
    const { request_id: _, ...wrong } = (await login(user.email, 'not the password')).body;
    expect(refused.body).toMatchObject(wrong);
    expectProblem(
      await app.anonymous.post('/auth/refresh', { refresh_token: second.refresh_token }),
      401,
      'invalid_refresh_token',
    );
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { is_active: true }));
    for (const client of clients) expectProblem(await client.get('/auth/me'), 401, 'invalid_token');
    expect((await login(user.email, user.password)).status).toBe(200);
  });

  it.runIf(SERVER)('ends them in every process within a second', async () => {
    const user = await app.createUser();
    const gone = await app.createUser();
    const other = await app.startAnother({ http: true, jobs: false });
    const there = (client: Client) => new Client(other.url as string, client.token);
    for (const { client } of [user, gone]) expect((await there(client).get('/auth/me')).status).toBe(200);
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { is_active: false }));
    await expectStatus(204, app.admin.delete(`/users/${gone.id}`));
    for (const { client } of [user, gone]) {
      await expect
        .poll(async () => (await there(client).get('/auth/me')).status, { timeout: 1_000 })
        .toBe(401);
    }
  });

  it('gets another password with which no session goes on', async () => {
    const user = await app.createUser();
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { password: `${password} 2` }));
    expectProblem(await user.client.get('/auth/me'), 401, 'invalid_token');
    expectProblem(await login(user.email, user.password), 401, 'invalid_credentials');
    expect((await login(user.email, `${password} 2`)).status).toBe(200);
    const mail = await mailFolder(app.env.dataDir).waitFor(user.email);
    expect(mail.subject).toBe('Your password was changed');
  });
});

describe('the admins of the platform', () => {
  it('do not close or delete themselves', async () => {
    const id = await adminId();
    expectProblem(await app.admin.patch(`/users/${id}`, { is_active: false }), 409, 'not_yourself');
    expectProblem(await app.admin.delete(`/users/${id}`), 409, 'not_yourself');
    expect((await app.admin.patch(`/users/${id}`, { display_name: 'Platform admin' })).status).toBe(200);
  });

  it('are never none', async () => {
    const id = await adminId();
    expectProblem(await app.admin.patch(`/users/${id}`, { platform_roles: [] }), 409, 'last_platform_admin');
    expectProblem(
      await app.admin.patch(`/users/${id}`, { platform_roles: ['platform_auditor'] }),
      409,
      'last_platform_admin',
    );
    // Another one who may not sign in is none.
    const closed = await createPlatformUser('platform_admin');
    await expectStatus(200, app.admin.patch(`/users/${closed.id}`, { is_active: false }));
    expectProblem(await app.admin.patch(`/users/${id}`, { platform_roles: [] }), 409, 'last_platform_admin');
    await expectStatus(204, app.admin.delete(`/users/${closed.id}`));
  });

  it.each([
    ['closes', (client: Client, id: string) => client.patch(`/users/${id}`, { is_active: false })],
    ['deletes', (client: Client, id: string) => client.delete(`/users/${id}`)],
    ['demotes', (client: Client, id: string) => client.patch(`/users/${id}`, { platform_roles: [] })],
  ])('are one of two when each %s the other at once', async (_, end) => {
    const [one, other] = [
      await createPlatformUser('platform_admin'),
      await createPlatformUser('platform_admin'),
    ];
    const first = await adminId();
    await makeOnlyAdmins(one.id, other.id);
    try {
      const answers = await Promise.all([end(one.client, other.id), end(other.client, one.id)]);
      expect(answers.filter(({ status }) => status < 300)).toHaveLength(1);
      // Who came second is no admin any more, or signed out, or would have been the last.
      expect([401, 403, 409]).toContain(answers.find(({ status }) => status >= 300)?.status);
    } finally {
      await makeOnlyAdmins(first);
    }
  });

  it('alone give roles on the platform, and change who has one', async () => {
    const [manager, target] = [await createPlatformUser(), await createPlatformUser('platform_auditor')];
    // Somebody who may manage users, and nothing else of the platform.
    await letManageUsers(manager.id);
    const plain = await app.createUser();
    expect((await manager.client.patch(`/users/${plain.id}`, { display_name: 'Plain' })).status).toBe(200);
    for (const answer of [
      await manager.client.post('/users', {
        email: 'risen@example.com',
        display_name: 'Risen',
        platform_roles: ['platform_admin'],
      }),
      await manager.client.patch(`/users/${plain.id}`, { platform_roles: ['platform_auditor'] }),
      await manager.client.patch(`/users/${manager.id}`, { platform_roles: ['platform_admin'] }),
      await manager.client.patch(`/users/${target.id}`, { password: `${password} 3` }),
      await manager.client.patch(`/users/${target.id}`, { email: 'taken-over@example.com' }),
      await manager.client.delete(`/users/${target.id}`),
      await manager.client.patch(`/users/${await adminId()}`, { password: `${password} 3` }),
    ]) {
      expectProblem(answer, 403, 'role_above_own');
    }
    expect((await app.admin.get(`/users/${target.id}`)).body).toMatchObject({ email: target.email });
  });
});

describe('the tenants of a user', () => {
  it('are given and taken by the platform, each with its roles', async () => {
    await app.createTenant('first');
    const second = await app.createTenant('second');
    const user = await app.createUser();
    const added = await expectStatus(
      201,
      app.admin.post(`/users/${user.id}/tenants`, { tenant_id: 'first', role: 'editor' }),
    );
    expect(added.body).toMatchObject({ user_id: user.id, roles: ['editor'], status: 'active' });
    await expectStatus(
      201,
      app.admin.post(`/users/${user.id}/tenants`, { tenant_id: second.id, roles: ['viewer', 'editor'] }),
    );
    expect((await app.admin.get(`/users/${user.id}`)).body.tenant_memberships).toMatchObject([
      { tenant_name: 'first', roles: ['editor'], status: 'active' },
      { tenant_id: second.id, tenant_name: 'second', roles: ['viewer', 'editor'], status: 'active' },
    ]);
    expect((await user.client.get('/tenants/second')).status).toBe(200);
    expectProblem(
      await app.admin.post(`/users/${user.id}/tenants`, { tenant_id: 'first', role: 'editor' }),
      409,
      'already_member',
    );
    expect((await app.admin.delete(`/users/${user.id}/tenants/${second.id}`)).status).toBe(204);
    expectProblem(await user.client.get('/tenants/second'), 404, 'not_found');
    expectProblem(await app.admin.delete(`/users/${user.id}/tenants/second`), 404, 'not_found');
  });

  it('are those that there are, with roles that there are, for users that there are', async () => {
    const user = await app.createUser();
    const add = (id: string, body: unknown) => app.admin.post(`/users/${id}/tenants`, body);
    expectProblem(await add(user.id, { tenant_id: 'absent', role: 'viewer' }), 404, 'not_found');
    expectProblem(await add(uuidv7(), { tenant_id: 'first', role: 'viewer' }), 404, 'not_found');
    expectProblem(await add(user.id, { tenant_id: 'first', role: 'absent' }), 422, 'validation_failed');
    expectProblem(
      await add(user.id, { tenant_id: 'first', role: 'platform_admin' }),
      422,
      'validation_failed',
    );
    for (const body of [{}, { role: 'viewer' }, { tenant_id: 'first' }, { tenant_id: 7, role: 'viewer' }]) {
      expectProblem(await add(user.id, body), 422, 'validation_failed');
    }
  });

  it('keep an owner: the last one is not deleted', async () => {
    const owner = await app.createUser();
    for (const name of ['kept-one', 'kept-two']) {
      await app.createTenant(name);
      await expectStatus(
        201,
        app.admin.post(`/users/${owner.id}/tenants`, { tenant_id: name, role: 'owner' }),
      );
      await expectStatus(204, app.admin.delete(`/users/${await adminId()}/tenants/${name}`));
    }
    const refused = await app.admin.delete(`/users/${owner.id}`);
    expectProblem(refused, 409, 'last_owner');
    expect(refused.body.tenants.map((tenant: { name: string }) => tenant.name)).toEqual([
      'kept-one',
      'kept-two',
    ]);
    expect((await owner.client.get('/tenants/kept-one')).status).toBe(200);
    const heir = await app.createMember('kept-one', 'owner');
    expect((await app.admin.delete(`/users/${owner.id}`)).body.tenants).toMatchObject([{ name: 'kept-two' }]);
    await expectStatus(
      201,
      app.admin.post(`/users/${heir.id}/tenants`, { tenant_id: 'kept-two', role: 'owner' }),
    );
    expect((await app.admin.delete(`/users/${owner.id}`)).status).toBe(204);
    expect((await app.admin.get('/tenants/kept-one/members')).body).toMatchObject({
      items: [{ user_id: heir.id, roles: ['owner'] }],
      total: 1,
    });
  });

  it('keep an owner when both are deleted at once', async () => {
    await app.createTenant('both');
    const owners = [await app.createMember('both', 'owner'), await app.createMember('both', 'owner')];
    await expectStatus(204, app.admin.delete(`/users/${await adminId()}/tenants/both`));
    const answers = await Promise.all(owners.map(({ id }) => app.admin.delete(`/users/${id}`)));
    expect(statuses(answers)).toEqual([204, 409]);
  });
});

const database = () => app.application.nest.get(PlatformDatabase, { strict: false });

async function makeOnlyAdmins(...ids: string[]): Promise<void> {
  await database().run(async tx => {
    await tx.query(`DELETE FROM casbin_rule WHERE ptype = 'g' AND v1 = 'platform_admin' AND v2 = 'platform'`);
    for (const id of ids) {
      await tx.query(
        `INSERT INTO casbin_rule (ptype, v0, v1, v2) VALUES ('g', $1, 'platform_admin', 'platform')`,
        [id],
      );
    }
  });
}

async function letManageUsers(id: string): Promise<void> {
  await database().run(async tx => {
    await tx.query(
      `INSERT INTO casbin_rule (ptype, v0, v1, v2, v3) VALUES ('p', 'user_manager', 'platform', 'platform', 'users')`,
    );
    await tx.query(
      `INSERT INTO casbin_rule (ptype, v0, v1, v2) VALUES ('g', $1, 'user_manager', 'platform')`,
      [id],
    );
  });
}
