import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PlatformDatabase } from '../../src/core/tenancy/platform-database.js';
import { UsageJobs } from '../../src/core/usage/usage-jobs.service.js';
import { type UsageRow, toUsageRow } from '../../src/core/usage/usage-event.js';
import { UsageRepository } from '../../src/core/usage/usage.repository.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { storedUsage, usageOf } from '../setup/usage-events.js';

const QUESTION = 'When does the shop open?';
const QUESTION_TOKENS = QUESTION.length / 4;
/** Vectors of questions are remembered. */
const OTHER_QUESTION = 'When does the shop close?';

describe('every request and every job', () => {
  let app: TestApplication;
  let models: ModelServer;
  let acme: { id: string; kbId: string };
  let ada: { id: string; client: Client };

  beforeAll(async () => {
    models = await startModelServer();
    app = await startTestApplication({
      LLM_BASE_URL: models.url,
      LLM_MODEL: 'chatty',
      EMBEDDING_BASE_URL: models.url,
      EMBEDDING_MODEL: 'embedder',
    });
    acme = await app.createTenant('acme');
    await app.createTenant('other');
    ada = await app.createMember('acme', 'editor');
  });
  afterAll(async () => {
    await app?.close();
    await models?.close();
  });

  /** What `work` has left behind in the tenant. */
  const left = async (work: () => Promise<unknown>): Promise<UsageRow[]> => {
    await usageOf(app).flush();
    const before = new Set((await storedUsage(app, acme.id)).map(({ id }) => id));
    await work();
    await usageOf(app).flush();
    return (await storedUsage(app, acme.id)).filter(({ id }) => !before.has(id));
  };

  it('leaves an event: of an upload and of its ingestion, too', async () => {
    const text = 'The shop opens at nine in the morning.';
    const events = await left(async () => {
      const { body } = await expectStatus(
        202,
        ada.client.post('/tenants/acme/kbs/docs/documents/text', { text }),
      );
      await app.settled('acme', body.id);
      // The document is ready before the job has said that it has ended.
      await expect
        .poll(async () => (await usageOf(app).flush(), storedUsage(app, acme.id)))
        .toSatisfy((rows: UsageRow[]) => rows.some(({ kind }) => kind === 'job'));
    });
    const [created] = events.filter(({ operation }) => operation === 'document.create');
    expect(created).toMatchObject({
      tenant_id: acme.id,
      kind: 'api',
      user_id: ada.id,
      by_platform: false,
      token_id: null,
      outcome: 'success',
      status: 202,
    });
    expect(Number(created?.duration_us)).toBeGreaterThan(0);
    const [ingested] = events.filter(({ kind }) => kind === 'job');
    expect(ingested).toMatchObject({
      operation: 'document.ingest',
      kb_id: acme.kbId,
      user_id: ada.id,
      model: 'embedder',
      embedding_tokens: String(Math.ceil(text.length / 4)),
      outcome: 'success',
      status: null,
    });
    // What the test itself has asked while it waited.
    for (const { operation } of events.filter(({ user_id: id }) => id !== ada.id))
      expect(operation).toBe('document.read');
  });

  it('says who searched where, with which model and how many tokens', async () => {
    const [event, ...more] = await left(() =>
      expectStatus(200, ada.client.post('/tenants/acme/kbs/docs/search', { query: QUESTION })),
    );
    expect(more).toEqual([]);
    expect(event).toMatchObject({
      kind: 'query',
      operation: 'search',
      kb_id: acme.kbId,
      user_id: ada.id,
      model: 'embedder',
      embedding_tokens: String(QUESTION_TOKENS),
      input_tokens: '0',
      outcome: 'success',
      status: 200,
    });
  });

  it('counts what a chat model has read and written', async () => {
    let usage: any;
    const [event, ...more] = await left(async () => {
      const { body } = await expectStatus(
        200,
        ada.client.post('/tenants/acme/kbs/docs/query', { query: OTHER_QUESTION }),
      );
      usage = body.usage;
    });
    expect(more).toEqual([]);
    expect(event).toMatchObject({
      kind: 'query',
      operation: 'query',
      kb_id: acme.kbId,
      model: 'chatty',
      input_tokens: String(usage.prompt_tokens),
      output_tokens: String(usage.completion_tokens),
      embedding_tokens: String(Math.ceil(OTHER_QUESTION.length / 4)),
    });
    expect(usage.prompt_tokens).toBeGreaterThan(0);
  });

  it('names the API token, and its creator', async () => {
    const owner = await app.createMember('acme', 'owner');
    const { body: token } = await expectStatus(
      201,
      owner.client.post('/tenants/acme/api-tokens', { name: 'CI', kind: 'test', scopes: ['query:run'] }),
    );
    const client = app.anonymous.withHeaders({ 'x-api-key': token.token ?? token.secret });
    const [event, ...more] = await left(() =>
      expectStatus(200, client.post('/tenants/acme/kbs/docs/search', { query: QUESTION })),
    );
    expect(more).toEqual([]);
    expect(event).toMatchObject({ user_id: owner.id, token_id: token.id, token_kind: 'test', kind: 'query' });
  });

  it('counts what failed as failed', async () => {
    models.failNext({ status: 400 });
    const events = await left(async () => {
      expect((await ada.client.post('/tenants/acme/kbs/docs/query', { query: '' })).status).toBe(422);
      expect((await ada.client.get('/tenants/acme/kbs/nowhere')).status).toBe(404);
      expect(
        (
          await ada.client.post('/tenants/acme/kbs/docs/search', {
            query: 'A question that was not asked before',
          })
        ).status,
      ).toBeGreaterThanOrEqual(500);
    });
    expect(events.map(({ operation, outcome, status }) => [operation, outcome, status])).toEqual([
      ['query', 'failure', 422],
      ['kb.read', 'failure', 404],
      ['search', 'failure', expect.any(Number)],
    ]);
  });

  it('counts a document that cannot be ingested as a failed job', async () => {
    const form = new FormData();
    form.append('file', new Blob([Buffer.from('%PDF-1.7 broken')]), 'broken.pdf');
    const events = await left(async () => {
      const { body } = await ada.client.post('/tenants/acme/kbs/docs/documents', form);
      const { status } = await app.settled('acme', (body.items ?? body.documents)[0].id);
      expect(status).toBe('failed');
      await expect
        .poll(async () => (await usageOf(app).flush(), storedUsage(app, acme.id)))
        .toSatisfy((rows: UsageRow[]) =>
          rows.some(({ kind, outcome }) => kind === 'job' && outcome === 'failure'),
        );
    });
    expect(events.filter(({ kind }) => kind === 'job')).toMatchObject([
      { operation: 'document.ingest', outcome: 'failure', status: null, user_id: ada.id },
    ]);
  });

  it('leaves nothing where nobody was let in, and nothing in another tenant', async () => {
    const stranger = await app.createUser();
    const viewer = await app.createMember('acme', 'viewer_readonly');
    const events = await left(async () => {
      expect((await app.anonymous.get('/tenants/acme')).status).toBe(401);
      expect((await stranger.client.get('/tenants/acme')).status).toBe(404);
      expect((await viewer.client.get('/tenants/acme/kbs/docs/documents')).status).toBe(403);
      expect((await viewer.client.get('/auth/me')).status).toBe(200);
      expect((await app.admin.get('/tenants')).status).toBe(200);
    });
    expect(events).toEqual([]);
    const other = await app.admin.get('/tenants/other/usage?group_by=operation&period=24h');
    expect(other.body.items.map(({ key }: { key: string }) => key)).toEqual(['kb.create']);
  });

  it('keeps a request that was answered when the process was asked to end', async () => {
    await usageOf(app).flush();
    const before = (await storedUsage(app, acme.id)).length;
    await expectStatus(200, ada.client.post('/tenants/acme/kbs/docs/search', { query: QUESTION }));
    await app.restart();
    expect(await storedUsage(app, acme.id)).toHaveLength(before + 1);
  });

  it('counts an event once, however often it is sent', async () => {
    const { nest } = app.application;
    const row = toUsageRow({
      tenantId: acme.id,
      operation: 'api',
      durationMs: 1,
      outcome: 'success',
      status: 200,
      time: new Date('2025-01-01T10:30:00Z'),
    });
    const gone = { ...row, tenant_id: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11' };
    for (let sent = 0; sent < 3; sent++) {
      await nest
        .get(PlatformDatabase, { strict: false })
        .run(tx => nest.get(UsageRepository, { strict: false }).record(tx, [gone, row, row]));
    }
    const hour = new Date('2025-01-01T10:00:00Z');
    expect(await usageOf(app).totals(acme.id, hour, new Date('2025-01-01T11:00:00Z'))).toMatchObject({
      apiCalls: 1,
    });
    expect(await storedUsage(app, gone.tenant_id)).toEqual([]);
  });

  it('drops the one that the database refuses, and no other', async () => {
    const usage = usageOf(app);
    const event = {
      tenantId: acme.id,
      operation: 'api',
      durationMs: 1,
      outcome: 'success' as const,
      status: 200,
      time: new Date('2025-02-01T10:30:00Z'),
    };
    usage.record(event);
    usage.record({ ...event, kbId: 'no id' });
    usage.record({ ...event, model: 'a \0 in it' });
    for (let times = 0; times < 3; times++)
      usage.record({ ...event, credits: Number.MAX_SAFE_INTEGER, inputTokens: Number.MAX_SAFE_INTEGER });
    await usage.flush();
    const until = new Date('2025-02-01T11:00:00Z');
    expect(await usage.totals(acme.id, event.time, until)).toMatchObject({ apiCalls: 4 });
  });

  it('goes with its tenant', async () => {
    const doomed = await app.createTenant('doomed');
    const usage = usageOf(app);
    await usage.flush();
    expect((await storedUsage(app, doomed.id)).length).toBeGreaterThan(0);
    const { headers } = await expectStatus(204, app.admin.delete('/tenants/doomed'));
    expect(await app.jobEnded(headers.get('location') as string)).toMatchObject({ status: 'succeeded' });
    usage.record({ tenantId: doomed.id, operation: 'api', durationMs: 1, outcome: 'success', status: 200 });
    await usage.flush();
    expect(await storedUsage(app, doomed.id)).toEqual([]);
  });

  it('goes after its time, and what is rolled up of it stays', async () => {
    const usage = usageOf(app);
    const time = new Date('2025-03-01T10:30:00Z');
    for (let i = 0; i < 3; i++)
      usage.record({
        tenantId: acme.id,
        operation: 'api',
        durationMs: 1,
        outcome: 'success',
        status: 200,
        time,
      });
    await usage.flush();
    const recent = (await storedUsage(app, acme.id)).filter(
      row => new Date(row.time) > new Date('2025-06-01'),
    );
    const jobs = app.application.nest.get(UsageJobs, { strict: false });
    expect(await jobs.deleteOld(new Date())).toBeGreaterThanOrEqual(3);
    expect((await storedUsage(app, acme.id)).map(({ id }) => id)).toEqual(recent.map(({ id }) => id));
    expect(recent.length).toBeGreaterThan(3);
    expect(await usage.countSince(acme.id, time, 'api_calls')).toBeGreaterThanOrEqual(3);
  });
});
