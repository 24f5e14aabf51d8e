import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus } from '../setup/application.js';
import { expectProblem } from '../setup/problem.js';
import { type WebApplication, startWebApplication } from '../setup/web-application.js';
import { type WebServer, htmlPage } from '../setup/web-server.js';

let all: WebApplication;
let app: TestApplication;
let web: WebServer;
let kb: string;
let count = 0;

beforeAll(async () => {
  all = await startWebApplication({ WEB_FETCH_TIMEOUT_SECONDS: '2' });
  ({ app, web } = all);
  for (const name of ['a', 'b', 'c', 'docs/d', 'docs/e', 'docs/old/f']) {
    web.pages.set(`/${name}`, htmlPage(`Page ${name}`, `This is what the page ${name} says.`));
  }
});
afterAll(() => all?.close());
beforeEach(async () => {
  const { body } = await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: `Kb ${++count}` }));
  kb = body.slug;
});

const at = (path = '') => `/tenants/acme/kbs/${kb}/documents${path}`;
const start = (body: object) => expectStatus(202, app.admin.post(at('/urls'), body));
const imported = async (body: object) => {
  const started = await start(body);
  return app.jobEnded(started.headers.get('location') as string);
};
const documents = async (query = ''): Promise<any[]> =>
  (await expectStatus(200, app.admin.get(at(`?page_size=100&${query}`)))).body.items;
const paths = async () =>
  (await documents()).map(({ source_url }) => source_url.slice(web.url.length)).toSorted();
const here = (...names: string[]) => names.map(name => `${web.url}/${name}`);
const sitemap = (...locations: string[]) =>
  '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" ' +
  'xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">' +
  locations
    .map(
      loc =>
        `<url><loc>\n ${loc} </loc><image:image><image:loc>${web.url}/i.png</image:loc></image:image></url>`,
    )
    .join('') +
  '</urlset>';
const index = (...locations: string[]) =>
  `<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">${locations
    .map(loc => `<sitemap><loc>${loc}</loc></sitemap>`)
    .join('')}</sitemapindex>`;

describe('a list of addresses', () => {
  it('becomes a job with a document for each, and says what was not taken', async () => {
    const started = await start({
      urls: [
        ...here('a', 'b#part', 'a', 'missing'),
        'http://169.254.169.254/latest/meta-data/',
        'file:///etc/passwd',
        'nonsense',
      ],
      metadata: { site: 'test' },
      priority: 3,
    });
    expect(started.body).toMatchObject({ kind: 'web-import', tenant_id: expect.any(String) });
    expect(started.headers.get('location')).toBe(`/api/v1/jobs/${started.body.job_id}`);
    const job = await app.jobEnded(started.headers.get('location') as string);
    expect(job).toMatchObject({
      status: 'succeeded',
      result: { accepted: 3, skipped: 1, truncated: false, rejected_count: 3 },
    });
    expect(job.result.rejected).toEqual([
      { url: 'http://169.254.169.254/latest/meta-data/', code: 'address_refused' },
      { url: 'file:///etc/passwd', code: 'unsupported_scheme' },
      { url: 'nonsense', code: 'invalid_url' },
    ]);
    expect(await paths()).toEqual(['/a', '/b', '/missing']);
    const made = await documents(`job_id=${job.id}`);
    expect(made).toHaveLength(3);
    for (const document of made)
      expect(document).toMatchObject({ source: 'url', metadata: { site: 'test' }, priority: 3 });
    expect(made.map(({ status }) => status).toSorted()).toEqual(['failed', 'ready', 'ready']);
    const me = (await app.admin.get('/auth/me')).body.id;
    expect(made.every(({ created_by }) => created_by === me)).toBe(true);
  });

  it('brings in again what was there, or lets it be', async () => {
    await imported({ urls: here('a', 'b') });
    const [first] = await documents('sort=created_at');
    expect(await imported({ urls: here('a', 'c'), on_existing: 'reject' })).toMatchObject({
      result: { accepted: 1, rejected: [{ url: `${web.url}/a`, code: 'source_exists' }] },
    });
    expect((await imported({ urls: here('a', 'b') })).result).toMatchObject({ accepted: 2, rejected: [] });
    // Neither has changed.
    expect((await app.admin.get(at(`/${first.id}`))).body).toMatchObject({ status: 'ready', version: 1 });
    expect(await paths()).toEqual(['/a', '/b', '/c']);
  });

  it('stops at the limit of the tenant, and says so', async () => {
    await expectStatus(200, app.admin.put('/tenants/acme/quotas', { quotas: { max_documents_per_kb: 2 } }));
    expect((await imported({ urls: here('a', 'b', 'c', 'docs/d') })).result).toMatchObject({
      accepted: 2,
      rejected: [
        { url: `${web.url}/c`, code: 'quota_exceeded' },
        { url: `${web.url}/docs/d`, code: 'quota_exceeded' },
      ],
    });
    await expectStatus(200, app.admin.put('/tenants/acme/quotas', { quotas: {} }));
  });

  it('can be cancelled with its documents', async () => {
    for (const path of ['/slow-1', '/slow-2']) web.pages.set(path, () => undefined);
    const { body } = await start({ urls: here('slow-1', 'slow-2') });
    await expect.poll(async () => (await documents(`job_id=${body.job_id}`)).length).toBe(2);
    await expectStatus(200, app.admin.post(`/jobs/${body.job_id}/cancel`));
    await expect
      .poll(async () => (await documents(`job_id=${body.job_id}`)).map(({ status }) => status))
      .toEqual(['cancelled', 'cancelled']);
  });

  it.each([
    [{}, 'urls'],
    [{ urls: [] }, 'urls'],
    [{ urls: Array(1001).fill('https://example.com/') }, 'urls'],
    [{ sitemap_url: 'http://10.0.0.1/sitemap.xml' }, 'sitemap_url'],
    [{ sitemap_url: 'ftp://example.com/sitemap.xml' }, 'sitemap_url'],
    [{ urls: ['https://example.com/'], max_pages: 10_001 }, 'max_pages'],
    [{ urls: ['https://example.com/'], include: [] }, 'include'],
    [{ urls: ['https://example.com/'], acl: { members: [crypto.randomUUID()] } }, 'acl.members.0'],
  ])('is refused as %j', async (body, path) => {
    const answer = await app.admin.post(at('/urls'), body);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0].path).toBe(path);
  });

  it('is for those who may add documents', async () => {
    const { client } = await app.createMember('acme', 'viewer');
    expectProblem(await client.post(at('/urls'), { urls: here('a') }), 403, 'forbidden');
    const started = await start({ urls: here('a') });
    expectProblem(await client.get(`/jobs/${started.body.job_id}`), 404, 'not_found');
    const editor = await app.createMember('acme', 'editor');
    expect((await editor.client.get(`/jobs/${started.body.job_id}`)).status).toBe(200);
  });
});

describe('a sitemap', () => {
  const serve = (path: string, content: string | Buffer, type = 'application/xml') =>
    web.pages.set(path, (_, response) => response.writeHead(200, { 'content-type': type }).end(content));

  it('names the pages, as far as the patterns let them', async () => {
    serve('/sitemap.xml', sitemap(...here('a', 'docs/d', 'docs/e', 'docs/old/f')));
    const job = await imported({
      sitemap_url: `${web.url}/sitemap.xml`,
      include: ['/docs/*'],
      exclude: ['/docs/old/*'],
    });
    expect(job).toMatchObject({ status: 'succeeded', result: { accepted: 2, skipped: 2, rejected: [] } });
    expect(await paths()).toEqual(['/docs/d', '/docs/e']);
  });

  it('may be an index of others, packed or plain, of which some cannot be read', async () => {
    serve('/index.xml', index(...here('one.xml.gz', 'two.txt', 'gone.xml', 'index.xml', 'broken.xml')));
    serve('/one.xml.gz', gzipSync(sitemap(`${web.url}/a?x=1&amp;y=2`, ...here('a'))), 'application/gzip');
    web.pages.set('/a?x=1&y=2', htmlPage('With a query', 'Ampersands are written in another way there.'));
    serve('/two.txt', `\ufeff${here('b', 'c').join('\r\n')}\r\n`, 'text/plain');
    serve('/broken.xml', '<urlset><url><loc>');
    const job = await imported({ sitemap_url: `${web.url}/index.xml` });
    expect(job.result.rejected).toEqual([
      { url: `${web.url}/gone.xml`, code: 'fetch_failed' },
      { url: `${web.url}/broken.xml`, code: 'fetch_failed' },
    ]);
    expect(await paths()).toEqual(['/a', '/a?x=1&y=2', '/b', '/c']);
    expect((await documents('status=ready')).length).toBe(4);
  });

  it('is read no further than pages are wanted', async () => {
    web.pages.set('/endless.xml', (_, response) => {
      response.writeHead(200, { 'content-type': 'application/xml' }).write('<urlset>');
      let page = 0;
      const more = () => {
        while (!response.destroyed && response.write(`<url><loc>${web.url}/a?${page++}</loc></url>`));
      };
      response.on('drain', more);
      more();
    });
    const job = await imported({ sitemap_url: `${web.url}/endless.xml`, max_pages: 3 });
    expect(job.result).toMatchObject({ accepted: 3, truncated: true });
    expect(await paths()).toEqual(['/a?0', '/a?1', '/a?2']);
  });

  it.each<[string, string | Buffer, string]>([
    ['a page', htmlPage('No sitemap', 'It is a page.'), 'text/html'],
    ['a picture', Buffer.from('89504e470d0a1a0a', 'hex'), 'image/png'],
    ['a bomb', gzipSync(Buffer.alloc(60 * 1024 * 1024, '\n')), 'application/gzip'],
    [
      'cut off',
      gzipSync(Buffer.alloc(100_000, 'https://example.com/\n')).subarray(0, 20),
      'application/gzip',
    ],
    ['with entities', '<!DOCTYPE x [<!ENTITY a "b">]><urlset><url><loc>&a;</loc></url></urlset>', 'text/xml'],
  ])('that is %s fails, or leads nowhere', async (what, content, type) => {
    serve('/wrong.xml', content, type);
    const job = await imported({ sitemap_url: `${web.url}/wrong.xml` });
    if (job.status === 'failed') expect(job.error.code).toMatch(/^(fetch_failed|too_large)$/);
    else expect(job.result.accepted).toBe(0);
    expect(await paths()).toEqual([]);
    if (what === 'a bomb') expect(job.error.code).toBe('too_large');
  });

  it('that leads inside is refused', async () => {
    web.pages.set('/inside.xml', (_, response) =>
      response.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
    );
    expect(await imported({ sitemap_url: `${web.url}/inside.xml` })).toMatchObject({
      status: 'failed',
      error: { code: 'address_refused' },
    });
  });
});
