import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { uploadOf } from '../setup/files.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;
let model: ModelServer;
let kb: string;
let count = 0;

beforeAll(async () => {
  model = await startModelServer();
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    WORKER_CONCURRENCY: '4',
  });
  await app.createTenant('acme');
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});
beforeEach(async () => {
  const { body } = await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: `Kb ${++count}` }));
  kb = body.slug;
});

const at = (path = '', of = kb) => `/tenants/acme/kbs/${of}/documents${path}`;
const sql = (statement: string): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement)).rows,
  );
const text = (content: string, fields: object = {}, as: Client = app.admin) =>
  as.post(at('/text'), { text: content, ...fields });
const added = async (content: string, fields: object = {}) =>
  (await expectStatus(202, text(content, fields))).body;
const settled = (id: string) => app.settled('acme', id, kb);
const ready = async (content: string, fields: object = {}) => {
  const document = await settled((await added(content, fields)).id);
  expect(document.status).toBe('ready');
  return document;
};
const upload = (files: Array<[string, string]>, fields = {}) => app.admin.post(at(), uploadOf(files, fields));
const found = async (query: string): Promise<string[]> =>
  (
    await expectStatus(200, app.admin.post(`/tenants/acme/kbs/${kb}/search`, { query, mode: 'keyword' }))
  ).body.passages.map((passage: any) => passage.text);
const versions = async (id: string) =>
  (await expectStatus(200, app.admin.get(at(`/${id}/versions`)))).body.items;
const storedFiles = async (): Promise<string[]> => {
  const { id, tenant_id } = (await app.admin.get(`/tenants/acme/kbs/${kb}`)).body;
  const names = await readdir(join(app.env.dataDir, 'files', tenant_id, id)).catch((): string[] => []);
  return names.map(name => name.slice(0, 64)).toSorted();
};
/** Newer content that nobody ingests before its knowledge base is resumed. */
const waiting = async (content: string, sourceId: string) => {
  await expectStatus(200, app.admin.post(`/tenants/acme/kbs/${kb}/ingestion/pause`));
  return added(content, { source_id: sourceId });
};
const resume = () => expectStatus(200, app.admin.post(`/tenants/acme/kbs/${kb}/ingestion/resume`));
/** What the statistics say, counted one by one; and the tenant's own counters. */
const expectCounts = async () => {
  const { items, total } = (await app.admin.get(at('?page_size=100'))).body;
  const sum = (field: string) => items.reduce((all: number, document: any) => all + document[field], 0);
  expect((await app.admin.get(`/tenants/acme/kbs/${kb}/stats`)).body).toMatchObject({
    document_count: total,
    chunk_count: sum('chunk_count'),
    storage_bytes: sum('size_bytes'),
  });
  const [counters] = await sql(
    `SELECT c.documents::int, c.storage_bytes::int, count(d.id)::int AS rows, coalesce(sum(d.size_bytes), 0)::int AS bytes
     FROM tenant_counters c LEFT JOIN documents d ON d.tenant_id = c.tenant_id
     WHERE c.tenant_id = (SELECT id FROM tenants WHERE name = 'acme') GROUP BY c.tenant_id, c.documents, c.storage_bytes`,
  );
  expect([counters.documents, counters.storage_bytes]).toEqual([counters.rows, counters.bytes]);
};

describe('newer content of the same source', () => {
  it('is a version of the same document; the one before stays searchable until then', async () => {
    const first = await ready('The lamp costs ten francs.', {
      source_id: 'prices/lamp',
      title: 'Lamp',
      metadata: { year: 2025 },
    });
    expect(first).toMatchObject({ source_id: 'prices/lamp', version: 1, indexed_version: 1 });
    const before = model.requests.embeddings;
    model.failNext({ hang: 'headers' });
    const second = await added('The lamp costs eleven francs, and a half.', {
      source_id: 'prices/lamp',
      metadata: { year: 2026 },
    });
    expect(second).toMatchObject({
      id: first.id,
      title: 'Lamp',
      metadata: { year: 2026 },
      version: 2,
      indexed_version: 1,
      status: 'queued',
      size_bytes: 41,
    });
    await expect.poll(() => model.requests.embeddings, { timeout: 10_000 }).toBeGreaterThan(before);
    expect(await found('lamp')).toEqual(['The lamp costs ten francs.']);
    expect(await versions(first.id)).toMatchObject([
      { version: 2, searchable: false, content_sha256: second.content_sha256, size_bytes: 41 },
      { version: 1, searchable: true, content_sha256: first.content_sha256 },
    ]);
    expect(await storedFiles()).toEqual([first.content_sha256, second.content_sha256].toSorted());
    await expectCounts();
    // The third takes the place of the second, which never became searchable.
    const third = await added('The lamp costs twelve francs.', { source_id: 'prices/lamp' });
    expect(third).toMatchObject({ id: first.id, version: 3, indexed_version: 1 });
    expect(await settled(first.id)).toMatchObject({ status: 'ready', version: 3, indexed_version: 3 });
    expect(await found('lamp')).toEqual(['The lamp costs twelve francs.']);
    expect(await versions(first.id)).toMatchObject([{ version: 3, searchable: true }]);
    expect(await storedFiles()).toEqual([third.content_sha256]);
    await expectCounts();
    expect((await app.admin.get(at())).body.total).toBe(1);
  });

  it('is refused where only new documents are wanted', async () => {
    const { id } = await ready('One.', { source_id: 'a' });
    const refused = await text('Two.', { source_id: 'a', on_existing: 'reject' });
    expectProblem(refused, 409, 'source_exists');
    expect(refused.body.document_id).toBe(id);
    expect(await storedFiles()).toHaveLength(1);
    expectProblem(await upload([['Two.', 'a']], { on_existing: 'reject' }), 409, 'source_exists');
    expectProblem(await upload([['Two.', 'a']], { on_existing: 'replace' }), 422, 'validation_failed');
  });

  it('needs the right to change documents, also of a token', async () => {
    const scopes = ['document:create', 'document:read'];
    const { body } = await expectStatus(
      201,
      app.admin.post('/tenants/acme/api-tokens', { name: `Adds ${kb}`, scopes }),
    );
    const adds = app.anonymous.withToken(body.secret);
    await expectStatus(202, text('Made by a token.', { source_id: 'mine' }, adds));
    const refused = await text('Changed by a token.', { source_id: 'mine' }, adds);
    expectProblem(refused, 403, 'forbidden');
    expect(await storedFiles()).toHaveLength(1);
  });

  it('that another document holds is a duplicate, also while it is that one’s older version', async () => {
    const a = await ready('Content A.', { source_id: 'a' });
    const b = await ready('Content B.', { source_id: 'b' });
    const duplicate = await text('Content A.', { source_id: 'b' });
    expectProblem(duplicate, 409, 'duplicate_document');
    expect(duplicate.body.document_id).toBe(a.id);
    await waiting('Content A, newer.', 'a');
    // What is still searchable of the first may come back.
    expectProblem(await text('Content A.', { source_id: 'c' }), 409, 'duplicate_document');
    expectProblem(await text('Content A.', { source_id: 'b' }), 409, 'duplicate_document');
    await expectStatus(200, app.admin.post(at(`/${a.id}/cancel`)));
    expect((await app.admin.get(at(`/${b.id}`))).body).toMatchObject({ version: 1, status: 'ready' });
    expect(await storedFiles()).toHaveLength(2);
    await expectCounts();
  });

  it('that is cancelled leaves the version before as it was', async () => {
    const first = await ready('Lamps as they were.', { source_id: 'a' });
    await waiting('Lamps as they are, and longer.', 'a');
    const cancelled = await expectStatus(200, app.admin.post(at(`/${first.id}/cancel`)));
    const { updated_at: _, ...same } = first;
    expect(cancelled.body).toMatchObject(same);
    expect(await storedFiles()).toEqual([first.content_sha256]);
    expect(await found('lamps')).toEqual(['Lamps as they were.']);
    await expectCounts();
    expectProblem(await app.admin.post(at(`/${first.id}/cancel`)), 409, 'already_ended');
    // Its version's number is free again.
    await resume();
    await added('Lamps, once again.', { source_id: 'a' });
    expect(await settled(first.id)).toMatchObject({ status: 'ready', version: 2, indexed_version: 2 });
    expect(await found('lamps')).toEqual(['Lamps, once again.']);
  });

  it('that is what is searchable already gives up what was on its way', async () => {
    const first = await ready('The true one.', { source_id: 'a' });
    model.failNext({ status: 401 });
    const { id } = await added('The wrong one.', { source_id: 'a' });
    expect(await settled(id)).toMatchObject({ status: 'failed', version: 2, indexed_version: 1 });
    expect(await found('true')).toHaveLength(1);
    const back = await added('The true one.', { source_id: 'a', title: 'True' });
    expect(back).toMatchObject({
      id,
      status: 'ready',
      title: 'True',
      version: 1,
      error: null,
      content_sha256: first.content_sha256,
    });
    expect(await storedFiles()).toEqual([first.content_sha256]);
    await expectCounts();
  });

  it('is tried again where it failed', async () => {
    await ready('First.', { source_id: 'a' });
    model.failNext({ status: 401 });
    const { id } = await added('Second.', { source_id: 'a' });
    expect((await settled(id)).status).toBe('failed');
    expect((await added('Second.', { source_id: 'a' })).version).toBe(2);
    expect(await settled(id)).toMatchObject({ status: 'ready', version: 2, indexed_version: 2, error: null });
    expect(await found('second')).toHaveLength(1);
  });

  it('takes all of it along when the document is deleted', async () => {
    const { id } = await ready('First.', { source_id: 'a' });
    await waiting('Second.', 'a');
    await expectStatus(204, app.admin.delete(at(`/${id}`)));
    expect(await storedFiles()).toEqual([]);
    await expectCounts();
  });

  it('comes in one version after the other, also from many at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, i) => text(`Version ${i} of many.`, { source_id: 'busy' })),
    );
    expect(answers.map(answer => answer.status)).toEqual(Array(8).fill(202));
    const { body } = await app.admin.get(at());
    expect(body.total).toBe(1);
    const document = await settled(body.items[0].id);
    expect(document).toMatchObject({ version: 8, indexed_version: 8, status: 'ready' });
    expect(await storedFiles()).toEqual([document.content_sha256]);
    expect(await found('version')).toHaveLength(1);
    await expectCounts();
  });

  it('is told apart by knowledge base and tenant', async () => {
    const here = await ready('Mine.', { source_id: 'same' });
    await app.createTenant(`other${count}`);
    const there = await app.admin.post(`/tenants/other${count}/kbs/docs/documents/text`, {
      text: 'Theirs.',
      source_id: 'same',
    });
    expect(there.body).toMatchObject({ version: 1 });
    expect(there.body.id).not.toBe(here.id);
    expectProblem(
      await app.admin.get(`/tenants/other${count}/kbs/docs/documents/${here.id}/versions`),
      404,
      'not_found',
    );
  });

  it('of a document that one may not read is refused, and says nothing of it', async () => {
    const owner = await app.createMember('acme', 'owner');
    const { id } = await ready('For few.', { source_id: 'secret', acl: { members: [owner.id] } });
    const { client } = await app.createMember('acme', 'editor');
    for (const answer of [
      await text('For all.', { source_id: 'secret' }, client),
      await text('For few.', { source_id: 'other' }, client),
    ]) {
      expect(answer.status).toBe(409);
      expect(JSON.stringify(answer.body)).not.toContain(id);
    }
    expect(await storedFiles()).toHaveLength(1);
  });
});

describe('the source of a file', () => {
  it('is its name with its folders, made harmless', async () => {
    const { body } = await expectStatus(
      202,
      upload([
        ['One.', 'handbook/de/a.txt'],
        ['Two.', 'handbook/fr/a.txt'],
        ['Three.', '../../etc/./b.txt'],
        ['Four.', 'C:\\Temp\\c.txt'],
      ]),
    );
    expect(body.items.map((item: any) => [item.source_id, item.file_name])).toEqual([
      ['handbook/de/a.txt', 'a.txt'],
      ['handbook/fr/a.txt', 'a.txt'],
      ['etc/b.txt', 'b.txt'],
      ['Temp/c.txt', 'c.txt'],
    ]);
    const again = await expectStatus(202, upload([['One, and more.', 'handbook/de/a.txt']]));
    expect(again.body.items[0]).toMatchObject({ id: body.items[0].id, version: 2 });
  });

  it('may be given to one file of a request only', async () => {
    const { body } = await expectStatus(
      202,
      upload(
        [
          ['One.', 'a.txt'],
          ['Two.', 'b.txt'],
        ],
        { source_id: 'the one', priority: '5' },
      ),
    );
    expect(body.items).toMatchObject([{ source_id: 'the one', file_name: 'a.txt', priority: 5 }]);
    expect(body.rejected).toMatchObject([{ file_name: 'b.txt', status: 409, code: 'duplicate_source' }]);
    expect(await storedFiles()).toHaveLength(1);
  });

  it.each([
    { source_id: 'x'.repeat(1001) },
    { source_id: ' ' },
    { source_id: '説'.repeat(1000) },
    { priority: '11' },
    { priority: '1.5' },
    { url: 'https://example.com/' },
  ])('refuses %j', async fields => {
    const answer = await upload([['Text.', 'a.txt']], fields);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0].path).toBe(Object.keys(fields)[0]);
  });

  it('of a text is the address that it is from', async () => {
    const first = await ready('One.', { source_url: 'https://example.com/a#top' });
    expect(first).toMatchObject({
      source_id: 'https://example.com/a',
      source_url: 'https://example.com/a#top',
    });
    expect(await added('Two.', { source_url: 'HTTPS://EXAMPLE.com:443/a' })).toMatchObject({
      id: first.id,
      version: 2,
    });
    expect(await ready('Three.')).toMatchObject({ source_id: null });
  });

  it('filters the list', async () => {
    await ready('A text.', { source_id: 'x' });
    await expectStatus(202, upload([['A file.', 'y.txt']]));
    const titles = async (query: string) =>
      (await expectStatus(200, app.admin.get(at(`?${query}`)))).body.items.map((item: any) => item.source_id);
    expect(await titles('source=upload')).toEqual(['y.txt']);
    expect(await titles('source=text')).toEqual(['x']);
    expect(await titles('source_id=x')).toEqual(['x']);
    expect(await titles('source=url')).toEqual([]);
    expect(await titles('job_id=019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11')).toEqual([]);
    expectProblem(await app.admin.get(at('?source=web')), 422, 'validation_failed');
  });
});

describe('many documents', () => {
  it('are deleted at once, with chunks, counts and originals', async () => {
    const ids: string[] = [];
    for (const word of ['one', 'two', 'three']) ids.push((await ready(`The word is ${word}.`)).id);
    const kept = await ready('The word is kept.');
    const missing = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';
    const answer = await expectStatus(
      200,
      app.admin.post(at('/bulk-delete'), { document_ids: [...ids, ids[0]?.toUpperCase(), missing] }),
    );
    expect(answer.body.deleted.toSorted()).toEqual(ids.toSorted());
    expect(answer.body.not_found).toEqual([missing]);
    expect(await found('word')).toEqual(['The word is kept.']);
    expect(await storedFiles()).toEqual([kept.content_sha256]);
    await expectCounts();
    const [terms] = await sql(
      `SELECT count(*)::int AS wrong
       FROM (SELECT kb_id, term, count(*) AS n FROM chunk_vectors, sparsevec_indices(lexical) AS term GROUP BY 1, 2) c
       FULL JOIN kb_terms t USING (kb_id, term) WHERE c.n IS DISTINCT FROM t.document_frequency`,
    );
    expect(terms.wrong).toBe(0);
    const { body: audit } = await app.admin.get('/tenants/acme/audit?action=document.deleted&page_size=100');
    const audited = audit.items.map((entry: any) => entry.resource.id);
    expect(audited).toEqual(expect.arrayContaining(ids));
    for (const document_ids of [[], Array(501).fill(missing), ['x']])
      expectProblem(await app.admin.post(at('/bulk-delete'), { document_ids }), 422, 'validation_failed');
  });

  it('of another knowledge base are not found', async () => {
    const { id } = await ready('Elsewhere.');
    const answer = await app.admin.post('/tenants/acme/kbs/docs/documents/bulk-delete', {
      document_ids: [id],
    });
    expect(answer.body).toEqual({ deleted: [], not_found: [id] });
    const { client } = await app.createMember('acme', 'viewer');
    expectProblem(await client.post(at('/bulk-delete'), { document_ids: [id] }), 403, 'forbidden');
    expect((await app.admin.get(at(`/${id}`))).status).toBe(200);
  });
});

describe('the settings of a tenant', () => {
  const settings = (changes: object) =>
    expectStatus(200, app.admin.patch('/tenants/acme', { settings: changes }));

  it('say which types of documents it takes, whatever way they come', async () => {
    await settings({ allowed_document_types: ['txt', 'application/pdf'] });
    const { body } = await expectStatus(
      202,
      upload([
        ['Plain.', 'a.txt'],
        ['<!doctype html><html><body>Page</body></html>', 'b.html'],
      ]),
    );
    expect(body.items).toHaveLength(1);
    expect(body.rejected).toMatchObject([{ file_name: 'b.html', status: 415, code: 'type_not_allowed' }]);
    expectProblem(await text('# A text'), 415, 'type_not_allowed');
    expect(await storedFiles()).toHaveLength(1);
    await settings({ allowed_document_types: null });
    expect((await text('# A text')).status).toBe(202);
  });

  it('say for how long documents are kept, counted from their newest content', async () => {
    const old = await ready('An old fact.');
    const renewed = await ready('An old fact that was renewed.', { source_id: 'r' });
    const young = await ready('A young fact.');
    await sql(
      `UPDATE documents SET created_at = now() - interval '31 days' WHERE id IN ('${old.id}', '${renewed.id}')`,
    );
    await sql(`UPDATE document_versions SET created_at = now() - interval '31 days'
               WHERE document_id IN ('${old.id}', '${renewed.id}')`);
    await added('A renewed fact.', { source_id: 'r' });
    await settled(renewed.id);
    await settings({ data_retention_days: 30 });
    await sql(`DELETE FROM job_schedules WHERE kind = 'document.retention'`);
    await expect
      .poll(async () => (await app.admin.get(at(`/${old.id}`))).status, { timeout: 25_000 })
      .toBe(404);
    expect((await app.admin.get(at())).body.items.map((item: any) => item.id).toSorted()).toEqual(
      [renewed.id, young.id].toSorted(),
    );
    expect(await found('fact')).toHaveLength(2);
    await expectCounts();
    const { body } = await app.admin.get('/tenants/acme/audit?action=document.deleted&page_size=100');
    expect(body.items.find((entry: any) => entry.resource.id === old.id)).toMatchObject({
      actor: { type: 'system' },
      details: { retention_days: 30 },
    });
    await settings({ data_retention_days: null });
  }, 40_000);
});
