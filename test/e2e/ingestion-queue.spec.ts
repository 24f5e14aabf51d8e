import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { expectConsistent, sql } from '../setup/kb-counts.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';

const PATIENCE = { timeout: 30_000, interval: 50 };

/** What waits for a worker, and whose turn it is. */
describe('the queue of documents', () => {
  let app: TestApplication;
  let model: ModelServer;
  const tenants = new Map<string, { id: string; kbId: string }>();

  beforeAll(async () => {
    model = await startModelServer({ dimensions: 16 });
    app = await startTestApplication({
      EMBEDDING_BASE_URL: model.url,
      EMBEDDING_MODEL: 'stub',
      WORKER_CONCURRENCY: '2',
    });
    for (const name of ['flood', 'single', 'narrow', 'patient'])
      tenants.set(name, await app.createTenant(name));
    await expectStatus(200, app.admin.put('/tenants/narrow/quotas', { quotas: { max_concurrent_jobs: 1 } }));
  });
  beforeEach(() => {
    model.latency = 0;
  });
  afterAll(async () => {
    await app?.close();
    await model?.close();
  });

  const kb = (tenant: string) => `/tenants/${tenant}/kbs/docs`;
  const pause = (tenant: string) => expectStatus(200, app.admin.post(`${kb(tenant)}/ingestion/pause`));
  const resume = (tenant: string) => expectStatus(200, app.admin.post(`${kb(tenant)}/ingestion/resume`));
  const add = async (tenant: string, text: string, fields: Record<string, unknown> = {}): Promise<string> =>
    (await expectStatus(202, app.admin.post(`${kb(tenant)}/documents/text`, { text, ...fields }))).body.id;
  const byStatus = async (tenant: string) =>
    (await app.admin.get(`${kb(tenant)}/stats`)).body.documents_by_status as Record<string, number>;
  const ended = (tenant: string, count: number) =>
    expect.poll(async () => (await byStatus(tenant))['ready'], PATIENCE).toBe(count);
  /** Titles in the order in which they were ready. */
  const finished = async (tenant: string): Promise<Array<{ title: string; at: string }>> => {
    const { body } = await app.admin.get(`${kb(tenant)}/documents?sort=updated_at&page_size=100`);
    return body.items.map((item: any) => ({ title: item.title, at: item.updated_at }));
  };

  it('lets a tenant’s single document begin within two turns, whatever others have waiting', async () => {
    const COUNT = 40;
    await pause('flood');
    await Promise.all(Array.from({ length: COUNT }, (_, i) => add('flood', `Text ${i} of the flood.`)));
    model.latency = 100;
    await resume('flood');
    await expect.poll(async () => (await byStatus('flood'))['processing'] ?? 0, PATIENCE).toBeGreaterThan(0);
    const id = await add('single', 'The only text.');
    const single = await app.settled('single', id);
    expect(single.status).toBe('ready');
    const between = (await finished('flood')).filter(
      ({ at }) => at > single.created_at && at < single.updated_at,
    );
    // Those that were being ingested, and what the other slot did while this one was.
    expect(between.length).toBeLessThanOrEqual(4);
    expect((await byStatus('flood'))['queued']).toBeGreaterThan(COUNT / 2);
    model.latency = 0;
    await ended('flood', COUNT);
  });

  it('gives no tenant more slots than its limit, and the others to whoever is next', async () => {
    model.latency = 60;
    await Promise.all(Array.from({ length: 8 }, (_, i) => add('narrow', `Text ${i} of the narrow tenant.`)));
    let most = 0;
    const watching = (async () => {
      for (let ready = 0; ready < 8;) {
        const [now] = await sql(
          app,
          `SELECT count(*) FILTER (WHERE d.status = 'processing')::int AS processing,
                  count(*) FILTER (WHERE d.status = 'ready')::int AS ready
           FROM documents d JOIN tenants t ON t.id = d.tenant_id WHERE t.name = 'narrow'`,
        );
        most = Math.max(most, now.processing);
        ready = now.ready;
      }
    })();
    expect((await app.addText('patient', 'Somebody else’s.')).status).toBe('ready');
    await watching;
    expect(most).toBe(1);
  });

  it('takes what has the higher priority first, then what is older', async () => {
    await pause('narrow');
    const before = (await byStatus('narrow'))['ready'] ?? 0;
    for (const [title, priority] of Object.entries({ low: -5, first: 0, second: 0, urgent: 10 }))
      await add('narrow', `A text of ${title} priority.`, { title, priority });
    await resume('narrow');
    await ended('narrow', before + 4);
    const titles = (await finished('narrow')).map(({ title }) => title);
    expect(titles.slice(-4)).toEqual(['urgent', 'first', 'second', 'low']);
  });

  it('begins nothing in a knowledge base that is paused, and ends what has begun', async () => {
    const { body: other } = await expectStatus(
      201,
      app.admin.post('/tenants/patient/kbs', { name: 'Others' }),
    );
    model.latency = 300;
    const begun = await add('patient', 'A text that is being ingested.');
    await expect
      .poll(async () => (await app.admin.get(`${kb('patient')}/documents/${begun}`)).body.status, PATIENCE)
      .toBe('processing');
    const { body: paused } = await pause('patient');
    expect(paused.ingestion_paused).toBe(true);
    model.latency = 0;
    const waiting = await add('patient', 'A text that waits.');
    expect((await app.settled('patient', begun)).status).toBe('ready');
    const { body: elsewhere } = await app.admin.post(`/tenants/patient/kbs/${other.slug}/documents/text`, {
      text: 'Not in the paused one.',
    });
    expect((await app.settled('patient', elsewhere.id, other.slug)).status).toBe('ready');
    expect((await app.admin.get(`${kb('patient')}/documents/${waiting}`)).body.status).toBe('queued');
    const { body: resumed } = await resume('patient');
    expect(resumed.ingestion_paused).toBe(false);
    expect((await app.settled('patient', waiting)).status).toBe('ready');
  });

  it('throws away what was staged of an ingestion that a member cancels', async () => {
    const { client } = await app.createMember('patient', 'editor');
    model.latency = 200;
    const id = await add('patient', `${sentence(1)}\n\n`.repeat(60));
    const staged = async () =>
      (await sql(app, 'SELECT FROM staged_chunks WHERE document_id = $1', [id])).length;
    await expect.poll(staged, PATIENCE).toBeGreaterThan(0);
    await expectStatus(200, client.post(`${kb('patient')}/documents/${id}/cancel`));
    expect(await staged()).toBe(0);
    expect((await app.settled('patient', id)).status).toBe('cancelled');
    await expectConsistent(app, tenants.get('patient') as { id: string; kbId: string });
  });

  it('begins nothing of a suspended tenant', async () => {
    await pause('patient');
    const id = await add('patient', 'A text that waits for its tenant.');
    await expectStatus(200, app.admin.post('/tenants/patient/suspend'));
    await sql(app, `UPDATE knowledge_bases SET ingestion_paused = false`);
    // Somebody looks, and passes by.
    expect((await app.addText('single', 'A text of somebody else.')).status).toBe('ready');
    const [document] = await sql(app, 'SELECT status FROM documents WHERE id = $1', [id]);
    expect(document.status).toBe('queued');
    await expectStatus(200, app.admin.post('/tenants/patient/activate'));
    await resume('patient');
    expect((await app.settled('patient', id)).status).toBe('ready');
  });

  it('asks the model for nothing again that is staged, when another attempt goes on', async () => {
    await expectStatus(200, app.admin.patch(kb('single'), { config: { chunk_size: 200, chunk_overlap: 0 } }));
    model.latency = 150;
    const before = model.requests.embeddings;
    const textsBefore = model.texts;
    const id = await add('single', Array.from({ length: 400 }, (_, i) => sentence(i)).join('\n\n'));
    // The first 128 are staged, or nearly so.
    await expect
      .poll(() => model.requests.embeddings - before, { ...PATIENCE, interval: 5 })
      .toBeGreaterThan(16);
    // Each of the requests under way, as often as the client tries; a server that is busy is not left alone for that.
    model.failNext(...Array.from({ length: 12 }, () => ({ status: 429 })));
    await expect
      .poll(async () => (await app.admin.get(`${kb('single')}/documents/${id}`)).body.attempts, PATIENCE)
      .toBe(1);
    model.latency = 0;
    const document = await app.settled('single', id);
    expect(document).toMatchObject({ status: 'ready', attempts: 1, error: null, chunk_count: 400 });
    // Two batches of 64 were under way.
    expect(model.texts - textsBefore).toBeLessThan(400 + 2 * 64);
    await expectConsistent(app, tenants.get('single') as { id: string; kbId: string });
  });
});

/** Some 180 characters: a chunk. */
const sentence = (i: number) => `Sentence ${i} of a longer text. `.repeat(6).trim();
