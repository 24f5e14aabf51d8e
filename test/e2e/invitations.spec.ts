import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import { auditOf } from '../setup/audit-entries.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;
let people = 0;

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('club');
});
afterAll(() => app?.close());

const PASSWORD = 'a password of some length';
const statuses = (answers: Array<{ status: number }>) => answers.map(answer => answer.status).toSorted();
const newEmail = () => `guest${++people}@example.com`;

const invite = async (email: string, fields: object = { role: 'viewer' }, tenant = 'club') =>
  (await expectStatus(201, app.admin.post(`/tenants/${tenant}/invitations`, { email, ...fields }))).body;

/** The token of the newest of `count` e-mails to an address. */
const tokenFor = async (email: string, count = 1) =>
  tokenIn(await mailFolder(app.env.dataDir).waitFor(email, count));

const invited = async (email: string, fields?: object, tenant?: string) => {
  const { id } = await invite(email, fields, tenant);
  return { id: id as string, token: await tokenFor(email) };
};

const accept = (token: string, body: object = {}) => app.anonymous.post(`/invitations/${token}/accept`, body);

const asRoot = <T>(statement: string, values: unknown[] = []) =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement, values)).rows as T[],
  );
const expire = (id: string) =>
  asRoot(`UPDATE invitations SET expires_at = now() - interval '1 second' WHERE id = $1`, [id]);

describe('an invitation', () => {
  it('is sent, shown to whoever has its token, and accepted with a new account', async () => {
    const email = newEmail();
    const made = await invite(email.toUpperCase().replace('EXAMPLE.COM', 'Example.com'), {
      roles: ['viewer', 'editor'],
      message: 'Join us,\nplease.',
    });
    const { id: adminId, display_name: adminName } = (await app.admin.get('/auth/me')).body;
    expect(made).toEqual({
      id: expect.any(String),
      email,
      roles: ['viewer', 'editor'],
      message: 'Join us,\nplease.',
      status: 'pending',
      invited_by: adminId,
      accepted_by: null,
      created_at: expect.any(String),
      sent_at: expect.any(String),
      expires_at: expect.any(String),
      answered_at: null,
    });
    expect(Date.parse(made.expires_at) - Date.parse(made.created_at)).toBe(7 * 24 * 3600 * 1000);
    const token = await tokenFor(email);
    expect(JSON.stringify(made)).not.toContain(token);
    const shown = await expectStatus(200, app.anonymous.get(`/invitations/${token}`));
    expect(shown.body).toEqual({
      tenant: { name: 'club', display_name: 'club', branding: {} },
      email,
      roles: ['viewer', 'editor'],
      invited_by: adminName,
      message: 'Join us,\nplease.',
      status: 'pending',
      expires_at: made.expires_at,
      account_exists: false,
    });
    const without = await accept(token);
    expectProblem(without, 422, 'validation_failed');
    expect(without.body.errors).toMatchObject([{ path: 'password', code: 'required' }]);
    const accepted = await expectStatus(
      200,
      accept(token, { password: PASSWORD, display_name: 'A Guest', username: `guest${people}` }),
    );
    expect(accepted.body).toEqual({
      tenant: { id: expect.any(String), name: 'club', display_name: 'club' },
      user: { id: expect.any(String), email, display_name: 'A Guest' },
      created: true,
    });
    const client = await signIn(app.anonymous, { email, password: PASSWORD });
    expect((await client.post('/tenants/club/kbs', { name: `Of ${email}` })).status).toBe(201);
    const userId = accepted.body.user.id;
    expect((await app.admin.get(`/tenants/club/members/${userId}`)).body).toMatchObject({
      roles: ['viewer', 'editor'],
      joined_by: adminId,
      email_verified: true,
    });
    expect((await app.admin.get(`/tenants/club/invitations/${made.id}`)).body).toMatchObject({
      status: 'accepted',
      accepted_by: userId,
      answered_at: expect.any(String),
    });
    expect((await app.anonymous.get(`/invitations/${token}`)).body).toMatchObject({
      status: 'accepted',
      account_exists: true,
    });
    expectProblem(await accept(token), 409, 'invitation_accepted');
    expectProblem(await app.anonymous.post(`/invitations/${token}/decline`), 409, 'invitation_accepted');
    expectProblem(await app.admin.delete(`/tenants/club/invitations/${made.id}`), 409, 'invitation_accepted');
    expectProblem(
      await app.admin.post(`/tenants/club/invitations/${made.id}/resend`),
      409,
      'invitation_accepted',
    );

    const entries = (await auditOf(app, 'club')).filter(entry => entry.details['email'] === email);
    expect(entries.map(({ action, actor, resource }) => [action, actor, resource])).toEqual([
      ['invitation.created', 'user', made.id],
      ['member.added', 'anonymous', userId],
      ['invitation.accepted', 'anonymous', made.id],
    ]);
    expect((await auditOf(app, null)).filter(entry => entry.details['email'] === email)).toMatchObject([
      { action: 'user.created', resource: userId },
    ]);
    expect(JSON.stringify([...entries, ...(await auditOf(app, null))])).not.toContain(token);
  });

  it('is accepted with the account that the address has', async () => {
    const user = await app.createUser();
    const { token } = await invited(user.email, { role: 'editor' });
    expect((await app.anonymous.get(`/invitations/${token}`)).body.account_exists).toBe(true);
    for (const field of ['password', 'display_name', 'username']) {
      const refused = await accept(token, { [field]: PASSWORD.replaceAll(' ', '-') });
      expectProblem(refused, 422, 'validation_failed');
      expect(refused.body.errors).toMatchObject([{ path: field, code: 'account_exists' }]);
    }
    expect((await user.client.get('/tenants')).body.total).toBe(0);
    // Whoever made the account may not be who reads the mail: only both together are the invited person.
    const stranger = await app.createUser();
    expectProblem(await accept(token), 403, 'account_unproven');
    const path = `/invitations/${token}/accept`;
    expectProblem(await stranger.client.post(path, {}), 403, 'account_unproven');
    expectProblem(await user.client.withToken('no token').post(path, {}), 403, 'account_unproven');
    const { body } = await expectStatus(200, user.client.post(path, {}));
    expect(body).toMatchObject({ user: { id: user.id, email: user.email }, created: false });
    // From now on the address is proven, and a token alone will do.
    await app.createTenant('proven');
    await expectStatus(
      201,
      app.admin.post('/tenants/proven/invitations', { email: user.email, role: 'viewer' }),
    );
    await expectStatus(200, accept(await tokenFor(user.email, 2)));
    expect((await user.client.get('/tenants/club')).status).toBe(200);
    await signIn(app.anonymous, user);
  });

  it('lets an account without a password choose its first one', async () => {
    const email = newEmail();
    await expectStatus(
      201,
      app
        .createTenant('elsewhere')
        .then(() => app.admin.post('/tenants/elsewhere/members', { user: { email }, role: 'viewer' })),
    );
    const { token } = await invited(email);
    await expectStatus(200, accept(token, { password: PASSWORD }));
    const client = await signIn(app.anonymous, { email, password: PASSWORD });
    expect((await client.get('/tenants')).body.total).toBe(2);
  });

  it('is declined, and then made again', async () => {
    const email = newEmail();
    const { id, token } = await invited(email);
    expect((await app.anonymous.post(`/invitations/${token}/decline`)).status).toBe(204);
    expectProblem(await accept(token, { password: PASSWORD }), 409, 'invitation_declined');
    expect((await app.admin.get(`/tenants/club/invitations/${id}`)).body.status).toBe('declined');
    expectProblem(await app.admin.post('/tenants/club/members', { email, role: 'viewer' }), 404, 'not_found');
    await invite(email);
    expect((await auditOf(app, 'club')).at(-2)).toMatchObject({
      action: 'invitation.declined',
      details: { email },
    });
  });

  it('is revoked', async () => {
    const { id, token } = await invited(newEmail());
    expect((await app.admin.delete(`/tenants/club/invitations/${id}`)).status).toBe(204);
    expectProblem(await accept(token, { password: PASSWORD }), 409, 'invitation_revoked');
    expectProblem(await app.admin.delete(`/tenants/club/invitations/${id}`), 409, 'invitation_revoked');
    expect((await app.anonymous.get(`/invitations/${token}`)).body.status).toBe('revoked');
  });

  it('is sent again with another token, and the old one stops', async () => {
    const email = newEmail();
    const { id, token } = await invited(email);
    await expire(id);
    expectProblem(await accept(token, { password: PASSWORD }), 409, 'invitation_expired');
    const { body } = await expectStatus(200, app.admin.post(`/tenants/club/invitations/${id}/resend`));
    expect(body.status).toBe('pending');
    const next = await tokenFor(email, 2);
    expect(next).not.toBe(token);
    expectProblem(await accept(token, { password: PASSWORD }), 404, 'not_found');
    await expectStatus(200, accept(next, { password: PASSWORD }));
  });

  it('that has expired makes room for another', async () => {
    const email = newEmail();
    const { id, token } = await invited(email);
    await expire(id);
    expect((await app.admin.get(`/tenants/club/invitations?status=expired`)).body.items).toMatchObject([
      { id },
    ]);
    const again = await invite(email);
    expect(again.id).not.toBe(id);
    expectProblem(await accept(token, { password: PASSWORD }), 409, 'invitation_expired');
    expectProblem(await app.admin.post(`/tenants/club/invitations/${id}/resend`), 409, 'invitation_expired');
    expectProblem(await app.admin.delete(`/tenants/club/invitations/${id}`), 409, 'invitation_expired');
    expect((await app.admin.get(`/tenants/club/invitations?search=${email}`)).body.total).toBe(2);
    await expectStatus(200, accept(await tokenFor(email, 2), { password: PASSWORD }));
  });
});

describe('an address', () => {
  it('has one invitation to a tenant that waits, also when two come at once', async () => {
    const email = newEmail();
    const both = await Promise.all(
      [email, email.toUpperCase()].map(address =>
        app.admin.post('/tenants/club/invitations', { email: address, role: 'viewer' }),
      ),
    );
    expect(statuses(both)).toEqual([201, 409]);
    expectProblem(
      both.find(({ status }) => status === 409)!,
      409,
      'already_invited',
    );
    // Of another tenant, and with a plus sign, it is another one.
    await app.createTenant('second-club');
    await invite(email, { role: 'viewer' }, 'second-club');
    await invite(email.replace('@', '+sign@'));
  });

  it('of a member is not invited', async () => {
    const { email } = await app.createMember('club', 'viewer');
    expectProblem(
      await app.admin.post('/tenants/club/invitations', { email: email.toUpperCase(), role: 'editor' }),
      409,
      'already_member',
    );
  });

  it('that only looks like one is refused', async () => {
    for (const email of [
      'guest@ex\u0430mple.com',
      '\u0261uest@example.com',
      'guest',
      'a@b',
      '',
      'a\n@example.com',
    ]) {
      expectProblem(
        await app.admin.post('/tenants/club/invitations', { email, role: 'viewer' }),
        422,
        'validation_failed',
      );
    }
  });

  it('sees what it is invited to, by whoever signs in with it', async () => {
    const user = await app.createUser();
    const { id } = await invite(user.email);
    const list = async () => (await expectStatus(200, user.client.get('/auth/invitations'))).body.items;
    expect(await list()).toMatchObject([{ tenant: { name: 'club' }, roles: ['viewer'] }]);
    await expectStatus(204, app.admin.delete(`/tenants/club/invitations/${id}`));
    expect(await list()).toEqual([]);
  });
});

describe('a token', () => {
  it('is used once, also when two use it at once', async () => {
    const { token } = await invited(newEmail());
    const answers = await Promise.all([1, 2].map(() => accept(token, { password: PASSWORD })));
    expect(statuses(answers)).toEqual([200, 409]);
    expectProblem(
      answers.find(({ status }) => status === 409)!,
      409,
      'invitation_accepted',
    );
  });

  it('is either accepted or declined', async () => {
    const { token } = await invited(newEmail());
    const answers = await Promise.all([
      accept(token, { password: PASSWORD }),
      app.anonymous.post(`/invitations/${token}/decline`),
    ]);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(1);
  });

  it('that nobody was sent is answered like one that never was', async () => {
    for (const token of ['x', 'A'.repeat(43), '%00', '%F0%9F%98%80', '..%2f..', 'x'.repeat(400)]) {
      const answers = [
        await app.anonymous.get(`/invitations/${token}`),
        await accept(token, { password: PASSWORD }),
        await app.anonymous.post(`/invitations/${token}/decline`),
      ];
      for (const answer of answers) expect([400, 404]).toContain(answer.status);
    }
    expectProblem(await accept('A'.repeat(43), { password: PASSWORD }), 404, 'not_found');
  });

  it('leads to its own tenant alone', async () => {
    const email = newEmail();
    await app.createTenant('third-club');
    const { id, token } = await invited(email, { role: 'viewer' }, 'third-club');
    const elsewhere = app.anonymous.withHeaders({ 'x-tenant-id': 'club' });
    expectProblem(
      await elsewhere.post(`/invitations/${token}/accept`, { password: PASSWORD, tenant_id: 'club' }),
      422,
      'validation_failed',
    );
    const { body } = await expectStatus(
      200,
      elsewhere.post(`/invitations/${token}/accept`, { password: PASSWORD }),
    );
    expect(body.tenant.name).toBe('third-club');
    const client = await signIn(app.anonymous, { email, password: PASSWORD });
    expectProblem(await client.get('/tenants/club'), 404, 'not_found');
    for (const answer of [
      await app.admin.get(`/tenants/club/invitations/${id}`),
      await app.admin.post(`/tenants/club/invitations/${id}/resend`),
      await app.admin.delete(`/tenants/club/invitations/${id}`),
    ]) {
      expectProblem(answer, 404, 'not_found');
    }
  });

  it('opens nothing where the tenant is suspended, the account disabled, or the person suspended', async () => {
    await app.createTenant('closed');
    const first = newEmail();
    const { token } = await invited(first, { role: 'viewer' }, 'closed');
    await expectStatus(200, app.admin.post('/tenants/closed/suspend'));
    expectProblem(await accept(token, { password: PASSWORD }), 403, 'tenant_suspended');
    await expectStatus(200, app.admin.post('/tenants/closed/activate'));
    await expectStatus(200, accept(token, { password: PASSWORD }));

    const disabled = await app.createUser();
    const second = await invited(disabled.email);
    await expectStatus(200, app.admin.patch(`/users/${disabled.id}`, { is_active: false }));
    expectProblem(await accept(second.token), 403, 'account_disabled');

    const suspended = await app.createUser();
    const third = await invited(suspended.email);
    await expectStatus(
      201,
      app.admin.post('/tenants/club/members', { user_id: suspended.id, role: 'viewer' }),
    );
    await expectStatus(
      200,
      app.admin.patch(`/tenants/club/members/${suspended.id}`, { status: 'suspended' }),
    );
    expectProblem(
      await suspended.client.post(`/invitations/${third.token}/accept`, {}),
      409,
      'already_member',
    );
    expectProblem(await suspended.client.get('/tenants/club'), 404, 'not_found');
    expectProblem(
      await app.admin.post(`/tenants/club/invitations/${third.id}/resend`),
      409,
      'already_member',
    );
  });

  it('does not make an account whose user name is taken', async () => {
    await expectStatus(
      201,
      app.admin.post('/tenants/club/members', {
        user: { email: newEmail(), username: 'taken' },
        role: 'viewer',
      }),
    );
    const email = newEmail();
    const { token } = await invited(email);
    expectProblem(await accept(token, { password: PASSWORD, username: 'Taken' }), 409, 'username_taken');
    expectProblem(await accept(token, { password: 'short' }), 422, 'validation_failed');
    await expectStatus(200, accept(token, { password: PASSWORD }));
  });
});

describe('whoever invites', () => {
  it('gives what they hold, to roles that there are', async () => {
    const admin = await app.createMember('club', 'admin');
    const viewer = await app.createMember('club', 'viewer');
    const path = '/tenants/club/invitations';
    const email = newEmail();
    expectProblem(await admin.client.post(path, { email, role: 'owner' }), 403, 'role_above_own');
    expectProblem(await viewer.client.post(path, { email, role: 'viewer' }), 403, 'forbidden');
    expectProblem(await viewer.client.get(path), 403, 'forbidden');
    for (const role of ['boss', 'platform_admin']) {
      const answer = await admin.client.post(path, { email, role });
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path: 'role', code: 'unknown_role' }]);
    }
    expectProblem(await admin.client.post(path, { email }), 422, 'validation_failed');
    expectProblem(
      await admin.client.post(path, { email, role: 'viewer', roles: ['viewer'] }),
      422,
      'validation_failed',
    );
    const { id } = await invite(email, { role: 'owner' });
    expectProblem(await admin.client.post(`${path}/${id}/resend`), 403, 'role_above_own');
    expectProblem(await admin.client.delete(`${path}/${id}`), 403, 'role_above_own');
  });

  it('keeps the roles that an invitation has; one that went all the same is said', async () => {
    await expectStatus(
      201,
      app.admin.post('/tenants/club/roles', { name: 'helper', permissions: ['tenant:read'] }),
    );
    const email = newEmail();
    const { id, token } = await invited(email, { role: 'helper' });
    await asRoot(`DELETE FROM roles WHERE name = 'helper'`);
    expectProblem(await accept(token, { password: PASSWORD }), 409, 'role_gone');
    expectProblem(await app.admin.post(`/tenants/club/invitations/${id}/resend`), 409, 'role_gone');
    expectProblem(await app.admin.post('/tenants/club/members', { email, role: 'viewer' }), 404, 'not_found');
  });

  it('does so where the tenant has that switched on, for as many days as it says', async () => {
    await app.createTenant('quiet');
    await expectStatus(200, app.admin.put('/tenants/quiet/features', { features: { invitation_days: 2 } }));
    const made = await invite(newEmail(), { role: 'viewer' }, 'quiet');
    expect(Date.parse(made.expires_at) - Date.parse(made.created_at)).toBe(2 * 24 * 3600 * 1000);
    await expectStatus(200, app.admin.put('/tenants/quiet/features', { features: { invitations: false } }));
    const path = '/tenants/quiet/invitations';
    expectProblem(await app.admin.post(path, { email: newEmail(), role: 'viewer' }), 403, 'feature_disabled');
    expectProblem(await app.admin.post(`${path}/${made.id}/resend`), 403, 'feature_disabled');
    await expectStatus(204, app.admin.delete(`${path}/${made.id}`));
  });

  it('finds invitations by status and address, page by page', async () => {
    await app.createTenant('listed');
    const path = '/tenants/listed/invitations';
    for (const name of ['cc', 'aa', 'bb'])
      await invite(`${name}@listed.example`, { role: 'viewer' }, 'listed');
    const emails = async (query: string) =>
      (await expectStatus(200, app.admin.get(`${path}?${query}`))).body.items.map((item: { email: string }) =>
        item.email.slice(0, 2),
      );
    expect(await emails('')).toEqual(['cc', 'aa', 'bb']);
    expect(await emails('sort=-email')).toEqual(['cc', 'bb', 'aa']);
    expect(await emails('page_size=2&page=2')).toEqual(['bb']);
    expect(await emails('search=AA%40')).toEqual(['aa']);
    expect(await emails('status=accepted')).toEqual([]);
    expect(await emails('status=pending')).toHaveLength(3);
    expectProblem(await app.admin.get(`${path}?status=lost`), 422, 'validation_failed');
  });
});

it('tries of one address are counted', async () => {
  await app.close();
  app = await startTestApplication({ AUTH_RATE_LIMIT_PER_MINUTE: '3' });
  for (let attempt = 0; attempt < 3; attempt++) {
    expectProblem(await app.anonymous.get(`/invitations/${'A'.repeat(43)}`), 404, 'not_found');
  }
  const limited = await accept('A'.repeat(43));
  expectProblem(limited, 429, 'rate_limited');
  expect(Number(limited.headers.get('retry-after'))).toBeGreaterThan(0);
});
