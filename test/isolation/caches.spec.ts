import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DataSource } from 'typeorm';
import { TENANT_PERMISSIONS } from '../../src/core/authorization/permissions.js';
import { RouteAccess } from '../../src/core/authorization/route-access.js';
import { AuthorizationService } from '../../src/core/authorization/authorization.service.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../src/core/tenancy/tenant-database.js';
import { AnswerCacheRepository } from '../../src/features/rag-query/answer-cache.repository.js';
import { AnswerCacheService } from '../../src/features/rag-query/answer-cache.service.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Client } from '../setup/client.js';
import { openEvents } from '../setup/event-stream.js';
import { tried } from '../setup/isolation-cases.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { type Ids, callRoute, keyOf } from '../setup/route-calls.js';
import { asSuperuser } from '../setup/superuser.js';

const FACT = 'Frames carry a warranty of ten years.';
let asked = 0;
/** Nobody has asked it before. */
const newQuestion = () => `How long is the warranty on frames, asked for the ${++asked}th time?`;

let app: TestApplication;
let model: ModelServer;
let said = 0;

beforeAll(async () => {
  // Every answer is another one: what comes twice was kept.
  model = await startModelServer({ respond: () => `Answer ${++said} says ten years [1].` });
  app = await startTestApplication({
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub-chat',
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub-embedding',
  });
  for (const name of ['acme', 'twin']) {
    await app.createTenant(name);
    await app.addText(name, FACT, { title: 'Warranty' });
  }
  await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: 'Second' }));
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});

const ask = async (tenant: string, client: Client, query: string, body: object = {}) =>
  (await expectStatus(200, client.post(`/tenants/${tenant}/kbs/docs/query`, { query, ...body }))).body;
const service = <T>(type: new (...parameters: never[]) => T): T =>
  app.application.nest.get<T>(type, { strict: false });
const superuser = (statement: string): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement)).rows,
  );

describe('T7 caches', () => {
  describe('an answer', () => {
    it('that was kept is given again, and costs no call of a model', async () => {
      const query = newQuestion();
      const first = await ask('acme', app.admin, query);
      expect(first).toMatchObject({ cached: false, answered: true });
      const { chat, embeddings } = model.requests;
      const second = await ask('acme', app.admin, query);
      expect(second).toEqual({
        ...first,
        cached: true,
        usage: { prompt_tokens: 0, completion_tokens: 0, credits: 0 },
        latency_ms: expect.any(Object),
      });
      const stream = await openEvents(app.admin, '/tenants/acme/kbs/docs/query', {}, { query, stream: true });
      await stream.ended;
      expect(stream.events.map(({ type }) => type)).toEqual([
        'passages',
        'citation',
        'token',
        'usage',
        'done',
      ]);
      expect(stream.events.at(-1)?.data).toMatchObject({ answer: first.answer, cached: true });
      expect(model.requests).toMatchObject({ chat, embeddings });
      tried(3);
    });

    it('is nothing of another tenant’s, whose texts and question are the same word for word', async () => {
      const query = newQuestion();
      const first = await ask('acme', app.admin, query);
      const other = await ask('twin', app.admin, query);
      expect(other.cached).toBe(false);
      expect(other.answer).not.toBe(first.answer);
      const ids = (answer: any) =>
        [...answer.passages, ...answer.citations].flatMap((found: any) => [
          found.chunk_id,
          found.document_id,
        ]);
      expect(ids(first).filter(id => ids(other).includes(id))).toEqual([]);
      expect(await ask('twin', app.admin, query)).toMatchObject({ cached: true, answer: other.answer });
      expect(await ask('acme', app.admin, query)).toMatchObject({ cached: true, answer: first.answer });
      tried(4);
    });

    it('is not given for another knowledge base that has the same texts and settings', async () => {
      const query = newQuestion();
      for (const kb of ['left', 'right']) {
        await expectStatus(201, app.admin.post('/tenants/acme/kbs', { name: kb }));
        const path = `/tenants/acme/kbs/${kb}`;
        const added = await expectStatus(
          202,
          app.admin.post(`${path}/documents/text`, { text: FACT, title: 'Warranty' }),
        );
        await app.settled('acme', added.body.id, kb);
        const { body } = await expectStatus(200, app.admin.post(`${path}/query`, { query }));
        expect(body.cached).toBe(false);
        expect(body.passages.map((passage: any) => passage.document_id)).toEqual([added.body.id]);
        tried();
      }
    });

    it('is of one knowledge base, and of those that were asked together', async () => {
      const query = newQuestion();
      const first = await ask('acme', app.admin, query);
      const both = await expectStatus(
        200,
        app.admin.post('/tenants/acme/query', { query, kbs: ['docs', 'second'] }),
      );
      expect(both.body.cached).toBe(false);
      const alone = await expectStatus(200, app.admin.post('/tenants/acme/query', { query, kbs: ['docs'] }));
      expect(alone.body).toMatchObject({ cached: true, answer: first.answer });
      tried(3);
    });

    it.each([
      ['another text is added', () => app.addText('acme', 'Batteries carry a warranty of two years.')],
      [
        'a title changes',
        async () => {
          const { items } = (await app.admin.get('/tenants/acme/kbs/docs/documents')).body;
          const path = `/tenants/acme/kbs/docs/documents/${items[0].id}`;
          await expectStatus(200, app.admin.patch(path, { title: `Title ${Math.random()}` }));
        },
      ],
      [
        'metadata change, of which filters ask',
        async () => {
          const { items } = (await app.admin.get('/tenants/acme/kbs/docs/documents')).body;
          const path = `/tenants/acme/kbs/docs/documents/${items[0].id}`;
          await expectStatus(200, app.admin.patch(path, { metadata: { color: `${Math.random()}` } }));
        },
      ],
      [
        'a text is deleted',
        async () => {
          const { id } = await app.addText('acme', `Tyres carry no warranty, and wear. ${Math.random()}`);
          await ask('acme', app.admin, newQuestion());
          await expectStatus(204, app.admin.delete(`/tenants/acme/kbs/docs/documents/${id}`));
        },
      ],
      [
        'the system prompt changes',
        () =>
          app.admin.patch('/tenants/acme/kbs/docs', {
            config: { system_prompt: `Be brief. ${Math.random()}` },
          }),
      ],
      ['the tenant’s settings change', () => app.admin.patch('/tenants/acme/config', { top_k: 3 + ++asked })],
    ])('is made anew where %s', async (_what, change) => {
      const query = newQuestion();
      await ask('acme', app.admin, query);
      expect((await ask('acme', app.admin, query)).cached).toBe(true);
      await change();
      expect((await ask('acme', app.admin, query)).cached).toBe(false);
      expect((await ask('acme', app.admin, query)).cached).toBe(true);
      tried(4);
    });

    it('is made anew for every other way of asking', async () => {
      const query = newQuestion();
      const { answer } = await ask('acme', app.admin, query);
      for (const other of [
        { mode: 'keyword' },
        { top_k: 2 },
        { temperature: 0.5 },
        { max_tokens: 50 },
        { system_prompt: 'Answer like a pirate.' },
        { threshold: 0.01 },
        { filter: { created_after: '2020-01-01T00:00:00Z' } },
      ]) {
        expect(await ask('acme', app.admin, query, other)).toMatchObject({ cached: false });
        tried();
      }
      // How it is shown is not how it is asked.
      expect(await ask('acme', app.admin, query, { include_text: false })).toMatchObject({
        cached: true,
        answer,
      });
    });

    it('is not kept where that is switched off', async () => {
      await expectStatus(200, app.admin.patch('/tenants/acme/config', { enable_llm_cache: false }));
      const query = newQuestion();
      await ask('acme', app.admin, query);
      expect((await ask('acme', app.admin, query)).cached).toBe(false);
      await expectStatus(200, app.admin.patch('/tenants/acme/config', { enable_llm_cache: null }));
    });

    it('is not kept where the model fails', async () => {
      const query = newQuestion();
      model.next({ for: 'chat', text: 'Ten years of', dieAfter: 2 });
      const stream = await openEvents(app.admin, '/tenants/acme/kbs/docs/query', {}, { query, stream: true });
      await stream.ended;
      expect(stream.events.at(-1)?.type).toBe('error');
      expect((await ask('acme', app.admin, query)).cached).toBe(false);
    });
  });

  describe('a member who may not read a document', () => {
    const SECRET = 'The warranty on frames is really eleven years, which customers need not know.';
    let viewer: { id: string; client: Client };
    let other: { id: string; client: Client };
    let hidden: string;

    beforeAll(async () => {
      viewer = await app.createMember('acme', 'viewer');
      other = await app.createMember('acme', 'viewer');
      hidden = (await app.addText('acme', SECRET, { title: 'Secret', acl: { members: [], groups: [] } })).id;
    });
    beforeEach(() => setReaders([]));
    const setReaders = (members: string[]) =>
      expectStatus(
        200,
        app.admin.put(`/tenants/acme/kbs/docs/documents/${hidden}/acl`, { acl: { members, groups: [] } }),
      );
    const titlesOf = (answer: any) => answer.passages.map((passage: any) => passage.document_title);

    it('never gets an answer that was made from it', async () => {
      const query = newQuestion();
      const all = await ask('acme', app.admin, query);
      expect(titlesOf(all)).toContain('Secret');
      const seen = await ask('acme', viewer.client, query);
      expect(seen.cached).toBe(false);
      expect(titlesOf(seen)).not.toContain('Secret');
      expect(await ask('acme', app.admin, query)).toMatchObject({ cached: true, answer: all.answer });
      // Nobody else’s view, though it looks the same.
      expect((await ask('acme', other.client, query)).cached).toBe(false);
      expect((await ask('acme', viewer.client, query)).cached).toBe(true);
      tried(5);
    });

    it('gets one once it may, and no more once it may not', async () => {
      const query = newQuestion();
      await ask('acme', viewer.client, query);
      await setReaders([viewer.id]);
      const allowed = await ask('acme', viewer.client, query);
      expect(allowed.cached).toBe(false);
      expect(titlesOf(allowed)).toContain('Secret');
      await setReaders([other.id]);
      const after = await ask('acme', viewer.client, query);
      expect(after.answer).not.toBe(allowed.answer);
      expect(titlesOf(after)).not.toContain('Secret');
      tried(3);
    });

    it('of a document that was open when it was asked about', async () => {
      const { id } = await app.addText('acme', `The warranty on frames was nine years. ${Math.random()}`, {
        title: 'Once open',
      });
      const query = newQuestion();
      const before = await ask('acme', viewer.client, query);
      expect(titlesOf(before)).toContain('Once open');
      await expectStatus(
        200,
        app.admin.put(`/tenants/acme/kbs/docs/documents/${id}/acl`, { acl: { members: [], groups: [] } }),
      );
      const after = await ask('acme', viewer.client, query);
      expect(after.cached).toBe(false);
      expect(titlesOf(after)).not.toContain('Once open');
      tried(2);
      await expectStatus(204, app.admin.delete(`/tenants/acme/kbs/docs/documents/${id}`));
    });

    it('does not see it in the database either, whatever the key', async () => {
      const query = newQuestion();
      await ask('acme', app.admin, query);
      const documents = await superuser(
        `SELECT encode(key, 'hex') AS key FROM answer_cache WHERE '${hidden}' = ANY (document_ids)`,
      );
      expect(documents.length).toBeGreaterThan(0);
      const tenants = await superuser(`SELECT id, name FROM tenants WHERE name IN ('acme', 'twin')`);
      const [acme, twin] = ['acme', 'twin'].map(name => tenants.find(tenant => tenant.name === name));
      const context = service(TenantContext);
      const find = (key: string) =>
        service(TenantDatabase).run(tx => service(AnswerCacheRepository).find(tx, Buffer.from(key, 'hex')));
      const asMember = (work: () => Promise<unknown>) =>
        context.runAsSystem(acme, async () => {
          const access = await service(AuthorizationService).accessOf(viewer.id, acme.id);
          context.setTenant(acme, access);
          return work();
        });
      for (const { key } of documents) {
        expect(await context.runAsSystem(acme, () => find(key))).not.toBeNull();
        expect(await context.runAsSystem(twin, () => find(key))).toBeNull();
        expect(await asMember(() => find(key))).toBeNull();
        tried(3);
      }
    });
  });

  it('an API token gets nothing of a knowledge base that it is not for', async () => {
    const query = newQuestion();
    const { body: second } = await app.admin.get('/tenants/acme/kbs/second');
    const answer = await expectStatus(
      200,
      app.admin.post('/tenants/acme/query', { query, kbs: ['docs', 'second'] }),
    );
    expect(answer.body.passages.length).toBeGreaterThan(0);
    const { client: owner } = await app.createMember('acme', 'owner');
    const { body } = await expectStatus(
      201,
      owner.post('/tenants/acme/api-tokens', { name: 'Second', scopes: ['query:run'], kb_ids: [second.id] }),
    );
    const token = app.anonymous.withToken(body.secret);
    expectProblem(
      await token.post('/tenants/acme/query', { query, kbs: ['docs', 'second'] }),
      404,
      'not_found',
    );
    const own = await expectStatus(200, token.post('/tenants/acme/query', { query }));
    expect(own.body).toMatchObject({ cached: false, passages: [] });
    tried(2);
  });

  it('what cannot be found any more is swept away, and what is too much', async () => {
    const query = newQuestion();
    await ask('twin', app.admin, query);
    const count = async () =>
      Number(
        (
          await superuser(
            `SELECT count(*) FROM answer_cache JOIN tenants t ON t.id = tenant_id AND t.name = 'twin'`,
          )
        )[0].count,
      );
    expect(await count()).toBeGreaterThan(0);
    const sweep = () => (service(AnswerCacheService) as any).sweep(new AbortController().signal);
    await sweep();
    expect(await ask('twin', app.admin, query)).toMatchObject({ cached: true });
    await app.addText('twin', 'The twin has another text.');
    await sweep();
    expect(await count()).toBe(0);
    await superuser(`
    INSERT INTO answer_cache (tenant_id, key, kb_ids, content_versions, document_ids, answer, expires_at, used_at)
    SELECT kb.tenant_id, sha256(n::text::bytea), ARRAY[kb.id], ARRAY[kb.content_version], '{}', '{}',
           now() + interval '1 hour', now() + n * interval '1 second'
    FROM knowledge_bases kb JOIN tenants t ON t.id = kb.tenant_id AND t.name = 'twin', generate_series(1, 2100) AS n`);
    await sweep();
    expect(await count()).toBe(2_000);
    const [{ oldest }] = await superuser(
      `SELECT encode(key, 'hex') AS oldest FROM answer_cache ORDER BY used_at LIMIT 1`,
    );
    expect(oldest).toBeDefined();
    await superuser(`UPDATE answer_cache SET expires_at = now() - interval '1 second'`);
    await sweep();
    expect(await count()).toBe(0);
  });

  describe('what else is remembered', () => {
    it('vectors of questions are each tenant’s own', async () => {
      const query = newQuestion();
      const search = async (tenant: string) => {
        const before = model.texts;
        await expectStatus(200, app.admin.post(`/tenants/${tenant}/kbs/docs/search`, { query }));
        return model.texts - before;
      };
      expect(await search('acme')).toBe(1);
      expect(await search('acme')).toBe(0);
      expect(await search('twin')).toBe(1);
      expect(await search('twin')).toBe(0);
      tried(4);
    });

    it('effective settings are each tenant’s own, and those of this moment', async () => {
      const found = async (tenant: string) =>
        (
          await expectStatus(
            200,
            app.admin.post(`/tenants/${tenant}/kbs/docs/search`, { query: 'warranty on frames' }),
          )
        ).body.passages.length;
      await app.addText('twin', 'Frames of steel carry a warranty of a hundred years.');
      await expectStatus(200, app.admin.patch('/tenants/acme/config', { top_k: 1 }));
      expect(await found('acme')).toBe(1);
      expect(await found('twin')).toBeGreaterThan(1);
      await expectStatus(200, app.admin.patch('/tenants/acme/config', { top_k: null }));
      await expectStatus(200, app.admin.patch('/tenants/twin/config', { top_k: 1 }));
      expect(await found('twin')).toBe(1);
      expect(await found('acme')).toBeGreaterThan(1);
      await expectStatus(200, app.admin.patch('/tenants/twin/config', { top_k: null }));
      tried(4);
    });

    it('permissions are those in the tenant, and those of this moment', async () => {
      const { id, client } = await app.createMember('acme', 'viewer');
      const query = newQuestion();
      expect((await ask('acme', client, query)).answered).toBe(true);
      expectProblem(await client.post('/tenants/twin/kbs/docs/query', { query }), 404, 'not_found');
      await expectStatus(201, app.admin.post('/tenants/twin/members', { user_id: id, role: 'viewer' }));
      expect((await ask('twin', client, query)).answered).toBe(true);
      await expectStatus(204, app.admin.delete(`/tenants/acme/members/${id}`));
      expectProblem(await client.post('/tenants/acme/kbs/docs/query', { query }), 404, 'not_found');
      expect((await ask('twin', client, query)).cached).toBe(true);
      tried(5);
    });

    it('what is effective in a knowledge base is its own tenant’s', async () => {
      const promptOf = async (tenant: string) =>
        (await expectStatus(200, app.admin.get(`/tenants/${tenant}/kbs/docs/config`))).body;
      const before = await promptOf('acme');
      await expectStatus(
        200,
        app.admin.patch('/tenants/twin/config', { system_prompt: 'Only twin says this.' }),
      );
      expect(JSON.stringify(await promptOf('twin'))).toContain('Only twin says this.');
      expect(await promptOf('acme')).toEqual(before);
      await ask('acme', app.admin, newQuestion());
      expect(JSON.stringify(model.received.at(-1)?.body)).not.toContain('Only twin says this.');
      await expectStatus(200, app.admin.patch('/tenants/twin/config', { system_prompt: null }));
      tried(3);
    });

    it('answers to repeated requests are their caller’s, in their tenant', async () => {
      const { id, client } = await app.createMember('acme', 'owner');
      await expectStatus(201, app.admin.post('/tenants/twin/members', { user_id: id, role: 'owner' }));
      const { client: colleague } = await app.createMember('acme', 'owner');
      const key = { 'idempotency-key': crypto.randomUUID() };
      const make = (as: Client, tenant: string) =>
        as.withHeaders(key).post(`/tenants/${tenant}/groups`, { name: `Group ${key['idempotency-key']}` });
      const first = await expectStatus(201, make(client, 'acme'));
      const again = await expectStatus(201, make(client, 'acme'));
      expect([again.body.id, again.headers.get('idempotency-replayed')]).toEqual([first.body.id, 'true']);
      const elsewhere = await expectStatus(201, make(client, 'twin'));
      expect(elsewhere.headers.get('idempotency-replayed')).toBeNull();
      expect(elsewhere.body.id).not.toBe(first.body.id);
      // Somebody else with the same key makes the group that is there already.
      expectProblem(await make(colleague, 'acme'), 409, 'name_taken');
      expectProblem(await make(app.anonymous, 'acme'), 401, 'unauthorized');
      tried(4);
    });

    it('what a browser or a proxy may keep of a tenant is nothing', async () => {
      const { client } = await app.createMember('acme', 'owner');
      const token = await issueToken(app, client, 'acme', {
        scopes: TENANT_PERMISSIONS,
        rate_limit_per_minute: 100_000,
      });
      const { items } = (await client.get('/tenants/acme/kbs/docs/documents')).body;
      const ids: Ids = { tenant: 'acme', kb: 'docs', document: items[0].id, role: 'viewer' };
      const routes = app.application.nest.get(RouteAccess, { strict: false }).list();
      const reads = routes.filter(({ method, permission }) => method === 'GET' && permission !== null);
      let shown = 0;
      await atOnce(reads, async route => {
        for (const caller of [client, token.client, app.anonymous]) {
          const answer = await callRoute(caller.withHeaders({ 'x-tenant-id': 'acme' }), route, ids);
          if (answer.status === 200) shown++;
          // An original may be kept by its reader, who asks each time whether they may still have it.
          const kept = answer.status === 200 && route.path.endsWith('/content');
          const expected = kept ? /private.*no-cache/ : /no-store/;
          expect(answer.headers.get('cache-control') ?? '', `${keyOf(route)} ${answer.status}`).toMatch(
            expected,
          );
          tried();
        }
      });
      expect(shown).toBeGreaterThan(60);
    });

    it('a copy that somebody kept is not confirmed to whoever may not have it', async () => {
      const { body } = await app.admin.get('/tenants/acme/kbs/docs/documents');
      const path = `/tenants/acme/kbs/docs/documents/${body.items[0].id}/content`;
      const etag = (await expectStatus(200, app.admin.get(path))).headers.get('etag') as string;
      const asking = { 'if-none-match': etag };
      expect((await app.admin.withHeaders(asking).get(path)).status).toBe(304);
      const { client } = await app.createMember('twin', 'owner');
      const { items } = (await client.get('/tenants/twin/kbs/docs/documents')).body;
      const conditions: Array<Record<string, string>> = [
        asking,
        { 'if-match': etag },
        { range: 'bytes=0-1', 'if-range': etag },
      ];
      for (const headers of conditions) {
        expectProblem(await client.withHeaders(headers).get(path), 404, 'not_found');
        expectProblem(await app.anonymous.withHeaders(headers).get(path), 401, 'unauthorized');
        const mixed = `/tenants/twin/kbs/docs/documents/${body.items[0].id}/content`;
        expectProblem(await client.withHeaders(headers).get(mixed), 404, 'not_found');
        tried(3);
      }
      expect(items.map(({ id }: { id: string }) => id)).not.toContain(body.items[0].id);
    });
  });
});
