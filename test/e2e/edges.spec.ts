import fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { RouteAccess } from '../../src/core/authorization/route-access.js';
import { ADMIN, type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Answer } from '../setup/client.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication({
    LOG_LEVEL: 'debug',
    LOG_FORMAT: 'json',
    CORS_ORIGINS: 'https://app.example.com',
  });
  await app.createTenant('acme');
});
afterAll(() => app?.close());
afterEach(() => {
  vi.restoreAllMocks();
});

describe('health', () => {
  it('says that the process lives, is ready, and which version it is', async () => {
    expect(await app.anonymous.get('/health/live')).toMatchObject({ status: 200, body: { status: 'ok' } });
    for (const path of ['/health/ready', '/health']) {
      expect(await app.anonymous.get(path)).toMatchObject({
        status: 200,
        body: {
          status: 'ok',
          checks: {
            database: { status: 'up' },
            queue: { status: 'up' },
            storage: { status: 'up' },
            models: { status: 'up' },
          },
        },
      });
    }
    const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8')) as { version: string };
    expect((await app.anonymous.get('/version')).body).toEqual({ version });
  });
});

describe('the API document', () => {
  type Operation = {
    summary?: string;
    tags?: string[];
    security?: unknown[];
    'x-permission'?: { permission: string | null };
    responses: Record<string, Response>;
  };
  type Response = { $ref?: string; content?: Record<string, unknown>; description?: string };
  type ApiDocument = {
    openapi: string;
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: object; responses: Record<string, Response> };
  };
  let document: ApiDocument;

  beforeAll(async () => {
    document = (await expectStatus(200, app.anonymous.get('//openapi.json'))).body;
  });
  const operations = () =>
    Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        name: `${method.toUpperCase()} ${path}`,
        method,
        path,
        operation,
      })),
    );

  it('is served, with a page to read it', async () => {
    expect(document.openapi).toMatch(/^3\./);
    const page = await app.anonymous.get('//docs');
    expect(page.status).toBe(200);
    expect(page.headers.get('content-type')).toContain('text/html');
    expect(page.body).toContain('swagger-ui');
    const script = /src="([^"]*swagger-ui-init\.js)"/.exec(page.body)?.[1] as string;
    expect((await app.anonymous.get(`/${new URL(script, `${app.admin.url}/docs`).pathname}`)).status).toBe(
      200,
    );
  });

  it('describes every route there is, with the permission that guards it', () => {
    const routes = app.application.nest.get(RouteAccess, { strict: false }).list();
    const described = new Map(
      operations().map(({ name, operation }) => [name, operation['x-permission']?.permission]),
    );
    for (const { method, path, permission } of routes) {
      const name = `${method} /api/v1${path.replaceAll(/:(\w+)/g, '{$1}')}`;
      expect({ name, permission: described.get(name) }).toEqual({ name, permission });
    }
    expect(described.size).toBeGreaterThanOrEqual(routes.length);
  });

  it('says of every operation what it does, who may, and how it fails', () => {
    for (const { name, path, operation } of operations()) {
      expect({ name, summary: operation.summary }).toEqual({
        name,
        summary: expect.stringMatching(/^[A-Z].{5,}[^.]$/),
      });
      expect(operation, name).toHaveProperty('x-permission');
      expect(operation.tags, name).toHaveLength(1);
      const codes = Object.keys(operation.responses);
      expect(
        codes.some(code => code.startsWith('2')),
        name,
      ).toBe(true);
      if (operation['x-permission']?.permission) {
        expect(operation.security, name).not.toHaveLength(0);
        expect(codes, name).toEqual(expect.arrayContaining(['401', '403']));
        if (path.includes('{tenant}')) expect(codes, name).toContain('404');
      }
      for (const code of codes.filter(status => /^[45]/.test(status))) {
        const response = operation.responses[code];
        const common = document.components.responses[response?.$ref?.split('/').at(-1) ?? ''];
        expect((common ?? response)?.content, `${name} ${code}`).toHaveProperty(['application/problem+json']);
      }
    }
  });

  it('names every parameter of a path, and refers to nothing that is not there', () => {
    for (const { name, path, operation } of operations()) {
      const named = ((operation as { parameters?: Array<{ in: string; name: string }> }).parameters ?? [])
        .filter(parameter => parameter.in === 'path')
        .map(parameter => parameter.name);
      expect(named.toSorted(), name).toEqual(
        Array.from(path.matchAll(/\{(\w+)\}/g), match => match[1]).toSorted(),
      );
    }
    const references = Array.from(
      JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g),
      match => match[1] as string,
    );
    expect(references.length).toBeGreaterThan(10);
    for (const reference of new Set(references)) {
      const target = reference
        .replace(/^#\//, '')
        .split('/')
        .reduce<unknown>(
          (node, key) => (node as Record<string, unknown> | undefined)?.[decodeURIComponent(key)],
          document,
        );
      expect(target, reference).toBeDefined();
    }
  });
});

describe('an answer', () => {
  it('carries the id of its request, one’s own where one sends one', async () => {
    const id = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';
    expect(
      (await app.anonymous.withHeaders({ 'x-request-id': id }).get('/version')).headers.get('x-request-id'),
    ).toBe(id);
    const made = (await app.anonymous.get('/version')).headers.get('x-request-id');
    expect(made).toMatch(UUID);
    expect((await app.anonymous.get('/version')).headers.get('x-request-id')).not.toBe(made);
  });

  it('tells browsers what not to do', async () => {
    for (const path of ['//docs', '//docs/', '/version', '/nothing']) {
      const isPage = path.startsWith('//docs');
      const { headers } = await app.anonymous.get(path);
      expect(headers.get('x-content-type-options'), path).toBe('nosniff');
      expect(headers.get('content-security-policy'), path).toContain(
        isPage ? "default-src 'self';script-src 'self'" : "default-src 'none'",
      );
      expect(headers.get('content-security-policy'), path).toContain("frame-ancestors 'none'");
      expect(headers.get('cache-control') === 'no-store', path).toBe(!isPage);
      expect(headers.get('strict-transport-security'), path).toMatch(/^max-age=31536000/);
      expect(headers.get('cross-origin-opener-policy'), path).toBe('same-origin');
      expect(headers.get('cross-origin-resource-policy'), path).toBe('same-origin');
      expect(headers.get('x-frame-options'), path).toBe('DENY');
      expect(headers.get('referrer-policy'), path).toBe('no-referrer');
      expect(headers.has('x-powered-by'), path).toBe(false);
    }
  });

  it('is readable from the configured origin, and no other', async () => {
    const preflight = (origin: string) =>
      app.anonymous
        .withHeaders({
          origin,
          'access-control-request-method': 'PATCH',
          'access-control-request-headers': 'authorization',
        })
        .send('OPTIONS', '/auth/me');
    const allowed = await preflight('https://app.example.com');
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://app.example.com');
    expect(allowed.headers.get('access-control-allow-methods')).toContain('PATCH');
    expect(
      (await preflight('https://evil.example.com')).headers.get('access-control-allow-origin'),
    ).toBeNull();
    const read = (origin: string) => app.anonymous.withHeaders({ origin }).get('/version');
    expect((await read('https://app.example.com')).headers.get('access-control-allow-origin')).toBe(
      'https://app.example.com',
    );
    expect((await read('https://evil.example.com')).headers.get('access-control-allow-origin')).toBeNull();
  });
});

describe('the log', () => {
  it('has a line for every request, and no secret in any', async () => {
    const lines: string[] = [];
    const write = fs.write as (...all: unknown[]) => void;
    // Pino writes to the standard output through here.
    vi.spyOn(fs, 'write').mockImplementation(((fd: number, text: unknown, ...rest: unknown[]) => {
      if (fd !== 1) return write(fd, text, ...rest);
      lines.push(String(text));
      (rest.at(-1) as (error: null, written: number) => void)(null, Buffer.byteLength(String(text)));
    }) as typeof fs.write);

    const user = await app.createUser('logged');
    await expectStatus(201, app.admin.post('/tenants/acme/members', { user_id: user.id, role: 'viewer' }));
    const { body } = await expectStatus(
      200,
      app.anonymous.post('/auth/refresh', { refresh_token: user.refreshToken }),
    );
    const answer = await user.client.get('/tenants/acme/kbs?search=needle');
    await app.anonymous.get(`/auth/me?access_token=${user.client.token}`);
    await app.anonymous.post('/auth/login', { email: user.email, password: 'a wrong password' });
    await app.anonymous.withToken('forged.token.here').get('/auth/me');
    await app.anonymous
      .withHeaders({ 'content-type': 'application/json' })
      .post('/auth/login', `{"password":"${ADMIN.password}"`);
    await app.addText('acme', 'The confidential text.');
    await expect.poll(() => lines.join('')).toContain('Document ingested');

    const entries = lines
      .flatMap(line => line.trim().split('\n'))
      .map(line => JSON.parse(line) as Record<string, unknown>);
    const line = entries.find(entry => entry['request_id'] === answer.headers.get('x-request-id'));
    expect(line).toMatchObject({
      level: 'info',
      context: 'http',
      method: 'GET',
      path: '/api/v1/tenants/acme/kbs',
      route: '/api/v1/tenants/:tenant/kbs',
      status: 200,
      tenant: 'acme',
      principal: user.id,
      duration_ms: expect.any(Number),
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    });
    expect(entries.filter(entry => entry['msg'] === 'POST 401')).toHaveLength(1);
    const all = lines.join('');
    const secrets = {
      password: user.password,
      'wrong password': 'a wrong password',
      'admin password': ADMIN.password,
      'access token': user.client.token,
      'refresh token': user.refreshToken,
      'new refresh token': body.refresh_token,
      'forged token': 'forged.token.here',
      query: 'needle',
      text: 'confidential',
    };
    for (const [what, secret] of Object.entries(secrets))
      expect(all.includes(secret as string), what).toBe(false);
  });
});

// Nest has one logger a process: the other applications come after the test of the log.
describe('a process without its model', () => {
  it('is not ready while a model is away, and says no more than that', async () => {
    const gone = await startModelServer();
    await gone.close();
    const other = await startTestApplication({
      LLM_BASE_URL: gone.url,
      LLM_MODEL: 'gone',
      LLM_API_KEY: 'secret-key',
    });
    try {
      const answer = await other.anonymous.get('/health/ready');
      expectProblem(answer, 503, 'not_ready');
      expect(answer.body.checks).toEqual({
        database: { status: 'up' },
        queue: { status: 'up' },
        storage: { status: 'up' },
        models: { status: 'down' },
      });
      expect(answer.headers.get('retry-after')).not.toBeNull();
      expect((await other.anonymous.get('/health/live')).status).toBe(200);
    } finally {
      await other.close();
    }
  });
});

describe('a shutdown', () => {
  let model: ModelServer;
  beforeAll(async () => {
    model = await startModelServer();
  });
  afterAll(() => model?.close());

  it('ends what is under way, refuses what comes, and gives back what is being ingested', async () => {
    const other = await startTestApplication({
      LLM_BASE_URL: model.url,
      LLM_MODEL: 'slow',
      EMBEDDING_BASE_URL: model.url,
      EMBEDDING_MODEL: 'slow',
    });
    try {
      await other.createTenant('acme');
      await other.addText('acme', 'The clock strikes twelve at noon.');
      const kb = '/tenants/acme/kbs/docs';
      const late = other.admin;
      model.failNext({ hang: 'headers' });
      const { id } = (
        await expectStatus(202, late.post(`${kb}/documents/text`, { text: 'Half done when the end came.' }))
      ).body;
      await expect.poll(async () => (await late.get(`${kb}/documents/${id}`)).body.stage).toBe('embed');
      model.latency = 1_000;
      const slow = late.post(`${kb}/query`, { query: 'When does the clock strike?', mode: 'keyword' });
      await expect.poll(() => model.requests.chat).toBe(1);
      model.latency = 0;

      const restarted = other.restart();
      let refused: Answer | Error;
      do refused = await late.get('/version').catch((error: Error) => error);
      while (!(refused instanceof Error) && refused.status === 200);
      if (!(refused instanceof Error)) expectProblem(refused, 503, 'draining');
      expect(await slow).toMatchObject({ status: 200, body: { answered: true } });
      await restarted;
      expect(await other.settled('acme', id)).toMatchObject({ status: 'ready', attempts: 0, error: null });
      const found = await expectStatus(
        200,
        other.admin.post(`${kb}/search`, { query: 'half done', mode: 'keyword' }),
      );
      expect(found.body.passages).toHaveLength(1);
      expect((await other.admin.get(`${kb}/stats`)).body).toMatchObject({
        document_count: 2,
        chunk_count: 2,
      });
    } finally {
      await other.close();
    }
  });
});
