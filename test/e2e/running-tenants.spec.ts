import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { mailFolder } from '../setup/mail-folder.js';
import { type Mailbox, tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';

const PASSWORD = 'a password of some length';

let app: TestApplication;
let mail: Mailbox;

beforeAll(async () => {
  app = await startTestApplication();
  mail = mailFolder(app.env.dataDir);
});
afterAll(() => app?.close());

const loggedIn = (email: string, password = PASSWORD) => signIn(app.anonymous, { email, password });

describe('an operator hands tenants to customers', () => {
  it('makes one with settings', async () => {
    const settings = {
      max_users: 50,
      data_retention_days: 90,
      timezone: 'America/New_York',
      notification_email: 'admin@marketing.example.com',
    };
    const { body } = await expectStatus(
      201,
      app.admin.post('/tenants', {
        name: 'marketing_team',
        display_name: 'Marketing Team',
        description: 'Marketing automation and campaign management',
        settings,
      }),
    );
    expect(body).toMatchObject({ name: 'marketing_team', status: 'active', type: 'organization', settings });
    expect((await app.admin.get('/tenants/marketing_team')).body.settings).toEqual(settings);
  });

  it('makes one with its first admin, who signs in and owns it', async () => {
    const admin_user = {
      username: 'sales_admin',
      email: 'admin@sales.example.com',
      password: 'secure-password-123',
      full_name: 'Sales Administrator',
    };
    const { body } = await expectStatus(
      201,
      app.admin.post('/tenants', { name: 'sales_team', display_name: 'Sales Team', admin_user }),
    );
    expect(body.admin_user).toMatchObject({ email: admin_user.email, created: true });
    expect(JSON.stringify(body)).not.toContain(admin_user.password);
    const admin = await loggedIn(admin_user.email, admin_user.password);
    const me = await expectStatus(200, admin.get('/auth/me'));
    expect(me.body).toMatchObject({ username: 'sales_admin', display_name: 'Sales Administrator' });
    expect(me.body.tenants).toMatchObject([{ name: 'sales_team', roles: ['owner'] }]);
    // The operator made it, and does not belong to it.
    const members = await expectStatus(200, admin.get('/tenants/sales_team/members'));
    expect(members.body.items.map((member: any) => member.email)).toEqual([admin_user.email]);
  });

  it('makes others from a template', async () => {
    await expectStatus(
      201,
      app.admin.post('/tenant-templates', {
        name: 'department_template',
        settings: { data_retention_days: 30, notification_email: '${TENANT_ADMIN_EMAIL}' },
        features: { invitation_days: 3 },
        config: { chunk_size: 800 },
        roles: [{ name: 'developer', permissions: ['tenant:read', 'kb:read', 'document:read', 'query:run'] }],
        members: [
          { role: 'admin', users: ['${TENANT_ADMIN_EMAIL}'] },
          { role: 'developer', users: ['${LEAD_EMAIL}'] },
        ],
      }),
    );
    const refused = await app.admin.post('/tenants', { name: 'hr_team', template: 'department_template' });
    expectProblem(refused, 422, 'validation_failed');
    expect(JSON.stringify(refused.body.errors)).toContain('TENANT_ADMIN_EMAIL');
    const { body } = await expectStatus(
      201,
      app.admin.post('/tenants', {
        name: 'hr_team',
        display_name: 'Human Resources',
        type: 'organization',
        template: 'department_template',
        placeholders: { TENANT_ADMIN_EMAIL: 'hr-admin@example.com', LEAD_EMAIL: 'hr-lead@example.com' },
      }),
    );
    expect(body.settings).toMatchObject({
      data_retention_days: 30,
      notification_email: 'hr-admin@example.com',
    });
    const config = await expectStatus(200, app.admin.get('/tenants/hr_team/config'));
    expect(config.body.config.chunk_size).toMatchObject({ value: 800, level: 'tenant' });
    expect(config.body.config.chunk_overlap).toMatchObject({ value: 100, level: 'default' });
    // Nobody of them has an account yet: they are invited.
    for (const email of ['hr-admin@example.com', 'hr-lead@example.com']) {
      const token = tokenIn(await mail.waitFor(email));
      await expectStatus(200, app.anonymous.post(`/invitations/${token}/accept`, { password: PASSWORD }));
    }
    const lead = await loggedIn('hr-lead@example.com');
    const me = await expectStatus(200, lead.get('/auth/me'));
    expect(me.body.tenants).toMatchObject([{ name: 'hr_team', roles: ['developer'] }]);
    expect((await lead.get('/tenants/hr_team/kbs')).status).toBe(200);
    expect((await lead.post('/tenants/hr_team/kbs', { name: 'No' })).status).toBe(403);
  });

  it('hangs departments under an organization, and sees all of them', async () => {
    const parent = (await app.admin.get('/tenants/marketing_team')).body;
    await expectStatus(
      201,
      app.admin.post('/tenants', { name: 'events', type: 'department', parent_id: parent.id }),
    );
    const { body } = await expectStatus(200, app.admin.get(`/tenants?parent_id=${parent.id}`));
    expect(body.items.map((tenant: any) => tenant.name)).toEqual(['events']);
    expect((await app.admin.get('/tenants')).body.total).toBe(4);
    const circle = await app.admin.patch('/tenants/marketing_team', { parent_id: parent.id });
    expectProblem(circle, 422, 'validation_failed');
  });

  it('moves people between tenants, and enters each', async () => {
    const user = await app.createUser();
    const { body: tenant } = await app.admin.get('/tenants/sales_team');
    await expectStatus(
      201,
      app.admin.post(`/users/${user.id}/tenants`, { tenant_id: tenant.id, role: 'viewer' }),
    );
    expect((await user.client.get('/tenants/sales_team')).status).toBe(200);
    const members = await app.admin
      .withHeaders({ 'x-tenant-id': 'sales_team' })
      .get('/tenants/sales_team/members');
    expect(members.body.total).toBe(2);
    await expectStatus(204, app.admin.delete(`/users/${user.id}/tenants/sales_team`));
    expect((await user.client.get('/tenants/sales_team')).status).toBe(404);
  });
});

describe('a customer’s admin runs the tenant', () => {
  let admin: Client;
  const tenant = '/tenants/sales_team';

  beforeAll(async () => {
    admin = await loggedIn('admin@sales.example.com', 'secure-password-123');
  });

  it('invites a colleague who is new, one who has an account, and one who declines', async () => {
    const invite = (email: string, role: string) => admin.post(`${tenant}/invitations`, { email, role });
    const known = await app.createUser();
    const declining = await app.createUser();
    await expectStatus(201, invite('New.Colleague+sales@Example.com', 'editor'));
    await expectStatus(201, invite(known.email, 'viewer'));
    await expectStatus(201, invite(declining.email, 'viewer'));
    expectProblem(await invite(known.email, 'viewer'), 409, 'already_invited');

    const token = tokenIn(await mail.waitFor('new.colleague+sales@example.com'));
    expect((await app.anonymous.get(`/invitations/${token}`)).body).toMatchObject({
      tenant: { name: 'sales_team' },
      account_exists: false,
      status: 'pending',
    });
    const accepted = await app.anonymous.post(`/invitations/${token}/accept`, { password: PASSWORD });
    expect(accepted.status, JSON.stringify(accepted.body)).toBe(200);
    expectProblem(
      await app.anonymous.post(`/invitations/${token}/accept`, { password: PASSWORD }),
      409,
      'invitation_accepted',
    );
    const colleague = await loggedIn('new.colleague+sales@example.com');
    await expectStatus(201, colleague.post(`${tenant}/kbs`, { name: 'Offers' }));

    // The invited person sees it, and answers with the token of the e-mail.
    const waiting = await expectStatus(200, known.client.get('/auth/invitations'));
    expect(waiting.body.items).toMatchObject([{ tenant: { name: 'sales_team' }, roles: ['viewer'] }]);
    expect((await known.client.get(tenant)).status).toBe(404);
    await expectStatus(
      200,
      known.client.post(`/invitations/${tokenIn(await mail.waitFor(known.email))}/accept`, {}),
    );
    expect((await known.client.get(tenant)).status).toBe(200);

    const declined = tokenIn(await mail.waitFor(declining.email));
    expect((await app.anonymous.post(`/invitations/${declined}/decline`)).status).toBeLessThan(300);
    expect((await declining.client.get(tenant)).status).toBe(404);
    const { body } = await expectStatus(200, admin.get(`${tenant}/invitations?sort=created_at`));
    expect(body.items.map((invitation: any) => invitation.status)).toEqual([
      'accepted',
      'accepted',
      'declined',
    ]);
  });

  it('creates accounts, and gives, changes and takes roles', async () => {
    const { body: member } = await expectStatus(
      201,
      admin.post(`${tenant}/members`, {
        user: {
          username: 'newdev',
          email: 'newdev@example.com',
          password: PASSWORD,
          full_name: 'New Developer',
        },
        role: 'viewer',
        send_welcome_email: true,
      }),
    );
    await mail.waitFor('newdev@example.com');
    const path = `${tenant}/members/${member.user_id}`;
    await expectStatus(201, admin.post(`${path}/roles`, { role_name: 'editor' }));
    const developer = await loggedIn('newdev@example.com');
    expect((await developer.get('/auth/me')).body.tenants[0].roles.toSorted()).toEqual(['editor', 'viewer']);
    await expectStatus(200, admin.patch(`${path}/roles/viewer`, { role_name: 'viewer_readonly' }));
    await expectStatus(204, admin.delete(`${path}/roles/editor`));
    expect((await developer.get(`${tenant}/kbs`)).status).toBe(403);
    await expectStatus(204, admin.delete(path));
    expect((await developer.get(tenant)).status).toBe(404);
  });

  it('takes in many at once, from JSON and from a file', async () => {
    const users = ['dev1', 'dev2', 'ops1'].map(username => ({
      username,
      email: `${username}@example.com`,
      role: 'viewer',
    }));
    const bulk = await expectStatus(
      200,
      admin.post(`${tenant}/members/bulk`, { users, send_welcome_emails: true, generate_passwords: true }),
    );
    expect(JSON.stringify(bulk.body)).toMatch(/"created"/);
    const form = new FormData();
    form.append('format', 'csv');
    const csv =
      'username,email,full_name,role\nalice.smith,alice@example.com,Alice Smith,editor\n' +
      'bob.jones,bob@example.com,Bob Jones,viewer\ndev1,dev1@example.com,,viewer\n';
    form.append('file', new Blob([csv], { type: 'text/csv' }), 'users.csv');
    const imported = await expectStatus(200, admin.post(`${tenant}/members/import`, form));
    expect(JSON.stringify(imported.body)).toMatch(/"unchanged"/);
    const { body } = await expectStatus(200, admin.get(`${tenant}/members?search=example.com&page_size=100`));
    const emails = body.items.map((member: any) => member.email);
    expect(emails).toEqual(
      expect.arrayContaining(['dev2@example.com', 'alice@example.com', 'bob@example.com']),
    );
    // They choose a password with the link of the e-mail.
    const token = tokenIn(await mail.waitFor('dev2@example.com'));
    const reset = await app.anonymous.post('/auth/reset-password', { token, new_password: PASSWORD });
    expect(reset.status, JSON.stringify(reset.body)).toBeLessThan(300);
    expect((await (await loggedIn('dev2@example.com')).get(tenant)).status).toBe(200);
  });

  it('keeps one knowledge base to three people', async () => {
    await expectStatus(201, admin.post(`${tenant}/kbs`, { name: 'Salaries' }));
    const text = await expectStatus(
      202,
      admin.post(`${tenant}/kbs/salaries/documents/text`, { text: 'The director earns twelve thousand.' }),
    );
    await app.settled('sales_team', text.body.id, 'salaries');
    const three = [];
    for (let i = 0; i < 3; i++) three.push(await app.createMember('sales_team', 'viewer'));
    const fourth = await app.createMember('sales_team', 'editor');
    await expectStatus(
      200,
      admin.put(`${tenant}/kbs/salaries/grants`, {
        grants: three.map(({ id }) => ({ user_id: id, role: 'viewer' })),
      }),
    );
    await expectStatus(200, admin.patch(`${tenant}/kbs/salaries`, { visibility: 'granted' }));
    const ask = { query: 'What does the director earn?', mode: 'keyword' };
    for (const { client } of three) {
      const { body } = await expectStatus(200, client.post(`${tenant}/kbs/salaries/search`, ask));
      expect(body.passages).toHaveLength(1);
      expect((await client.delete(`${tenant}/kbs/salaries`)).status).toBe(403);
    }
    expect((await fourth.client.post(`${tenant}/kbs/salaries/search`, ask)).status).toBe(404);
    expect((await fourth.client.get(`${tenant}/kbs`)).body.items.map((kb: any) => kb.slug)).not.toContain(
      'salaries',
    );
    const why = await expectStatus(
      200,
      admin.get(`${tenant}/members/${three[0]?.id}/permissions?kb=salaries`),
    );
    expect(JSON.stringify(why.body)).toContain('salaries');
  });

  it('changes settings, switches a feature, keeps a secret', async () => {
    const branding = {
      logo_url: 'https://assets.example.com/logo.png',
      primary_color: '#007bff',
      company_name: 'Sales Division',
    };
    await expectStatus(200, admin.patch(tenant, { settings: { max_users: 75 }, branding }));
    const { body } = await expectStatus(200, admin.get(tenant));
    expect(body).toMatchObject({ settings: { max_users: 75 }, branding });
    await expectStatus(200, admin.put(`${tenant}/features`, { features: { invitations: false } }));
    expectProblem(
      await admin.post(`${tenant}/invitations`, { email: 'late@example.com', role: 'viewer' }),
      403,
      'feature_disabled',
    );
    const secret = 'sk-very-secret-0815';
    const put = await admin.put(`${tenant}/variables/MARKETING_API_KEY`, { value: secret });
    expect(put.status).toBeLessThan(300);
    const listed = await expectStatus(200, admin.get(`${tenant}/variables`));
    expect(listed.body.items.map((variable: any) => variable.name)).toEqual(['MARKETING_API_KEY']);
    for (const path of [
      `${tenant}/variables`,
      `${tenant}/variables/MARKETING_API_KEY`,
      `${tenant}/audit?page_size=100`,
    ]) {
      expect(JSON.stringify((await admin.get(path)).body), path).not.toContain(secret);
    }
  });

  it('shows an auditor who did what, and when', async () => {
    const today = new Date().toISOString().slice(0, 10);
    const { body } = await expectStatus(
      200,
      admin.get(`${tenant}/audit?start_date=${today}&end_date=${today}&page_size=100`),
    );
    expect(body.total).toBeGreaterThan(20);
    const actions = body.items.map((entry: any) => entry.action);
    expect(actions).toEqual(expect.arrayContaining(['member.added', 'request.denied']));
    expect((await admin.get(`${tenant}/audit?end_date=2020-01-01`)).body.total).toBe(0);
    const denied = await expectStatus(200, admin.get(`${tenant}/audit?outcome=denied`));
    expect(denied.body.total).toBeGreaterThan(3);
    const verified = await expectStatus(200, admin.get(`${tenant}/audit/verify`));
    expect(verified.body).toMatchObject({ valid: true });
    const viewer = await loggedIn('dev2@example.com');
    expect((await viewer.get(`${tenant}/audit`)).status).toBe(403);
  });
});

describe('one person in many tenants', () => {
  it('has a role in each, and switches between them', async () => {
    const user = await app.createUser();
    const roles = { marketing_team: 'admin', sales_team: 'editor', hr_team: 'viewer' };
    for (const [name, role] of Object.entries(roles)) {
      await expectStatus(201, app.admin.post(`/tenants/${name}/members`, { user_id: user.id, role }));
    }
    const { body: me } = await expectStatus(200, user.client.get('/auth/me'));
    expect(Object.fromEntries(me.tenants.map((t: any) => [t.name, t.roles.join()]))).toEqual(roles);
    for (const [name, role] of Object.entries(roles)) {
      const { body } = await expectStatus(200, user.client.post('/auth/switch-tenant', { tenant: name }));
      const there = app.anonymous.withToken(body.access_token);
      const { body: permissions } = await expectStatus(200, there.get('/permissions'));
      expect(permissions.granted.includes('tenant:manage'), name).toBe(role === 'admin');
      expect(permissions.granted.includes('kb:create'), name).toBe(role !== 'viewer');
      const other = name === 'hr_team' ? 'sales_team' : 'hr_team';
      expectProblem(await there.get(`/tenants/${other}`), 400, 'tenant_mismatch');
    }
    expect((await user.client.get('/tenants')).body.total).toBe(3);
    const byId = await user.client.post('/auth/switch-tenant', { tenant_id: me.tenants[0].id });
    expect(byId.status, JSON.stringify(byId.body)).toBe(200);
    expectProblem(await user.client.post('/auth/switch-tenant', {}), 422, 'validation_failed');
  });
});
