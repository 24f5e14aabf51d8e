import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus } from '../setup/application.js';
import { pdfOf } from '../setup/files.js';
import type { ModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { type WebApplication, startWebApplication } from '../setup/web-application.js';
import { type WebServer, htmlPage, startWebServer } from '../setup/web-server.js';

let all: WebApplication;
let app: TestApplication;
let model: ModelServer;
let web: WebServer;
let kb: string;
let count = 0;

beforeAll(async () => {
  all = await startWebApplication({ WEB_FETCH_TIMEOUT_SECONDS: '1', MAX_UPLOAD_MB: '1' });
  ({ app, web, model } = all);
});
afterAll(() => all?.close());
beforeEach(async () => {
  const { body } = await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: `Web ${++count}` }));
  kb = body.slug;
});

const at = (path = '') => `/tenants/acme/kbs/${kb}/documents${path}`;
const settled = (id: string) => app.settled('acme', id, kb);
const add = async (path: string, fields: object = {}) =>
  (await expectStatus(202, app.admin.post(at('/url'), { url: `${web.url}${path}`, ...fields }))).body;
const fetched = async (path: string, fields: object = {}) => settled((await add(path, fields)).id);
const found = async (query: string): Promise<any[]> =>
  (await expectStatus(200, app.admin.post(`/tenants/acme/kbs/${kb}/search`, { query, mode: 'keyword' }))).body
    .passages;
const filesOf = async () => {
  const { id, tenant_id } = (await app.admin.get(`/tenants/acme/kbs/${kb}`)).body;
  return readdir(join(app.env.dataDir, 'files', tenant_id, id)).catch((): string[] => []);
};
/** Fails at the first attempt, or says until when it waits: no test waits for the others. */
const refused = async (id: string) => {
  await expect
    .poll(async () => (await app.admin.get(at(`/${id}`))).body.error?.code ?? null, { timeout: 10_000 })
    .not.toBeNull();
  return (await app.admin.get(at(`/${id}`))).body;
};

describe('a page of the web', () => {
  it('becomes searchable with what is meant to be read, its title and its address', async () => {
    web.pages.set('/lamps', (_, response) => response.writeHead(301, { location: '/lamps.html' }).end());
    web.pages.set(
      '/lamps.html',
      htmlPage(
        'All our lamps',
        'The lamp burns for nine hours. '.repeat(30),
        '<link rel="canonical" href="/lamps/">',
      ),
    );
    const waiting = await add('/lamps#top', { metadata: { shop: 1 } });
    expect(waiting).toMatchObject({
      source: 'url',
      source_url: `${web.url}/lamps`,
      source_id: `${web.url}/lamps`,
      title: `${web.url}/lamps`,
      content_sha256: null,
      size_bytes: 0,
      status: 'queued',
      version: 1,
      indexed_version: 0,
    });
    const document = await settled(waiting.id);
    expect(document).toMatchObject({
      status: 'ready',
      title: 'All our lamps',
      source_url: `${web.url}/lamps`,
      canonical_url: `${web.url}/lamps/`,
      source_id: `${web.url}/lamps`,
      mime_type: 'text/html',
      file_name: 'lamps.html',
      metadata: { shop: 1 },
      indexed_version: 1,
    });
    expect(document.content_sha256).toMatch(/^[0-9a-f]{64}$/);
    expect((await found('lamp'))[0].text).toContain('nine hours');
    expect(await found('imprint')).toEqual([]);
    const { body: stats } = await app.admin.get(`/tenants/acme/kbs/${kb}/stats`);
    expect(stats).toMatchObject({ document_count: 1, storage_bytes: document.size_bytes });
    const original = await app.admin.get(at(`/${document.id}/content`));
    expect(original.body).toContain('<nav>');
  });

  it('is fetched again when it is asked for again, and a version only where it has changed', async () => {
    web.pages.set('/news', htmlPage('News', 'Nothing has happened yet.'));
    const first = await fetched('/news', { title: 'My news' });
    expect(first).toMatchObject({ status: 'ready', title: 'My news', version: 1 });
    const calls = model.requests.embeddings;
    const again = await add('/news');
    expect(again).toMatchObject({ id: first.id, version: 2, indexed_version: 1, content_sha256: null });
    const { updated_at: _, ...same } = first;
    expect(await settled(first.id)).toMatchObject(same);
    expect(model.requests.embeddings).toBe(calls);
    expect(await filesOf()).toHaveLength(1);

    web.pages.set('/news', htmlPage('News', 'Something has happened at last.'));
    expect(await fetched('/news', { metadata: { fresh: true } })).toMatchObject({
      id: first.id,
      status: 'ready',
      title: 'My news',
      metadata: { fresh: true },
      version: 2,
      indexed_version: 2,
    });
    expect(await found('happened')).toHaveLength(1);
    expect(await filesOf()).toHaveLength(1);
    const { body: stats } = await app.admin.get(`/tenants/acme/kbs/${kb}/stats`);
    const { body: list } = await app.admin.get(at('?source=url'));
    expect(stats).toMatchObject({ document_count: 1, storage_bytes: list.items[0].size_bytes });

    // What cannot be had any more leaves what is searchable.
    web.pages.delete('/news');
    expect(await fetched('/news')).toMatchObject({
      status: 'failed',
      error: { code: 'fetch_failed' },
      indexed_version: 2,
    });
    expect(await found('happened')).toHaveLength(1);
    expect((await app.admin.get(at(`/${first.id}/content`))).body).toContain('at last');
    expectProblem(
      await app.admin.post(at('/url'), { url: `${web.url}/news`, on_existing: 'reject' }),
      409,
      'source_exists',
    );
  });

  it('with the content of another document is a duplicate', async () => {
    const page = htmlPage('Twins', 'Two addresses have the same content.');
    web.pages.set('/twin-a', page);
    web.pages.set('/twin-b', page);
    await fetched('/twin-a');
    expect(await fetched('/twin-b')).toMatchObject({
      status: 'failed',
      error: { code: 'duplicate_document' },
      content_sha256: null,
    });
    expect(await filesOf()).toHaveLength(1);
  });

  it('is read as what it is, in whatever coding and charset', async () => {
    web.pages.set('/packed', (request, response) => {
      expect(request.headers['accept-encoding']).toContain('gzip');
      expect(request.headers['user-agent']).toBe('Enclave/1.0');
      response.writeHead(200, { 'content-type': 'text/html', 'content-encoding': 'gzip' });
      response.end(gzipSync(htmlPage('Packed', 'A packed page tells of umbrellas.')));
    });
    expect((await fetched('/packed')).status).toBe('ready');
    expect(await found('umbrellas')).toHaveLength(1);
    web.pages.set('/kyrillisch', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html; charset=windows-1251' });
      // "Зонты дороги" in windows-1251.
      const word = Buffer.from([0xc7, 0xee, 0xed, 0xf2, 0xfb, 0x20, 0xe4, 0xee, 0xf0, 0xee, 0xe3, 0xe8]);
      response.end(Buffer.concat([Buffer.from('<html><body><p>'), word, Buffer.from('</p></body></html>')]));
    });
    expect((await fetched('/kyrillisch')).status).toBe('ready');
    expect((await found('Зонты'))[0].text).toContain('Зонты дороги');
    web.pages.set('/report?id=7', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end(pdfOf(['The report of page one.']));
    });
    expect(await fetched('/report?id=7')).toMatchObject({ status: 'ready', mime_type: 'application/pdf' });
  });

  it('is kept to the types that the tenant takes', async () => {
    await app.admin.patch('/tenants/acme', { settings: { allowed_document_types: ['pdf'] } });
    web.pages.set('/not-allowed', htmlPage('A page', 'It is no PDF.'));
    expect(await fetched('/not-allowed')).toMatchObject({ error: { code: 'type_not_allowed' } });
    expect(await filesOf()).toEqual([]);
    await app.admin.patch('/tenants/acme', { settings: { allowed_document_types: null } });
  });

  it('may be deleted or cancelled while it is being fetched', async () => {
    for (const path of ['/slow', '/slow?2']) web.pages.set(path, () => undefined);
    const [one, two] = [await add('/slow'), await add('/slow?2')];
    await expect.poll(async () => (await app.admin.get(at(`/${one.id}`))).body.stage).toBe('load');
    await expectStatus(204, app.admin.delete(at(`/${one.id}`)));
    const cancelled = await expectStatus(200, app.admin.post(at(`/${two.id}/cancel`)));
    expect(cancelled.body).toMatchObject({ status: 'cancelled', content_sha256: null });
    expect(await filesOf()).toEqual([]);
  });
});

describe('what stands in the way', () => {
  it.each([404, 410, 401, 403, 418])('the status %i fails a page for good', async status => {
    web.pages.set(`/status/${status}`, (_, response) => response.writeHead(status).end('Nothing here'));
    expect(await fetched(`/status/${status}`)).toMatchObject({
      status: 'failed',
      attempts: 1,
      error: { code: 'fetch_failed', message: `The server answered with the status ${status}.` },
    });
  });

  it('the statuses 429 and 503, and servers that do not answer, pass', async () => {
    let asked = 0;
    web.pages.set('/busy', (_, response) => {
      if (++asked === 1) response.writeHead(503, { 'retry-after': '1' }).end();
      else response.writeHead(200, { 'content-type': 'text/html' }).end(htmlPage('Busy', 'Now it has time.'));
    });
    const { id } = await add('/busy');
    expect(await refused(id)).toMatchObject({
      status: 'queued',
      attempts: 1,
      error: { code: 'fetch_failed' },
    });
    expect(await settled(id)).toMatchObject({ status: 'ready', error: null });
    web.pages.set('/silent', () => undefined);
    expect(await refused((await add('/silent')).id)).toMatchObject({
      status: 'queued',
      error: { code: 'fetch_failed', message: 'The server took too long.' },
    });
  });

  it('a server that never ends, and one that answers with 10 GB, in either coding', async () => {
    web.pages.set('/endless', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      const drip = setInterval(() => response.write('<p>more</p>'), 20);
      response.on('close', () => clearInterval(drip));
    });
    const bomb = gzipSync(Buffer.alloc(50 * 1024 * 1024, 'x'));
    web.pages.set('/said-to-be-large', (_, response) => {
      response.writeHead(200, { 'content-length': String(10 * 1024 ** 3) }).write('x');
    });
    web.pages.set('/large', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' });
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
      };
      response.on('drain', more);
      more();
    });
    web.pages.set('/bomb', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain', 'content-encoding': 'gzip' });
      response.end(bomb);
    });
    const [endless, said, large, packed] = await Promise.all(
      ['/endless', '/said-to-be-large', '/large', '/bomb'].map(async path => refused((await add(path)).id)),
    );
    expect(endless).toMatchObject({ error: { code: 'fetch_failed' } });
    for (const document of [said, large, packed])
      expect(document).toMatchObject({ status: 'failed', error: { code: 'too_large' } });
    expect(await filesOf()).toEqual([]);
    expect(await readdir(join(app.env.dataDir, 'files', '.incoming'))).toEqual([]);
  });

  it.each([
    ['http://169.254.169.254/latest/meta-data/', 'address_refused'],
    ['http://127.0.0.1:1/', 'address_refused'],
    ['http://localhost:8080/', 'address_refused'],
    ['file:///etc/passwd', 'fetch_failed'],
    ['http://user:password@example.com/', 'fetch_failed'],
  ])('a redirect to %s', async (location, code) => {
    const path = `/redirect?${encodeURIComponent(location)}`;
    web.pages.set(path, (_, response) => response.writeHead(302, { location }).end());
    const document = await fetched(path);
    expect(document).toMatchObject({ status: 'failed', attempts: 1, error: { code } });
    expect(JSON.stringify(document.error)).not.toContain('169.254');
  });

  it('redirects to an address that is too long', async () => {
    const location = `/${'a'.repeat(2000)}`;
    web.pages.set('/long', (_, response) => response.writeHead(302, { location }).end());
    web.pages.set(location, htmlPage('Too far', 'Nobody asks for this page.'));
    expect(await fetched('/long')).toMatchObject({ status: 'failed', error: { code: 'address_refused' } });
    expect(web.requests).not.toContain(location);
  });

  it('redirects without an end', async () => {
    web.pages.set('/round', (_, response) => response.writeHead(302, { location: '/round' }).end());
    expect(await fetched('/round')).toMatchObject({ status: 'failed', error: { code: 'fetch_failed' } });
    expect(web.requests.filter(path => path === '/round')).toHaveLength(6);
  });

  it.each([
    ['http://169.254.169.254/', 'address_refused'],
    ['http://[::1]/', 'address_refused'],
    ['http://10.0.0.1:8080/', 'address_refused'],
    ['http://user:password@example.com/', 'credentials_in_url'],
    ['http://example.com:22/', 'port_refused'],
    ['file:///etc/passwd', 'invalid_format'],
    ['no address', 'invalid_format'],
    [`https://example.com/${'ä'.repeat(900)}`, 'too_big'],
  ])('the address %s is refused at once', async (url, code) => {
    const answer = await app.admin.post(at('/url'), { url });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0]).toMatchObject({ path: 'url', code });
  });

  it('a robots.txt that disallows the page, asked for once, and one that cannot be had now', async () => {
    const careful = await startWebServer();
    await app.restart({
      EMBEDDING_BASE_URL: model.url,
      EMBEDDING_MODEL: 'stub',
      OUTBOUND_ALLOWED_HOSTS: `${web.host},${careful.host}`,
    });
    let available = false;
    careful.pages.set('/robots.txt', (_, response) => {
      if (!available) response.writeHead(500).end();
      else
        response
          .writeHead(200)
          .end('User-agent: enclave\nDisallow: /private\n\nUser-agent: *\nDisallow: /\n');
    });
    careful.pages.set('/open', htmlPage('Open', 'Everybody may read this.'));
    careful.pages.set('/private/a', htmlPage('Private', 'Robots may not.'));
    careful.pages.set('/to-private', (_, response) =>
      response.writeHead(302, { location: '/private/a' }).end(),
    );
    const asked = async (path: string) =>
      (await expectStatus(202, app.admin.post(at('/url'), { url: `${careful.url}${path}` }))).body.id;
    const waiting = await asked('/open');
    expect(await refused(waiting)).toMatchObject({ status: 'queued', error: { code: 'fetch_failed' } });
    expect(careful.requests).toEqual(['/robots.txt']);
    available = true;
    expect(await settled(waiting)).toMatchObject({ status: 'ready', title: 'Open' });
    for (const path of ['/private/a', '/to-private']) {
      expect(await settled(await asked(path))).toMatchObject({
        status: 'failed',
        error: { code: 'robots_disallowed' },
      });
    }
    expect(careful.requests).toEqual(['/robots.txt', '/robots.txt', '/open', '/to-private']);
    await careful.close();
  }, 30_000);
});
