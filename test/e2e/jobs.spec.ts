import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BackgroundJobs } from '../../src/core/jobs/background-jobs.service.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../src/core/tenancy/tenant-database.js';
import { DocumentJobs } from '../../src/features/documents/document-jobs.service.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, signIn, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { type EventStream, openEvents } from '../setup/event-stream.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;
let acme: { id: string; kbId: string };
let editor: { id: string; client: Client };

beforeAll(async () => {
  // Nobody works here: what waits goes on waiting, until a test says otherwise.
  app = await startTestApplication({}, { http: true, jobs: false });
  acme = await app.createTenant('acme');
  await app.createTenant('globex');
  editor = await app.createMember('acme', 'editor');
});
afterAll(() => app?.close());

const sql = (text: string, values: unknown[] = []): Promise<unknown> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(text, values)).rows,
  );

async function addText(fields: Record<string, unknown> = {}, as = editor.client): Promise<string> {
  const text = `A text of its own: ${randomUUID()}`;
  const { body } = await expectStatus(
    202,
    as.post('/tenants/acme/kbs/docs/documents/text', { text, ...fields }),
  );
  return body.id;
}

/** What a worker would have written. */
const progress = (id: string, fields: string): Promise<unknown> =>
  sql(`UPDATE documents SET ${fields}, updated_at = clock_timestamp() WHERE id = $1`, [id]);

const types = (stream: EventStream) => stream.events.map(({ type }) => type);
const statuses = (stream: EventStream) => stream.events.map(({ data }) => data.status);

describe('the ingestion of a document is a job', () => {
  it('under the document’s id', async () => {
    const id = await addText();
    const waiting = await expectStatus(200, editor.client.get(`/jobs/${id}`));
    expect(waiting.body).toEqual({
      id,
      tenant_id: acme.id,
      kind: 'document-ingest',
      status: 'queued',
      progress: 0,
      stage: null,
      error: null,
      result: { document_id: id, kb_id: acme.kbId, version: 1, indexed_version: 0, chunk_count: 0 },
      created_by: editor.id,
      created_at: expect.any(String),
      updated_at: expect.any(String),
      finished_at: null,
    });
    await progress(id, `status = 'processing', stage = 'embed', progress = 0.5`);
    const running = await editor.client.get(`/jobs/${id}`);
    expect(running.body).toMatchObject({ status: 'running', stage: 'embed', progress: 0.5 });
    await progress(id, `status = 'failed', error_code = 'damaged', error_message = 'It is damaged.'`);
    const failed = await editor.client.get(`/jobs/${id}`);
    expect(failed.body).toMatchObject({
      status: 'failed',
      error: { code: 'damaged', message: 'It is damaged.' },
      finished_at: failed.body.updated_at,
    });
    await progress(
      id,
      `status = 'ready', stage = NULL, progress = 1, error_code = NULL, error_message = NULL`,
    );
    const ready = await editor.client.get(`/jobs/${id}`);
    expect(ready.body).toMatchObject({ status: 'succeeded', progress: 1, error: null });
  });

  it('for those who may read the document, and nobody else', async () => {
    const reader = await app.createMember('acme', 'viewer');
    const open = await addText();
    const closed = await addText({ acl: { members: [reader.id] } }, app.admin);
    const sees = async (client: Client, id: string) => {
      const answers = await Promise.all([client.get(`/jobs/${id}`), client.get(`/jobs/${id}/events`)]);
      for (const answer of answers.filter(({ status }) => status !== 200))
        expectProblem(answer, 404, 'not_found');
      return answers.map(({ status }) => status === 200);
    };
    // Streams of what waits do not end: these have ended.
    for (const id of [open, closed]) await progress(id, `status = 'ready'`);
    const all = [true, true];
    const none = [false, false];
    expect(await sees(reader.client, open)).toEqual(all);
    expect(await sees(reader.client, closed)).toEqual(all);
    expect(await sees(app.admin, closed)).toEqual(all);
    const other = await app.createMember('acme', 'viewer');
    expect(await sees(other.client, open)).toEqual(all);
    expect(await sees(other.client, closed)).toEqual(none);
    const asksOnly = await app.createMember('acme', 'viewer_readonly');
    expect(await sees(asksOnly.client, open)).toEqual(none);
    const foreign = await app.createMember('globex', 'owner');
    expect(await sees(foreign.client, open)).toEqual(none);
    expect(await sees((await app.createUser()).client, open)).toEqual(none);
    await expectStatus(204, app.admin.delete(`/tenants/acme/members/${other.id}`));
    expect(await sees(other.client, open)).toEqual(none);

    const token = (fields: Record<string, unknown>) =>
      issueToken(app, app.admin, 'acme', fields).then(({ client }) => client);
    expect(await sees(await token({ scopes: ['document:read'] }), open)).toEqual(all);
    expect(await sees(await token({ scopes: ['query:run'] }), open)).toEqual(none);
    const { body: elsewhere } = await expectStatus(
      201,
      app.admin.post('/tenants/acme/kbs', { name: 'Elsewhere' }),
    );
    expect(await sees(await token({ scopes: ['document:read'], kb_ids: [elsewhere.id] }), open)).toEqual(
      none,
    );
    const foreignToken = await issueToken(app, app.admin, 'globex', { scopes: ['document:read'] });
    expect(await sees(foreignToken.client, open)).toEqual(none);
  });

  it('answers a foreign id as one that does not exist', async () => {
    const id = await addText();
    const { client } = await app.createMember('globex', 'owner');
    const [foreign, missing] = await Promise.all(
      [id, randomUUID()].map(async job => (await client.get(`/jobs/${job}`)).body),
    );
    const told = ({ instance: _instance, request_id: _id, ...rest }: Record<string, unknown>) => rest;
    expect(told(foreign)).toEqual(told(missing));
  });

  it('is closed to members of a tenant that is suspended', async () => {
    const member = await app.createMember('globex', 'editor');
    const { body } = await expectStatus(
      202,
      member.client.post('/tenants/globex/kbs/docs/documents/text', { text: 'A text of globex.' }),
    );
    await expectStatus(200, app.admin.post('/tenants/globex/suspend'));
    expectProblem(await member.client.get(`/jobs/${body.id}`), 403, 'tenant_suspended');
    await expectStatus(200, app.admin.get(`/jobs/${body.id}`));
    await expectStatus(200, app.admin.post('/tenants/globex/activate'));
  });

  it('is cancelled at the document, not here', async () => {
    const id = await addText();
    expectProblem(await editor.client.post(`/jobs/${id}/cancel`), 409, 'not_cancellable');
    await progress(id, `status = 'ready'`);
    expectProblem(await editor.client.post(`/jobs/${id}/cancel`), 409, 'already_ended');
  });
});

describe('the events of a job', () => {
  it('tell how far it is, and its end, and then close', async () => {
    const id = await addText();
    const stream = await openEvents(editor.client, `/jobs/${id}/events`, { 'last-event-id': '7' });
    expect(stream.status).toBe(200);
    expect(stream.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(stream.headers.get('cache-control')).toContain('no-cache');
    await stream.until(events => events.length === 1);
    await progress(id, `status = 'processing', stage = 'embed', progress = 0.25`);
    await stream.until(events => events.length === 2);
    await progress(id, `progress = 0.75`);
    await stream.until(events => events.length === 3);
    await progress(id, `status = 'ready', stage = NULL, progress = 1, chunk_count = 3`);
    expect(await stream.ended).toBe('closed');
    expect(types(stream)).toEqual(['progress', 'progress', 'progress', 'progress', 'end']);
    expect(statuses(stream)).toEqual(['queued', 'running', 'running', 'succeeded', 'succeeded']);
    expect(stream.events.map(({ id: eventId }) => eventId)).toEqual(['1', '2', '3', '4', 'end']);
    expect(stream.events[4]?.data).toEqual((await editor.client.get(`/jobs/${id}`)).body);
    expect(stream.events[4]?.data.result).toMatchObject({ chunk_count: 3 });
  });

  it('are told to whoever comes late, and not twice to whoever has heard the end', async () => {
    const id = await addText();
    await progress(id, `status = 'cancelled'`);
    const late = await openEvents(editor.client, `/jobs/${id}/events`);
    expect(await late.ended).toBe('closed');
    expect(types(late)).toEqual(['progress', 'end']);
    const again = await openEvents(editor.client, `/jobs/${id}/events`, { 'last-event-id': 'end' });
    expect(again.status).toBe(204);
    // Ingested once more since: there is something to hear again.
    await progress(id, `status = 'queued'`);
    const anew = await openEvents(editor.client, `/jobs/${id}/events`, { 'last-event-id': 'end' });
    await anew.until(events => events.length === 1);
    anew.leave();
  });

  it('are told to many at once', async () => {
    const ids = await Promise.all([addText(), addText(), addText()]);
    const streams = await Promise.all(
      [...ids, ...ids, ...ids].map(id => openEvents(editor.client, `/jobs/${id}/events`)),
    );
    for (const id of ids) await progress(id, `status = 'ready'`);
    expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(streams.map(() => 'closed'));
    expect(streams.map(stream => types(stream).at(-1))).toEqual(streams.map(() => 'end'));
  });

  it('end for whoever may not see it any more', async () => {
    const reader = await app.createMember('acme', 'viewer');
    const restricted = await addText({ acl: { members: [reader.id] } }, app.admin);
    const [first, second] = await Promise.all([
      openEvents(reader.client, `/jobs/${restricted}/events`),
      openEvents(reader.client, `/jobs/${await addText()}/events`),
    ]);
    await Promise.all([first, second].map(stream => stream.until(events => events.length === 1)));
    const acl = `/tenants/acme/kbs/docs/documents/${restricted}/acl`;
    await expectStatus(200, app.admin.put(acl, { acl: { members: [], groups: [] } }));
    await first.ended;
    await expectStatus(204, app.admin.delete(`/tenants/acme/members/${reader.id}`));
    await second.ended;
    for (const stream of [first, second]) expect(types(stream)).not.toContain('end');
  });

  it('end with the session, and with the document', async () => {
    const reader = await app.createUser();
    await expectStatus(201, app.admin.post('/tenants/acme/members', { user_id: reader.id, role: 'viewer' }));
    const elsewhere = await signIn(app.anonymous, reader);
    const id = await addText();
    const [own, others] = await Promise.all([
      openEvents(reader.client, `/jobs/${id}/events`),
      openEvents(editor.client, `/jobs/${id}/events`),
    ]);
    await Promise.all([own, others].map(stream => stream.until(events => events.length === 1)));
    await expectStatus(204, elsewhere.delete('/auth/sessions'));
    await own.ended;
    expect(types(own)).toEqual(['progress']);
    await expectStatus(204, editor.client.delete(`/tenants/acme/kbs/docs/documents/${id}`));
    expect(await others.ended).toBe('closed');
    expect(types(others)).toEqual(['progress']);
  });

  it('are open to one caller so many times at once', async () => {
    const { client } = await app.createMember('acme', 'viewer');
    const id = await addText();
    const streams = await Promise.all(
      Array.from({ length: 51 }, () => openEvents(client, `/jobs/${id}/events`)),
    );
    const [refused] = streams.filter(({ status }) => status !== 200);
    expect(streams.filter(({ status }) => status === 200)).toHaveLength(50);
    expect(refused).toMatchObject({ status: 429, body: { code: 'concurrency_limited' } });
    for (const stream of streams) stream.leave();
    // Who has left makes room.
    const again = async () => {
      const stream = await openEvents(client, `/jobs/${id}/events`);
      stream.leave();
      return stream.status;
    };
    await expect.poll(again, { timeout: 20_000 }).toBe(200);
  });

  it('are no job’s where the id is none', async () => {
    expectProblem(await editor.client.get(`/jobs/${randomUUID()}/events`), 404, 'not_found');
    expectProblem(await editor.client.get('/jobs/nothing/events'), 404, 'not_found');
    expectProblem(await app.anonymous.get(`/jobs/${randomUUID()}/events`), 401, 'unauthorized');
  });
});

describe('a job with children', () => {
  const KIND = 'test-import';
  let cancelled: string[];

  beforeAll(() => {
    cancelled = [];
    const { nest } = app.application;
    nest.get(BackgroundJobs, { strict: false }).define({
      kind: KIND,
      mostAttempts: 1,
      run: () => Promise.resolve(null),
      children: (tx, ids) => nest.get(DocumentJobs, { strict: false }).children(tx, ids),
      cancel: ({ id }) => {
        cancelled.push(id);
        return Promise.resolve();
      },
    });
  });

  async function start(children: number): Promise<{ id: string; documents: string[] }> {
    const { nest } = app.application;
    const documents = await Promise.all(Array.from({ length: children }, () => addText()));
    const id = await nest.get(TenantContext).runAsSystem({ id: acme.id, name: 'acme' }, () =>
      nest.get(TenantDatabase, { strict: false }).run(tx =>
        nest.get(BackgroundJobs, { strict: false }).enqueue(tx, {
          kind: KIND,
          payload: null,
          tenantId: acme.id,
          permission: 'document:create',
        }),
      ),
    );
    await sql('UPDATE documents SET job_id = $1 WHERE id = ANY ($2)', [id, documents]);
    return { id, documents };
  }

  const ends = (id: string) =>
    sql(
      `UPDATE jobs SET status = 'succeeded', progress = 1, finished_at = now(), updated_at = now() WHERE id = $1`,
      [id],
    );

  it('goes on until the last of them has ended, and counts those that failed', async () => {
    const { id, documents } = await start(3);
    const [first, second, third] = documents as [string, string, string];
    const stream = await openEvents(editor.client, `/jobs/${id}/events`);
    await stream.until(events => events.length === 1);
    expect(stream.events[0]?.data).toMatchObject({
      status: 'queued',
      children: { total: 3, queued: 3, processing: 0, ready: 0, failed: 0, cancelled: 0 },
    });
    await ends(id);
    await stream.until(events => events.at(-1)?.data.status === 'running');
    await progress(first, `status = 'ready'`);
    await stream.until(events => events.at(-1)?.data.progress === 0.333);
    await progress(second, `status = 'failed'`);
    await progress(third, `status = 'processing'`);
    await stream.until(events => events.at(-1)?.data.children.processing === 1);
    expect(stream.events.at(-1)?.data).toMatchObject({
      status: 'running',
      progress: 0.667,
      stage: 'children',
      finished_at: null,
    });
    await progress(third, `status = 'ready'`);
    expect(await stream.ended).toBe('closed');
    expect(stream.events.at(-1)).toMatchObject({
      type: 'end',
      data: {
        status: 'succeeded',
        progress: 1,
        children: { ready: 2, failed: 1 },
        finished_at: expect.any(String),
      },
    });
  });

  it('is cancelled with them, whether its own part is done or not', async () => {
    for (const done of [false, true]) {
      const { id, documents } = await start(1);
      if (done) await ends(id);
      const viewer = await app.createMember('acme', 'viewer');
      expectProblem(await viewer.client.post(`/jobs/${id}/cancel`), 404, 'not_found');
      const { body } = await expectStatus(200, editor.client.post(`/jobs/${id}/cancel`));
      expect(body).toMatchObject({ status: 'cancelled', error: null, finished_at: expect.any(String) });
      expect(cancelled).toContain(id);
      // Whoever stops half of them in vain stops the rest by asking again.
      await expectStatus(200, editor.client.post(`/jobs/${id}/cancel`));
      await progress(documents[0] as string, `status = 'cancelled'`);
      expectProblem(await editor.client.post(`/jobs/${id}/cancel`), 409, 'already_ended');
      const audit = await app.admin.get('/tenants/acme/audit?action=job.cancelled');
      expect(audit.body.items[0]).toMatchObject({ resource: { type: 'job', id }, actor: { id: editor.id } });
    }
  });
});

it('a server that drains ends its streams, and does not wait for them', async () => {
  const stream = await openEvents(editor.client, `/jobs/${await addText()}/events`);
  await stream.until(events => events.length === 1);
  const before = Date.now();
  await app.restart({ REQUEST_TIMEOUT_SECONDS: '3' });
  expect(Date.now() - before).toBeLessThan(30_000);
  expect(await stream.ended).toBe('closed');
  expect(types(stream)).toEqual(['progress']);
});

it('a stream lasts longer than requests may take, with nothing to tell, too', async () => {
  const id = await addText({}, app.admin);
  const stream = await openEvents(app.admin, `/jobs/${id}/events`);
  await expect.poll(() => stream.comments, { timeout: 20_000 }).toBeGreaterThanOrEqual(4);
  await progress(id, `status = 'ready'`);
  expect(await stream.ended).toBe('closed');
  expect(types(stream)).toEqual(['progress', 'progress', 'end']);
});
