import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DataSource } from 'typeorm';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

const KBS = '/tenants/acme/kbs';
const SCOPES = [
  'tenant:read',
  'kb:read',
  'kb:update',
  'kb:delete',
  'document:create',
  'document:read',
  'document:update',
  'document:delete',
  'query:run',
];

let app: TestApplication;
let owner: { id: string; client: Client };
/** The knowledge bases `docs`, which tokens here are kept to, and `closed` and `open`, which they are not. */
let kbs: Record<'docs' | 'open' | 'closed', { id: string; document: string }>;
let kept: { id: string; client: Client };

beforeAll(async () => {
  app = await startTestApplication();
  const { kbId } = await app.createTenant('acme');
  await app.createTenant('other');
  owner = await app.createMember('acme', 'owner');
  const make = async (slug: string, visibility: string) =>
    (await expectStatus(201, owner.client.post(KBS, { name: slug, slug, visibility }))).body.id as string;
  const add = async (slug: string) => {
    const text = `The warranty of the ${slug} bicycle lasts ${slug.length} years.`;
    const { body } = await expectStatus(202, owner.client.post(`${KBS}/${slug}/documents/text`, { text }));
    return (await app.settled('acme', body.id, slug)).id as string;
  };
  const ids = { docs: kbId, open: await make('open', 'tenant'), closed: await make('closed', 'granted') };
  kbs = {
    docs: { id: ids.docs, document: await add('docs') },
    open: { id: ids.open, document: await add('open') },
    closed: { id: ids.closed, document: await add('closed') },
  };
  kept = await issueToken(app, owner.client, 'acme', {
    scopes: SCOPES,
    kb_ids: [ids.docs],
    rate_limit_per_minute: 10_000,
  });
});
afterAll(() => app?.close());

const others = () =>
  (['open', 'closed'] as const).flatMap(slug => [slug, kbs[slug].id].map(kb => ({ slug, kb })));

describe('a token that is kept to a knowledge base', () => {
  it('does there what its scopes say', async () => {
    const { client } = kept;
    for (const kb of ['docs', kbs.docs.id, kbs.docs.id.toUpperCase()]) {
      await expectStatus(200, client.get(`${KBS}/${kb}`));
      await expectStatus(200, client.get(`${KBS}/${kb}/stats`));
      await expectStatus(200, client.get(`${KBS}/${kb}/documents`));
    }
    const document = `${KBS}/docs/documents/${kbs.docs.document}`;
    for (const path of ['', '/content', '/chunks', '/acl'])
      await expectStatus(200, client.get(document + path));
    const found = await expectStatus(
      200,
      client.post(`${KBS}/docs/search`, { query: 'warranty of the bicycle' }),
    );
    expect(found.body.passages.map((passage: any) => passage.kb_id)).toEqual([kbs.docs.id]);
    const answer = await expectStatus(
      200,
      client.post(`${KBS}/docs/query`, { query: 'How long is the warranty?' }),
    );
    expect(answer.body).toMatchObject({ answered: true });
    const added = await expectStatus(
      202,
      client.post(`${KBS}/docs/documents/text`, { text: 'Added by a token.' }),
    );
    expect(await app.settled('acme', added.body.id)).toMatchObject({ status: 'ready' });
    await expectStatus(200, client.patch(`${KBS}/docs/documents/${added.body.id}`, { title: 'By a token' }));
    await expectStatus(200, client.patch(`${KBS}/docs`, { description: 'Changed by a token' }));
    await expectStatus(204, client.delete(`${KBS}/docs/documents/${added.body.id}`));
  });

  it('finds no other one, by any route', async () => {
    const { client } = kept;
    const listed = await expectStatus(200, client.get(KBS));
    expect(listed.body).toMatchObject({ total: 1, items: [{ slug: 'docs' }] });
    for (const { slug, kb } of others()) {
      const { document } = kbs[slug];
      for (const [method, path, body] of [
        ['GET', ''],
        ['GET', '/stats'],
        ['GET', '/config'],
        ['GET', '/grants'],
        ['GET', '/documents'],
        ['GET', `/documents/${document}`],
        ['GET', `/documents/${document}/content`],
        ['GET', `/documents/${document}/chunks`],
        ['GET', `/documents/${document}/acl`],
        ['POST', '/search', { query: 'warranty' }],
        ['POST', '/query', { query: 'warranty' }],
        ['POST', '/documents/text', { text: 'A text from outside.' }],
        ['PATCH', `/documents/${document}`, { title: 'x' }],
        ['DELETE', `/documents/${document}`],
        ['POST', `/documents/${document}/reindex`],
        ['PUT', `/documents/${document}/acl`, { acl: null }],
        ['POST', '/grants', { user_id: owner.id, role: 'tenant-reader' }],
        ['PUT', '/grants', { grants: [] }],
        ['PATCH', '', { description: 'x' }],
        ['DELETE', ''],
      ] as Array<[string, string, unknown]>) {
        const answer = await client.send(method, `${KBS}/${kb}${path}`, body);
        expect({ method, path, status: answer.status }).toEqual({ method, path, status: 404 });
        expectProblem(answer, 404, 'not_found');
        // The same as of one that is not there.
        const none = await client.send(method, `${KBS}/none${path}`, body);
        expect({ ...none.body, instance: '', request_id: '' }).toEqual({
          ...answer.body,
          instance: '',
          request_id: '',
        });
      }
      // Nor by the way of its own.
      expectProblem(await client.get(`${KBS}/docs/documents/${document}`), 404, 'not_found');
    }
    await expectStatus(200, owner.client.get(`${KBS}/closed/documents/${kbs.closed.document}`));
  });

  it('hears of no other one, from the audit or through a webhook', async () => {
    for (const scope of ['tenant:read_audit', 'tenant:manage_webhooks']) {
      const body = { name: scope, scopes: [scope], kb_ids: [kbs.docs.id] };
      const answer = await owner.client.post('/tenants/acme/api-tokens', body);
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toMatchObject([{ path: 'scopes', code: 'kept_to_kbs' }]);
    }
  });

  it('makes no knowledge bases, and says so', async () => {
    const { client, id } = kept;
    expectProblem(await client.post(KBS, { name: 'Mine' }), 403, 'forbidden');
    expect((await client.get('/permissions')).body.granted).toEqual(SCOPES);
    const answer = await owner.client.patch(`/tenants/acme/api-tokens/${id}`, { scopes: ['kb:create'] });
    expectProblem(answer, 422, 'validation_failed');
  });

  it('follows what it is kept to', async () => {
    const { client, id } = await issueToken(app, owner.client, 'acme', { kb_ids: [kbs.docs.id] });
    const slugs = async () => (await client.get(KBS)).body.items.map(({ slug }: any) => slug);
    const keep = (kb_ids: string[] | null) =>
      expectStatus(200, owner.client.patch(`/tenants/acme/api-tokens/${id}`, { kb_ids }));
    expect(await slugs()).toEqual(['docs']);
    await keep([kbs.open.id, kbs.closed.id]);
    expect(await slugs()).toEqual(['open', 'closed']);
    await keep(null);
    expect(await slugs()).toEqual(['docs', 'open', 'closed']);
  });

  it('opens nothing once that is gone', async () => {
    const gone = (await expectStatus(201, owner.client.post(KBS, { name: 'Passing' }))).body.id;
    const { client } = await issueToken(app, owner.client, 'acme', { kb_ids: [gone] });
    expect((await client.get(KBS)).body.total).toBe(1);
    await expectStatus(204, owner.client.delete(`${KBS}/${gone}`));
    expect((await client.get(KBS)).body.total).toBe(0);
    expectProblem(await client.get(`${KBS}/docs`), 404, 'not_found');
  });

  it('sees there no more than its creator', async () => {
    const viewer = await app.createMember('acme', 'admin');
    const { client } = await issueToken(app, viewer.client, 'acme', {
      kb_ids: [kbs.open.id, kbs.closed.id],
    });
    expect((await client.get(KBS)).body.total).toBe(2);
    await expectStatus(200, owner.client.put(`/tenants/acme/members/${viewer.id}`, { role: 'viewer' }));
    expect((await client.get(KBS)).body.items.map(({ slug }: any) => slug)).toEqual(['open']);
  });
});

describe('the database', () => {
  /** As the tenant's role, whatever the queries of the application say. */
  const asToken = async (kbIds: string, statements: string) => {
    const [{ id: tenant }] = await superuser(`SELECT id FROM tenants WHERE name = 'acme'`);
    return superuser(`
      BEGIN; SET LOCAL ROLE enclave_tenant; SET LOCAL app.tenant_id = '${tenant}';
      SET LOCAL app.access = 'all'; SET LOCAL app.kb_ids = '${kbIds}'; ${statements}; ROLLBACK`);
  };
  const superuser = (statements: string): Promise<any[]> =>
    asSuperuser(
      app.env,
      app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
      async client => {
        try {
          const results = [await client.query(statements)].flat();
          return results.flatMap(({ rows }) => rows);
        } catch (error) {
          await client.query('ROLLBACK');
          throw error;
        }
      },
    );
  const TABLES = [
    ['knowledge_bases', 'id'],
    ['kb_terms', 'kb_id'],
    ['documents', 'kb_id'],
    ['chunks', 'kb_id'],
    ['chunk_vectors', 'kb_id'],
    ['kb_grants', 'kb_id'],
    ['document_readers', 'kb_id'],
  ] as const;

  beforeAll(async () => {
    for (const slug of ['docs', 'open', 'closed'] as const) {
      const member = await app.createMember('acme', 'viewer');
      const grant = { user_id: member.id, role: 'viewer' };
      await expectStatus(201, owner.client.post(`${KBS}/${slug}/grants`, grant));
      const acl = { acl: { members: [owner.id, member.id] } };
      await expectStatus(200, owner.client.put(`${KBS}/${slug}/documents/${kbs[slug].document}/acl`, acl));
    }
  });

  it.each(TABLES)('shows it no row of another one in %s', async (table, column) => {
    const seen = `SELECT DISTINCT ${column}::text AS kb FROM ${table}`;
    const of = async (kbIds: string) => (await asToken(kbIds, seen)).map(({ kb }) => kb).toSorted();
    const { docs, open, closed } = kbs;
    expect(await of('')).toEqual([docs.id, open.id, closed.id].toSorted());
    expect(await of(`{${docs.id}}`)).toEqual([docs.id]);
    expect(await of(`{${docs.id},${closed.id}}`)).toEqual([docs.id, closed.id].toSorted());
    expect(await of('{}')).toEqual([]);
  });

  it.each(TABLES)('lets it change, delete and add none in %s', async (table, column) => {
    const kbIds = `{${kbs.docs.id}}`;
    const { id } = kbs.open;
    const touched = (statement: string) =>
      asToken(
        kbIds,
        `WITH t AS (${statement} WHERE ${column} = '${id}' RETURNING 1) SELECT count(*)::int FROM t`,
      );
    expect(await touched(`UPDATE ${table} SET ${column} = ${column}`)).toEqual([{ count: 0 }]);
    expect(await touched(`DELETE FROM ${table}`)).toEqual([{ count: 0 }]);
    const moved = `UPDATE ${table} SET ${column} = '${id}' WHERE ${column} = '${kbs.docs.id}'`;
    await expect(asToken(kbIds, moved)).rejects.toThrow(/row-level security/);
  });
});
