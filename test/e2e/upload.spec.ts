import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { uploadOf } from '../setup/files.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { type WebServer, htmlPage, startWebServer } from '../setup/web-server.js';

let app: TestApplication;
let model: ModelServer;
let web: WebServer;
let acme: { id: string; kbId: string };

beforeAll(async () => {
  model = await startModelServer();
  web = await startWebServer();
  web.pages.set('/page', htmlPage('A page', 'It tells of kites.'));
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    OUTBOUND_ALLOWED_HOSTS: web.host,
  });
  acme = await app.createTenant('acme');
  await app.createTenant('other');
});
afterAll(async () => {
  await app?.close();
  await web?.close();
  await model?.close();
});

let files = 0;
const file = (fields: Record<string, string> = {}) =>
  uploadOf([[`The content of file ${++files}.`, `file-${files}.txt`]], fields);
const token = async (body: object, tenant = 'acme') => {
  const { body: made } = await expectStatus(
    201,
    app.admin.post(`/tenants/${tenant}/api-tokens`, { name: `Token ${++files}`, ...body }),
  );
  return made.secret as string;
};

describe('one address for all uploads', () => {
  it('takes files for the tenant that is named, into its only knowledge base', async () => {
    const { body } = await expectStatus(202, app.admin.post('/upload?tenant=acme', file({ priority: '-3' })));
    expect(body).toMatchObject({
      items: [{ kb_id: acme.kbId, source: 'upload', priority: -3, status: 'queued' }],
      rejected: [],
    });
    expect((await app.settled('acme', body.items[0].id)).status).toBe('ready');
    const byHeader = app.admin.withHeaders({ 'x-tenant-id': acme.id });
    expect((await byHeader.post('/upload', file())).body.items[0].kb_id).toBe(acme.kbId);
    // An upload token names its tenant itself.
    const uploads = app.anonymous.withHeaders({ 'x-api-key': await token({ scopes: ['document:create'] }) });
    expect((await uploads.post('/upload', file())).body.items[0].kb_id).toBe(acme.kbId);
    expect((await uploads.post('/upload?tenant=acme', file())).status).toBe(202);
    expectProblem(await uploads.post('/upload?tenant=other', file()), 404, 'not_found');
    expectProblem(await app.admin.post('/upload', file()), 400, 'tenant_missing');
    expectProblem(await app.anonymous.post('/upload?tenant=acme', file()), 401, 'unauthorized');
  });

  it('takes an address, in a form or as JSON', async () => {
    const form = new FormData();
    form.append('url', `${web.url}/page`);
    const { body } = await expectStatus(202, app.admin.post('/upload?tenant=acme', form));
    expect(body.items).toMatchObject([{ source: 'url', source_url: `${web.url}/page` }]);
    expect(await app.settled('acme', body.items[0].id)).toMatchObject({ status: 'ready', title: 'A page' });
    const json = { url: `${web.url}/page`, title: 'Renamed', tenant_id: 'acme' };
    expect((await expectStatus(202, app.admin.post('/upload', json))).body.items).toMatchObject([
      { id: body.items[0].id, title: 'Renamed' },
    ]);
    const both = file({ url: `${web.url}/page` });
    expectProblem(await app.admin.post('/upload?tenant=acme', both), 422, 'validation_failed');
    const inside = await app.admin.post('/upload?tenant=acme', { url: 'http://10.0.0.1/' });
    expectProblem(inside, 422, 'validation_failed');
    for (const wrong of [{}, { url: 7 }, { url: `${web.url}/page`, kb_id: acme.kbId }, [], { text: 'x' }])
      expectProblem(await app.admin.post('/upload?tenant=acme', wrong), 422, 'validation_failed');
    expectProblem(await app.admin.post('/upload?tenant=acme', uploadOf([])), 422, 'validation_failed');
    expectProblem(await app.admin.post('/upload?tenant=acme'), 415, 'unsupported_media_type');
    expectProblem(
      await app.admin.withHeaders({ 'content-type': 'text/csv' }).post('/upload?tenant=acme', 'a,b'),
      415,
      'unsupported_media_type',
    );
  });

  it('wants the knowledge base named where there are several', async () => {
    const { body: second } = await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: 'Second' }));
    const missing = await app.admin.post('/upload?tenant=acme', file());
    expectProblem(missing, 422, 'validation_failed');
    expect(missing.body.errors[0]).toMatchObject({ path: 'kb', code: 'kb_missing' });
    const kbOf = async (query: string, headers: Record<string, string> = {}) =>
      (await app.admin.withHeaders(headers).post(`/upload?tenant=acme${query}`, file())).body.items?.[0]
        .kb_id;
    expect(await kbOf('&kb=second')).toBe(second.id);
    expect(await kbOf(`&kb=${acme.kbId.toUpperCase()}`)).toBe(acme.kbId);
    expect(await kbOf('', { 'x-kb-id': second.id })).toBe(second.id);
    expect(await kbOf('&kb=second', { 'x-kb-id': second.id })).toBe(second.id);
    const different = app.admin.withHeaders({ 'x-kb-id': second.id });
    expectProblem(await different.post('/upload?tenant=acme&kb=docs', file()), 400, 'kb_mismatch');
    for (const kb of ['none', crypto.randomUUID()])
      expectProblem(await app.admin.post(`/upload?tenant=acme&kb=${kb}`, file()), 404, 'not_found');
    expectProblem(await app.admin.post('/upload?tenant=acme&colour=red', file()), 422, 'validation_failed');
  });

  it('asks for the permission in the knowledge base that is meant: grants count', async () => {
    const member = await app.createMember('acme', 'viewer');
    const send = (query: string) => member.client.post(`/upload?tenant=acme${query}`, file());
    expectProblem(await send('&kb=second'), 403, 'forbidden');
    expectProblem(await send(''), 403, 'forbidden');
    await expectStatus(
      201,
      app.admin.post('/tenants/acme/kbs/second/grants', { user_id: member.id, role: 'editor' }),
    );
    expect((await send('&kb=second')).status).toBe(202);
    expect(
      (await member.client.withHeaders({ 'x-kb-id': 'second' }).post('/upload?tenant=acme', file())).status,
    ).toBe(202);
    expectProblem(await send('&kb=docs'), 403, 'forbidden');
    expectProblem(await send(''), 422, 'validation_failed');
    // Naming one that is granted does not open another.
    const sly = member.client.withHeaders({ 'x-kb-id': 'second' });
    expectProblem(await sly.post('/upload?tenant=acme&kb=docs', file()), 400, 'kb_mismatch');
  });

  it('keeps tokens to their knowledge bases', async () => {
    const scopes = ['document:create'];
    const kept = app.anonymous.withToken(await token({ scopes, kb_ids: [acme.kbId] }));
    // There is only one for it.
    expect((await kept.post('/upload', file())).body.items[0].kb_id).toBe(acme.kbId);
    expectProblem(await kept.post('/upload?kb=second', file()), 404, 'not_found');
    const reads = app.anonymous.withToken(await token({ scopes: ['document:read'] }));
    expectProblem(await reads.post('/upload?kb=docs', file()), 403, 'forbidden');
  });
});
