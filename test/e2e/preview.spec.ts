import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { begunUpload } from '../setup/begun-upload.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';

const PREVIEW = '/tenants/acme/kbs/docs/documents/preview';
const PARAGRAPH = 'The warranty of a bicycle lasts two years from the day of purchase. ';
const LONG_TEXT = `# Warranty\n\n${Array.from({ length: 400 }, (_, index) => `${index}. ${PARAGRAPH}`).join('\n\n')}`;

let app: TestApplication;
let editor: { client: Client };
let globex: { client: Client };
/** Where files pass through on their way. */
let scratch: string;

beforeAll(async () => {
  app = await startTestApplication({ MAX_UPLOAD_MB: '1' });
  await app.createTenant('acme');
  await app.createTenant('globex');
  editor = await app.createMember('acme', 'editor');
  globex = await app.createMember('globex', 'editor');
  scratch = join(app.env.dataDir, 'scratch');
});
afterAll(() => app?.close());

function form(
  files: Array<[content: string | Uint8Array, name: string]>,
  fields: Record<string, string> = {},
) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  for (const [content, name] of files) data.append('file', new Blob([content as string]), name);
  return data;
}

const preview = (body: unknown, as = editor.client) => as.post(PREVIEW, body);
const uploadsUnderWay = () => (existsSync(scratch) ? readdirSync(scratch).length : 0);

const documents = async () => (await app.admin.get('/tenants/acme/kbs/docs/documents')).body.total;

it('shows what a file would become, and keeps nothing of it', async () => {
  const before = await documents();
  const { body } = await expectStatus(
    200,
    preview(form([['# Care\n\n## Chain\n\nOil the chain once a month.', 'care.md']])),
  );
  expect(body).toEqual({
    title: 'Care',
    mime_type: 'text/markdown',
    chunks: [
      {
        ordinal: 0,
        text: expect.stringContaining('Oil the chain once a month.'),
        heading: expect.stringContaining('Care'),
        page: null,
        start_offset: expect.any(Number),
        end_offset: expect.any(Number),
        token_count: expect.any(Number),
      },
    ],
    chunk_count: 1,
    token_count: body.chunks[0].token_count,
    page_count: 1,
    character_count: expect.any(Number),
    warnings: [],
    config: { chunk_size: 1200, chunk_overlap: 100, chunk_unit: 'characters' },
  });
  expect(await documents()).toBe(before);
  expect(readdirSync(scratch)).toEqual([]);
});

it('shows the first hundred chunks of a long text, and counts them all', async () => {
  const settings = { chunk_size: 200, chunk_overlap: 20 };
  const { body } = await expectStatus(200, preview({ text: LONG_TEXT, ...settings }));
  expect(body.chunks).toHaveLength(100);
  expect(body.chunk_count).toBeGreaterThan(150);
  expect(body.chunks.map(({ ordinal }: { ordinal: number }) => ordinal)).toEqual(
    body.chunks.map((_: unknown, index: number) => index),
  );
  for (const { text } of body.chunks) expect(text.length).toBeLessThanOrEqual(200);
  expect(body.config).toEqual({ ...settings, chunk_unit: 'characters' });
});

it('begins with the settings of the knowledge base, and takes others for this once', async () => {
  const config = { chunk_size: 300, chunk_overlap: 30, chunk_unit: 'tokens' };
  await expectStatus(200, app.admin.patch('/tenants/acme/kbs/docs', { config }));
  expect((await preview({ text: LONG_TEXT })).body.config).toEqual(config);
  const { body } = await preview(form([[LONG_TEXT, 'long.md']], { chunk_size: '150' }));
  expect(body.config).toEqual({ ...config, chunk_size: 150 });
  expect(
    (await preview({ text: LONG_TEXT, chunk_size: 2000, chunk_unit: 'characters' })).body.config,
  ).toEqual({
    chunk_size: 2000,
    chunk_overlap: 30,
    chunk_unit: 'characters',
  });
  await expectStatus(200, app.admin.patch('/tenants/acme/kbs/docs', { config: {} }));
});

it('cuts a document of the knowledge base as its ingestion does', async () => {
  const document = await app.addText('acme', LONG_TEXT.slice(0, 4000));
  expect(document.status).toBe('ready');
  const { body } = await expectStatus(200, preview({ document_id: document.id.toUpperCase() }));
  expect(body.chunk_count).toBe(document.chunk_count);
  const chunks = await app.admin.get(`/tenants/acme/kbs/docs/documents/${document.id}/chunks?page_size=5`);
  const texts = (items: Array<{ text: string }>) => items.map(({ text }) => text);
  expect(texts(body.chunks).slice(0, 5)).toEqual(texts(chunks.body.items));
});

describe('nobody sees through it', () => {
  it('what they may not read', async () => {
    const { body: theirs } = await expectStatus(
      202,
      app.admin.post('/tenants/globex/kbs/docs/documents/text', { text: 'Of globex alone.' }),
    );
    const other = await app.createMember('acme', 'viewer');
    const closed = await app.addText('acme', 'For few to read.', { acl: { members: [other.id] } });
    for (const document_id of [theirs.id, closed.id, randomUUID()]) {
      expectProblem(await preview({ document_id }), 404, 'not_found');
    }
    const { client } = await issueToken(app, app.admin, 'acme', { scopes: ['document:create'] });
    expectProblem(await preview({ document_id: closed.id }, client), 404, 'not_found');
    await expectStatus(200, preview({ text: 'A text of their own.' }, client));
  });

  it('without the permission to add documents', async () => {
    const viewer = await app.createMember('acme', 'viewer');
    expectProblem(await preview({ text: 'A text.' }, viewer.client), 403, 'forbidden');
    const foreign = await app.createMember('globex', 'owner');
    expectProblem(await preview({ text: 'A text.' }, foreign.client), 404, 'not_found');
    expectProblem(await preview({ text: 'A text.' }, app.anonymous), 401, 'unauthorized');
    const elsewhere = '/tenants/acme/kbs/no-such-kb/documents/preview';
    expectProblem(await editor.client.post(elsewhere, { text: 'A text.' }), 404, 'not_found');
  });
});

describe('it refuses', () => {
  it.each([
    ['nothing', {}, 'text'],
    ['text and document', { text: 'A text.', document_id: randomUUID() }, 'text'],
    ['an empty text', { text: ' \n ' }, 'text'],
    ['chunks that are too small', { text: 'A text.', chunk_size: 10 }, 'chunk_size'],
    [
      'an overlap that is too large',
      { text: 'A text.', chunk_size: 200, chunk_overlap: 100 },
      'chunk_overlap',
    ],
    ['an unknown unit', { text: 'A text.', chunk_unit: 'words' }, 'chunk_unit'],
    ['an unknown field', { text: 'A text.', url: 'https://example.com' }, 'url'],
  ])('%s', async (_, body, path) => {
    const answer = await preview(body);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0].path).toBe(path);
  });

  it('forms that are none', async () => {
    const text: [string, string] = ['A text.', 'a.txt'];
    const pathOf = async (data: FormData) => {
      const answer = await preview(data);
      expectProblem(answer, 422, 'validation_failed');
      return answer.body.errors[0].path;
    };
    expect(await pathOf(form([], { chunk_size: '200' }))).toBe('file');
    expect(await pathOf(form([text, text]))).toBe('file');
    expect(await pathOf(form([text], { chunk_size: 'many' }))).toBe('chunk_size');
    expect(await pathOf(form([text], { title: 'A title' }))).toBe('title');
  });

  it('what cannot be read, as an upload would', async () => {
    const zeros = new Uint8Array(2 * 1024 * 1024);
    expectProblem(await preview(form([['a'.repeat(2 * 1024 * 1024), 'large.txt']])), 413, 'too_large');
    expectProblem(await preview(form([[zeros.slice(0, 4096), 'zeros.bin']])), 415, 'unsupported_type');
    const damaged = await preview(form([['%PDF-1.7\nnot one', 'damaged.pdf']]));
    expect(damaged.status).toBe(422);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it('more at once than there is room for', async () => {
    const uploads = Array.from({ length: 20 }, () =>
      begunUpload(editor.client, PREVIEW, LONG_TEXT.repeat(20)),
    );
    await expect.poll(uploadsUnderWay).toBe(20);
    const answers = await Promise.all(uploads.map(upload => upload.end()));
    const statuses = answers.map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
    const refused = answers.find(({ status }) => status === 429);
    expect(refused?.body.code).toBe('concurrency_limited');
    await expectStatus(200, preview({ text: 'A text.' }));
  });

  it('more of one tenant than two at once, and nobody else for it', async () => {
    const path = PREVIEW.replace('acme', 'globex');
    const many = Array.from({ length: 10 }, () => begunUpload(editor.client, PREVIEW, LONG_TEXT.repeat(20)));
    const others = Array.from({ length: 2 }, () => begunUpload(globex.client, path, LONG_TEXT.repeat(20)));
    await expect.poll(uploadsUnderWay).toBe(12);
    const [ofOne, ofTheOther] = await Promise.all([
      Promise.all(many.map(upload => upload.end())),
      Promise.all(others.map(upload => upload.end())),
    ]);
    expect(ofTheOther.map(({ status }) => status)).toEqual([200, 200]);
    expect(ofOne.map(({ status }) => status)).toContain(429);
  });

  it('nobody because others send slowly', async () => {
    const slow = Array.from({ length: 8 }, () => begunUpload(editor.client, PREVIEW, PARAGRAPH));
    await expect.poll(uploadsUnderWay).toBe(8);
    await expectStatus(200, preview({ text: 'A text.' }));
    for (const upload of slow) upload.destroy();
    await expect.poll(() => readdirSync(scratch)).toEqual([]);
  });
});
