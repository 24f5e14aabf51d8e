import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';

/** What would matter if it were believed, with the spelling of the code beside that of the wire. */
const INJECTED = [
  'id',
  'tenantId',
  'owner_id',
  'ownerId',
  'created_by',
  'createdBy',
  'kb_id',
  'kbId',
  'document_id',
  'documentId',
  'user_id',
  'userId',
  'role',
  'roles',
  'platform_roles',
  'platformRoles',
  'status',
  'is_active',
  'isActive',
  'password_hash',
  'passwordHash',
  'embedding_model',
  'storage_bytes',
  'joined_by',
  'permissions',
  'isAdmin',
];

/** Where one of these names is a field of its own. */
const ALLOWED: Record<string, string[]> = {
  'POST /users': ['platform_roles'],
  'PATCH /users/:user': ['is_active', 'platform_roles'],
  'POST /users/:user/tenants': ['role', 'roles'],
  'POST /tenant-templates': ['roles'],
  'PUT /tenant-templates/:template': ['roles'],
  'POST /tenants/:tenant/members': ['user_id', 'role', 'roles'],
  'PUT /tenants/:tenant/members/:user': ['role', 'roles', 'status'],
  'PATCH /tenants/:tenant/members/:user': ['role', 'roles', 'status'],
  'POST /tenants/:tenant/members/:user/roles': ['role'],
  'PATCH /tenants/:tenant/members/:user/roles/:role': ['role'],
  'POST /tenants/:tenant/invitations': ['role', 'roles'],
  'POST /tenants/:tenant/roles': ['permissions'],
  'PATCH /tenants/:tenant/roles/:role': ['permissions'],
  'PUT /tenants/:tenant/roles/:role': ['permissions'],
  'POST /tenants/:tenant/groups/:group/members': ['user_id'],
  'POST /tenants/:tenant/kbs/:kb/grants': ['user_id', 'role'],
  'PATCH /tenants/:tenant/config': ['embedding_model'],
  'POST /tenants/:tenant/kbs/:kb/documents/preview': ['document_id'],
  'POST /tenants/:tenant/kbs/:kb/agents': ['is_active'],
  'PATCH /tenants/:tenant/kbs/:kb/agents/:agent': ['is_active'],
  'PATCH /tenants/:tenant/kbs/:kb': ['is_active'],
  'PUT /tenants/:tenant/kbs/:kb': ['is_active'],
};

let app: TestApplication;
let routes: GuardedRoute[];
let ids: Record<string, string>;
let other: { id: string };
/** A member of both tenants. */
let both: Client;
let bothPassword: { email: string; password: string };

beforeAll(async () => {
  app = await startTestApplication();
  const tenant = await app.createTenant('own');
  other = await app.createTenant('other');
  const document = await app.addText('own', 'The warranty lasts two years.');
  const member = await app.createMember('own', 'viewer');
  const user = await app.createUser();
  for (const name of ['own', 'other']) {
    await expectStatus(201, app.admin.post(`/tenants/${name}/members`, { user_id: user.id, role: 'owner' }));
  }
  both = user.client;
  bothPassword = { email: user.email, password: user.password };
  const made = async (path: string, body: unknown) =>
    (await expectStatus(201, app.admin.post(`/tenants/own${path}`, body))).body;
  const group = await made('/groups', { name: 'Support' });
  const { body: chat } = await expectStatus(
    200,
    app.admin.post('/tenants/own/kbs/docs/chat', { message: 'warranty', mode: 'keyword' }),
  );
  ids = {
    tenant: tenant.id,
    kb: tenant.kbId,
    document: document.id,
    user: member.id,
    role: (await made('/roles', { name: 'support', permissions: ['tenant:read'] })).name,
    group: group.id,
    grant: (await made('/kbs/docs/grants', { group_id: group.id, role: 'viewer' })).id,
    invitation: (await made('/invitations', { email: 'guest@example.com', role: 'viewer' })).id,
    variable: 'KEY',
    template: 'small',
    token: (await made('/api-tokens', { name: 'A token', scopes: ['query:run'] })).id,
    webhook: (await made('/webhooks', { url: 'https://hooks.invalid/x', events: ['*'], is_active: false }))
      .id,
    delivery: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c13',
    alert: (
      await made('/alerts', {
        name: 'Users',
        metric: 'users',
        threshold: 1_000,
        threshold_type: 'absolute',
        actions: ['webhook'],
        is_active: false,
      })
    ).id,
    model: (await made('/models', EXAMPLE_BODIES['POST /tenants/:tenant/models']?.())).id,
    agent: (await made('/kbs/docs/agents', { name: 'An agent' })).id,
    chat: chat.session_id,
    message: chat.message_id,
    evaluation: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c14',
    entity: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c15',
    job: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11',
    session: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c12',
  };
  await app.admin.put('/tenants/own/variables/KEY', { value: 'a secret' });
  await app.admin.post('/tenant-templates', { name: 'small' });
  routes = app.application.nest.get(RouteAccess, { strict: false }).list();
});
afterAll(() => app?.close());

const keyOf = ({ method, path }: GuardedRoute): string => `${method} ${path}`;
const pathOf = (route: GuardedRoute): string =>
  route.path.replace(/:(\w+)/g, (_, name: string) => ids[name] as string);
const jsonRoutes = () => routes.filter(route => EXAMPLE_BODIES[keyOf(route)] && !isForm(route));
const isForm = (route: GuardedRoute): boolean => EXAMPLE_BODIES[keyOf(route)]?.() instanceof FormData;

describe('a field that nobody asked for', () => {
  it('is refused in every JSON body', async () => {
    for (const route of jsonRoutes()) {
      const allowed = ALLOWED[keyOf(route)] ?? [];
      const names = INJECTED.filter(name => !allowed.includes(name));
      const injected = Object.fromEntries(names.map(name => [name, other.id]));
      // Of messages the path names no tenant.
      const inTenant = route.path.startsWith('/messages/')
        ? app.admin.withHeaders({ 'x-tenant-id': ids['tenant'] as string })
        : app.admin;
      const { status, body } = await inTenant.send(route.method, pathOf(route), {
        ...EXAMPLE_BODIES[keyOf(route)]?.(),
        // Here it is a field that has to be there.
        ...(['/users/:user/tenants', '/upload', '/chat'].includes(route.path) && {
          tenant_id: ids['tenant'],
        }),
        ...injected,
      });
      expect(status, keyOf(route)).toBe(422);
      expect(
        body.errors.map((error: { path: string }) => error.path),
        keyOf(route),
      ).toEqual(expect.arrayContaining(names));
    }
  });

  it('is refused inside of objects too', async () => {
    const kb = await app.admin.patch(`/tenants/own/kbs/docs`, { config: { tenant_id: other.id } });
    expect(kb.status).toBe(422);
    const search = await app.admin.post('/tenants/own/kbs/docs/search', {
      query: 'x',
      filter: { tenant_id: other.id },
    });
    expect(search.status).toBe(422);
  });

  it('is refused beside the files of an upload, and nothing is stored', async () => {
    for (const name of [...INJECTED, 'tenant_id']) {
      const form = new FormData();
      form.append(name, other.id);
      form.append('file', new Blob([`A file with ${name}.`], { type: 'text/plain' }), 'file.txt');
      const { status, body } = await app.admin.post('/tenants/own/kbs/docs/documents', form);
      expect(status, name).toBe(422);
      expect(body.errors[0].path, name).toBe(name);
    }
    const { body } = await app.admin.get('/tenants/own/kbs/docs/documents');
    expect(body.total).toBe(1);
  });

  it('changes no answer where it stands in the query', async () => {
    const believed: string[] = [];
    for (const route of routes.filter(({ method, permission }) => method === 'GET' && permission !== null)) {
      const plain = await both.get(pathOf(route));
      for (const name of INJECTED.filter(field => !['status', 'role'].includes(field))) {
        const { status, body } = await both.get(`${pathOf(route)}?${name}=${other.id}`);
        // What counts requests counts these, too.
        const counts = /\/(quotas\/usage|metrics|usage|analytics\/tenants)$/.test(route.path);
        const same =
          status === plain.status && (counts || isDeepStrictEqual(stable(body), stable(plain.body)));
        // Who did it is what an audit is asked for, and whose a token or a chat is.
        if (name === 'user_id' && /\/audit(\/export)?$/.test(route.path)) continue;
        if (route.path.endsWith('/api-tokens') && ['created_by', 'kb_id'].includes(name)) continue;
        if (route.path.endsWith('/sessions') && ['user_id', 'kb_id'].includes(name)) continue;
        if (status !== 422 && !same) believed.push(`${keyOf(route)}?${name}`);
      }
    }
    expect(believed).toEqual([]);
  });

  it('changes no answer where it stands in a header or a cookie', async () => {
    const { body: admin } = await app.admin.get('/auth/me');
    const forged = both.withHeaders({
      'x-user-id': admin.id,
      'x-role': 'owner',
      'x-tenant': other.id,
      cookie: `user_id=${admin.id}; tenant_id=${other.id}; role=platform_admin`,
    });
    expect((await forged.get('/auth/me')).body).toEqual((await both.get('/auth/me')).body);
    expect((await forged.get(`/tenants/own`)).body).toEqual((await both.get('/tenants/own')).body);
    expect((await forged.post('/tenants', { name: 'forged' })).status).toBe(403);
  });

  it('reaches no prototype', async () => {
    const json = app.admin.withHeaders({ 'content-type': 'application/json' });
    for (const text of [
      '{"name":"x","__proto__":{"role":"owner"}}',
      '{"name":"x","constructor":{"prototype":{"role":"owner"}}}',
    ]) {
      const { status } = await json.post('/tenants/own/kbs', text);
      expect([400, 422], text).toContain(status);
    }
    expect(({} as { role?: string }).role).toBeUndefined();
  });
});

describe('a tenant named twice', () => {
  const search = { query: 'warranty', mode: 'keyword' };

  it('is one where the names agree', async () => {
    const client = both.withHeaders({ 'x-tenant-id': 'own' });
    const { status, body } = await client.post(`/tenants/${ids['tenant']}/kbs/docs/search?tenant=own`, {
      ...search,
      tenant_id: ids['tenant'],
    });
    expect(status).toBe(200);
    expect(body.passages).toHaveLength(1);
  });

  it.each([
    ['path and header', () => both.withHeaders({ 'x-tenant-id': 'other' }).get('/tenants/own')],
    ['path and query', () => both.get('/tenants/own?tenant=other')],
    ['path and body', () => both.post('/tenants/own/kbs/docs/search', { ...search, tenant_id: 'other' })],
    ['header and query', () => both.withHeaders({ 'x-tenant-id': 'own' }).get('/permissions?tenant=other')],
    ['path and token', async () => (await signedInTo('other')).get('/tenants/own')],
    [
      'header and token',
      async () => (await signedInTo('other')).withHeaders({ 'x-tenant-id': 'own' }).get('/permissions'),
    ],
    ['query and token', async () => (await signedInTo('other')).get('/permissions?tenant=own')],
    [
      'body and token',
      async () => (await signedInTo('other')).patch('/auth/me', { language: 'de', tenant_id: 'own' }),
    ],
  ] as const)('is refused where %s disagree', async (_, ask) => {
    const { status, body } = await ask();
    expect(status).toBe(400);
    expect(body.code).toBe('tenant_mismatch');
  });

  it('is refused in every body, even for whoever may enter both', async () => {
    for (const route of jsonRoutes().filter(({ path }) => path.includes(':tenant'))) {
      for (const client of [both, app.admin]) {
        const body = { ...EXAMPLE_BODIES[keyOf(route)]?.(), tenant_id: other.id };
        const answer = await client.send(route.method, pathOf(route), body);
        expect(answer.status, keyOf(route)).toBe(400);
      }
    }
  });

  it('is refused where one name has several values', async () => {
    const answers = [
      await both.get('/permissions?tenant=own&tenant=other'),
      await both.withHeaders({ 'x-tenant-id': 'own, other' }).get('/permissions'),
    ];
    for (const { status } of answers) expect(status).toBeGreaterThanOrEqual(400);
  });

  async function signedInTo(tenant: string): Promise<Client> {
    const { body } = await expectStatus(200, app.anonymous.post('/auth/login', { ...bothPassword, tenant }));
    return app.anonymous.withToken(body.access_token);
  }
});

/** Without what differs from one request to the next. */
function stable(body: unknown): unknown {
  if (typeof body !== 'object' || body === null) return body;
  return { ...body, request_id: null, latency_ms: null };
}
