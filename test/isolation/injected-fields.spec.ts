import { isDeepStrictEqual } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { tried } from '../setup/isolation-cases.js';
import { rowsOfTenant } from '../setup/rows-of-tenant.js';
import { usageOf } from '../setup/usage-events.js';

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
  'actor_id',
  'actorId',
  'token_id',
  'tokenId',
  'session_id',
  'sessionId',
  'storage_path',
  'storagePath',
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
  'POST /tenants/:tenant/kbs/:kb/chat': ['session_id'],
  'POST /chat': ['session_id'],
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
let api: any;
let memberCount: number;
/** What the other tenant kept before any of this. */
let before: Record<string, string[]>;

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
  api = (await app.anonymous.get('//openapi.json')).body;
  memberCount = (await app.admin.get('/tenants/own/members')).body.total;
  // What preparing all this has used is written later, else, as if one of the tests had.
  await usageOf(app).flush();
  before = await rowsOfTenant(app, other.id);
});
afterAll(() => app?.close());

afterEach(async () => {
  await usageOf(app).flush();
  expect(changedRows(before, await rowsOfTenant(app, other.id)), 'what the other tenant keeps').toEqual([]);
});

const keyOf = ({ method, path }: GuardedRoute): string => `${method} ${path}`;
const pathOf = (route: GuardedRoute): string =>
  route.path.replace(/:(\w+)/g, (_, name: string) => ids[name] as string);
const jsonRoutes = () => routes.filter(route => EXAMPLE_BODIES[keyOf(route)] && !isForm(route));
const isForm = (route: GuardedRoute): boolean => EXAMPLE_BODIES[keyOf(route)]?.() instanceof FormData;
/** Where the path names no tenant, a header does. */
const callerOf = (client: Client, { path }: GuardedRoute): Client =>
  path.includes(':tenant') ? client : client.withHeaders({ 'x-tenant-id': ids['tenant'] as string });

/** What a proxy, a framework or another product might believe. */
const forgedHeaders = (adminId: string): Record<string, string> => ({
  'x-user-id': adminId,
  'x-user': 'admin@enclave.test',
  'x-user-email': 'admin@enclave.test',
  'x-remote-user': 'admin@enclave.test',
  'remote-user': 'admin@enclave.test',
  'x-forwarded-user': 'admin@enclave.test',
  'x-auth-request-user': adminId,
  'x-role': 'owner',
  'x-roles': 'platform_admin,owner',
  'x-permissions': '*',
  'x-admin': 'true',
  'x-tenant': other.id,
  'x-tenant-name': 'other',
  'x-organization-id': other.id,
  'x-workspace-id': other.id,
  'x-document-id': other.id,
  'x-http-method-override': 'DELETE',
  'x-original-url': '/api/v1/tenants/other',
  'x-rewrite-url': '/api/v1/tenants/other',
  cookie: `user_id=${adminId}; tenant_id=${other.id}; tenant=other; role=platform_admin; schema=other; session=${adminId}`,
});

/** Rows of whatever table that are new, gone or otherwise. */
function changedRows(earlier: Record<string, string[]>, later: Record<string, string[]>): string[] {
  return Object.keys({ ...earlier, ...later }).flatMap(table => {
    const [was, is] = [new Set(earlier[table]), new Set(later[table])];
    const changed = [...was].filter(row => !is.has(row)).concat([...is].filter(row => !was.has(row)));
    // When somebody has signed in stands in their own row.
    return table === 'users' ? [] : changed.map(row => `${table}: ${row}`);
  });
}

const operationOf = (route: GuardedRoute): any =>
  api.paths[`/api/v1${route.path.replace(/:(\w+)/g, '{$1}')}`][route.method.toLowerCase()];
const resolved = (schema: any): any =>
  schema?.$ref ? resolved(api.components.schemas[schema.$ref.split('/').at(-1)]) : schema;

/** Objects with fields of their own in a body, and arrays of such: none of them may take others. */
function innerObjects(route: GuardedRoute): Array<{ name: string; fields: string[]; isArray: boolean }> {
  const schema = resolved(Object.values<any>(operationOf(route).requestBody?.content ?? {})[0]?.schema);
  return Object.entries<any>(schema?.properties ?? {}).flatMap(([name, property]) => {
    const alternatives = [property, ...(resolved(property)?.anyOf ?? [])].map(resolved);
    return alternatives.flatMap(found => {
      const inner = found?.type === 'array' ? resolved(found.items) : found;
      // What takes any JSON besides keeps it as the caller's own, and reads none of it.
      return inner?.properties && !inner.additionalProperties?.$ref
        ? [{ name, fields: Object.keys(inner.properties), isArray: found.type === 'array' }]
        : [];
    });
  });
}

describe('T2 injected fields', () => {
  describe('a field that nobody asked for', () => {
    it('is refused in every JSON body', async () => {
      await atOnce(jsonRoutes(), async route => {
        const allowed = ALLOWED[keyOf(route)] ?? [];
        const names = INJECTED.filter(name => !allowed.includes(name));
        const injected = Object.fromEntries(names.map(name => [name, other.id]));
        const { status, body } = await callerOf(app.admin, route).send(route.method, pathOf(route), {
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
        tried();
      });
    });

    it('is refused in every object of a body, and in every list of such', async () => {
      const found = jsonRoutes().flatMap(route => innerObjects(route).map(object => ({ route, object })));
      expect(found.length).toBeGreaterThan(10);
      await atOnce(found, async ({ route, object: { name, fields, isArray } }) => {
        const names = [...INJECTED, 'tenant_id'].filter(field => !fields.includes(field));
        const injected = Object.fromEntries(names.map(field => [field, other.id]));
        const { status, body } = await callerOf(app.admin, route).send(route.method, pathOf(route), {
          ...EXAMPLE_BODIES[keyOf(route)]?.(),
          [name]: isArray ? [injected] : injected,
        });
        expect(status, `${keyOf(route)} ${name}`).toBe(422);
        const refused: string[] = body.errors.map((error: { path: string }) => error.path);
        const taken = names.filter(
          field => !refused.some(path => path.startsWith(name) && path.endsWith(`.${field}`)),
        );
        expect(taken, `${keyOf(route)} ${name}`).toEqual([]);
        tried();
      });
    });

    it('is refused beside the files of every form, and nothing is stored', async () => {
      const forms = new Map(
        routes.filter(isForm).map(route => [keyOf(route), EXAMPLE_BODIES[keyOf(route)] as () => FormData]),
      );
      const preview = 'POST /tenants/:tenant/kbs/:kb/documents/preview';
      forms.set(preview, () => fileForm('preview.txt'));
      forms.set('POST /upload', () => fileForm('upload.txt'));
      for (const [key, example] of forms) {
        const route = routes.find(candidate => keyOf(candidate) === key) as GuardedRoute;
        const names = [...INJECTED, 'tenant_id', '__proto__', 'constructor'];
        const caller = callerOf(app.admin, route).withHeaders({ 'x-kb-id': ids['kb'] as string });
        await atOnce(names, async name => {
          const form = new FormData();
          form.append(name, other.id);
          for (const [field, value] of example()) form.append(field, value);
          const { status, body } = await caller.send(route.method, pathOf(route), form);
          // What would reach a prototype is no form at all.
          const noForm = status === 400 && /^(__proto__|constructor)$/.test(name);
          if (!noForm) expect([status, body.errors?.[0].path], `${key} ${name}`).toEqual([422, name]);
          tried();
        });
      }
      const { body } = await app.admin.get('/tenants/own/kbs/docs/documents');
      expect(body.total).toBe(1);
      expect((await app.admin.get('/tenants/own/members?page_size=100')).body.total).toBe(memberCount);
    });

    it('changes no answer where it stands in the query, in a header or in a cookie', async () => {
      const { body: admin } = await app.admin.get('/auth/me');
      const forged = both.withHeaders(forgedHeaders(admin.id));
      const believed: string[] = [];
      await atOnce(
        routes.filter(({ method, permission }) => method === 'GET' && permission !== null),
        async route => {
          const own = (operationOf(route).parameters ?? []).map(({ name }: { name: string }) => name);
          const names = [...INJECTED, 'tenant_id'].filter(name => !own.includes(name));
          const query = names.map(name => `${name}=${other.id}`).join('&');
          const path = pathOf(route);
          const plain = await both.get(path);
          const inQuery = await both.get(`${path}?${query}`);
          const inHeaders = await forged.get(path);
          // What counts requests counts these, too.
          const counts = /\/(quotas\/usage|metrics|usage|analytics\/tenants|audit(\/\w+)?)$/.test(route.path);
          const same = (answer: typeof plain) =>
            answer.status === plain.status &&
            (counts || isDeepStrictEqual(stable(answer.body, path), stable(plain.body, path)));
          const refused =
            inQuery.status === 422 &&
            names.every(name => inQuery.body.errors.some((error: { path: string }) => error.path === name));
          if (!refused && !same(inQuery))
            believed.push(`${keyOf(route)}: query: ${JSON.stringify(inQuery.body)}`);
          if (!same(inHeaders)) believed.push(`${keyOf(route)}: headers: ${JSON.stringify(inHeaders.body)}`);
          // Whoever is a member of both would be let in to what is counted there.
          if (counts && JSON.stringify(inQuery.body).includes(other.id))
            believed.push(`${keyOf(route)}: query, figures of the other: ${JSON.stringify(inQuery.body)}`);
          tried(2);
        },
      );
      expect(believed).toEqual([]);
      expect((await forged.post('/tenants', { name: 'forged' })).status).toBe(403);
    });

    it('is stored by nothing that is made or changed', async () => {
      const { body: caller } = await both.get('/auth/me');
      const { body: admin } = await app.admin.get('/auth/me');
      const forged = both.withHeaders(forgedHeaders(admin.id));
      await usageOf(app).flush();
      const earlier = await rowsOfTenant(app, ids['tenant'] as string);
      const query = `?owner_id=${admin.id}&created_by=${admin.id}&createdBy=${admin.id}&userId=${admin.id}&tenantId=${other.id}`;
      let changed = 0;
      for (const route of jsonRoutes().filter(
        ({ path, permission }) => path.startsWith('/tenants/:tenant') && !permission?.startsWith('platform:'),
      )) {
        const send = (suffix: string) =>
          forged.send(route.method, pathOf(route) + suffix, EXAMPLE_BODIES[keyOf(route)]?.());
        const strange = await send(query);
        // Where there is a query at all, it takes no field but its own.
        const answer = strange.status === 422 ? await send('') : strange;
        expect(answer.status, `${keyOf(route)}: ${JSON.stringify(answer.body)}`).toBeLessThan(500);
        if (answer.status < 300) changed++;
        for (const field of ['created_by', 'owner_id', 'user_id', 'joined_by', 'tenant_id']) {
          const told = answer.body?.[field];
          // What was there before was made by the admin.
          const isNew =
            route.method === 'POST' && answer.status < 300 && !Object.values(ids).includes(answer.body.id);
          if (isNew && typeof told === 'string')
            expect([admin.id, other.id], `${keyOf(route)} ${field}`).not.toContain(told);
        }
        tried();
      }
      expect(changed).toBeGreaterThan(15);
      const later = await rowsOfTenant(app, ids['tenant'] as string);
      const made = changedRows(earlier, later).filter(row =>
        later[row.split(': ', 1)[0] as string]?.some(is => row.endsWith(is)),
      );
      expect(made.length).toBeGreaterThan(15);
      expect(made.filter(row => row.includes(other.id))).toEqual([]);
      // The admin made what was there before; of what is new nothing is theirs.
      const theirs = made.filter(row => row.includes(admin.id)).map(row => row.split(':', 1)[0] as string);
      expect(theirs.filter(table => !MADE_BEFORE.includes(table))).toEqual([]);
      expect(made.some(row => row.includes(caller.id))).toBe(true);
    });

    it('reaches no prototype', async () => {
      const json = app.admin.withHeaders({ 'content-type': 'application/json' });
      for (const text of [
        '{"name":"x","__proto__":{"role":"owner"}}',
        '{"name":"x","constructor":{"prototype":{"role":"owner"}}}',
      ]) {
        const { status } = await json.post('/tenants/own/kbs', text);
        expect([400, 422], text).toContain(status);
        tried();
      }
      expect(({} as { role?: string }).role).toBeUndefined();
    });
  });

  describe('a tenant named twice', () => {
    const search = { query: 'warranty', mode: 'keyword' };

    it('is one where the names agree', async () => {
      const client = both.withHeaders({ 'x-tenant-id': 'own' });
      const { status, body } = await client.post(
        `/tenants/${ids['tenant']}/kbs/${ids['kb']}/search?tenant=own`,
        {
          ...search,
          tenant_id: ids['tenant'],
        },
      );
      expect(status).toBe(200);
      expect(body.passages).toHaveLength(1);
      tried();
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
      tried();
    });

    it('is refused in every body, even for whoever may enter both', async () => {
      for (const route of jsonRoutes().filter(({ path }) => path.includes(':tenant'))) {
        for (const client of [both, app.admin]) {
          const body = { ...EXAMPLE_BODIES[keyOf(route)]?.(), tenant_id: other.id };
          const answer = await client.send(route.method, pathOf(route), body);
          expect([answer.status, answer.body.code], keyOf(route)).toEqual([400, 'tenant_mismatch']);
          tried();
        }
      }
    });

    it('is refused where one name has several values', async () => {
      const answers = [
        await both.get('/permissions?tenant=own&tenant=other'),
        await both.withHeaders({ 'x-tenant-id': 'own, other' }).get('/permissions'),
      ];
      expect(answers.map(({ status }) => status)).toEqual([400, 404]);
      tried(answers.length);
    });

    async function signedInTo(tenant: string): Promise<Client> {
      const { body } = await expectStatus(
        200,
        app.anonymous.post('/auth/login', { ...bothPassword, tenant }),
      );
      return app.anonymous.withToken(body.access_token);
    }
  });
});

/** Tables in which a row that somebody else has made before may be changed. */
const MADE_BEFORE = [
  'tenants',
  'members',
  'knowledge_bases',
  'roles',
  'groups',
  'group_members',
  'invitations',
  'tenant_variables',
  'api_tokens',
  'webhooks',
  'alerts',
  'models',
  'agents',
  'documents',
];

/** Without what differs from one request to the next. */
function stable(body: unknown, path: string): unknown {
  if (typeof body !== 'object' || body === null) return body;
  return { ...body, request_id: null, latency_ms: null, instance: path };
}

function fileForm(name: string): FormData {
  const form = new FormData();
  form.append('file', new Blob([`A file that is called ${name}.`], { type: 'text/plain' }), name);
  return form;
}
