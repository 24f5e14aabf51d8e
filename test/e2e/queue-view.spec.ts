import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { expectProblem } from '../setup/problem.js';

const BOARD = '//admin/queues';

let app: TestApplication;

beforeAll(async () => {
  // Nobody works here: what waits goes on waiting.
  app = await startTestApplication({}, { http: true, jobs: false });
  for (const tenant of ['acme', 'globex']) await app.createTenant(tenant);
  for (const tenant of ['acme', 'acme', 'globex']) {
    const body = { text: `A text of its own: ${randomUUID()}` };
    await expectStatus(202, app.admin.post(`/tenants/${tenant}/kbs/docs/documents/text`, body));
  }
});
afterAll(() => app?.close());

describe('what waits in the installation', () => {
  it('is seen by the platform, by tenant and by queue', async () => {
    const { body } = await expectStatus(200, app.admin.get('/platform/queues'));
    expect(body.mode).toBe(SERVER ? 'redis' : 'in_process');
    expect(body.queues.map(({ name }: { name: string }) => name)).toEqual([
      'ingestion',
      'jobs',
      'outbound-jobs',
    ]);
    for (const queue of body.queues) {
      expect(queue).toMatchObject({ answers: true, active: 0, workers: 0 });
      expect(queue.slots_per_worker).toBeGreaterThan(0);
    }
    expect(body.documents).toMatchObject({ waiting: 3, processing: 0, failed: 0 });
    expect(body.documents.oldest_waiting_seconds).toBeGreaterThanOrEqual(0);
    expect(body.documents.tenants).toMatchObject([
      { name: 'acme', waiting: 2 },
      { name: 'globex', waiting: 1 },
    ]);
    expect(body.jobs).toEqual(expect.any(Array));
    // Numbers and names of tenants; of the documents nothing.
    expect(JSON.stringify(body)).not.toContain('A text of its own');
  });

  it('is the platform’s business alone', async () => {
    const owner = await app.createMember('acme', 'owner');
    expectProblem(await owner.client.get('/platform/queues'), 403, 'forbidden');
    expectProblem(await owner.client.post('/platform/queues/session'), 403, 'forbidden');
    expectProblem(await app.anonymous.get('/platform/queues'), 401, 'unauthorized');
  });
});

it.skipIf(SERVER)('there is no board without Redis, and it says so', async () => {
  for (const answer of [
    await app.admin.post('/platform/queues/session'),
    await app.admin.get(BOARD),
    await app.anonymous.get(`${BOARD}/api/queues`),
  ]) {
    expectProblem(answer, 404, 'not_found');
    expect(answer.body.detail).toContain('REDIS_URL');
  }
});

describe.runIf(SERVER)('the board', () => {
  /** Signs somebody in, and makes them what browsers with their cookie are. */
  async function openBoard(client: Client): Promise<{ browser: Client; cookie: string }> {
    const { body, headers } = await expectStatus(200, client.post('/platform/queues/session'));
    expect(body).toEqual({ path: '/admin/queues', expires_in: 900 });
    const cookie = headers.get('set-cookie') as string;
    return { cookie, browser: app.anonymous.withHeaders({ cookie: cookie.split(';')[0] as string }) };
  }

  it('opens with its cookie, which is good for nothing else', async () => {
    const { browser, cookie } = await openBoard(app.admin);
    expect(cookie).toMatch(/; Path=\/admin\/queues; Max-Age=900; HttpOnly; SameSite=Strict$/);
    const page = await expectStatus(200, browser.get(BOARD));
    expect(page.body).toContain('Enclave queues');
    expect(page.headers.get('content-security-policy')).toContain("script-src 'self'");
    expect(page.headers.get('cache-control')).toBe('no-store');
    const script = /src="(static\/js\/main[^"]+)"/.exec(page.body)?.[1];
    await expectStatus(200, browser.get(`${BOARD}/${script}`));
    const { body } = await expectStatus(200, browser.get(`${BOARD}/api/queues`));
    expect(body.queues.map(({ name }: { name: string }) => name)).toEqual([
      'ingestion',
      'jobs',
      'outbound-jobs',
    ]);
    expect(body.queues.every(({ readOnlyMode }: { readOnlyMode: boolean }) => readOnlyMode)).toBe(true);
    expectProblem(await browser.get('/platform/queues'), 401, 'unauthorized');
    // The rest of the API keeps its own policy, by which nothing runs.
    const { headers } = await app.anonymous.get('/version');
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(headers.get('content-security-policy')).not.toContain('script-src');
  });

  it('is closed in all its parts without one', async () => {
    const { cookie } = await openBoard(app.admin);
    const [value] = cookie.split(';') as [string];
    const [userId, sessionId, ends] = value.slice(value.indexOf('=') + 1).split('.') as [
      string,
      string,
      string,
    ];
    const forged = [
      '',
      'enclave_queues=',
      'enclave_queues=...',
      `${value.slice(0, -2)}${value.endsWith('AA') ? 'BB' : 'AA'}`,
      `enclave_queues=${userId}.${sessionId}.${Number(ends) + 900}.${value.split('.')[3]}`,
    ];
    for (const header of forged) {
      const browser = app.anonymous.withHeaders({ cookie: header });
      for (const path of [
        '',
        '/',
        '/api/queues',
        '/static/js/nothing.js',
        '/queue/ingestion',
        '/nothing/at/all',
      ]) {
        const answer = await browser.get(`${BOARD}${path}`);
        expect([401, 404], `${header} ${path}`).toContain(answer.status);
      }
      expectProblem(await browser.get(`${BOARD}/api/queues`), 401, 'unauthorized');
    }
    expectProblem(await app.admin.get(`${BOARD}/api/queues`), 401, 'unauthorized');
  });

  it('is for reading', async () => {
    const { browser } = await openBoard(app.admin);
    for (const [method, path] of [
      ['PUT', '/api/queues/pause'],
      ['PUT', '/api/queues/ingestion/pause'],
      ['PUT', '/api/queues/ingestion/obliterate'],
      ['POST', '/api/queues/ingestion/add'],
    ] as const) {
      const answer = await browser.send(method, `${BOARD}${path}`, {});
      expect([403, 404], `${method} ${path}`).toContain(answer.status);
    }
    expectProblem(await browser.send('PUT', `${BOARD}/api/queues/pause`, {}), 403, 'read_only');
  });

  it('closes with the session and with the role', async () => {
    const user = await app.createUser();
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { platform_roles: ['platform_auditor'] }));
    const first = await openBoard(user.client);
    await expectStatus(200, first.browser.get(`${BOARD}/api/queues`));
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { platform_roles: [] }));
    expectProblem(await first.browser.get(`${BOARD}/api/queues`), 403, 'forbidden');
    await expectStatus(200, app.admin.patch(`/users/${user.id}`, { platform_roles: ['platform_auditor'] }));
    await expectStatus(200, first.browser.get(`${BOARD}/api/queues`));
    await expectStatus(204, user.client.post('/auth/logout'));
    expectProblem(await first.browser.get(`${BOARD}/api/queues`), 401, 'unauthorized');
  });
});
