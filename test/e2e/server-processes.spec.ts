import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER } from '../setup/database.js';
import { expectProblem } from '../setup/problem.js';

describe.skipIf(!SERVER)('several processes of one installation', () => {
  let app: TestApplication;
  /** Answered by the other process that answers requests. */
  let there: (client: Client) => Client;

  beforeAll(async () => {
    app = await startTestApplication({ WORKER: 'external' }, { http: true, jobs: false });
    await app.createTenant('acme');
  });
  afterAll(() => app?.close());

  it('leave documents to a worker, which takes up what waits', async () => {
    const kb = '/tenants/acme/kbs/docs';
    const { body } = await expectStatus(
      202,
      app.admin.post(`${kb}/documents/text`, { text: 'Written before any worker.' }),
    );
    expect((await app.admin.get(`${kb}/documents/${body.id}`)).body.status).toBe('queued');
    const worker = await app.startAnother({ http: false, jobs: true });
    expect(worker.url).toBeNull();
    expect((await app.settled('acme', body.id)).status).toBe('ready');
    expect((await app.addText('acme', 'Written while the worker waits.')).status).toBe('ready');
    const found = await expectStatus(
      200,
      app.admin.post(`${kb}/search`, { query: 'written worker', mode: 'keyword' }),
    );
    expect(found.body.passages).toHaveLength(2);
  });

  describe('learn within a second', () => {
    const WITHIN = { timeout: 1_000, interval: 20 };

    beforeAll(async () => {
      const other = await app.startAnother({ http: true, jobs: false });
      there = client => new Client(other.url as string, client.token);
    });

    it('that a member has another role, or was removed', async () => {
      const { id, client } = await app.createMember('acme', 'viewer');
      const create = async (name: string) => (await there(client).post('/tenants/acme/kbs', { name })).status;
      expect(await create('First')).toBe(403);
      await expectStatus(200, app.admin.put(`/tenants/acme/members/${id}`, { role: 'editor' }));
      await expect.poll(() => create('First'), WITHIN).toBe(201);
      await expectStatus(200, app.admin.put(`/tenants/acme/members/${id}`, { role: 'viewer' }));
      await expect.poll(() => create('First'), WITHIN).toBe(403);
      await expectStatus(204, app.admin.delete(`/tenants/acme/members/${id}`));
      await expect.poll(async () => (await there(client).get('/tenants/acme')).status, WITHIN).toBe(404);
    });

    it('that a session has ended, by logout or by theft', async () => {
      const user = await app.createUser();
      const me = (client: Client) => there(client).get('/auth/me');
      expect((await me(user.client)).status).toBe(200);
      await expectStatus(204, user.client.post('/auth/logout'));
      await expect.poll(async () => (await me(user.client)).status, WITHIN).toBe(401);
      expectProblem(await me(user.client), 401, 'invalid_token');

      const robbed = await app.createUser();
      expect((await me(robbed.client)).status).toBe(200);
      const again = () => app.anonymous.post('/auth/refresh', { refresh_token: robbed.refreshToken });
      await expectStatus(200, again());
      await expectStatus(401, again());
      await expect.poll(async () => (await me(robbed.client)).status, WITHIN).toBe(401);
    });

    it('that a tenant is suspended, active again, or gone', async () => {
      await app.createTenant('brief');
      const { client } = await app.createMember('brief', 'viewer');
      const status = async () => (await there(client).get('/tenants/brief')).status;
      expect(await status()).toBe(200);
      await expectStatus(200, app.admin.post('/tenants/brief/suspend'));
      await expect.poll(status, WITHIN).toBe(403);
      await expectStatus(200, app.admin.post('/tenants/brief/activate'));
      await expect.poll(status, WITHIN).toBe(200);
      await expectStatus(204, app.admin.delete('/tenants/brief'));
      await expect.poll(status, WITHIN).toBe(404);
    });
  });
});
