import fs from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { KeyRotationService } from '../../src/features/tenants/key-rotation.service.js';
import { expectStatus } from '../setup/application.js';
import { expectProblem } from '../setup/problem.js';
import { tenantAudit } from '../setup/tenant-audit.js';
import { status } from '../setup/webhook-receiver.js';
import {
  KEY,
  app,
  receiver,
  acmeId,
  superuser,
  createWebhook,
  makeGroup,
  verify,
  useWebhooksApplication,
} from '../setup/webhooks.js';

useWebhooksApplication();

describe('a secret', () => {
  it('is replaced with an overlap, in which both sign', async () => {
    const hook = await createWebhook();
    const { body } = await expectStatus(
      200,
      app.admin.post(`${hook.at}/rotate-secret`, { overlap_hours: 2 }),
    );
    expect(body.secret).not.toBe(hook.secret);
    const expiry = Date.parse(body.previous_secret_expires_at) - Date.now();
    expect(expiry).toBeGreaterThan(7_000_000);
    expect(expiry).toBeLessThan(7_300_000);
    await expectStatus(200, app.admin.post(`${hook.at}/test`));
    const both = await receiver.waitFor(hook.path);
    expect(verify(both, hook.secret)).toEqual(verify(both, body.secret));

    await superuser(`UPDATE webhooks SET previous_secret_expires_at = now() - interval '1 s' WHERE id = $1`, [
      hook.id,
    ]);
    await expectStatus(200, app.admin.post(`${hook.at}/test`));
    const one = await receiver.waitFor(hook.path, 2);
    verify(one, body.secret);
    expect(() => verify(one, hook.secret)).toThrow('No matching signature');
    expect((await app.admin.get(hook.at)).body.previous_secret_expires_at).toBeNull();

    const last = await expectStatus(200, app.admin.post(`${hook.at}/rotate-secret`, { overlap_hours: 0 }));
    expect(last.body.previous_secret_expires_at).toBeNull();
    await expectStatus(200, app.admin.post(`${hook.at}/test`));
    const fresh = await receiver.waitFor(hook.path, 3);
    verify(fresh, last.body.secret);
    expect(() => verify(fresh, body.secret)).toThrow('No matching signature');
    await hook.remove();
  });

  it('is shown once, and stands in no row that can be read', async () => {
    const hook = await createWebhook({ headers: { 'x-key': 'the key of the receiver' } });
    await makeGroup();
    await hook.delivery({ status: 'succeeded' });
    const key = hook.secret.slice('whsec_'.length);
    const answers = await Promise.all(
      [hook.at, '/tenants/acme/webhooks', `${hook.at}/deliveries`, '/tenants/acme/audit?page_size=100'].map(
        path => app.admin.get(path),
      ),
    );
    answers.push(await app.admin.patch(hook.at, { description: 'changed' }));
    for (const { body } of answers) expect(JSON.stringify(body)).not.toMatch(/whsec_|key of the receiver/);
    const tables = await superuser(
      `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`,
    );
    expect(tables.length).toBeGreaterThan(20);
    for (const { name } of tables) {
      const rows = await superuser(
        `SELECT 1 FROM ${name} t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, 'key of the receiver') > 0
           OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0`,
        [key],
      );
      expect(rows, name).toEqual([]);
    }
    await hook.remove();
  });

  it('stands in no log, however much is logged', async () => {
    await app.restart({ LOG_LEVEL: 'trace', LOG_FORMAT: 'json' });
    const lines: string[] = [];
    const write = fs.write as (...all: unknown[]) => void;
    // Pino writes to the standard output through here.
    vi.spyOn(fs, 'write').mockImplementation(((fd: number, line: unknown, ...rest: unknown[]) => {
      if (fd !== 1) return write(fd, line, ...rest);
      lines.push(String(line));
      (rest.at(-1) as (error: null, written: number) => void)(null, Buffer.byteLength(String(line)));
    }) as typeof fs.write);
    await expectStatus(200, app.admin.put('/tenants/acme/variables/LOGGED', { value: 'value-never-logged' }));
    const hook = await createWebhook({ headers: { 'x-key': 'key-never-logged ${LOGGED}' } });
    receiver.answer(hook.path, status(500), (response, { headers }) =>
      response.writeHead(200, { 'content-type': 'text/plain' }).end(String(headers['x-key'])),
    );
    await makeGroup();
    await receiver.waitFor(hook.path, 2);
    const { body } = await expectStatus(200, app.admin.post(`${hook.at}/rotate-secret`, {}));
    await expectStatus(200, app.admin.post(`${hook.at}/test`));
    await hook.remove();
    const logged = lines.join('');
    expect(logged).toMatch(/webhook\.deliver.*unexpected_status/);
    for (const secret of [hook.secret, body.secret, hook.path, 'never-logged'])
      expect(logged).not.toContain(secret);
    vi.restoreAllMocks();
    await app.restart();
  });

  it('outlives a new encryption key', async () => {
    const NEW_KEY = 'the key that seals what they keep from then on';
    const hook = await createWebhook({ headers: { 'x-key': 'kept' } });
    const { body } = await expectStatus(200, app.admin.post(`${hook.at}/rotate-secret`, {}));
    await app.restart({ ENCRYPTION_KEY: NEW_KEY, ENCRYPTION_OLD_KEYS: KEY });
    const rotation = app.application.nest.get(KeyRotationService, { strict: false });
    expect((await rotation.run()).others).toMatchObject({ 'secrets of webhooks': expect.any(Number) });
    expect((await rotation.run()).others).toMatchObject({ 'secrets of webhooks': 0 });
    await app.restart({ ENCRYPTION_KEY: NEW_KEY });
    await expectStatus(200, app.admin.post(`${hook.at}/test`));
    const message = await receiver.waitFor(hook.path);
    for (const secret of [hook.secret, body.secret]) verify(message, secret);
    expect(message.headers['x-key']).toBe('kept');
    await hook.remove();
  });
});

describe('a webhook', () => {
  it('is made, read, changed and deleted', async () => {
    const hook = await createWebhook({ events: ['group.*', 'group.*', 'kb.created'], description: 'First' });
    const { body: made, headers } = await expectStatus(200, app.admin.get(hook.at));
    expect(made).toEqual({
      id: hook.id,
      url: `${receiver.url}${hook.path}`,
      description: 'First',
      events: ['group.*', 'kb.created'],
      header_names: [],
      is_active: true,
      disabled_reason: null,
      consecutive_failures: 0,
      failing_since: null,
      previous_secret_expires_at: null,
      created_by: expect.any(String),
      created_at: expect.any(String),
      updated_at: expect.any(String),
    });
    const list = await app.admin.get('/tenants/acme/webhooks?search=First');
    expect(list.body).toMatchObject({ total: 1, items: [{ id: hook.id }] });
    const changed = await app.admin
      .withHeaders({ 'if-match': headers.get('etag') as string })
      .patch(hook.at, { events: ['*'], is_active: false });
    expect(changed.body).toMatchObject({ events: ['*'], is_active: false, description: 'First' });
    const stale = app.admin.withHeaders({ 'if-match': headers.get('etag') as string });
    expectProblem(await stale.patch(hook.at, { description: 'Late' }), 412, 'changed_meanwhile');
    expect((await app.admin.get('/tenants/acme/webhooks?is_active=false')).body.total).toBe(1);
    await hook.remove();
    expectProblem(await app.admin.get(hook.at), 404, 'not_found');
    expectProblem(await app.admin.delete(hook.at), 404, 'not_found');
    const audit = await tenantAudit(app, acmeId, 'webhook');
    expect(audit.filter(({ resource_id }) => resource_id === hook.id).map(({ action }) => action)).toEqual([
      'webhook.created',
      'webhook.updated',
      'webhook.deleted',
    ]);
    // The path of an address is often a secret.
    expect(JSON.stringify(audit)).not.toContain(hook.path);
  });

  it.each([
    ['http://10.0.0.1/', 'address_refused'],
    ['http://169.254.169.254/latest', 'address_refused'],
    ['http://0x7f.1/', 'address_refused'],
    ['http://[::1]/', 'address_refused'],
    ['http://localhost/', 'address_refused'],
    ['http://127.0.0.1:8181/', 'address_refused'],
    ['ftp://hooks.example.com/', 'unsupported_scheme'],
    ['https://user:pass@hooks.example.com/', 'credentials_in_url'],
    ['https://hooks.example.com:25/', 'port_refused'],
    ['hooks.example.com', 'invalid_url'],
    ['https://hooks.example.com/${NOT_THERE}', 'unknown_variable'],
  ])('does not take the address %s: %s', async (url, code) => {
    const answer = await app.admin.post('/tenants/acme/webhooks', { url, events: ['*'] });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toEqual([{ path: 'url', code, message: expect.any(String) }]);
  });

  it('does not reach a name that is private', async () => {
    const hook = await createWebhook({ url: 'http://hooks.localdomain.invalid/' });
    const { body } = await expectStatus(200, app.admin.post(`${hook.at}/test`));
    expect(body).toMatchObject({ status: 'failed', error_code: 'address_refused', status_code: null });
    // Nor through a variable that has changed since.
    await expectStatus(200, app.admin.put('/tenants/acme/variables/HOOK_HOST', { value: receiver.url }));
    await expectStatus(200, app.admin.patch(hook.at, { url: '${HOOK_HOST}/by-name' }));
    expect((await app.admin.post(`${hook.at}/test`)).body.status).toBe('succeeded');
    await expectStatus(200, app.admin.put('/tenants/acme/variables/HOOK_HOST', { value: 'http://10.0.0.1' }));
    expect((await app.admin.post(`${hook.at}/test`)).body.error_code).toBe('address_refused');
    await hook.remove();
  });

  it.each([
    [{ events: [] }, 'events'],
    [{ events: ['nothing.known'] }, 'events.0'],
    [{ events: ['group.*', 'member.ad*'] }, 'events.1'],
    [{ events: Array.from({ length: 51 }, () => '*') }, 'events'],
    [{ url: `https://hooks.example.com/${'x'.repeat(2000)}` }, 'url'],
    [{ headers: { host: 'other' } }, 'headers.host'],
    [{ headers: { 'Webhook-Id': 'other' } }, 'headers.Webhook-Id'],
    [{ headers: { 'bad name': 'x' } }, 'headers.bad name'],
    [{ headers: { 'x-split': 'a\r\nb: c' } }, 'headers.x-split'],
    [{ headers: { 'x-a': '1', 'X-A': '2' } }, 'headers'],
    [{ secret: 'whsec_mine' }, ''],
  ])('does not take %j', async (fields, path) => {
    const body = { url: 'https://hooks.example.com/', events: ['*'], ...fields };
    const answer = await app.admin.post('/tenants/acme/webhooks', body);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors.map((error: { path: string }) => error.path).join()).toContain(path);
  });

  it('does not send headers to another server than they were given for', async () => {
    const hook = await createWebhook({ headers: { authorization: 'Bearer secret' } });
    await expectStatus(200, app.admin.patch(hook.at, { url: `${receiver.url}/other-path` }));
    const moved = await app.admin.patch(hook.at, { url: 'https://elsewhere.example.com/' });
    expectProblem(moved, 422, 'validation_failed');
    expect(moved.body.errors[0]).toMatchObject({ path: 'headers', code: 'headers_required' });
    const { body } = await expectStatus(
      200,
      app.admin.patch(hook.at, { url: 'https://elsewhere.example.com/', headers: null }),
    );
    expect(body.header_names).toEqual([]);
    await hook.remove();
  });

  it('is managed by whoever may, who names variables only where they could set them', async () => {
    await expectStatus(
      201,
      app.admin.post('/tenants/acme/roles', { name: 'hooks', permissions: ['tenant:manage_webhooks'] }),
    );
    await expectStatus(200, app.admin.put('/tenants/acme/variables/PRIVATE_KEY', { value: 'private' }));
    const { client } = await app.createMember('acme', 'hooks');
    const url = `${receiver.url}/\${PRIVATE_KEY}`;
    const create = (body: object) => client.post('/tenants/acme/webhooks', { events: ['*'], ...body });
    expectProblem(await create({ url }), 403, 'variables_refused');
    expectProblem(
      await create({ url: receiver.url, headers: { 'x-key': '${PRIVATE_KEY}' } }),
      403,
      'variables_refused',
    );
    const { body } = await expectStatus(201, create({ url: receiver.url }));
    const at = `/tenants/acme/webhooks/${body.id}`;
    expectProblem(await client.patch(at, { url }), 403, 'variables_refused');
    await expectStatus(200, app.admin.patch(at, { headers: { 'x-key': '${PRIVATE_KEY}' } }));
    // Nor may they send what others have named to another place.
    expectProblem(await client.patch(at, { url: `${receiver.url}/mine` }), 403, 'variables_refused');
    await expectStatus(200, client.patch(at, { description: 'allowed' }));
    await expectStatus(204, client.delete(at));
    for (const role of ['editor', 'viewer']) {
      const member = await app.createMember('acme', role);
      expectProblem(await member.client.get('/tenants/acme/webhooks'), 403, 'forbidden');
    }
  });

  it('is one of twenty, however many are made at once', async () => {
    const { id } = await app.createTenant('many');
    const answers = await Promise.all(
      Array.from({ length: 25 }, () =>
        app.admin.post('/tenants/many/webhooks', { url: 'https://hooks.invalid/', events: ['kb.*'] }),
      ),
    );
    expect(answers.filter(answer => answer.status === 201)).toHaveLength(20);
    for (const answer of answers.filter(({ status: code }) => code !== 201))
      expectProblem(answer, 409, 'too_many_webhooks');
    const emits = async () => (await superuser('SELECT emits_events FROM tenants WHERE id = $1', [id]))[0];
    expect(await emits()).toEqual({ emits_events: true });
    const { body } = await app.admin.get('/tenants/many/webhooks?page_size=100');
    const [first, ...rest] = body.items as Array<{ id: string }>;
    await Promise.all(rest.map(item => app.admin.delete(`/tenants/many/webhooks/${item.id}`)));
    expect(await emits()).toEqual({ emits_events: true });
    await expectStatus(200, app.admin.patch(`/tenants/many/webhooks/${first?.id}`, { is_active: false }));
    expect(await emits()).toEqual({ emits_events: false });
    await expectStatus(200, app.admin.patch(`/tenants/many/webhooks/${first?.id}`, { is_active: true }));
    expect(await emits()).toEqual({ emits_events: true });
    await expectStatus(204, app.admin.delete(`/tenants/many/webhooks/${first?.id}`));
    expect(await emits()).toEqual({ emits_events: false });
  });

  it('of another tenant, and its log, are not there', async () => {
    const hook = await createWebhook();
    await makeGroup();
    const { id } = await hook.delivery({ status: 'succeeded' });
    await app.createTenant('foreign');
    const { client } = await app.createMember('foreign', 'owner');
    const foreign = hook.at.replace('acme', 'foreign');
    for (const [method, path] of [
      ['GET', foreign],
      ['PATCH', foreign],
      ['DELETE', foreign],
      ['POST', `${foreign}/test`],
      ['POST', `${foreign}/rotate-secret`],
      ['GET', `${foreign}/deliveries`],
      ['GET', `${foreign}/deliveries/${id}`],
      ['POST', `${foreign}/deliveries/${id}/redeliver`],
    ] as const) {
      const body = method === 'PATCH' || path.endsWith('secret') ? {} : undefined;
      expectProblem(await client.send(method, path, body), 404, 'not_found');
    }
    // A delivery of another webhook of the same tenant is not this one's.
    const other = await createWebhook();
    expectProblem(await app.admin.get(`${other.at}/deliveries/${id}`), 404, 'not_found');
    expectProblem(await app.admin.post(`${other.at}/deliveries/${id}/redeliver`), 404, 'not_found');
    await Promise.all([hook.remove(), other.remove()]);
  });

  it('of a suspended tenant waits, but hears of the suspension', async () => {
    await app.createTenant('paused');
    const hook = await createWebhook({ events: ['tenant.*', 'group.*'] }, 'paused');
    receiver.answer(hook.path, status(500), status(204));
    await makeGroup('paused');
    await receiver.waitFor(hook.path);
    await expectStatus(200, app.admin.post('/tenants/paused/suspend'));
    const told = await receiver.waitFor(hook.path, 2);
    expect(told.body.type).toBe('tenant.suspended');
    const waiting = async () =>
      superuser(
        `SELECT status, error_code, attempts FROM webhook_deliveries WHERE event_type = 'group.created' AND webhook_id = $1`,
        [hook.id],
      );
    await expect
      .poll(waiting, { timeout: 10_000 })
      .toEqual([{ status: 'pending', error_code: 'tenant_suspended', attempts: 1 }]);
    await expectStatus(200, app.admin.post('/tenants/paused/activate'));
  });
});

it('what can be told is listed, for everybody', async () => {
  const { client } = await app.createUser();
  const { body } = await expectStatus(200, client.get('/webhook-events'));
  expect(body.items.map((item: { type: string }) => item.type)).toContain('document.ready');
  expect(body.families.map((item: { family: string }) => item.family)).toContain('member');
});
