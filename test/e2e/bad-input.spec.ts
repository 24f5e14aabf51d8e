import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer, Client } from '../setup/client.js';
import { PNG, pdfOf, uploadOf } from '../setup/files.js';
import { startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

let app: TestApplication;
let json: Client;
let documentId: string;
let userId: string;
let before: unknown;

const kb = '/tenants/acme/kbs/docs';
const NOBODY = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';
const LONG = 'a'.repeat(10_000);
const NUL = 'a\0b';
const LONE = 'a\ud800b';

/** Everything that a request of these tests could have changed. */
async function state(): Promise<unknown> {
  const paths = [
    '/auth/me',
    '/tenants?page_size=100',
    '/tenants/acme',
    '/tenants/acme/members',
    '/tenants/acme/invitations',
    '/tenants/acme/roles',
    '/tenants/acme/groups',
    '/tenants/acme/config',
    '/tenants/acme/variables',
    '/tenant-templates',
    '/users',
    '/tenants/acme/kbs',
    `${kb}/grants`,
    `${kb}/stats`,
    `${kb}/documents?page_size=100`,
  ];
  const answers = await Promise.all(paths.map(path => expectStatus(200, app.admin.get(path))));
  return answers.map(answer => answer.body);
}

beforeAll(async () => {
  app = await startTestApplication({ MAX_UPLOAD_MB: '1', MAX_JSON_MB: '2' });
  json = app.admin.withHeaders({ 'content-type': 'application/json' });
  await app.createTenant('acme');
  userId = (await app.createMember('acme', 'viewer')).id;
  documentId = (await app.addText('acme', 'The one document.')).id;
  before = await state();
});
afterEach(async () => {
  expect(await state()).toEqual(before);
});
afterAll(() => app?.close());

/** A body that each route would take, without what only the path says. */
const BODIES: Array<[method: string, path: string, body: () => Record<string, unknown>]> = [
  ['POST', '/auth/register', () => ({ email: 'new@example.com', password: 'long enough for all' })],
  ['POST', '/auth/login', () => ({ email: 'admin@enclave.test', password: 'the admin of all the tests' })],
  ['POST', '/auth/refresh', () => ({ refresh_token: 'x' })],
  ['PATCH', '/auth/me', () => ({ display_name: 'Other' })],
  ['POST', '/auth/switch-tenant', () => ({ tenant: 'acme' })],
  ['POST', '/tenants', () => ({ name: 'new-tenant' })],
  ['PATCH', '/tenants/acme', () => ({ display_name: 'Other' })],
  ['PUT', '/tenants/acme', () => ({ display_name: 'Other', description: '', settings: {}, metadata: {} })],
  ['POST', '/tenants/acme/members', () => ({ email: 'admin@enclave.test', role: 'viewer' })],
  ['PUT', '/tenants/acme/members/{user}', () => ({ role: 'editor' })],
  ['PATCH', '/tenants/acme/members/{user}', () => ({ roles: ['editor'] })],
  ['POST', '/auth/change-password', () => ({ current_password: 'x', new_password: 'long enough for all' })],
  ['POST', '/auth/forgot-password', () => ({ email: 'nobody@example.com' })],
  ['POST', '/auth/reset-password', () => ({ token: 'x', new_password: 'long enough for all' })],
  ['POST', '/users', () => ({ email: 'new@example.com', display_name: 'New' })],
  ['PATCH', '/users/{user}', () => ({ display_name: 'Other' })],
  ['POST', '/tenant-templates', () => ({ name: 'new-template', description: 'New' })],
  ['PUT', '/tenants/acme/variables/KEY', () => ({ value: 'x' })],
  [
    'POST',
    '/tenants/acme/invitations',
    () => ({ email: 'new@example.com', role: 'viewer', message: 'Hello' }),
  ],
  ['POST', '/tenants/acme/roles', () => ({ name: 'helpers', permissions: ['tenant:read'] })],
  ['POST', '/tenants/acme/groups', () => ({ name: 'Helpers', description: 'Who helps' })],
  ['POST', `${kb}/grants`, () => ({ user_id: userId, role: 'editor' })],
  ['POST', '/tenants/acme/kbs', () => ({ name: 'New' })],
  ['PATCH', kb, () => ({ name: 'Other' })],
  ['PUT', kb, () => ({ name: 'Other', slug: 'other', description: '', config: {}, is_active: true })],
  ['POST', `${kb}/documents/text`, () => ({ text: 'Another document.' })],
  ['PATCH', `${kb}/documents/{document}`, () => ({ title: 'Other' })],
  ['POST', `${kb}/search`, () => ({ query: 'document' })],
  ['POST', `${kb}/query`, () => ({ query: 'document' })],
];
const pathOf = (path: string) => path.replace('{user}', userId).replace('{document}', documentId);

describe.each(BODIES)('%s %s', (method, template, valid) => {
  const send = (body: unknown) => app.admin.send(method, pathOf(template), body);

  it.each([
    ['unknown', 'anything'],
    ['id', NOBODY],
    ['role_id', 1],
    ['created_by', NOBODY],
    ['created_at', '2020-01-01T00:00:00Z'],
    ['is_admin', true],
    ['platform_role', 'platform_admin'],
    ['joined_at', '2020-01-01T00:00:00Z'],
    ['__proto__', { polluted: true }],
    ['constructor', { prototype: { polluted: true } }],
  ])('refuses the unknown field %s', async (field, value) => {
    const text = `${JSON.stringify(valid()).slice(0, -1)},${JSON.stringify(field)}:${JSON.stringify(value)}}`;
    const answer = await json.send(method, pathOf(template), text);
    // Fastify refuses what would poison a prototype before anybody reads it.
    if (field === '__proto__' || field === 'constructor') {
      expect([400, 422]).toContain(answer.status);
      expectProblem(answer, answer.status, answer.status === 400 ? 'malformed_json' : 'validation_failed');
    } else {
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toContainEqual({
        path: field,
        code: 'unknown_field',
        message: expect.any(String),
      });
    }
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('refuses a tenant that is not its own, wherever its body names one', async () => {
    const answer = await send({ ...valid(), tenant_id: NOBODY });
    expect([404, 422]).toContain(answer.status);
    expectProblem(answer, answer.status, answer.status === 404 ? 'not_found' : 'validation_failed');
  });

  it('refuses every field of a wrong type, with NUL, a lone surrogate, or far too long', async () => {
    for (const [field, value] of Object.entries(valid())) {
      for (const wrong of [null, 17, true === value ? 'yes' : { a: 1 }, ['x', 1]]) {
        if (typeof wrong === typeof value && field !== 'roles') continue;
        expectProblem(await send({ ...valid(), [field]: wrong }), 422, 'validation_failed');
      }
      if (typeof value !== 'string') continue;
      for (const text of [NUL, LONE])
        expectProblem(await send({ ...valid(), [field]: text }), 400, 'malformed_text');
      if (['text', 'query', 'description'].includes(field)) continue;
      const answer = await send({ ...valid(), [field]: LONG });
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors[0].path).toBe(field);
    }
  });

  it('refuses a body that is none', async () => {
    // Where passwords and tokens come in, nothing long does.
    const small = template.startsWith('/auth/');
    const far = small ? ([413, 'too_large'] as const) : ([400, 'too_deep'] as const);
    for (const [body, status, code] of [
      ['{"a":', 400, 'malformed_json'],
      ['', 400, 'malformed_json'],
      ['null', 422, 'validation_failed'],
      ['[]', 422, 'validation_failed'],
      ['"text"', 422, 'validation_failed'],
      ['12', 422, 'validation_failed'],
      [`${'['.repeat(40)}${']'.repeat(40)}`, 400, 'too_deep'],
      [`${'['.repeat(30_000)}${']'.repeat(30_000)}`, 400, 'too_deep'],
      [`${'['.repeat(100_000)}${']'.repeat(100_000)}`, ...far],
      [`${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`, ...far],
    ] as const) {
      expectProblem(await json.send(method, pathOf(template), body), status, code);
    }
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/xml']) {
      const other = app.admin.withHeaders({ 'content-type': type });
      expectProblem(
        await other.send(method, pathOf(template), JSON.stringify(valid())),
        415,
        'unsupported_media_type',
      );
    }
    const huge = JSON.stringify({ ...valid(), unknown: 'x'.repeat(2 * 1024 * 1024) });
    expectProblem(await json.send(method, pathOf(template), huge), 413, 'too_large');
  });
});

describe('a path', () => {
  it('that no route has is a 404', async () => {
    for (const [method, path] of [
      ['GET', '/nothing'],
      ['GET', '//nothing'],
      ['GET', '/auth/login'],
      ['DELETE', '/auth/login'],
      ['PUT', '/tenants'],
      ['GET', '/tenants/acme/kbs/docs/search'],
      ['POST', '//docs'],
      ['GET', `/${LONG.slice(0, 5000)}`],
    ] as const) {
      expectProblem(await app.admin.send(method, path), 404, 'not_found');
    }
  });

  it('with an id that is none, or nobody’s, is a 404', async () => {
    for (const id of [
      'x',
      '0',
      NOBODY,
      `${NOBODY}0`,
      '%20',
      '..',
      "'%20OR%201=1",
      LONG.slice(0, 1000),
      '%F0%9F%9A%B2',
    ]) {
      for (const [method, path, body] of [
        ['GET', `/tenants/${id}/kbs`],
        ['PUT', `/tenants/acme/members/${id}`, { role: 'viewer' }],
        ['DELETE', `/tenants/acme/members/${id}`],
        ['GET', `/tenants/acme/kbs/${id}/stats`],
        ['PATCH', `/tenants/acme/kbs/${id}`, { name: 'x' }],
        ['POST', `/tenants/acme/kbs/${id}/search`, { query: 'x' }],
        ['GET', `${kb}/documents/${id}/chunks`],
        ['GET', `${kb}/documents/${id}/content`],
        ['PATCH', `${kb}/documents/${id}`, { title: 'x' }],
        ['POST', `${kb}/documents/${id}/reindex`],
      ] as const) {
        if (id === '..') continue;
        expectProblem(await app.admin.send(method, path, body), 404, 'not_found');
      }
    }
  });

  it('with NUL, with half a character, or badly escaped is malformed', async () => {
    for (const path of ['/tenants/a%00b', `${kb}/documents/%00`, '/tenants/acme/kbs/%00']) {
      expectProblem(await app.admin.get(path), 400, 'malformed_text');
    }
    for (const path of ['/tenants/%ED%A0%80', '/tenants/%zz', '/tenants/%', '/tenants/%C3']) {
      expectProblem(await app.admin.get(path), 400, 'malformed_url');
    }
  });
});

describe('a query', () => {
  const lists = ['/tenants', '/tenants/acme/members', '/tenants/acme/kbs', `${kb}/documents`];

  it.each([
    'page=0',
    'page=-1',
    'page=1.5',
    'page=x',
    'page=1e99',
    'page=1&page=2',
    'page_size=0',
    'page_size=101',
    'page_size=x',
    'page_size=10&page_size=10',
    'sort=password_hash',
    'sort=--name',
    'sort=created_at;drop',
    'sort=created_at&sort=-created_at',
    `search=${'a'.repeat(201)}`,
    'search=a&search=b',
    'status=anything',
    'unknown=1',
    'page[]=1',
  ])('%s is refused by every list', async query => {
    for (const list of lists) {
      const answer = await app.admin.get(`${list}?${query}`);
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors.length).toBeGreaterThan(0);
    }
  });

  it('with NUL is malformed, and with half a character finds nothing', async () => {
    for (const list of lists) {
      expectProblem(await app.admin.get(`${list}?search=%00`), 400, 'malformed_text');
      const half = await app.admin.get(`${list}?search=%ED%A0%80`);
      expect([200, 400]).toContain(half.status);
      if (half.status === 200) expect(half.body.total).toBe(0);
    }
  });
});

describe('headers', () => {
  it('that are too large are refused by a problem document', async () => {
    const answer = await raw(
      `GET /api/v1/version HTTP/1.1\r\nhost: x\r\nx-filler: ${'a'.repeat(20_000)}\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    expect(answer).toContain('application/problem+json');
    expect(answer).toContain('"code":"headers_too_large"');
  });

  it('that make no HTTP are refused by a problem document', async () => {
    const answer = await raw('GARBAGE\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('"code":"malformed_http"');
  });

  it('name a tenant that is none', async () => {
    for (const tenant of ['x', LONG, "' OR 1=1", '\u00ff']) {
      expectProblem(
        await app.admin.withHeaders({ 'x-tenant-id': tenant }).get('/permissions'),
        404,
        'not_found',
      );
    }
  });

  it('with a request id of one’s own that is no UUID get another', async () => {
    const answer = await app.anonymous.withHeaders({ 'x-request-id': 'x{"level":"fatal"}' }).get('/version');
    expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('an upload', () => {
  const upload = (form: FormData | string, client = app.admin) => client.post(`${kb}/documents`, form);

  it.each<[string, number, string, () => FormData]>([
    ['an empty file', 422, 'empty', () => uploadOf([['', 'a.txt']])],
    ['blanks alone', 422, 'empty', () => uploadOf([[' \n\t ', 'a.txt']])],
    ['an image', 415, 'unsupported_type', () => uploadOf([[PNG, 'a.png', 'image/png']])],
    ['an image named .txt', 422, 'type_mismatch', () => uploadOf([[PNG, 'a.txt', 'text/plain']])],
    ['a text named .pdf', 422, 'type_mismatch', () => uploadOf([['Just text.', 'a.pdf']])],
    ['a text sent as a PDF', 422, 'type_mismatch', () => uploadOf([['Just text.', 'a', 'application/pdf']])],
    ['a PDF named .docx', 422, 'type_mismatch', () => uploadOf([[pdfOf(['x']), 'a.docx']])],
    [
      'more bytes than a file may have',
      413,
      'too_large',
      () => uploadOf([['a'.repeat(1024 * 1024 + 1), 'a.txt']]),
    ],
    ['no file', 422, 'validation_failed', () => uploadOf([], { title: 'x' })],
    ['an unknown field', 422, 'validation_failed', () => uploadOf([['x', 'a.txt']], { tenant_id: NOBODY })],
    [
      'a field named constructor',
      400,
      'malformed_multipart',
      () => uploadOf([['x', 'a.txt']], { constructor: 'x' }),
    ],
    [
      'metadata that is no JSON',
      422,
      'validation_failed',
      () => uploadOf([['x', 'a.txt']], { metadata: '{' }),
    ],
    [
      'metadata that is no object',
      422,
      'validation_failed',
      () => uploadOf([['x', 'a.txt']], { metadata: '[1]' }),
    ],
    [
      'metadata with NUL',
      400,
      'malformed_text',
      () => uploadOf([['x', 'a.txt']], { metadata: '{"a":"\\u0000"}' }),
    ],
    [
      'metadata with a lone surrogate',
      400,
      'malformed_text',
      () => uploadOf([['x', 'a.txt']], { metadata: '{"a":"\\ud800"}' }),
    ],
    [
      'metadata of no end of levels',
      400,
      'too_deep',
      () => uploadOf([['x', 'a.txt']], { metadata: `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}` }),
    ],
    [
      'metadata of 100 kB',
      422,
      'validation_failed',
      () => uploadOf([['x', 'a.txt']], { metadata: JSON.stringify({ a: 'x'.repeat(100_000) }) }),
    ],
    ['a title with NUL', 400, 'malformed_text', () => uploadOf([['x', 'a.txt']], { title: NUL })],
    ['a title without end', 422, 'validation_failed', () => uploadOf([['x', 'a.txt']], { title: LONG })],
    [
      'a hundred and one files',
      413,
      'too_many_files',
      () => uploadOf(Array.from({ length: 101 }, (_, i) => [PNG, `${i}.png`])),
    ],
  ])('of %s is refused', async (_what, status, code, form) => {
    expectProblem(await upload(form()), status, code);
  });

  it('that is no multipart, or is cut off, is refused', async () => {
    const multipart = (body: string, type = 'multipart/form-data; boundary=b') =>
      upload(body, app.admin.withHeaders({ 'content-type': type }));
    expectProblem(await multipart('{}', 'application/json'), 415, 'unsupported_media_type');
    expectProblem(await multipart('x', 'application/octet-stream'), 415, 'unsupported_media_type');
    const cut = '--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\nNever ends';
    for (const [body, type] of [
      ['garbage', undefined],
      ['', undefined],
      ['--b--\r\n', undefined],
      ['--b\r\n\r\n\r\n--b--', undefined],
      [cut, undefined],
      [cut, 'multipart/form-data'],
    ] as const) {
      const answer = await multipart(body, type);
      expect({ body, type, status: answer.status }).toEqual({
        body,
        type,
        status: expect.toSatisfy(s => s >= 400 && s < 500),
      });
      expectProblem(answer, answer.status, answer.body.code);
    }
  });

  it('with a field after its file keeps nothing', async () => {
    const form = uploadOf([['A good text.', 'a.txt']]);
    form.append('title', 'Too late');
    const answer = await upload(form);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toMatchObject([{ path: 'title', code: 'field_after_file' }]);
  });

  it('that names no knowledge base of one’s own is refused before it is read', async () => {
    const form = uploadOf([['x', 'a.txt']]);
    expectProblem(await app.admin.post(`/tenants/acme/kbs/absent/documents`, form), 404, 'not_found');
    expectProblem(await app.anonymous.post(`${kb}/documents`, form), 401, 'unauthorized');
  });
});

describe('a name', () => {
  it.each(['', 'UPPER', 'a b', '-a', 'a-', 'a/b', '..', NOBODY, 'é', 'a'.repeat(64)])(
    '%j is none for a tenant',
    async name => {
      expectProblem(await app.admin.post('/tenants', { name }), 422, 'validation_failed');
    },
  );

  it.each(['', '   ', 'a'.repeat(201)])('%j is none for a knowledge base', async name => {
    expectProblem(await app.admin.post('/tenants/acme/kbs', { name }), 422, 'validation_failed');
    expectProblem(await app.admin.patch(kb, { name }), 422, 'validation_failed');
  });

  it.each([
    '',
    'x',
    'a@',
    'a@b',
    'a b@example.com',
    `${'a'.repeat(250)}@example.com`,
    'a@example.com\nb@example.com',
  ])('%j is none for an e-mail address', async email => {
    expectProblem(
      await app.anonymous.post('/auth/register', { email, password: 'long enough for all' }),
      422,
      'validation_failed',
    );
  });
});

describe('a text or a question', () => {
  it('that is empty, or longer than is taken, is refused', async () => {
    for (const text of ['', ' \n ']) {
      expectProblem(await app.admin.post(`${kb}/documents/text`, { text }), 422, 'validation_failed');
      expectProblem(await app.admin.post(`${kb}/search`, { query: text }), 422, 'validation_failed');
    }
    expectProblem(
      await app.admin.post(`${kb}/documents/text`, { text: 'x'.repeat(3 * 1024 * 1024) }),
      413,
      'too_large',
    );
    for (const route of ['search', 'query']) {
      expectProblem(
        await app.admin.post(`${kb}/${route}`, { query: 'x'.repeat(10_001) }),
        422,
        'validation_failed',
      );
      expect((await app.admin.post(`${kb}/${route}`, { query: 'word '.repeat(2000) })).status).toBe(200);
    }
  });

  it.each([
    { top_k: 0 },
    { top_k: 101 },
    { top_k: 1.5 },
    { mode: 'telepathy' },
    { threshold: 2 },
    { include_text: 'yes' },
    { filter: { unknown: 1 } },
    { filter: { document_ids: ['x'] } },
    { filter: { document_ids: [] } },
    { filter: { created_after: 'yesterday' } },
    { filter: { created_before: '2026-13-01T00:00:00Z' } },
    { filter: { metadata: 'x' } },
  ])('with %j is refused', async fields => {
    for (const route of ['search', 'query']) {
      expectProblem(
        await app.admin.post(`${kb}/${route}`, { query: 'x', ...fields }),
        422,
        'validation_failed',
      );
    }
  });
});

describe('many mistakes', () => {
  it('are named each, up to a number', async () => {
    const answer = await app.admin.post('/tenants', {
      name: 'A',
      type: 'x',
      plan_tier: 7,
      colour: 'red',
      size: 1,
    });
    expectProblem(answer, 422, 'validation_failed');
    const paths = answer.body.errors.map((error: { path: string }) => error.path);
    expect([...new Set(paths)].toSorted()).toEqual(['colour', 'name', 'plan_tier', 'size', 'type']);
    const fields = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`f${i}`, i]));
    expect((await app.admin.post('/tenants', { name: 'ok', ...fields })).body.errors).toHaveLength(50);
  });
});

describe('a request that takes too long', () => {
  it('ends with 503, and lets nothing out of what it waited for', async () => {
    const model = await startModelServer();
    const slow = await startTestApplication({
      REQUEST_TIMEOUT_SECONDS: '1',
      LLM_BASE_URL: model.url,
      LLM_API_KEY: 'key-of-the-test',
      LLM_MODEL: 'stub',
    });
    try {
      await slow.createTenant('acme');
      await slow.addText('acme', 'The one document.');
      for (const fault of [{ hang: 'headers' }, { hang: 'body' }] as const) {
        model.failNext(fault);
        const started = Date.now();
        const answer = await slow.admin.post(`${kb}/query`, { query: 'document', mode: 'keyword' });
        expect(Date.now() - started).toBeLessThan(2500);
        expectProblem(answer, 503, 'timeout');
        expect(answer.headers.get('retry-after')).not.toBeNull();
        expect(JSON.stringify(answer.body)).not.toMatch(/key-of-the-test|127\.0\.0\.1|node_modules|stub/);
      }
      await sleep(100);
      const fine: Answer = await slow.admin.post(`${kb}/query`, { query: 'document', mode: 'keyword' });
      expect(fine).toMatchObject({ status: 200, body: { answered: true } });
    } finally {
      await slow.close();
      await model.close();
    }
  });
});

/** What the server answers to bytes that no client would send. */
function raw(bytes: string): Promise<string> {
  const { hostname, port } = new URL(app.admin.url);
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    socket.on('data', data => {
      answer += String(data);
    });
    socket.once('close', () => resolve(answer));
    socket.once('error', reject);
  });
}
