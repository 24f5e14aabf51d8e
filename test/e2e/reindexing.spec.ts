import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FileStorage } from '../../src/foundation/storage/file-storage.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { pdfOf } from '../setup/files.js';
import { expectConsistent, sql } from '../setup/kb-counts.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

const PATIENCE = { timeout: 30_000, interval: 50 };
const KB = '/tenants/acme/kbs/docs';
const TEXTS = ['Frames carry a warranty.', 'Batteries are covered.', 'Bells ring loudly.'];
const LONG = Array.from({ length: 60 }, (_, i) => `Sentence ${i} is about wheels and nothing else.`).join(
  '\n\n',
);

/** A knowledge base whose documents are all ingested anew. */
describe('re-indexing a knowledge base', () => {
  let app: TestApplication;
  let model: ModelServer;
  let tenant: { id: string; kbId: string };

  beforeAll(async () => {
    model = await startModelServer({ dimensions: 16 });
    app = await startTestApplication({ EMBEDDING_BASE_URL: model.url, EMBEDDING_MODEL: 'first' });
    tenant = await app.createTenant('acme');
    for (const text of [...TEXTS, LONG]) await app.addText('acme', text);
  });
  afterAll(async () => {
    await app?.close();
    await model?.close();
  });

  const reindex = async () => {
    const answer = await expectStatus(202, app.admin.post(`${KB}/reindex`));
    expect(answer.headers.get('location')).toBe(`/api/v1/jobs/${answer.body.id}`);
    return answer.body;
  };
  const search = async (query: string, mode = 'hybrid') =>
    app.admin.post(`${KB}/search`, { query, mode, top_k: 50 });
  const knowledgeBase = async () => (await expectStatus(200, app.admin.get(KB))).body;
  const documents = async () =>
    (await app.admin.get(`${KB}/documents?page_size=100&sort=created_at`)).body.items as any[];

  it('takes over new settings, and answers from the old chunks until the new ones are there', async () => {
    const before = (await knowledgeBase()).chunk_count;
    await expectStatus(200, app.admin.patch(KB, { config: { chunk_size: 200, chunk_overlap: 0 } }));
    const job = await reindex();
    expect(job).toMatchObject({ kind: 'kb-reindex', tenant_id: tenant.id });
    const done = app.jobEnded(`/jobs/${job.id}`);
    const ended = done.then(() => 'ended');
    // As long as the job goes on.
    for (let now = ''; now !== 'ended'; now = await Promise.race([ended, sleep(1, 'goes on')])) {
      const { body } = await search('wheels', 'keyword');
      expect(body.passages.length).toBeGreaterThan(0);
      // Of one document there are all old chunks or all new ones.
      expect(new Set(body.passages.map((passage: any) => passage.text.length > 200)).size).toBe(1);
    }
    expect(await done).toMatchObject({
      status: 'succeeded',
      children: { total: 4, ready: 4, failed: 0 },
      result: { documents: 4, reindexing_to: null },
    });
    expect((await knowledgeBase()).chunk_count).toBeGreaterThan(before);
    expect(new Set((await documents()).map(document => document.priority))).toEqual(new Set([-5]));
    await expectConsistent(app, tenant);
  });

  it('swaps in the vectors of another model all at once', async () => {
    await app.restart({ EMBEDDING_MODEL: 'second' });
    expectProblem(await search('frames'), 409, 'embedding_model_changed');
    // One that cannot be read again.
    const [lost] = await documents();
    const [{ storage_key }] = await sql(
      app,
      'SELECT storage_key FROM document_versions WHERE document_id = $1',
      [lost.id],
    );
    await app.application.nest.get(FileStorage, { strict: false }).delete(storage_key);
    await expectStatus(200, app.admin.post(`${KB}/ingestion/pause`));
    const job = await reindex();
    await expect.poll(async () => (await knowledgeBase()).reindexing_to, PATIENCE).toBe('second');
    const { body: joining } = await expectStatus(
      202,
      app.admin.post(`${KB}/documents/text`, { text: 'A text that joins.' }),
    );
    // It is held up, and holds up all others.
    const [held] = TEXTS.slice(1);
    const [, last] = await documents();
    await sql(app, `UPDATE documents SET run_after = now() + interval '1 hour' WHERE id = $1`, [last.id]);
    await expectStatus(200, app.admin.post(`${KB}/ingestion/resume`));
    await expect
      .poll(
        async () => (await documents()).map(({ status, stage }) => `${status} ${stage}`).toSorted(),
        PATIENCE,
      )
      .toEqual(['failed load', 'queued null', 'queued store', 'queued store', 'queued store']);
    expect(await knowledgeBase()).toMatchObject({ embedding_model: 'first', reindexing_to: 'second' });
    expectProblem(await search('frames'), 409, 'embedding_model_changed');
    expect((await search(held as string, 'keyword')).body.passages.length).toBeGreaterThan(0);
    expect((await app.admin.get(`/jobs/${job.id}`)).body.status).toBe('running');

    await expectStatus(202, app.admin.post(`${KB}/documents/${last.id}/reindex`));
    expect(await app.jobEnded(`/jobs/${job.id}`)).toMatchObject({
      status: 'succeeded',
      children: { total: 4, ready: 3, failed: 1 },
    });
    expect(await knowledgeBase()).toMatchObject({ embedding_model: 'second', reindexing_to: null });
    const { body } = await expectStatus(200, search('frames batteries bells wheels text joins'));
    const found = new Set(body.passages.map((passage: any) => passage.document_id));
    expect(found).toContain(joining.id);
    expect(found).not.toContain(lost.id);
    expect((await app.admin.get(`${KB}/documents/${lost.id}`)).body).toMatchObject({
      status: 'failed',
      error: { code: 'content_missing' },
      chunk_count: 0,
      indexed_version: 0,
    });
    await expectStatus(204, app.admin.delete(`${KB}/documents/${lost.id}`));
    await expectConsistent(app, tenant);
  });

  it.each(['delete', 'cancel'] as const)('ends with the last document, also by its %s', async how => {
    const name = how === 'delete' ? 'third' : 'fourth';
    await app.restart({ EMBEDDING_MODEL: name });
    await expectStatus(200, app.admin.post(`${KB}/ingestion/pause`));
    await reindex();
    await expect.poll(async () => (await knowledgeBase()).reindexing_to, PATIENCE).toBe(name);
    const [last] = await documents();
    await sql(app, `UPDATE documents SET run_after = now() + interval '1 hour' WHERE id = $1`, [last.id]);
    await expectStatus(200, app.admin.post(`${KB}/ingestion/resume`));
    await expect
      .poll(async () => (await documents()).filter(({ stage }) => stage === 'store').length, PATIENCE)
      .toBe((await documents()).length - 1);
    if (how === 'delete') await expectStatus(204, app.admin.delete(`${KB}/documents/${last.id}`));
    else await expectStatus(200, app.admin.post(`${KB}/documents/${last.id}/cancel`));
    await expect.poll(async () => (await knowledgeBase()).embedding_model, PATIENCE).toBe(name);
    const rest = await documents();
    if (how === 'cancel') {
      // It has no vectors that could be compared with the others.
      expect(rest.find(({ id }) => id === last.id)).toMatchObject({
        status: 'failed',
        error: { code: 'embedding_model_changed' },
        chunk_count: 0,
      });
    }
    expect(rest.filter(({ status }) => status === 'ready')).toHaveLength(how === 'delete' ? 3 : 2);
    await expectConsistent(app, tenant);
  });

  it('is given up where its job is cancelled: everything is as it was', async () => {
    await app.restart({ EMBEDDING_MODEL: 'fifth' });
    await expectStatus(200, app.admin.post(`${KB}/ingestion/pause`));
    const job = await reindex();
    await expect.poll(async () => (await knowledgeBase()).reindexing_to, PATIENCE).toBe('fifth');
    await expectStatus(200, app.admin.post(`/jobs/${job.id}/cancel`));
    expect(await knowledgeBase()).toMatchObject({ embedding_model: 'fourth', reindexing_to: null });
    await app.restart({ EMBEDDING_MODEL: 'fourth' });
    await expectStatus(200, app.admin.post(`${KB}/ingestion/resume`));
    expect((await expectStatus(200, search('wheels'))).body.passages.length).toBeGreaterThan(0);
    await expectConsistent(app, tenant);
  });

  it('swaps nothing away because of a fault that is not the documents’', async () => {
    await app.restart({ EMBEDDING_MODEL: 'sixth' });
    const before = await documents();
    model.failNext({ status: 401 });
    const job = await reindex();
    const states = async () => (await documents()).map(({ status, stage }) => `${status} ${stage}`);
    await expect
      .poll(async () => (await states()).toSorted(), PATIENCE)
      .toEqual(['failed embed', ...before.slice(1).map(() => 'queued store')]);
    expect(await knowledgeBase()).toMatchObject({ embedding_model: 'fourth', reindexing_to: 'sixth' });
    expect((await app.admin.get(`/jobs/${job.id}`)).body.status).toBe('running');
    for (const text of ['bells', 'wheels', 'joins'])
      expect((await search(text, 'keyword')).body.passages.length).toBeGreaterThan(0);
    const [failed] = (await documents()).filter(({ status }) => status === 'failed');
    await expectStatus(202, app.admin.post(`${KB}/documents/${failed.id}/reindex`));
    expect(await app.jobEnded(`/jobs/${job.id}`)).toMatchObject({ children: { ready: before.length } });
    expect(await knowledgeBase()).toMatchObject({ embedding_model: 'sixth', reindexing_to: null });
    await expectConsistent(app, tenant);
  });

  it('keeps what is searchable of a document whose newest content cannot be read', async () => {
    const file = (content: string | Buffer) => {
      const form = new FormData();
      form.append('source_id', 'manual');
      form.append('file', new Blob([content]), 'manual.pdf');
      return app.admin.post(`${KB}/documents`, form);
    };
    const { body } = await expectStatus(202, file(pdfOf(['The pedals are made of steel.'])));
    const [{ id }] = body.items;
    await app.settled('acme', id);
    await expectStatus(202, file('%PDF-1.7 and nothing else'));
    expect(await app.settled('acme', id)).toMatchObject({ status: 'failed', version: 2, indexed_version: 1 });
    await app.restart({ EMBEDDING_MODEL: 'seventh' });
    await app.jobEnded(`/jobs/${(await reindex()).id}`);
    await expect.poll(async () => (await knowledgeBase()).embedding_model, PATIENCE).toBe('seventh');
    expect((await app.admin.get(`${KB}/documents/${id}`)).body).toMatchObject({
      status: 'ready',
      version: 1,
      indexed_version: 1,
    });
    expect((await expectStatus(200, search('pedals steel'))).body.passages[0].document_id).toBe(id);
    await expectConsistent(app, tenant);
  });
});
