import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { JobsRepository } from '../../src/core/jobs/jobs.repository.js';
import type { Tx } from '../../src/foundation/database/transaction.js';
import { expectStatus } from '../setup/application.js';
import { mailFolder } from '../setup/mail-folder.js';
import { expectProblem } from '../setup/problem.js';
import { tenantAudit } from '../setup/tenant-audit.js';
import { type ReceivedMessage, hang, status } from '../setup/webhook-receiver.js';
import {
  app,
  receiver,
  acmeId,
  owner,
  superuser,
  createWebhook,
  makeGroup,
  verify,
  useWebhooksApplication,
} from '../setup/webhooks.js';

useWebhooksApplication();

describe('a message', () => {
  it('says what has happened, signed as the standard has it', async () => {
    const hook = await createWebhook();
    const group = await makeGroup();
    const message = await receiver.waitFor(hook.path);
    expect(verify(message, hook.secret)).toEqual(message.body);
    expect(() => verify({ ...message, raw: message.raw.replace('group', 'Group') }, hook.secret)).toThrow(
      'No matching signature',
    );
    expect(message.body).toEqual({
      id: message.headers['webhook-id'],
      type: 'group.created',
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      tenant_id: acmeId,
      data: {
        resource: { type: 'group', id: group.id },
        details: expect.objectContaining({ name: group.name }),
        actor: { type: 'user', id: expect.any(String), name: 'admin@enclave.test' },
      },
    });
    expect(Object.keys(message.body)).toEqual(['id', 'type', 'timestamp', 'tenant_id', 'data']);
    expect(message.headers).toMatchObject({ 'content-type': 'application/json' });
    const delivery = await hook.delivery({ status: 'succeeded' });
    expect(delivery).toMatchObject({
      event_id: message.body.id,
      event_type: 'group.created',
      attempts: 1,
      status_code: 204,
      error_code: null,
      next_attempt_at: null,
      payload: message.body,
    });
    expect(delivery.duration_ms).toBeLessThan(10_000);
    await hook.remove();
  });

  it('goes to whoever wants to hear of it, and to nobody else', async () => {
    const hooks = {
      family: await createWebhook({ events: ['group.*'] }),
      exact: await createWebhook({ events: ['kb.created', 'group.deleted'] }),
      all: await createWebhook({ events: ['*'] }),
      off: await createWebhook({ events: ['*'], is_active: false }),
      other: await createWebhook({ events: ['member.*'] }),
    };
    const { id } = await makeGroup();
    await expectStatus(204, app.admin.delete(`/tenants/acme/groups/${id}`));
    const told = ({ path }: { path: string }) =>
      receiver
        .messages(path)
        .map(({ body }) => body.type as string)
        .filter(type => !type.startsWith('webhook.'))
        .toSorted();
    await expect
      .poll(() => [told(hooks.family), told(hooks.all), told(hooks.exact)], { timeout: 20_000 })
      .toEqual([['group.created', 'group.deleted'], ['group.created', 'group.deleted'], ['group.deleted']]);
    expect(told(hooks.off)).toEqual([]);
    expect(told(hooks.other)).toEqual([]);
    await Promise.all(Object.values(hooks).map(hook => hook.remove()));
  });

  it('is not sent of what was not done, of denials, and of other tenants', async () => {
    await app.createTenant('neighbour');
    const hook = await createWebhook({ events: ['*'] });
    const viewer = await app.createMember('acme', 'viewer');
    const { name } = await makeGroup();
    expectProblem(await app.admin.post('/tenants/acme/groups', { name }), 409, 'name_taken');
    expectProblem(await viewer.client.post('/tenants/acme/groups', { name: 'Mine' }), 403, 'forbidden');
    await makeGroup('neighbour');
    await makeGroup();
    const types = () =>
      receiver
        .messages(hook.path)
        .map(({ body }) => body.type as string)
        .toSorted();
    await expect
      .poll(types, { timeout: 20_000 })
      .toEqual(['group.created', 'group.created', 'member.added', 'webhook.created']);
    for (const { body } of receiver.messages(hook.path)) expect(body.tenant_id).toBe(acmeId);
    const events = await superuser('SELECT count(*)::int AS count FROM events');
    expect(events).toEqual([{ count: 0 }]);
    await hook.remove();
  });

  it('shows no variable that the receiver sends back out of what it stood in', async () => {
    for (const [name, value] of [
      ['BOT', 'bot-of-the-hook'],
      ['PART', 'part-of-a-header'],
    ] as const)
      await expectStatus(200, app.admin.put(`/tenants/acme/variables/${name}`, { value }));
    const hook = await createWebhook({
      url: `${receiver.url}/\${BOT}/send`,
      headers: { 'x-key': 'key=${PART};v=1' },
    });
    receiver.answer(
      '/bot-of-the-hook/send',
      status(401, { 'content-type': 'text/plain' }, 'no bot-of-the-hook, no part-of-a-header'),
    );
    const { body } = await expectStatus(200, app.admin.post(`${hook.at}/test`));
    expect(body).toMatchObject({ status_code: 401, response_excerpt: 'no ***, no ***' });
    await hook.remove();
  });

  it('tells of documents that are ready, or failed', async () => {
    const hook = await createWebhook({ events: ['document.ready', 'document.failed'] });
    const { id, title } = await app.addText('acme', 'A text that can be found.', { title: 'Found' });
    expect((await receiver.waitFor(hook.path)).body).toMatchObject({
      type: 'document.ready',
      data: { document_id: id, title, chunk_count: 1 },
    });
    const form = new FormData();
    form.append('file', new Blob(['%PDF-1.4 nonsense'], { type: 'application/pdf' }), 'broken.pdf');
    const uploaded = await app.admin.post('/tenants/acme/kbs/docs/documents', form);
    expect(uploaded.status).toBe(202);
    expect((await receiver.waitFor(hook.path, 2)).body).toMatchObject({
      type: 'document.failed',
      data: { title: 'broken', error: { code: expect.any(String), message: expect.any(String) } },
    });
    // Whoever is told need not be one of those who may read it.
    const restricted = await app.addText('acme', 'A text for nobody.', { title: 'Merger', acl: {} });
    const { body } = await receiver.waitFor(hook.path, 3);
    expect(body).toMatchObject({
      type: 'document.ready',
      data: { document_id: restricted.id, title: null, chunk_count: 1 },
    });
    expect(JSON.stringify(body)).not.toContain('Merger');
    await hook.remove();
  });

  it('names variables of the tenant, and carries headers, whose values nobody is shown', async () => {
    for (const [name, value] of [
      ['HOOK_TOKEN', 'token+of/the hook'],
      ['HOOK_PATH', 'secret-path'],
    ] as const)
      await expectStatus(200, app.admin.put(`/tenants/acme/variables/${name}`, { value }));
    const hook = await createWebhook({
      url: `${receiver.url}/\${HOOK_PATH}`,
      headers: { Authorization: 'Bearer ${HOOK_TOKEN}', 'x-fixed': 'fixed value' },
    });
    receiver.answer('/secret-path', (response, { headers, path }) =>
      response
        .writeHead(200, { 'content-type': 'text/plain' })
        .end(['heard\u0000', headers['authorization'], headers['x-fixed'], path].join(' ')),
    );
    await makeGroup();
    const { headers } = await receiver.waitFor('/secret-path');
    expect(headers).toMatchObject({ authorization: 'Bearer token+of/the hook', 'x-fixed': 'fixed value' });
    const delivery = await hook.delivery({ status: 'succeeded' });
    expect(delivery.response_excerpt).toMatch(/^heard \*\*\*/);
    const shown = (await app.admin.get(hook.at)).body;
    expect(shown).toMatchObject({
      url: `${receiver.url}/\${HOOK_PATH}`,
      header_names: ['authorization', 'x-fixed'],
    });
    for (const text of [JSON.stringify(delivery), JSON.stringify(shown)])
      expect(text).not.toMatch(/token\+of|fixed value|secret-path/);

    await expectStatus(204, app.admin.delete('/tenants/acme/variables/HOOK_TOKEN'));
    await makeGroup();
    await hook.delivery({ status: 'pending', error_code: 'unknown_variable' });
    await hook.remove();
  });
});

describe('a receiver that does not take a message', () => {
  it('is asked again, with the same message, until it does', async () => {
    const hook = await createWebhook();
    receiver.answer(hook.path, status(500, { 'content-type': 'text/plain' }, 'Not today'), status(204));
    await makeGroup();
    await receiver.waitFor(hook.path);
    const waiting = await hook.delivery({ status: 'pending', attempts: 1 });
    expect(waiting).toMatchObject({
      status_code: 500,
      error_code: 'unexpected_status',
      response_excerpt: 'Not today',
    });
    expect(Date.parse(waiting.next_attempt_at)).toBeGreaterThan(Date.now());
    expectProblem(
      await app.admin.post(`${hook.at}/deliveries/${waiting.id}/redeliver`),
      409,
      'delivery_pending',
    );
    expect((await app.admin.get(hook.at)).body).toMatchObject({ consecutive_failures: 1 });
    await receiver.waitFor(hook.path, 2);
    const done = await hook.delivery({ status: 'succeeded', attempts: 2 });
    expect(done).toMatchObject({ status_code: 204, error_code: null, response_excerpt: null });
    const [first, second] = receiver.messages(hook.path) as [ReceivedMessage, ReceivedMessage];
    expect(second.raw).toBe(first.raw);
    expect(second.headers['webhook-id']).toBe(first.headers['webhook-id']);
    expect(second.at - first.at).toBeGreaterThan(1_500);
    for (const message of [first, second]) verify(message, hook.secret);
    expect((await app.admin.get(hook.at)).body).toMatchObject({
      consecutive_failures: 0,
      failing_since: null,
    });
    await hook.remove();
  });

  it('is left alone as long as it asks for', async () => {
    const hook = await createWebhook();
    receiver.answer(hook.path, status(503, { 'retry-after': '600' }));
    await makeGroup();
    const { next_attempt_at } = await hook.delivery({ status: 'pending', attempts: 1 });
    expect(Date.parse(next_attempt_at) - Date.now()).toBeGreaterThan(580_000);
    await hook.remove();
  });

  it('has ten seconds', async () => {
    const hook = await createWebhook();
    receiver.answer(hook.path, hang);
    await makeGroup();
    const delivery = await hook.delivery({ attempts: 1, error_code: 'timeout', status_code: null });
    expect(delivery.duration_ms).toBeGreaterThan(9_000);
    expect(delivery.duration_ms).toBeLessThan(12_000);
    await hook.remove();
  });

  it('and redirects is not followed', async () => {
    const hook = await createWebhook();
    receiver.answer(hook.path, status(307, { location: `${receiver.url}/elsewhere` }));
    await makeGroup();
    await hook.delivery({ attempts: 1, error_code: 'redirected', status_code: 307 });
    expect(receiver.messages('/elsewhere')).toEqual([]);
    await hook.remove();
  });

  it('and says that it is gone switches the webhook off, which its administrators hear of', async () => {
    const hook = await createWebhook();
    const watching = await createWebhook({ events: ['webhook.disabled'] });
    receiver.answer(hook.path, status(410));
    const viewer = await app.createMember('acme', 'viewer');
    await makeGroup();
    await hook.delivery({ status: 'failed', attempts: 1, error_code: 'gone' });
    await expect
      .poll(async () => (await app.admin.get(hook.at)).body)
      .toMatchObject({ is_active: false, disabled_reason: 'gone' });
    expect((await receiver.waitFor(watching.path)).body.data).toMatchObject({
      resource: { id: hook.id },
      details: { destination: receiver.url, disabled_reason: 'gone' },
      actor: { type: 'system' },
    });
    const mail = await mailFolder(app.env.dataDir).waitFor(owner.email);
    expect(mail.subject).toBe('A webhook of acme was switched off');
    expect(mail.text).toContain(receiver.url);
    expect(mail.text).not.toContain(hook.path);
    const mails = await mailFolder(app.env.dataDir).messages();
    expect(mails.filter(({ recipients }) => recipients.includes(viewer.email))).toEqual([]);

    const [{ id }] = await hook.deliveries();
    expectProblem(await app.admin.post(`${hook.at}/deliveries/${id}/redeliver`), 409, 'webhook_inactive');
    const count = receiver.messages(hook.path).length;
    await makeGroup();
    expect(receiver.messages(hook.path)).toHaveLength(count);
    await expectStatus(200, app.admin.patch(hook.at, { is_active: true }));
    expect((await app.admin.get(hook.at)).body).toMatchObject({
      is_active: true,
      disabled_reason: null,
      consecutive_failures: 0,
    });
    await Promise.all([hook.remove(), watching.remove()]);
  });

  it('for days on end is given up', async () => {
    const hook = await createWebhook();
    receiver.answer(hook.path, status(500));
    const failed = (failures: number, hours: number) =>
      superuser(
        `UPDATE webhooks SET consecutive_failures = $2, failing_since = now() - make_interval(hours => $3) WHERE id = $1`,
        [hook.id, failures, hours],
      );
    // Often, but not for long.
    await failed(500, 1);
    await makeGroup();
    await hook.delivery({ attempts: 1 });
    expect((await app.admin.get(hook.at)).body).toMatchObject({ is_active: true });
    await failed(19, 80);
    await makeGroup();
    await expect
      .poll(async () => (await app.admin.get(hook.at)).body, { timeout: 10_000 })
      .toMatchObject({ is_active: false, disabled_reason: 'failing' });
    // What still waits ends with it.
    await superuser(`UPDATE jobs SET run_after = now() - interval '1 minute' WHERE kind = 'webhook.deliver'`);
    await expect
      .poll(async () => (await hook.deliveries()).map(({ status: ended }) => ended), { timeout: 30_000 })
      .toEqual(['failed', 'failed']);
    await hook.remove();
  });

  it('holds up nobody else', async () => {
    await app.createTenant('slow');
    const slow = await createWebhook({}, 'slow');
    receiver.answer(slow.path, hang);
    for (let n = 0; n < 20; n++) await makeGroup('slow');
    await receiver.waitFor(slow.path, 4);
    const quick = await createWebhook();
    const started = Date.now();
    await makeGroup();
    const user = await app.createUser();
    await expectStatus(202, app.anonymous.post('/auth/forgot-password', { email: user.email }));
    await Promise.all([receiver.waitFor(quick.path), mailFolder(app.env.dataDir).waitFor(user.email)]);
    expect(Date.now() - started).toBeLessThan(8_000);
    // Four at a time, and the next as soon as one has ended.
    const before = receiver.messages(slow.path);
    expect(before.length).toBeLessThanOrEqual(8);
    await receiver.waitFor(slow.path, 8);
    await Promise.all([slow.remove(), quick.remove()]);
  });
});

it('a delivery begins as quickly however many wait', async () => {
  const plans: string[] = [];
  await superuser(`INSERT INTO jobs (id, tenant_id, kind, actor, run_after)
    SELECT gen_random_uuid(), '${acmeId}', 'backlog', '{"type": "system"}', now() + interval '1 hour'
    FROM generate_series(1, 5000)`);
  const explaining = {
    query: async (sql: string, values: unknown[]) => {
      const literals = values.map(value => (typeof value === 'string' ? `'${value}'` : String(value)));
      const statement = sql.replaceAll(
        /\$(\d)/g,
        (_, place: string) => literals[Number(place) - 1] as string,
      );
      plans.push(JSON.stringify(await superuser(`EXPLAIN (ANALYZE, FORMAT JSON) ${statement}`)));
      return [[], 0];
    },
  } as unknown as Tx;
  const [{ id }] = await superuser(
    `UPDATE jobs SET run_after = now() WHERE id = (SELECT id FROM jobs WHERE kind = 'backlog' LIMIT 1) RETURNING id`,
  );
  await superuser('ANALYZE jobs');
  await new JobsRepository().claim(explaining, id, randomUUID(), {
    takeOver: false,
    perTenant: { backlog: 4 },
  });
  await superuser(`DELETE FROM jobs WHERE kind = 'backlog'`);
  const passed = [...plans.join('\n').matchAll(/"Rows Removed by Filter":\s*(\d+)/g)];
  expect(Math.max(0, ...passed.map(([, rows]) => Number(rows)))).toBeLessThan(100);
});

describe('a redelivery', () => {
  it('tells the same event again, as a delivery of its own', async () => {
    const hook = await createWebhook();
    await makeGroup();
    const first = await hook.delivery({ status: 'succeeded' });
    const { body } = await expectStatus(202, app.admin.post(`${hook.at}/deliveries/${first.id}/redeliver`));
    expect(body).toMatchObject({ redelivery_of: first.id, event_id: first.event_id, status: 'pending' });
    await receiver.waitFor(hook.path, 2);
    await hook.delivery({ id: body.id, status: 'succeeded' });
    const [one, two] = receiver.messages(hook.path) as [ReceivedMessage, ReceivedMessage];
    expect(two.raw).toBe(one.raw);
    expect(await hook.deliveries()).toHaveLength(2);
    const audit = await tenantAudit(app, acmeId, 'webhook');
    expect(audit.at(-1)).toMatchObject({
      action: 'webhook.redelivery_requested',
      details: { redelivery_of: first.id },
    });
    await hook.remove();
  });

  it('is listed by status, type and time', async () => {
    const hook = await createWebhook({ events: ['group.*', 'variable.*'] });
    receiver.answer(hook.path, status(500), status(204));
    await makeGroup();
    await receiver.waitFor(hook.path);
    await expectStatus(200, app.admin.put('/tenants/acme/variables/LISTED', { value: 'x' }));
    await receiver.waitFor(hook.path, 2);
    const types = async (query: string) =>
      (await expectStatus(200, app.admin.get(`${hook.at}/deliveries${query}`))).body.items.map(
        (item: { event_type: string }) => item.event_type,
      );
    await expect.poll(() => types('?status=succeeded')).toContain('variable.created');
    expect(await types('?event_type=variable.*')).toEqual(['variable.created']);
    expect(await types('?event_type=group.created')).toEqual(['group.created']);
    expect(await types('?sort=created_at')).toEqual(['group.created', 'variable.created']);
    expect(await types('?page_size=1&page=2')).toEqual(['group.created']);
    expect(await types(`?created_after=${encodeURIComponent(new Date().toISOString())}`)).toEqual([]);
    expectProblem(await app.admin.get(`${hook.at}/deliveries?status=lost`), 422, 'validation_failed');
    await hook.remove();
  });
});

describe('a test', () => {
  it('is sent at once, and answered with its outcome', async () => {
    const hook = await createWebhook({ is_active: false });
    receiver.answer(
      hook.path,
      status(200, { 'content-type': 'application/json' }, '{"ok":true}'),
      status(410),
    );
    const { body } = await expectStatus(200, app.admin.post(`${hook.at}/test`));
    expect(body).toMatchObject({
      event_type: 'webhook.test',
      status: 'succeeded',
      status_code: 200,
      response_excerpt: '{"ok":true}',
    });
    verify(await receiver.waitFor(hook.path), hook.secret);
    const failed = await expectStatus(200, app.admin.post(`${hook.at}/test`));
    expect(failed.body).toMatchObject({ status: 'failed', error_code: 'gone', next_attempt_at: null });
    expect((await app.admin.get(hook.at)).body).toMatchObject({
      disabled_reason: null,
      consecutive_failures: 0,
    });
    expect(await hook.deliveries()).toHaveLength(2);
    await hook.remove();
  });
});

it('the log is kept for thirty days', async () => {
  const hook = await createWebhook();
  receiver.answer(hook.path, status(204), status(204), status(503, { 'retry-after': '9999' }));
  for (let n = 0; n < 3; n++) {
    await makeGroup();
    await receiver.waitFor(hook.path, n + 1);
  }
  await expect.poll(async () => (await hook.deliveries()).map(({ attempts }) => attempts)).toEqual([1, 1, 1]);
  const [pending, kept, old] = await hook.deliveries();
  await superuser(`UPDATE webhook_deliveries SET created_at = now() - interval '31 days' WHERE id = $1`, [
    old.id,
  ]);
  await superuser(`UPDATE webhook_deliveries SET created_at = now() - interval '29 days' WHERE id = $1`, [
    kept.id,
  ]);
  await superuser(`UPDATE webhook_deliveries SET created_at = now() - interval '5 days' WHERE id = $1`, [
    pending.id,
  ]);
  await superuser(`UPDATE job_schedules SET next_at = now() WHERE kind = 'webhook.tidy'`);
  await expect
    .poll(hook.deliveries, { timeout: 30_000 })
    .toMatchObject([{ id: pending.id, status: 'failed', error_code: 'gave_up' }, { id: kept.id }]);
  await hook.remove();
});
