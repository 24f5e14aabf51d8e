import { once } from 'node:events';
import { type Socket, connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { RouteAccess } from '../../src/core/authorization/route-access.js';
import { ADMIN, type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { mailFolder } from '../setup/mail-folder.js';
import { expectProblem } from '../setup/problem.js';

/** Seconds. */
const TIMEOUT = 4;
const MOST_CONNECTIONS = 20;

let app: TestApplication;
let address: { port: number; host: string };

beforeAll(async () => {
  app = await startTestApplication({
    REQUEST_TIMEOUT_SECONDS: String(TIMEOUT),
    MAX_CONNECTIONS_PER_ADDRESS: String(MOST_CONNECTIONS),
    SELF_REGISTRATION: 'false',
    API_DOCS: 'false',
  });
  await app.createTenant('acme');
  const { hostname, port } = new URL(app.anonymous.url);
  address = { host: hostname, port: Number(port) };
});
afterAll(() => app?.close());

describe('what is there', () => {
  it('is the routes that say who may call them, and nothing else', () => {
    const fastify = (app.application.nest as NestFastifyApplication).getHttpAdapter().getInstance();
    const there: string[] = [];
    const above: string[] = [];
    for (const line of fastify.printRoutes({ commonPrefix: false }).split('\n')) {
      const [, indent = '', part = '', methods = ''] =
        /^((?:[│ ] {3})*)[├└]── (\S+)(?: \(([A-Z, ]+)\))?/.exec(line) ?? [];
      if (part === '') continue;
      above.length = indent.length / 4;
      above.push(part);
      const path = above.join('').replace('/api/v1', '');
      for (const method of methods.split(', '))
        if (method !== '' && method !== 'HEAD') there.push(`${method} ${path}`);
    }
    const known = app.application.nest
      .get(RouteAccess, { strict: false })
      .list()
      .map(({ method, path }) => `${method} ${path}`);
    const others = there.filter(route => !known.includes(route) && !route.includes(' /admin/queues'));
    // Preflights of browsers.
    expect(others).toEqual(['OPTIONS *']);
    expect(known.filter(route => !there.includes(route))).toEqual([]);
    expect(known.length).toBeGreaterThan(150);
  });

  it('is no API document where the settings say so', async () => {
    for (const path of [
      '/docs',
      '/docs/',
      '/docs/swagger-ui-init.js',
      '/openapi.json',
      '/openapi.yaml',
      '/docs-json',
    ]) {
      expectProblem(await app.anonymous.get(`/${path}`), 404, 'not_found');
    }
  });

  it('is nothing for methods that no route has', async () => {
    for (const method of ['TRACE', 'PROPFIND', 'DELETE']) {
      expect(await raw(`${method} /api/v1/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)).toMatch(
        /^HTTP\/1\.1 40[045] /,
      );
    }
  });
});

describe('registration that is closed', () => {
  it('says the same of every address, and leaves invitations open', async () => {
    const password = 'long enough for everybody';
    const [taken, free] = await Promise.all(
      [ADMIN.email, 'free@example.com'].map(email =>
        app.anonymous.post('/auth/register', { email, password }),
      ),
    );
    expectProblem(taken!, 403, 'registration_closed');
    expectProblem(free!, 403, 'registration_closed');
    expect(free!.body.detail).toBe(taken!.body.detail);
    await expectStatus(
      201,
      app.admin.post('/tenants/acme/invitations', { email: 'guest@example.com', role: 'viewer' }),
    );
    const mail = await mailFolder(app.env.dataDir).waitFor('guest@example.com');
    const token = /[\w-]{43}/.exec(mail.text ?? '')?.[0];
    const accepted = await app.anonymous.post(`/invitations/${token}/accept`, {
      password,
      display_name: 'Guest',
    });
    expect(accepted).toMatchObject({ status: 200, body: { created: true } });
    expect((await app.anonymous.post('/auth/login', { email: 'guest@example.com', password })).status).toBe(
      200,
    );
  });
});

describe('answers', () => {
  it('are kept by nobody, and run nowhere', async () => {
    const document = await app.addText('acme', '<script>alert(1)</script> A page of somebody.', {
      title: 'page.html',
    });
    const answers = await Promise.all([
      app.anonymous.post('/auth/login', ADMIN),
      app.admin.get('/auth/me'),
      app.admin.get('/tenants/acme'),
      app.admin.get('/tenants/acme/kbs?page_size=1'),
      app.admin.get('/no-such-route'),
      app.anonymous.get('/health/live'),
    ]);
    for (const { headers } of answers) {
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('content-security-policy')).toMatch(/^default-src 'none'/);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
    }
    const download = await app.admin.get(`/tenants/acme/kbs/docs/documents/${document.id}/content`);
    expect(download.status).toBe(200);
    expect(download.headers.get('content-disposition')).toMatch(/^attachment;/);
    expect(download.headers.get('x-content-type-options')).toBe('nosniff');
    expect(download.headers.get('content-security-policy')).toMatch(/^default-src 'none'/);
    expect(download.headers.get('cache-control')).toBe('private, no-cache');
  });
});

describe('what comes before anybody is known', () => {
  it('is small, on every route that needs no credential', async () => {
    const routes = app.application.nest
      .get(RouteAccess, { strict: false })
      .list()
      .filter(({ method, permission }) => permission === null && method !== 'GET');
    expect(routes.length).toBeGreaterThan(5);
    for (const { method, path } of routes) {
      const body = { password: 'x'.repeat(70_000) };
      expectProblem(await app.anonymous.send(method, path.replace(/:\w+/g, 'x'), body), 413, 'too_large');
    }
    // Elsewhere bodies may hold documents.
    const text = await app.admin.post('/tenants/acme/kbs/docs/documents/text', {
      text: `A. ${'b '.repeat(40_000)}`,
    });
    expect(text.status).toBe(202);
  });
});

describe('a client that is slow', () => {
  const endings: Array<[what: string, bytes: string, every: string]> = [
    ['that says nothing', '', ''],
    ['that never ends its head', 'GET /api/v1/version HTTP/1.1\r\nHost: x\r\n', 'X-More: x\r\n'],
    [
      'that never ends its body',
      'POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{',
      ' ',
    ],
  ];

  it('is let go, however it holds on', async () => {
    const started = Date.now();
    const answers = await Promise.all(endings.map(([, bytes, every]) => raw(bytes, every)));
    expect(Date.now() - started).toBeLessThan(TIMEOUT * 1000 * 2 + 5_000);
    for (const answer of answers) expect(answer).toMatch(/^(HTTP\/1\.1 (408|503) [^]*)?$/);
    expect(answers[1]).toContain('request_timeout');
  });
});

describe('connections of one address', () => {
  it('are so many and no more; the others are closed at once', async () => {
    const sockets: Socket[] = [];
    const closed = new Set<Socket>();
    try {
      for (let i = 0; i < MOST_CONNECTIONS + 10; i++) {
        const socket = connect(address.port, address.host);
        socket.on('error', () => undefined);
        socket.once('close', () => closed.add(socket));
        sockets.push(socket);
        await once(socket, 'connect');
      }
      await expect.poll(() => closed.size, { timeout: 1_500, interval: 10 }).toBeGreaterThanOrEqual(10);
    } finally {
      for (const socket of sockets) socket.destroy();
    }
    await expect
      .poll(
        () =>
          app.anonymous.get('/version').then(
            ({ status }) => status,
            () => 0,
          ),
        { timeout: 5_000 },
      )
      .toBe(200);
  });
});

/** What is answered to bytes until the connection is closed. @param every what is sent on, several times a second */
function raw(bytes: string, every = ''): Promise<string> {
  return new Promise(resolve => {
    let answer = '';
    const socket = connect(address.port, address.host, () => socket.write(bytes));
    const timer = setInterval(() => every !== '' && socket.write(every), 300);
    socket.on('data', data => {
      answer += String(data);
    });
    socket.on('error', () => undefined);
    socket.once('close', () => {
      clearInterval(timer);
      resolve(answer);
    });
  });
}
