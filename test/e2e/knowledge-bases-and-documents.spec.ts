import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { PNG, docxOf, encryptedPdfOf, pdfOf, uploadOf } from '../setup/files.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;
let model: ModelServer;
const kbs = '/tenants/acme/kbs';
const documents = `${kbs}/docs/documents`;

beforeAll(async () => {
  // A model whose calls the tests can hold up and fail; its vectors cost nothing.
  model = await startModelServer();
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    // A worker whose call hangs notices with its next heartbeat that its document was taken from it.
    WORKER_CONCURRENCY: '4',
  });
  await app.createTenant('acme');
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});

const items = (answer: Answer): any[] => answer.body.items;
const settled = (id: string, kb = 'docs') => app.settled('acme', id, kb);
const upload = (form: FormData, kb = 'docs') => app.admin.post(`${kbs}/${kb}/documents`, form);
const addText = (text: string, fields: object = {}, kb = 'docs') =>
  app.admin.post(`${kbs}/${kb}/documents/text`, { text, ...fields });
const search = async (query: string, kb = 'docs', more: object = {}) =>
  (await expectStatus(200, app.admin.post(`${kbs}/${kb}/search`, { query, mode: 'keyword', ...more }))).body
    .passages as any[];
const statistics = async (kb = 'docs') => (await expectStatus(200, app.admin.get(`${kbs}/${kb}/stats`))).body;
/** The SHA-256 of each original that is stored. */
const storedFiles = async (kb = 'docs'): Promise<string[]> => {
  const { id, tenant_id } = (await app.admin.get(`${kbs}/${kb}`)).body;
  const names = await readdir(join(app.env.dataDir, 'files', tenant_id, id)).catch((): string[] => []);
  return names.map(name => name.slice(0, 64));
};
/** What the statistics say, counted one by one. */
const expectStatisticsToBeCounts = async (kb = 'docs') => {
  const all = items(await app.admin.get(`${kbs}/${kb}/documents?page_size=100`));
  const sum = (field: string) => all.reduce((total, document) => total + document[field], 0);
  expect(await statistics(kb)).toMatchObject({
    document_count: all.length,
    chunk_count: sum('chunk_count'),
    storage_bytes: sum('size_bytes'),
  });
};
const emptyKb = async (name: string) => {
  const { body } = await expectStatus(201, app.admin.post(kbs, { name }));
  return body.slug as string;
};

describe('knowledge bases', () => {
  it('are created, read by id and slug, changed, replaced and deleted', async () => {
    const { body: made } = await expectStatus(
      201,
      app.admin.post(kbs, { name: 'Über die Größe', description: 'Sizes', config: { chunk_size: 500 } }),
    );
    expect(made).toMatchObject({
      name: 'Über die Größe',
      slug: 'uber-die-gro-e',
      config: { chunk_size: 500 },
      embedding_model: null,
      is_active: true,
      document_count: 0,
      chunk_count: 0,
      storage_mb: 0,
    });
    expect((await app.admin.get(`${kbs}/${made.id}`)).body).toEqual(made);
    expect((await app.admin.get(`${kbs}/uber-die-gro-e`)).body).toEqual(made);
    const patched = await expectStatus(
      200,
      app.admin.patch(`${kbs}/${made.id}`, { slug: 'sizes', config: { top_k: 3 } }),
    );
    expect(patched.body).toMatchObject({ id: made.id, slug: 'sizes', name: made.name, config: { top_k: 3 } });
    expect(patched.body.config).not.toHaveProperty('chunk_size');
    expectProblem(await app.admin.get(`${kbs}/uber-die-gro-e`), 404, 'not_found');
    const replacement = { name: 'Sizes', slug: 'sizes', description: '', config: {}, is_active: false };
    expect((await app.admin.put(`${kbs}/sizes`, replacement)).body).toMatchObject({
      ...replacement,
      id: made.id,
    });
    expectProblem(await app.admin.put(`${kbs}/sizes`, { name: 'Sizes' }), 422, 'validation_failed');
    expect((await app.admin.delete(`${kbs}/sizes`)).status).toBe(204);
    expectProblem(await app.admin.get(`${kbs}/${made.id}`), 404, 'not_found');
    expectProblem(await app.admin.delete(`${kbs}/sizes`), 404, 'not_found');
  });

  it('have a slug even where the name has no letter for one', async () => {
    const { body } = await expectStatus(201, app.admin.post(kbs, { name: '説明書' }));
    expect(body.slug).toMatch(/^kb-[0-9a-f]{12}$/);
  });

  it('have names and slugs of their own in their tenant, also when two ask at once', async () => {
    expectProblem(await app.admin.post(kbs, { name: 'DOCS' }), 409, 'name_taken');
    expectProblem(await app.admin.post(kbs, { name: 'Other', slug: 'docs' }), 409, 'name_taken');
    const both = await Promise.all([1, 2].map(() => app.admin.post(kbs, { name: 'Twins' })));
    expect(both.map(answer => answer.status).toSorted()).toEqual([201, 409]);
    expectProblem(
      both.find(answer => answer.status === 409)!,
      409,
      'name_taken',
    );
    expect((await app.admin.get(`${kbs}?search=twins`)).body.total).toBe(1);
    expectProblem(await app.admin.patch(`${kbs}/twins`, { name: 'docs' }), 409, 'name_taken');
    await app.createTenant('neighbour');
    expect((await app.admin.get('/tenants/neighbour/kbs/docs')).body.name).toBe('Docs');
    expectProblem(await app.admin.get('/tenants/neighbour/kbs/twins'), 404, 'not_found');
  });

  it.runIf(SERVER)('are renamed while documents are added', async () => {
    const { body: made } = await expectStatus(201, app.admin.post(kbs, { name: 'Busy' }));
    const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    // What adding one does: a foreign key that holds the knowledge base, and a count that changes it.
    const renamed = await asSuperuser(app.env, dataSource, async adding => {
      await adding.query('SELECT FROM knowledge_bases WHERE id = $1 FOR KEY SHARE', [made.id]);
      const waiting = app.admin.patch(`${kbs}/${made.id}`, { slug: 'very-busy' });
      const waits = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      await expect.poll(async () => (await adding.query(waits)).rowCount).toBeGreaterThan(0);
      await adding.query('SELECT FROM knowledge_bases WHERE id = $1 FOR NO KEY UPDATE', [made.id]);
      return { waiting };
    });
    expect(await renamed.waiting).toMatchObject({ status: 200, body: { slug: 'very-busy' } });
  });

  it('are listed, searched, sorted and paged', async () => {
    for (const name of ['List A', 'List B', 'List C']) await emptyKb(name);
    const names = async (query: string) =>
      items(await expectStatus(200, app.admin.get(`${kbs}?${query}`))).map(kb => kb.name);
    expect(await names('search=list&sort=-name')).toEqual(['List C', 'List B', 'List A']);
    expect(await names('search=LIST&sort=name&page_size=2&page=2')).toEqual(['List C']);
    expect(await names('search=list-b')).toEqual(['List B']);
    expect(await names('search=%25')).toEqual([]);
  });

  it('refuse a configuration that cannot work', async () => {
    for (const config of [
      { chunk_size: 10 },
      { chunk_size: 200, chunk_overlap: 100 },
      { chunk_overlap: 1100 },
      { top_k: 0 },
      { colour: 'red' },
    ]) {
      const answer = await app.admin.post(kbs, { name: 'Wrong', config });
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors[0].path).toMatch(/^config\./);
    }
    expect((await app.admin.get(`${kbs}?search=wrong`)).body.total).toBe(0);
  });

  it('split by their own settings, and anew when re-indexed after a change', async () => {
    const text = Array.from(
      { length: 60 },
      (_, i) => `Sentence number ${i} is about the subject ${i * 7}.`,
    ).join(' ');
    const { body: kb } = await expectStatus(
      201,
      app.admin.post(kbs, { name: 'Fine', config: { chunk_size: 200, chunk_overlap: 0 } }),
    );
    const fine = await settled((await expectStatus(202, addText(text, {}, 'fine'))).body.id, 'fine');
    const chunks = items(await app.admin.get(`${kbs}/${kb.id}/documents/${fine.id}/chunks?page_size=100`));
    expect(chunks.length).toBe(fine.chunk_count);
    expect(chunks.length).toBeGreaterThan(10);
    expect(chunks.every(chunk => chunk.text.length <= 200)).toBe(true);
    expect(chunks.map(chunk => chunk.text).join(' ')).toBe(text);
    await expectStatus(
      200,
      app.admin.patch(`${kbs}/fine`, { config: { chunk_size: 8000, chunk_overlap: 0 } }),
    );
    await expectStatus(202, app.admin.post(`${kbs}/fine/documents/${fine.id}/reindex`));
    expect((await settled(fine.id, 'fine')).chunk_count).toBe(1);
    expect(await statistics('fine')).toMatchObject({ document_count: 1, chunk_count: 1 });
    expect(await search('subject', 'fine')).toHaveLength(1);
  });

  it('take their documents along when they are deleted', async () => {
    const kb = await emptyKb('Short-lived');
    const { id } = (await expectStatus(202, addText('Here today.', {}, kb))).body;
    await settled(id, kb);
    const { id: kbId, tenant_id } = (await app.admin.get(`${kbs}/${kb}`)).body;
    await expectStatus(204, app.admin.delete(`${kbs}/${kb}`));
    expectProblem(await app.admin.get(`${kbs}/${kb}/documents/${id}`), 404, 'not_found');
    expectProblem(await app.admin.post(`${kbs}/${kb}/search`, { query: 'today' }), 404, 'not_found');
    expect(await readdir(join(app.env.dataDir, 'files', tenant_id))).not.toContain(kbId);
  });
});

describe('an upload', () => {
  const sentence = 'The umbrella costs nineteen francs.';

  it.each<[string, string, () => Promise<Buffer> | Buffer, string]>([
    ['plain text', 'a.txt', () => Buffer.from(sentence), 'text/plain'],
    ['Markdown', 'a.md', () => Buffer.from(`# Prices\n\n${sentence}`), 'text/markdown'],
    [
      'HTML',
      'a.html',
      () => Buffer.from(`<!doctype html><html><body><h1>Prices</h1><p>${sentence}</p></body></html>`),
      'text/html',
    ],
    ['PDF', 'a.pdf', () => pdfOf(['The cover.', sentence]), 'application/pdf'],
    [
      'Word',
      'a.docx',
      () => docxOf('Prices', [sentence]),
      'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
    ],
  ])('of %s becomes searchable, and comes back byte for byte', async (what, fileName, build, mimeType) => {
    const kb = await emptyKb(`Upload of ${what}`);
    const content = await build();
    const { body } = await expectStatus(202, upload(uploadOf([[content, fileName]]), kb));
    expect(body.rejected).toEqual([]);
    expect(body.items[0]).toMatchObject({
      title: 'a',
      file_name: fileName,
      source: 'upload',
      size_bytes: content.length,
    });
    const document = await settled(body.items[0].id, kb);
    expect(document).toMatchObject({
      status: 'ready',
      progress: 1,
      error: null,
      mime_type: mimeType,
      stage: null,
    });
    expect(document.content_sha256).toBe(createHash('sha256').update(content).digest('hex'));

    const [passage] = await search('umbrella', kb);
    expect(passage).toMatchObject({
      document_id: document.id,
      page: mimeType === 'application/pdf' ? 2 : null,
    });
    expect(passage.text).toContain(sentence);

    const response = await fetch(`${app.admin.url}/api/v1${kbs}/${kb}/documents/${document.id}/content`, {
      headers: { authorization: `Bearer ${app.admin.token}` },
    });
    expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true);
    expect(response.headers.get('content-disposition')).toBe(`attachment; filename*=UTF-8''${fileName}`);
    expect(response.headers.get('content-type')).toContain(mimeType);
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    await expectStatisticsToBeCounts(kb);
  });

  it('of several files takes the good ones and says what is wrong with the others', async () => {
    const kb = await emptyKb('Several');
    const form = uploadOf(
      [
        ['First text.', 'first.txt'],
        [PNG, 'image.png'],
        ['First text.', 'same again.txt'],
        ['', 'empty.txt'],
        ['Second text.', 'Ünïcode näme.txt'],
      ],
      { metadata: '{"lot":7}' },
    );
    const { body } = await expectStatus(202, upload(form, kb));
    expect(body.items.map((item: any) => item.file_name)).toEqual(['first.txt', 'Ünïcode näme.txt']);
    expect(body.items.map((item: any) => item.metadata)).toEqual([{ lot: 7 }, { lot: 7 }]);
    expect(body.rejected).toMatchObject([
      { file_name: 'image.png', status: 415, code: 'unsupported_type' },
      { file_name: 'same again.txt', status: 409, code: 'duplicate_document', document_id: body.items[0].id },
      { file_name: 'empty.txt', status: 422, code: 'empty' },
    ]);
    for (const { id } of body.items) expect((await settled(id, kb)).status).toBe('ready');
    expect((await storedFiles(kb)).toSorted()).toEqual(
      body.items.map((item: any) => item.content_sha256).toSorted(),
    );
    expect(await readdir(join(app.env.dataDir, 'files', '.incoming'))).toEqual([]);
    await expectStatisticsToBeCounts(kb);
  });

  it('carries a title and metadata', async () => {
    const kb = await emptyKb('Titled');
    const form = uploadOf([['The content.', 'file.txt']], {
      title: ' My title ',
      metadata: '{"year":2026,"tags":["a"]}',
    });
    const { body } = await expectStatus(202, upload(form, kb));
    expect(body.items[0]).toMatchObject({ title: 'My title', metadata: { year: 2026, tags: ['a'] } });
    expect((await settled(body.items[0].id, kb)).status).toBe('ready');
    expect(await search('content', kb, { filter: { metadata: { year: 2026 } } })).toHaveLength(1);
    expect(await search('content', kb, { filter: { metadata: { year: 2025 } } })).toHaveLength(0);
  });

  it.each<[string, string, () => Buffer]>([
    ['damaged', 'cut.pdf', () => pdfOf(['One', 'Two']).subarray(0, 300)],
    ['encrypted', 'locked.pdf', () => encryptedPdfOf(['Secret'])],
    ['no_text', 'scan.pdf', () => pdfOf([''])],
  ])(
    'whose content turns out to be %s is a failed document with that code',
    async (code, fileName, build) => {
      const kb = await emptyKb(`Failing ${code}`);
      const { body } = await expectStatus(202, upload(uploadOf([[build(), fileName]]), kb));
      const document = await settled(body.items[0].id, kb);
      expect(document).toMatchObject({
        status: 'failed',
        error: { code, message: expect.stringMatching(/\.$/) },
        chunk_count: 0,
      });
      expect((await app.admin.get(`${kbs}/${kb}/documents?status=failed`)).body.total).toBe(1);
      expect(await statistics(kb)).toMatchObject({
        document_count: 1,
        chunk_count: 0,
        documents_by_status: { failed: 1 },
      });
      // The same file again is another try of the same document.
      const again = await expectStatus(202, upload(uploadOf([[build(), fileName]]), kb));
      expect(again.body.items[0].id).toBe(document.id);
      expect((await settled(document.id, kb)).status).toBe('failed');
      expect(await statistics(kb)).toMatchObject({ document_count: 1 });
      expect(await storedFiles(kb)).toEqual([document.content_sha256]);
    },
  );
});

describe('documents', () => {
  let kb: string;
  let count = 0;
  beforeEach(async () => {
    kb = await emptyKb(`Documents ${++count}`);
  });

  it('are listed, filtered, searched, sorted and paged', async () => {
    for (const title of ['Beta', 'alpha', 'Gamma_1']) {
      await settled((await expectStatus(202, addText(`Text of ${title}`, { title }, kb))).body.id, kb);
    }
    const list = (query: string) => expectStatus(200, app.admin.get(`${kbs}/${kb}/documents?${query}`));
    const titles = async (query: string) => items(await list(query)).map(document => document.title);
    expect(await titles('')).toEqual(['Beta', 'alpha', 'Gamma_1']);
    expect(await titles('sort=-created_at&page_size=2')).toEqual(['Gamma_1', 'alpha']);
    expect(await titles('sort=-size_bytes&page_size=1')).toEqual(['Gamma_1']);
    expect(await titles('search=ALPH')).toEqual(['alpha']);
    expect(await titles('search=_')).toEqual(['Gamma_1']);
    expect((await list('status=ready')).body).toMatchObject({ total: 3, page: 1, page_size: 20 });
    expect(await titles('status=failed')).toEqual([]);
    expect((await list('page=2&page_size=2')).body).toMatchObject({
      total: 3,
      page: 2,
      page_size: 2,
      items: [{ title: 'Gamma_1' }],
    });
  });

  it('are shown in chunks that tell where they stand', async () => {
    const text = '# Manual\n\n## Setup\n\nPlug it in.\n\n## Use\n\nPress the button.';
    const document = await settled((await expectStatus(202, addText(text, {}, kb))).body.id, kb);
    expect(document.title).toBe('Manual');
    const { body } = await expectStatus(200, app.admin.get(`${kbs}/${kb}/documents/${document.id}/chunks`));
    expect(body.total).toBe(document.chunk_count);
    for (const [index, chunk] of body.items.entries()) {
      expect(chunk).toMatchObject({ document_id: document.id, ordinal: index, page: null });
      expect(chunk.end_offset).toBeGreaterThan(chunk.start_offset);
    }
    expect(body.items.map((chunk: any) => chunk.text).join('\n')).toContain('Press the button.');
  });

  it('change their title and metadata, and nothing of what they are', async () => {
    const { body: made } = await expectStatus(
      202,
      addText('Something', { metadata: { a: 1 }, source_url: 'https://example.com/a' }, kb),
    );
    expect(made).toMatchObject({ source: 'text', source_url: 'https://example.com/a', title: 'Something' });
    await settled(made.id, kb);
    const changed = await expectStatus(
      200,
      app.admin.patch(`${kbs}/${kb}/documents/${made.id}`, { title: 'New', metadata: { b: 2 } }),
    );
    expect(changed.body).toMatchObject({
      id: made.id,
      title: 'New',
      metadata: { b: 2 },
      status: 'ready',
      content_sha256: made.content_sha256,
    });
    expect((await search('something', kb))[0]).toMatchObject({ document_title: 'New' });
  });

  it('leave nothing behind when they are deleted', async () => {
    const kept = await settled(
      (await expectStatus(202, addText('The kept fact about lions.', {}, kb))).body.id,
      kb,
    );
    const before = await statistics(kb);
    const { id } = (await expectStatus(202, addText('The removed fact about tigers. '.repeat(200), {}, kb)))
      .body;
    expect((await settled(id, kb)).chunk_count).toBeGreaterThan(3);
    expect(await search('tigers', kb)).not.toHaveLength(0);
    await expectStatus(204, app.admin.delete(`${kbs}/${kb}/documents/${id}`));
    for (const path of ['', '/chunks', '/content']) {
      expectProblem(await app.admin.get(`${kbs}/${kb}/documents/${id}${path}`), 404, 'not_found');
    }
    expect(await search('tigers', kb)).toEqual([]);
    expect(await statistics(kb)).toEqual(before);
    expect(await storedFiles(kb)).toEqual([kept.content_sha256]);
    await expectStatus(204, app.admin.delete(`${kbs}/${kb}/documents/${kept.id}`));
    expect(await statistics(kb)).toEqual({
      document_count: 0,
      chunk_count: 0,
      entity_count: 0,
      relation_count: 0,
      storage_bytes: 0,
      storage_mb: 0,
      documents_by_status: {},
    });
    expect(await search('lions', kb)).toEqual([]);
    expect(await storedFiles(kb)).toEqual([]);
  });

  it('are deleted once, also when two do it at once', async () => {
    const { id } = (await expectStatus(202, addText('Gone soon.', {}, kb))).body;
    await settled(id, kb);
    const both = await Promise.all([1, 2].map(() => app.admin.delete(`${kbs}/${kb}/documents/${id}`)));
    expect(both.map(answer => answer.status).toSorted()).toEqual([204, 404]);
    expect(await statistics(kb)).toMatchObject({ document_count: 0, chunk_count: 0, storage_bytes: 0 });
  });

  it('with the same content are one, whatever way they come, also two at once', async () => {
    const both = await Promise.all([
      addText('The very same content.', { title: 'As text' }, kb),
      upload(uploadOf([['The very same content.', 'as file.txt']]), kb),
    ]);
    expect(both.map(answer => answer.status).toSorted()).toEqual([202, 409]);
    const list = await app.admin.get(`${kbs}/${kb}/documents`);
    expect(list.body.total).toBe(1);
    const [document] = items(list);
    const refused = both.find(answer => answer.status === 409)!;
    expectProblem(refused, 409, 'duplicate_document');
    await settled(document.id, kb);
    const third = await addText('The very same content.', {}, kb);
    expectProblem(third, 409, 'duplicate_document');
    expect(third.body.document_id).toBe(document.id);
    expect(await storedFiles(kb)).toEqual([document.content_sha256]);
    await expectStatisticsToBeCounts(kb);
    // In another knowledge base it is another document.
    expect((await addText('The very same content.', {}, 'docs')).status).toBe(202);
  });

  it('are re-indexed from their original, and stay one', async () => {
    const { id } = (await expectStatus(202, addText('A fact to index twice.', {}, kb))).body;
    await settled(id, kb);
    const before = await statistics(kb);
    const answer = await expectStatus(202, app.admin.post(`${kbs}/${kb}/documents/${id}/reindex`));
    expect(answer.body).toMatchObject({ id, status: 'queued' });
    // What is searchable of it stays so meanwhile.
    expect(await search('fact', kb)).toHaveLength(1);
    expect((await settled(id, kb)).status).toBe('ready');
    expect(await statistics(kb)).toEqual(before);
    expect(await search('fact', kb)).toHaveLength(1);
  });

  it('are cancelled while they are being ingested, not after, and tried again by the same upload', async () => {
    const form = () => uploadOf([['Never finished.', 'slow.txt']]);
    model.failNext({ hang: 'headers' });
    const { id } = (await expectStatus(202, upload(form(), kb))).body.items[0];
    const path = `${kbs}/${kb}/documents/${id}`;
    await expect.poll(async () => (await app.admin.get(path)).body.stage).toBe('embed');
    expect((await app.admin.get(path)).body).toMatchObject({ status: 'processing', chunk_count: 0 });
    expect(await search('finished', kb)).toEqual([]);
    const cancelled = await expectStatus(200, app.admin.post(`${path}/cancel`));
    expect(cancelled.body.status).toBe('cancelled');
    expectProblem(await app.admin.post(`${path}/cancel`), 409, 'already_ended');
    expect(await statistics(kb)).toMatchObject({
      document_count: 1,
      chunk_count: 0,
      documents_by_status: { cancelled: 1 },
    });
    const again = await expectStatus(202, upload(form(), kb));
    expect(again.body.items[0].id).toBe(id);
    expect((await settled(id, kb)).status).toBe('ready');
    expect(await search('finished', kb)).toHaveLength(1);
    expectProblem(await app.admin.post(`${path}/cancel`), 409, 'already_ended');
  });

  it('that are deleted while they are being ingested are gone', async () => {
    model.failNext({ hang: 'headers' });
    const { id } = (await expectStatus(202, addText('Deleted on the way.', {}, kb))).body;
    await expect
      .poll(async () => (await app.admin.get(`${kbs}/${kb}/documents/${id}`)).body.stage)
      .toBe('embed');
    await expectStatus(204, app.admin.delete(`${kbs}/${kb}/documents/${id}`));
    expect(await statistics(kb)).toMatchObject({ document_count: 0, chunk_count: 0, storage_bytes: 0 });
    expect(await storedFiles(kb)).toEqual([]);
  });

  it('fail with a reason when the model refuses them, and are re-indexed when it is mended', async () => {
    model.failNext({ status: 401 });
    const { id } = (await expectStatus(202, addText('Refused at first.', {}, kb))).body;
    const failed = await settled(id, kb);
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'model_rejected' } });
    expect(JSON.stringify(failed)).not.toContain('stub fault');
    expect(await search('refused', kb)).toEqual([]);
    await expectStatus(202, app.admin.post(`${kbs}/${kb}/documents/${id}/reindex`));
    expect(await settled(id, kb)).toMatchObject({ status: 'ready', error: null });
  });

  it('belong to one knowledge base', async () => {
    const { id } = (await expectStatus(202, addText('At home.', {}, kb))).body;
    for (const path of ['', '/chunks', '/content']) {
      expectProblem(await app.admin.get(`${documents}/${id}${path}`), 404, 'not_found');
    }
    expectProblem(await app.admin.delete(`${documents}/${id}`), 404, 'not_found');
    expectProblem(await app.admin.get(`/tenants/neighbour/kbs/docs/documents/${id}`), 404, 'not_found');
    expect((await settled(id, kb)).status).toBe('ready');
  });
});
