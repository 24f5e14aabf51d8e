import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { mailFolder } from '../setup/mail-folder.js';
import { tokenIn } from '../setup/mail-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
});
afterAll(() => app?.close());

const statuses = (answers: Answer[]) => answers.map(answer => answer.status).toSorted();
const create = (name: string, fields: object = {}) => app.admin.post('/tenants', { name, ...fields });
const errorsOf = (answer: Answer) =>
  answer.body.errors.map((error: { path: string; code: string }) => `${error.path} ${error.code}`);

/** Actions in a chain, the oldest first. @param tenantId null: the platform's */
function actionsIn(tenantId: string | null): Promise<Array<{ action: string; details: any }>> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => {
    const { rows } = await client.query(
      `SELECT action, details FROM audit_entries WHERE tenant_id IS NOT DISTINCT FROM $1 AND outcome = 'allowed'
       ORDER BY sequence`,
      [tenantId],
    );
    return rows;
  });
}

describe('a tenant', () => {
  it('has every field, also of its looks and its free JSON', async () => {
    const fields = {
      display_name: 'Marketing Team',
      description: 'Campaigns',
      type: 'department',
      plan_tier: 'pro',
      settings: {
        timezone: 'America/New_York',
        data_retention_days: 90,
        notification_email: 'admin@marketing.example.com',
        notification_webhook: 'https://hooks.example.com/tenant42',
        allowed_document_types: ['pdf', 'md'],
        max_users: 50,
      },
      branding: {
        logo_url: 'https://assets.example.com/logo.png',
        primary_color: '#007bff',
        company_name: 'Marketing Division',
      },
      metadata: { cost_center: { id: 7 } },
    };
    const { body } = await expectStatus(201, create('marketing', fields));
    expect(body).toMatchObject({ name: 'marketing', ...fields });
    expect(body.features).toMatchObject({ invitations: true, default_kb_visibility: 'tenant' });
    expect((await app.admin.get('/tenants/marketing')).body).toEqual(body);
  });

  it.each([
    [{ timezone: 'Mars/Olympus' }, 'settings.timezone'],
    [{ data_retention_days: 0 }, 'settings.data_retention_days'],
    [{ data_retention_days: '90' }, 'settings.data_retention_days'],
    [{ notification_email: 'nobody' }, 'settings.notification_email'],
    [{ notification_webhook: 'http://hooks.example.com' }, 'settings.notification_webhook'],
    [{ allowed_document_types: 'pdf' }, 'settings.allowed_document_types'],
  ])('refuses the settings %j', async (settings, path) => {
    for (const answer of [
      await create('refused', { settings }),
      await app.admin.patch('/tenants/marketing', { settings }),
    ]) {
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path }]);
    }
  });

  it.each([
    [{ logo_url: 'http://a.example/logo.png' }, 'branding.logo_url'],
    [{ logo_url: 'javascript:alert(1)' }, 'branding.logo_url'],
    [{ primary_color: 'blue' }, 'branding.primary_color'],
    [{ primary_color: '#fff' }, 'branding.primary_color'],
    [{ company_name: '' }, 'branding.company_name'],
    [{ motto: 'Yes' }, 'branding.motto'],
  ])('refuses the branding %j', async (branding, path) => {
    for (const answer of [
      await create('refused', { branding }),
      await app.admin.patch('/tenants/marketing', { branding }),
    ]) {
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path }]);
    }
  });

  it('refuses JSON that is too large, or too deep', async () => {
    for (const field of ['settings', 'metadata']) {
      const answer = await create('refused', { [field]: { free: 'x'.repeat(70_000) } });
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path: field }]);
    }
    let deep: unknown = 1;
    for (let level = 0; level < 40; level++) deep = { deep };
    expectProblem(await create('refused', { metadata: { deep } }), 400, 'too_deep');
  });

  it('merges what a PATCH gives, and replaces what a PUT gives', async () => {
    const patched = await expectStatus(
      200,
      app.admin.patch('/tenants/marketing', {
        settings: { timezone: 'Europe/Zurich', max_users: null },
        branding: { company_name: null },
        metadata: { cost_center: { id: null, owner: 'ada' }, list: [1] },
      }),
    );
    expect(patched.body.settings).toMatchObject({ timezone: 'Europe/Zurich', data_retention_days: 90 });
    expect(patched.body.settings).not.toHaveProperty('max_users');
    expect(patched.body.branding).toEqual({
      logo_url: 'https://assets.example.com/logo.png',
      primary_color: '#007bff',
    });
    expect(patched.body.metadata).toEqual({ cost_center: { owner: 'ada' }, list: [1] });
    const replaced = await expectStatus(
      200,
      app.admin.put('/tenants/marketing', {
        display_name: 'Marketing',
        description: '',
        settings: { timezone: 'UTC' },
        metadata: {},
      }),
    );
    expect(replaced.body).toMatchObject({ settings: { timezone: 'UTC' }, metadata: {} });
    expect(replaced.body.branding).toEqual({});
    const changes = (await actionsIn(replaced.body.id)).filter(({ action }) => action === 'tenant.updated');
    expect(changes[0]?.details).toMatchObject({
      'settings.timezone': { before: 'America/New_York', after: 'Europe/Zurich' },
      'settings.max_users': { before: 50, after: null },
    });
  });

  it('does not grow past its limit patch by patch', async () => {
    const half = (key: string) =>
      app.admin.patch('/tenants/marketing', { metadata: { [key]: 'x'.repeat(40_000) } });
    await expectStatus(200, half('one'));
    expectProblem(await half('two'), 422, 'validation_failed');
    expect(Object.keys((await app.admin.get('/tenants/marketing')).body.metadata)).toEqual(['one']);
  });

  it('loses nothing to two patches at once', async () => {
    const keys = Array.from({ length: 8 }, (_, index) => `key${index}`);
    const answers = await Promise.all(
      keys.map(key => app.admin.patch('/tenants/marketing', { settings: { [key]: 1 } })),
    );
    expect(new Set(statuses(answers))).toEqual(new Set([200]));
    expect((await app.admin.get('/tenants/marketing')).body.settings).toMatchObject(
      Object.fromEntries(keys.map(key => [key, 1])),
    );
  });

  it.each([
    'Ünïcode',
    'кириллица',
    '東京',
    'ﬁrma',
    'a b',
    '-a',
    'a-',
    'a.b',
    'A',
    '',
    'a'.repeat(64),
    'restore',
    'migrate',
    'me',
  ])('cannot be called %j', async name => {
    const answer = await create(name);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0]).toMatchObject({
      path: 'name',
      message: expect.stringMatching(/must|reserved|Too/),
    });
  });

  it('leaves what is the platform’s to the platform', async () => {
    const owner = await app.createMember('marketing', 'owner');
    const { body: organization } = await expectStatus(201, create('holding'));
    const fields = { plan_tier: 'enterprise', type: 'project', name: 'renamed', parent_id: organization.id };
    for (const [field, value] of Object.entries(fields)) {
      const answer = await owner.client.patch('/tenants/marketing', { [field]: value });
      expectProblem(answer, 403, 'platform_field');
      expect(answer.body.errors).toMatchObject([{ path: field }]);
    }
    expectProblem(
      await owner.client.patch('/tenants/marketing', { status: 'erasing' }),
      422,
      'validation_failed',
    );
    await expectStatus(200, owner.client.patch('/tenants/marketing', { display_name: 'Ours' }));
    const changed = await expectStatus(200, app.admin.patch('/tenants/marketing', fields));
    expect(changed.body).toMatchObject({ ...fields, display_name: 'Ours' });
    expectProblem(await owner.client.get('/tenants/marketing'), 404, 'not_found');
    expect((await owner.client.get('/tenants/renamed')).body.id).toBe(changed.body.id);
    expectProblem(await app.admin.patch('/tenants/renamed', { name: 'holding' }), 409, 'name_taken');
    expect((await actionsIn(changed.body.id)).at(-1)?.details).toMatchObject({
      name: { before: 'marketing', after: 'renamed' },
      plan_tier: { before: 'pro', after: 'enterprise' },
    });
  });
});

describe('parents', () => {
  const ids: Record<string, string> = {};
  const move = (name: string, fields: object) => app.admin.patch(`/tenants/${name}`, fields);

  beforeAll(async () => {
    for (const name of ['group', 'firm', 'other'])
      ids[name] = (await expectStatus(201, create(name))).body.id;
    const { body } = await expectStatus(201, create('lab', { type: 'project', parent_id: ids['group'] }));
    ids['lab'] = body.id;
  });

  it('make no circle, and no second level', async () => {
    const wrong: Array<[string, object, string]> = [
      ['lab', { parent_id: ids['lab'] }, 'parent_id own_parent'],
      ['group', { type: 'department', parent_id: ids['lab'] }, 'type has_children'],
      ['group', { type: 'department' }, 'type has_children'],
      ['firm', { parent_id: ids['group'] }, 'parent_id no_parent'],
      ['firm', { type: 'customer', parent_id: ids['lab'] }, 'parent_id not_an_organization'],
      [
        'firm',
        { type: 'customer', parent_id: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11' },
        'parent_id not_an_organization',
      ],
      ['lab', { type: 'organization' }, 'parent_id no_parent'],
    ];
    for (const [name, fields, error] of wrong) {
      const answer = await move(name, fields);
      expectProblem(answer, 422, 'validation_failed');
      expect(errorsOf(answer)).toContain(error);
    }
    expect((await move('lab', { parent_id: ids['firm'] })).body.parent_id).toBe(ids['firm']);
    expect((await move('lab', { parent_id: null, type: 'organization' })).body).toMatchObject({
      parent_id: null,
      type: 'organization',
    });
  });

  it('make none either when two are changed at once', async () => {
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all([
        move('firm', { type: 'department', parent_id: ids['other'] }),
        move('other', { type: 'department', parent_id: ids['firm'] }),
      ]);
      expect(statuses(answers)).toEqual([200, 422]);
      for (const name of ['firm', 'other']) {
        await expectStatus(200, move(name, { type: 'organization', parent_id: null }));
      }
    }
  });

  it('stay organizations while a tenant is put under them', async () => {
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all([
        create(`child-${round}`, { type: 'project', parent_id: ids['other'] }),
        move('other', { type: 'customer' }),
      ]);
      expect(answers.map(answer => answer.status)).toSatisfy(
        (both: number[]) => both.join() === '201,422' || both.join() === '422,200',
      );
      if (answers[0].status === 201) await expectStatus(200, move(`child-${round}`, { parent_id: null }));
      await expectStatus(200, move('other', { type: 'organization' }));
    }
  });

  it('are what lists are filtered by', async () => {
    await expectStatus(200, move('lab', { type: 'project', parent_id: ids['group'] }));
    const names = async (query: string) =>
      (await expectStatus(200, app.admin.get(`/tenants?${query}`))).body.items.map(
        (tenant: { name: string }) => tenant.name,
      );
    expect(await names(`parent_id=${ids['group']}`)).toEqual(['lab']);
    await expectStatus(200, app.admin.patch('/tenants/lab', { plan_tier: 'starter' }));
    expect(await names('plan_tier=starter')).toEqual(['lab']);
    expect(await names(`type=project&parent_id=${ids['group']}&status=active`)).toEqual(['lab']);
    expectProblem(await app.admin.get('/tenants?parent_id=group'), 422, 'validation_failed');
  });
});

describe('creation with the first owner', () => {
  const admin_user = {
    username: 'sales_admin',
    email: 'Admin@sales.example.com',
    password: 'secure-password-123',
    full_name: 'Sales Administrator',
  };

  it('makes the account in the same step, and leaves the creator outside', async () => {
    const { body } = await expectStatus(201, create('sales', { admin_user }));
    expect(body.admin_user).toEqual({
      id: expect.any(String),
      email: 'admin@sales.example.com',
      created: true,
    });
    expect(JSON.stringify(body)).not.toContain('secure-password');
    expect(body.member_count).toBe(1);
    const client = await signIn(app.anonymous, {
      email: 'admin@sales.example.com',
      password: admin_user.password,
    });
    expect((await client.get('/auth/me')).body).toMatchObject({
      username: 'sales_admin',
      display_name: 'Sales Administrator',
    });
    const { items } = (await client.get('/tenants/sales/members')).body;
    expect(items).toMatchObject([{ user_id: body.admin_user.id, roles: ['owner'] }]);
    await expectStatus(200, client.patch('/tenants/sales', { description: 'Ours' }));
    expect((await actionsIn(body.id)).map(({ action }) => action)).toEqual(
      expect.arrayContaining(['tenant.created', 'member.added']),
    );
  });

  it('finds an account that is there, and leaves its password alone', async () => {
    const { body } = await expectStatus(
      201,
      create('sales-2', { admin_user: { email: 'ADMIN@sales.example.com', password: 'another-password-1' } }),
    );
    expect(body.admin_user.created).toBe(false);
    await signIn(app.anonymous, { email: 'admin@sales.example.com', password: admin_user.password });
    expectProblem(
      await app.anonymous.post('/auth/login', {
        email: 'admin@sales.example.com',
        password: 'another-password-1',
      }),
      401,
      'invalid_credentials',
    );
  });

  it('sends whoever has no password yet a link to choose it', async () => {
    await expectStatus(
      201,
      create('quiet', { display_name: 'Quiet Ltd', admin_user: { email: 'new@quiet.example' } }),
    );
    const mail = await mailFolder(app.env.dataDir).waitFor('new@quiet.example');
    expect(mail.subject).toContain('Quiet Ltd');
    const password = 'a password of my own';
    await expectStatus(
      204,
      app.anonymous.post('/auth/reset-password', { token: tokenIn(mail), new_password: password }),
    );
    const client = await signIn(app.anonymous, { email: 'new@quiet.example', password });
    expect((await client.get('/tenants/quiet')).status).toBe(200);
  });

  it('is one step: what fails leaves nothing', async () => {
    expectProblem(
      await create('half', { admin_user: { email: 'half@example.com', username: 'SALES_ADMIN' } }),
      409,
      'username_taken',
    );
    expectProblem(await create('sales', { admin_user: { email: 'late@example.com' } }), 409, 'name_taken');
    expectProblem(await app.admin.get('/tenants/half'), 404, 'not_found');
    const { body } = await app.admin.get('/users?search=late@example.com');
    expect(body.total ?? 0).toBe(0);
  });

  it('makes one account where two tenants are made for the same address at once', async () => {
    const answers = await Promise.all(
      ['twin-a', 'twin-b', 'twin-c'].map(name => create(name, { admin_user: { email: 'twin@example.com' } })),
    );
    expect(statuses(answers)).toEqual([201, 201, 201]);
    expect(new Set(answers.map(({ body }) => body.admin_user.id)).size).toBe(1);
    expect(answers.filter(({ body }) => body.admin_user.created)).toHaveLength(1);
  });

  it.each([
    [{ email: 'nobody' }, 'admin_user.email'],
    [{ email: 'a@example.com', password: 'short' }, 'admin_user.password'],
    [{ email: 'a@example.com', role: 'owner' }, 'admin_user.role'],
    [{ email: 'a@example.com', full_name: 'A', display_name: 'A' }, 'admin_user.full_name'],
    [{}, 'admin_user.email'],
  ])('refuses %j', async (user, path) => {
    const answer = await create('refused', { admin_user: user });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toMatchObject([{ path }]);
    expect(JSON.stringify(answer.body)).not.toContain('short"');
  });
});

describe('suspending', () => {
  it('is written into both chains, once', async () => {
    const { body } = await expectStatus(201, create('pausing'));
    for (const [action, status] of [
      ['suspend', 'suspended'],
      ['suspend', 'suspended'],
      ['activate', 'active'],
      ['activate', 'active'],
    ] as const) {
      expect((await expectStatus(200, app.admin.post(`/tenants/pausing/${action}`))).body.status).toBe(
        status,
      );
    }
    const relevant = /suspended|activated/;
    expect(
      (await actionsIn(body.id)).map(({ action }) => action).filter(action => relevant.test(action)),
    ).toEqual(['tenant.suspended', 'tenant.activated']);
    const platform = (await actionsIn(null)).filter(
      ({ action, details }) => relevant.test(action) && details.name === 'pausing',
    );
    expect(platform.map(({ action }) => action)).toEqual(['tenant.suspended', 'tenant.activated']);
  });
});

describe('self-service', () => {
  let open: TestApplication;

  beforeAll(async () => {
    open = await startTestApplication({
      SELF_SERVICE_TENANTS: 'true',
      SELF_SERVICE_MAX_TENANTS: '2',
    });
  });
  afterAll(() => open?.close());

  it('lets every user make some tenants, and be their owner', async () => {
    const { client, id } = await open.createUser();
    const { body } = await expectStatus(
      201,
      client.post('/tenants', {
        name: 'mine',
        settings: { timezone: 'UTC' },
        branding: { company_name: 'Me' },
      }),
    );
    expect(body).toMatchObject({ created_by: id, plan_tier: 'enterprise', member_count: 1 });
    await expectStatus(200, client.patch('/tenants/mine', { description: 'Mine' }));
    await expectStatus(201, client.post('/tenants', { name: 'mine-too' }));
    expectProblem(await client.post('/tenants', { name: 'mine-three' }), 403, 'tenant_limit');
    const deleted = await expectStatus(204, client.delete('/tenants/mine-too'));
    // Whoever asked for it may see how far it is.
    expect(
      (await client.get((deleted.headers.get('location') as string).replace('/api/v1', ''))).status,
    ).toBe(200);
    await open.jobEnded(deleted.headers.get('location') as string);
    await expectStatus(201, client.post('/tenants', { name: 'mine-three' }));
  });

  it('counts, also when many are asked for at once', async () => {
    const { client } = await open.createUser();
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => client.post('/tenants', { name: `rush-${index}` })),
    );
    expect(statuses(answers)).toEqual([201, 201, 403, 403, 403, 403, 403, 403]);
  });

  it('keeps the platform’s fields the platform’s', async () => {
    const { client } = await open.createUser();
    const { id } = (await expectStatus(201, open.admin.post('/tenants', { name: 'organization' }))).body;
    const fields = {
      plan_tier: 'enterprise',
      parent_id: id,
      type: 'project',
      admin_user: { email: 'somebody@example.com' },
      template: 'department_template',
    };
    for (const [field, value] of Object.entries(fields)) {
      const answer = await client.post('/tenants', { name: 'cheeky', [field]: value });
      expectProblem(answer, 403, 'platform_field');
      expect(answer.body.errors).toMatchObject([{ path: field }]);
    }
  });

  it('does not limit the platform', async () => {
    for (let index = 0; index < 3; index++) {
      await expectStatus(201, open.admin.post('/tenants', { name: `many-${index}` }));
    }
  });
});
