import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { mailFolder } from '../setup/mail-folder.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
});
afterAll(() => app?.close());

const TEMPLATES = '/tenant-templates';
const DEPARTMENT = {
  description: 'A department of ours',
  type: 'department',
  plan_tier: 'starter',
  settings: {
    max_users: 30,
    data_retention_days: 30,
    notification_email: '${TENANT_ADMIN_EMAIL}',
    greeting: 'Welcome to ${TENANT_DISPLAY_NAME} ($${LITERAL})',
  },
  config: { chunk_size: 800, system_prompt: 'You answer for ${TENANT_NAME}.' },
  features: { invitation_days: 3 },
  branding: { company_name: '${TENANT_DISPLAY_NAME}' },
  metadata: { owner: { email: '${TENANT_ADMIN_EMAIL}' } },
  roles: [
    {
      name: 'developer',
      description: 'Writes documents',
      permissions: ['tenant:read', 'kb:read', 'document:read', 'document:create', 'query:run'],
    },
  ],
  members: [
    { role: 'admin', users: ['${TENANT_ADMIN_EMAIL}'] },
    { role: 'developer', users: ['${DEVELOPER}', 'unknown@example.com'] },
    { role: 'viewer', users: ['${DEVELOPER}'] },
  ],
};
const errorsOf = (answer: Answer) =>
  answer.body.errors.map((error: { path: string; code: string }) => `${error.path} ${error.code}`);

describe('templates', () => {
  it('are made, read, listed, replaced and deleted', async () => {
    const { body } = await expectStatus(201, app.admin.post(TEMPLATES, { name: 'draft', ...DEPARTMENT }));
    expect(body).toMatchObject({ name: 'draft', ...DEPARTMENT });
    expect((await app.admin.get(`${TEMPLATES}/draft`)).body).toEqual(body);
    expectProblem(await app.admin.post(TEMPLATES, { name: 'draft' }), 409, 'name_taken');
    const replaced = await expectStatus(200, app.admin.put(`${TEMPLATES}/draft`, { type: 'project' }));
    expect(replaced.body).toMatchObject({
      name: 'draft',
      type: 'project',
      description: '',
      settings: {},
      roles: [],
    });
    expect((await app.admin.get(`${TEMPLATES}?search=DRA`)).body).toMatchObject({
      total: 1,
      items: [{ name: 'draft' }],
    });
    await expectStatus(204, app.admin.delete(`${TEMPLATES}/draft`));
    for (const answer of [
      await app.admin.get(`${TEMPLATES}/draft`),
      await app.admin.delete(`${TEMPLATES}/draft`),
      await app.admin.put(`${TEMPLATES}/draft`, {}),
    ]) {
      expectProblem(answer, 404, 'not_found');
    }
  });

  it('are the platform’s alone', async () => {
    const { client } = await app.createUser();
    expectProblem(await client.get(TEMPLATES), 403, 'forbidden');
    expectProblem(await client.post(TEMPLATES, { name: 'mine' }), 403, 'forbidden');
    expectProblem(await client.delete(`${TEMPLATES}/mine`), 403, 'forbidden');
  });

  it.each([
    [{ members: [{ role: 'wizard', users: [] }] }, 'members.0.role custom'],
    [{ roles: [{ name: 'owner', permissions: [] }] }, 'roles.0.name custom'],
    [
      {
        roles: [
          { name: 'twice', permissions: [] },
          { name: 'twice', permissions: [] },
        ],
      },
      'roles.1.name custom',
    ],
    [{ roles: [{ name: 'x', permissions: ['tenant:fly'] }] }, 'roles.0.permissions.0 invalid_value'],
    [{ roles: [{ name: 'x', permissions: ['platform:tenants'] }] }, 'roles.0.permissions.0 invalid_value'],
    [{ roles: [{ name: 'Große', permissions: [] }] }, 'roles.0.name invalid_format'],
    [{ features: { teleport: true } }, 'features.teleport unknown_field'],
    [{ features: { invitation_days: 'seven' } }, 'features.invitation_days invalid_type'],
    [{ config: { top_k: 0 } }, 'config.top_k too_small'],
    [{ config: { flavour: 'sweet' } }, 'config.flavour unknown_field'],
    [{ settings: { timezone: 'Mars' } }, 'settings.timezone custom'],
    [{ branding: { primary_color: 'red' } }, 'branding.primary_color invalid_format'],
    [{ members: [{ role: 'admin', users: ['nobody'] }] }, 'members.0.users.0 custom'],
    [{ type: 'galaxy' }, 'type invalid_value'],
    [{ default_roles: [] }, 'default_roles unknown_field'],
  ])('that say %j are refused', async (fields, error) => {
    const answer = await app.admin.post(TEMPLATES, { name: 'refused', ...fields });
    expectProblem(answer, 422, 'validation_failed');
    expect(errorsOf(answer)).toContain(error);
  });
});

describe('a tenant from a template', () => {
  beforeAll(async () => {
    await expectStatus(201, app.admin.post(TEMPLATES, { name: 'department_template', ...DEPARTMENT }));
  });

  const create = (name: string, fields: object = {}) =>
    app.admin.post('/tenants', { name, template: 'department_template', ...fields });

  it('has what the template says, filled in, with its roles and people', async () => {
    const developer = await app.createUser('grace');
    const { body } = await expectStatus(
      201,
      create('hr_team', {
        display_name: 'Human Resources',
        admin_user: { email: 'hr-admin@example.com', password: 'the password of hr' },
        placeholders: { DEVELOPER: developer.email },
        plan_tier: 'pro',
        settings: { max_users: null, timezone: 'Europe/Zurich' },
      }),
    );
    expect(body).toMatchObject({
      type: 'department',
      plan_tier: 'pro',
      branding: { company_name: 'Human Resources' },
      metadata: { owner: { email: 'hr-admin@example.com' } },
      features: { invitation_days: 3 },
      member_count: 2,
      members: expect.arrayContaining([
        { email: 'hr-admin@example.com', roles: ['admin'], outcome: 'added' },
        { email: developer.email, roles: ['developer', 'viewer'], outcome: 'added' },
        { email: 'unknown@example.com', roles: ['developer'], outcome: 'invited' },
      ]),
    });
    expect(body.settings).toEqual({
      data_retention_days: 30,
      notification_email: 'hr-admin@example.com',
      greeting: 'Welcome to Human Resources (${LITERAL})',
      timezone: 'Europe/Zurich',
    });
    const config = (await app.admin.get('/tenants/hr_team/config')).body.config;
    expect(config).toMatchObject({
      chunk_size: { value: 800, level: 'tenant' },
      system_prompt: { value: 'You answer for hr_team.', level: 'tenant' },
      top_k: { level: 'default' },
    });
    const { items } = (await app.admin.get('/tenants/hr_team/members?sort=email')).body;
    expect(items).toMatchObject([
      { email: developer.email, roles: ['developer', 'viewer'] },
      { email: 'hr-admin@example.com', roles: ['owner', 'admin'] },
    ]);
    const { body: role } = await app.admin.get('/tenants/hr_team/roles/developer');
    expect(role).toMatchObject({ description: 'Writes documents', built_in: false });
    // The role means something: it reads knowledge bases and makes none.
    expect((await developer.client.get('/tenants/hr_team/kbs')).status).toBe(200);
    expectProblem(await developer.client.post('/tenants/hr_team/kbs', { name: 'Mine' }), 403, 'forbidden');
    expect((await app.admin.get('/tenants/hr_team/invitations')).body.items).toMatchObject([
      { email: 'unknown@example.com', status: 'pending', roles: ['developer'] },
    ]);
    const mail = await mailFolder(app.env.dataDir).waitFor('unknown@example.com');
    expect(mail.subject).toContain('Human Resources');
  });

  it('needs a value for every placeholder, and says for which', async () => {
    const answer = await create('nameless');
    expectProblem(answer, 422, 'validation_failed');
    expect(errorsOf(answer)).toEqual([
      'placeholders.TENANT_ADMIN_EMAIL missing_placeholder',
      'placeholders.DEVELOPER missing_placeholder',
    ]);
    expectProblem(await app.admin.get('/tenants/nameless'), 404, 'not_found');
  });

  it('is checked with the values in it', async () => {
    const placeholders = { TENANT_ADMIN_EMAIL: 'not an address', DEVELOPER: '${STILL_OPEN}' };
    const answer = await create('wrong', { placeholders });
    expectProblem(answer, 422, 'validation_failed');
    expect(errorsOf(answer)).toContain('template.settings.notification_email invalid_format');
    const open = await create('wrong', {
      placeholders: { TENANT_ADMIN_EMAIL: 'a@example.com', DEVELOPER: '${STILL_OPEN}' },
    });
    expectProblem(open, 422, 'validation_failed');
    expectProblem(await app.admin.get('/tenants/wrong'), 404, 'not_found');
  });

  it('has its own values instead of the built-in ones where they are given', async () => {
    const { body } = await expectStatus(
      201,
      create('given', {
        placeholders: { TENANT_ADMIN_EMAIL: 'boss@example.com', DEVELOPER: 'dev@example.com' },
      }),
    );
    expect(body.settings.notification_email).toBe('boss@example.com');
    expect(body.members).toMatchObject([
      { email: 'boss@example.com', outcome: 'invited' },
      { email: 'dev@example.com', outcome: 'invited' },
      { email: 'unknown@example.com', outcome: 'invited' },
    ]);
    expect(body.member_count).toBe(1);
  });

  it('invites nobody where invitations are off', async () => {
    const answer = await create('closed', {
      features: { invitations: false },
      placeholders: { TENANT_ADMIN_EMAIL: 'boss@example.com', DEVELOPER: 'dev@example.com' },
    });
    expectProblem(answer, 422, 'validation_failed');
    expect(errorsOf(answer)).toEqual(['template.members feature_disabled']);
    expectProblem(await app.admin.get('/tenants/closed'), 404, 'not_found');
  });

  it('needs a template that there is, and no values without one', async () => {
    const unknown = await create('lost', { template: 'no_such_template' });
    expectProblem(unknown, 422, 'validation_failed');
    expect(errorsOf(unknown)).toEqual(['template unknown_template']);
    const idle = await create('lost', { template: undefined, placeholders: { A: 'b' } });
    expect(errorsOf(idle)).toEqual(['placeholders no_template']);
    const lower = await create('lost', { placeholders: { lower: 'b' } });
    expectProblem(lower, 422, 'validation_failed');
  });

  it('stays what it is when the template changes', async () => {
    await expectStatus(200, app.admin.put(`${TEMPLATES}/department_template`, { type: 'project' }));
    expect((await app.admin.get('/tenants/hr_team')).body).toMatchObject({ type: 'department' });
    expect((await expectStatus(201, create('later'))).body.type).toBe('project');
  });
});
