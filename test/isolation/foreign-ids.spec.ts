import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_IN_ROLES, TENANT_PERMISSIONS } from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { issueToken } from '../setup/api-tokens.js';
import type { Answer, Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { asSuperuser } from '../setup/superuser.js';

/** What a path of one tenant may name. */
type Ids = Record<string, string>;

/** Where a body names members, groups, knowledge bases, agents or chats; with what stands in the place of the example's. */
const GRANTEES: Array<[key: string, field: string, body: (id: string) => Record<string, unknown>]> = [
  ['POST /tenants/:tenant/groups/:group/members', 'user_id', id => ({ user_id: id, user_ids: undefined })],
  ['POST /tenants/:tenant/groups/:group/members', 'user_ids', id => ({ user_ids: [id] })],
  ['POST /tenants/:tenant/kbs/:kb/grants', 'user_id', id => ({ user_id: id })],
  ['POST /tenants/:tenant/kbs/:kb/grants', 'group_id', id => ({ user_id: undefined, group_id: id })],
  [
    'PUT /tenants/:tenant/kbs/:kb/grants',
    'grants.user_id',
    id => ({ grants: [{ user_id: id, role: 'viewer' }] }),
  ],
  [
    'PUT /tenants/:tenant/kbs/:kb/grants',
    'grants.group_id',
    id => ({ grants: [{ group_id: id, role: 'viewer' }] }),
  ],
  ['POST /tenants/:tenant/api-tokens', 'kb_ids', id => ({ kb_ids: [id] })],
  ['PATCH /tenants/:tenant/api-tokens/:token', 'kb_ids', id => ({ kb_ids: [id] })],
  ['POST /tenants/:tenant/api-tokens', 'agent_ids', id => ({ agent_ids: [id] })],
  ['PATCH /tenants/:tenant/api-tokens/:token', 'agent_ids', id => ({ agent_ids: [id] })],
  ['POST /tenants/:tenant/kbs/:kb/chat', 'session_id', id => ({ session_id: id })],
  ...[
    'PUT /tenants/:tenant/kbs/:kb/documents/:document/acl',
    'POST /tenants/:tenant/kbs/:kb/documents/text',
    'POST /tenants/:tenant/kbs/:kb/documents/url',
    'POST /tenants/:tenant/kbs/:kb/documents/urls',
  ].flatMap((key): typeof GRANTEES => [
    [key, 'acl.members', id => ({ acl: { members: [id], groups: [] } })],
    [key, 'acl.groups', id => ({ acl: { members: [], groups: [id] } })],
  ]),
];

const MODEL_TYPES = ['asr', 'chat', 'embedding', 'image2text', 'rerank', 'tts'];
for (const type of MODEL_TYPES)
  GRANTEES.push(['PUT /tenants/:tenant/models/defaults', type, id => ({ [type]: [id] })]);

/** What stands in such a field. */
function kindOf(key: string, field: string): string {
  if (key.endsWith('/models/defaults')) return 'model';
  if (field === 'session_id') return 'chat';
  return ['group', 'kb', 'agent'].find(name => field.includes(name)) ?? 'user';
}

const USAGE_WRITTEN_MS = 2_500;

let app: TestApplication;
let routes: GuardedRoute[];
/** By route: the fields of its body that take an id. */
let bodies: Map<string, string[]>;
/** Tenant A, the victim, and B, whose people try. */
let a: Ids;
let b: Ids;
let secrets: string[];
let credentials: Map<string, Client>;
let before: string;

beforeAll(async () => {
  app = await startTestApplication();
  [a, b] = [await createTenant('victim'), await createTenant('intruder')];
  credentials = new Map();
  for (const role of BUILT_IN_ROLES) {
    await app.createMember('victim', role);
    credentials.set(role, (await app.createMember('intruder', role)).client);
  }
  const owner = credentials.get('owner') as Client;
  const scopes = TENANT_PERMISSIONS;
  credentials.set(
    'API token',
    (await issueToken(app, owner, 'intruder', { scopes, rate_limit_per_minute: 1_000_000 })).client,
  );
  credentials.set('stranger', (await app.createUser()).client);
  credentials.set('platform admin', app.admin);
  routes = app.application.nest.get(RouteAccess, { strict: false }).list();
  bodies = await requestIdFields();
  // What these requests have used is written down within a second.
  await sleep(USAGE_WRITTEN_MS);
  secrets = await idsOf(a['tenant'] as string);
  before = await checksum();
});
afterAll(() => app?.close());

afterEach(async () => {
  expect(await checksum(), 'what tenant A keeps').toBe(before);
});

describe('a path', () => {
  it('names every parameter that these tests know', () => {
    const parameters = new Set(routes.flatMap(route => parametersOf(route)));
    expect([...parameters].filter(name => !(name in a))).toEqual([]);
  });

  it.each([
    // Of many routes: in two halves, each with its time limit.
    ['tenant', 'reads'],
    ['tenant', 'changes'],
    ['tenant name', 'reads'],
    ['tenant name', 'changes'],
    ...[
      'kb',
      'kb slug',
      'document',
      'user',
      'role',
      'group',
      'grant',
      'invitation',
      'variable',
      'job',
      'session',
      'token',
      'webhook',
      'delivery',
      'alert',
      'model',
      'agent',
      'chat',
      'message',
      'evaluation',
      'entity',
    ].map(kind => [kind, 'reads and changes'] as const),
  ] as const)('with the foreign %s is answered as if it named nothing, by %s', async (kind, what) => {
    const parameter = kind.split(' ', 1)[0] as string;
    const asked = routes.filter(
      route =>
        parametersOf(route).includes(parameter) &&
        what.split(' and ').includes(route.method === 'GET' ? 'reads' : 'changes'),
    );
    for (const route of asked) {
      // The platform admin may enter both tenants, but finds nothing of one in the other.
      for (const [who, client] of credentials) {
        if (parameter === 'tenant' && who === 'platform admin') continue;
        // The platform admin made both tenants, and asked for that job.
        if (parameter === 'job' && who === 'platform admin') continue;
        // What is not there yet is made under this name in one's own tenant.
        if (parameter === 'variable' && route.method === 'PUT') continue;
        // Users belong to the installation, whose people may see all of them.
        if (route.permission?.startsWith('platform:') && who === 'platform admin') continue;
        // Below a foreign tenant stands what really is there; below one's own only the one parameter is foreign.
        const base = parameter === 'tenant' ? a : b;
        // Of messages the path names no tenant.
        const caller =
          parameter === 'message' ? client.withHeaders({ 'x-tenant-id': b['tenant'] as string }) : client;
        const foreign = await call(caller, route, { ...base, [parameter]: a[kind] as string });
        const unknown = await call(caller, route, { ...base, [parameter]: nameOfNothing(kind) });
        expectSame(foreign, unknown, `${who}: ${keyOf(route)}`);
        expect([403, 404], `${who}: ${keyOf(route)}`).toContain(foreign.status);
        const mayTry =
          parameter === 'tenant' || who === 'owner' || who === 'platform admin' || who === 'stranger';
        if (mayTry && !route.permission?.startsWith('platform:'))
          expect(foreign.status, `${who}: ${keyOf(route)}`).toBe(404);
      }
    }
  });

  it('that mixes the parts of both tenants leads nowhere', async () => {
    const owner = credentials.get('owner') as Client;
    for (const route of routes.filter(candidate => parametersOf(candidate).includes('document'))) {
      const mixed = await call(owner, route, { ...a, tenant: b['tenant'] as string });
      const unknown = await call(owner, route, { ...b, kb: randomUUID(), document: randomUUID() });
      expectSame(mixed, unknown, keyOf(route));
      expect(mixed.status, keyOf(route)).toBe(404);
    }
  });
});

describe('a tenant named beside the path', () => {
  it('in the header or the query is answered as if there were none of that name', async () => {
    // Which role somebody has is asked after that, and what names the tenant before: one of the most may try both.
    const asking: Array<[who: string, kinds: string[]]> = [
      ['owner', ['tenant', 'tenant name']],
      ['stranger', ['tenant name']],
      ['API token', ['tenant']],
    ];
    for (const route of routes.filter(({ permission }) => permission !== null)) {
      for (const [who, kinds] of asking) {
        const client = credentials.get(who) as Client;
        for (const kind of kinds) {
          const named = (value: string) => [
            call(client.withHeaders({ 'x-tenant-id': value }), route, b),
            call(client, route, b, { query: `?tenant=${value}` }),
          ];
          const foreign = await Promise.all(named(a[kind] as string));
          const unknown = await Promise.all(named(nameOfNothing(kind)));
          foreign.forEach((answer, index) => {
            expectSame(answer, unknown[index] as Answer, `${who}: ${keyOf(route)}`);
            expect(answer.status, `${who}: ${keyOf(route)}`).toBe(404);
          });
        }
      }
    }
  });

  it('in the body is answered as if there were none of that name', async () => {
    for (const route of routes.filter(
      candidate => candidate.permission !== null && isJson(keyOf(candidate)),
    )) {
      for (const [who, client] of credentials) {
        if (who === 'platform admin') continue;
        const send = (value: string) => call(client, route, b, { fields: { tenant_id: value } });
        const foreign = await send(a['tenant'] as string);
        expectSame(foreign, await send(randomUUID()), `${who}: ${keyOf(route)}`);
        expect(foreign.status, `${who}: ${keyOf(route)}`).toBe(404);
      }
    }
  });
});

describe('an id in a body', () => {
  it('stands in no field that these tests do not know', () => {
    const fields = [...bodies].flatMap(([key, names]) => names.map(name => `${key} ${name}`));
    expect(fields.toSorted()).toEqual(
      [
        // Users belong to the installation; a tenant may take in any of them.
        'PATCH /tenants/:tenant parent_id',
        // The platform's own.
        ...MODEL_TYPES.map(type => `PUT /platform/models/defaults ${type}`),
        'POST /chat filter.document_ids',
        'POST /tenants parent_id',
        ...GRANTEES.map(([key, field]) => `${key} ${field}`),
        'POST /tenants/:tenant/kbs/:kb/chat filter.document_ids',
        'POST /tenants/:tenant/kbs/:kb/documents/bulk-delete document_ids',
        'POST /tenants/:tenant/kbs/:kb/documents/preview document_id',
        'POST /tenants/:tenant/kbs/:kb/evaluations questions.relevant.document_id',
        'POST /tenants/:tenant/kbs/:kb/evaluations variants.filter.document_ids',
        'POST /tenants/:tenant/kbs/:kb/query filter.document_ids',
        'POST /tenants/:tenant/kbs/:kb/search filter.document_ids',
        'POST /tenants/:tenant/members user_id',
        'POST /tenants/:tenant/query filter.document_ids',
        'PUT /tenants/:tenant parent_id',
      ].toSorted(),
    );
  });

  it.each(GRANTEES)('%s %s takes in nobody of another tenant', async (key, field, body) => {
    const route = routes.find(candidate => keyOf(candidate) === key) as GuardedRoute;
    for (const who of ['owner', 'platform admin']) {
      const send = (id: string) => call(credentials.get(who) as Client, route, b, { fields: body(id) });
      const kind = kindOf(key, field);
      const nobody = randomUUID();
      const foreign = await send(a[kind] as string);
      const unknown = await send(nobody);
      // The answer may say which one it has not found.
      const told = JSON.stringify(unknown.body).replaceAll(nobody, a[kind] as string);
      expectSame(foreign, { ...unknown, body: JSON.parse(told) }, `${who}: ${key}`);
      expect([404, 422], `${who}: ${key}`).toContain(foreign.status);
    }
  });

  it('deletes and shows no document of another tenant', async () => {
    const documents = '/tenants/intruder/kbs/plans-of-intruder/documents';
    const told = ({ status, body }: Answer, id: string) =>
      JSON.stringify({ status, body })
        .replaceAll(id, 'an id')
        .replaceAll(/"request_id":"[^"]*"/g, '');
    for (const [who, client] of credentials) {
      for (const [path, body] of [
        ['bulk-delete', (id: string) => ({ document_ids: [id] })],
        ['preview', (id: string) => ({ document_id: id })],
      ] as const) {
        const nobody = randomUUID();
        const foreign = await client.post(`${documents}/${path}`, body(a['document'] as string));
        const unknown = await client.post(`${documents}/${path}`, body(nobody));
        expect(told(foreign, a['document'] as string), `${who}: ${path}`).toBe(told(unknown, nobody));
        if (foreign.status === 200) expect(foreign.body.deleted, who).toEqual([]);
      }
    }
  });

  it('finds nothing of another tenant’s documents', async () => {
    for (const what of ['kbs/docs/search', 'kbs/docs/query', 'kbs/docs/chat', 'query']) {
      for (const [who, client] of credentials) {
        const path = `/tenants/intruder/${what}`;
        const question = what.endsWith('chat') ? 'message' : 'query';
        const ask = (id: string) =>
          client.post(path, { [question]: 'What is the launch code?', filter: { document_ids: [id] } });
        const foreign = await ask(a['document'] as string);
        const unknown = await ask(randomUUID());
        for (const field of ['latency_ms', 'session_id', 'message_id']) {
          delete foreign.body[field];
          delete unknown.body[field];
        }
        expectSame(foreign, unknown, `${who}: ${what}`);
        if (foreign.status === 200) expect(foreign.body.passages, `${who}: ${what}`).toEqual([]);
      }
    }
  });

  it.each(['tenant', 'tenant name'])('signs nobody in to a foreign %s', async kind => {
    const { client, email, password } = await app.createUser();
    for (const [path, fields] of [
      ['/auth/switch-tenant', {}],
      ['/auth/login', { email, password }],
    ] as const) {
      const foreign = await client.post(path, { ...fields, tenant: a[kind] });
      expectSame(foreign, await client.post(path, { ...fields, tenant: nameOfNothing(kind) }), path);
      expect(foreign.status, path).toBe(404);
    }
  });
});

describe('what one’s own tenant shows', () => {
  it('has no id of another in it', async () => {
    for (const route of routes.filter(({ method, permission }) => method === 'GET' && permission !== null)) {
      for (const [who, client] of credentials) {
        if (who === 'platform admin' && parametersOf(route).length === 0) continue;
        const inTenant = parametersOf(route).includes('tenant')
          ? client
          : client.withHeaders({ 'x-tenant-id': b['tenant'] as string });
        const answer = await call(inTenant, route, b);
        const text = JSON.stringify(answer.body);
        expect(
          secrets.filter(id => text.includes(id)),
          `${who}: ${keyOf(route)}`,
        ).toEqual([]);
        // The job that the fixture knows is somebody else's.
        if (
          who === 'owner' &&
          !route.permission?.startsWith('platform:') &&
          !route.path.startsWith('/jobs/:job')
        )
          expect(answer.status, keyOf(route)).toBe(200);
      }
    }
  });
});

it('has an example for every route with a body', () => {
  expect([...bodies.keys()].filter(key => !(key in EXAMPLE_BODIES))).toEqual([]);
});

async function createTenant(name: string): Promise<Ids> {
  const tenant = await app.createTenant(name);
  const slug = `plans-of-${name}`;
  const { body: kb } = await app.admin.post(`/tenants/${name}/kbs`, {
    name: slug,
    config: { graph: 'names' },
  });
  const text = `# Launch\n\nThe launch code of the ${name} is four eight fifteen, as Ada Lovelace knows.`;
  const { body: document } = await app.admin.post(`/tenants/${name}/kbs/${slug}/documents/text`, { text });
  await app.settled(name, document.id, slug);
  await app.addText(name, `The warranty of the ${name} lasts two years.`);
  const member = await app.createMember(name, 'viewer');
  const made = async (path: string, body: unknown) =>
    (await expectStatus(201, app.admin.post(`/tenants/${name}${path}`, body))).body;
  const role = await made('/roles', { name: `support-of-${name}`, permissions: ['tenant:read'] });
  const group = await made('/groups', { name: `Group of ${name}` });
  await app.admin.post(`/tenants/${name}/groups/${group.id}/members`, { user_id: member.id });
  const grant = await made(`/kbs/${slug}/grants`, { group_id: group.id, role: 'editor' });
  const invitation = await made('/invitations', { email: `guest-of-${name}@example.com`, role: 'viewer' });
  const variable = `KEY_OF_${name.toUpperCase()}`;
  await app.admin.put(`/tenants/${name}/variables/${variable}`, { value: 'a secret' });
  await app.admin.post('/tenant-templates', { name: `template-of-${name}` });
  const token = await made('/api-tokens', { name: `token of ${name}`, scopes: ['query:run'] });
  const webhook = await made('/webhooks', {
    url: 'https://hooks.invalid/x',
    events: ['*'],
    is_active: false,
  });
  const { body: delivery } = await app.admin.post(`/tenants/${name}/webhooks/${webhook.id}/test`);
  const alert = await made('/alerts', {
    name: `Alert of ${name}`,
    metric: 'users',
    threshold: 1_000,
    threshold_type: 'absolute',
    actions: ['webhook'],
    is_active: false,
  });
  const model = await made('/models', EXAMPLE_BODIES['POST /tenants/:tenant/models']?.());
  const agent = await made(`/kbs/${slug}/agents`, { name: `Agent of ${name}` });
  const question = { message: 'What is the launch code?', mode: 'keyword' };
  const { body: chat } = await expectStatus(
    200,
    app.admin.post(`/tenants/${name}/kbs/${slug}/chat`, question),
  );
  const { body: entities } = await app.admin.get(`/tenants/${name}/kbs/${slug}/graph/entities`);
  const sessions = await expectStatus(200, member.client.get('/auth/sessions'));
  return {
    tenant: tenant.id,
    'tenant name': name,
    kb: kb.id,
    'kb slug': slug,
    document: document.id,
    user: member.id,
    role: role.name,
    group: group.id,
    grant: grant.id,
    invitation: invitation.id,
    variable,
    template: `template-of-${name}`,
    session: sessions.body.items[0].id,
    job: await settledJob(tenant.id),
    token: token.id,
    webhook: webhook.id,
    delivery: delivery.id,
    alert: alert.id,
    model: model.id,
    agent: agent.id,
    chat: chat.session_id,
    message: chat.message_id,
    evaluation: await endedEvaluation(name, slug),
    entity: entities.items[0].id,
  };
}

/** It changes by itself until it has ended. */
async function endedEvaluation(tenant: string, kb: string): Promise<string> {
  const example = EXAMPLE_BODIES['POST /tenants/:tenant/kbs/:kb/evaluations']?.();
  const made = await expectStatus(202, app.admin.post(`/tenants/${tenant}/kbs/${kb}/evaluations`, example));
  const { id, job_id: job } = made.body;
  await app.jobEnded(`/jobs/${job}`);
  return id;
}

/** The e-mail of the invitation, once it has been sent: until then its row changes by itself. */
async function settledJob(tenantId: string): Promise<string> {
  for (let waited = 0; waited < 20_000; waited += 50) {
    const ended = (await rowsOf(tenantId))['jobs']?.find(row => row.includes(',succeeded,'));
    if (ended) return ended.slice(1, 37);
    await sleep(50);
  }
  throw new Error('The e-mail of the invitation has not been sent in 20 s.');
}

const nameOfNothing = (kind: string): string =>
  / (name|slug)$|^(role|variable)$/.test(kind) ? `no-such-${randomUUID().slice(0, 8)}` : randomUUID();

const keyOf = ({ method, path }: GuardedRoute): string => `${method} ${path}`;

const parametersOf = ({ path }: GuardedRoute): string[] =>
  [...path.matchAll(/:(\w+)/g)].map(match => match[1] as string);

function call(
  client: Client,
  route: GuardedRoute,
  ids: Ids,
  { query = '', fields = {} }: { query?: string; fields?: Record<string, unknown> } = {},
): Promise<Answer> {
  const example = EXAMPLE_BODIES[keyOf(route)]?.();
  const path = route.path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(ids[name] ?? 'missing'));
  return client.send(
    route.method,
    path + query,
    example instanceof FormData ? example : example && { ...example, ...fields },
  );
}

function isJson(key: string): boolean {
  const example = EXAMPLE_BODIES[key];
  return example !== undefined && !(example() instanceof FormData);
}

/** Status and body, but for the two members that every problem has to itself. */
function expectSame(actual: Answer, expected: Answer, what: string): void {
  const told = ({ status, body }: Answer) => ({
    status,
    body: { ...body, instance: null, request_id: null },
  });
  expect(told(actual), what).toEqual(told(expected));
}

/** Dotted paths of the fields that take a UUID, by route (`METHOD /path` as the router writes it), of every body. */
async function requestIdFields(): Promise<Map<string, string[]>> {
  const { body: api } = await app.anonymous.get('//openapi.json');
  const found = new Map<string, string[]>();
  for (const [path, operations] of Object.entries<any>(api.paths)) {
    for (const [method, operation] of Object.entries<any>(operations)) {
      const content = Object.values<any>(operation.requestBody?.content ?? {})[0];
      const key = `${method.toUpperCase()} ${path.replace('/api/v1', '').replace(/\{(\w+)\}/g, ':$1')}`;
      if (content) found.set(key, [...new Set(idFields(api, content.schema))]);
    }
  }
  return found;
}

/** @param above references that led here: free JSON refers to itself */
function idFields(api: any, schema: any, path = '', above: string[] = []): string[] {
  if (typeof schema !== 'object' || schema === null || above.includes(schema.$ref)) return [];
  if (schema.$ref) {
    const name = schema.$ref.split('/').at(-1);
    return idFields(api, api.components.schemas[name], path, [...above, schema.$ref]);
  }
  if (schema.format === 'uuid') return [path];
  const alternatives = [
    schema.items,
    ...(schema.anyOf ?? []),
    ...(schema.allOf ?? []),
    ...(schema.oneOf ?? []),
  ];
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, field]) =>
      idFields(api, field, path ? `${path}.${name}` : name, above),
    ),
    ...alternatives.flatMap(alternative => idFields(api, alternative, path, above)),
  ];
}

/** Of every row and every file of tenant A. */
async function checksum(): Promise<string> {
  const id = a['tenant'] as string;
  const rows = await rowsOf(id);
  const folder = join(app.env.dataDir, 'files', id);
  const names = existsSync(folder) ? readdirSync(folder, { recursive: true, withFileTypes: true }) : [];
  const files = names
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
    .toSorted()
    .map(path => [path, createHash('sha256').update(readFileSync(path)).digest('hex')]);
  expect(files.length, 'files of tenant A').toBe(2);
  return JSON.stringify([rows, files], null, 1);
}

/** Every id in a row of this tenant, its members' too. */
async function idsOf(tenantId: string): Promise<string[]> {
  const text = JSON.stringify(await rowsOf(tenantId));
  const found = new Set(text.match(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g));
  // Whoever set both tenants up stands in both.
  const { body: admin } = await app.admin.get('/auth/me');
  found.delete(admin.id);
  expect(found.size).toBeGreaterThan(10);
  return [...found];
}

function rowsOf(tenantId: string): Promise<Record<string, string[]>> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => {
    const { rows: tables } = await client.query(
      `SELECT table_name AS name FROM information_schema.columns
       WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1`,
    );
    expect(tables.length).toBeGreaterThanOrEqual(7);
    const contents: Record<string, string[]> = {};
    for (const [table, condition] of [
      ...tables.map(({ name }) => [name, 'tenant_id = $1']),
      ['tenants', 'id = $1'],
      ['users', 'id IN (SELECT user_id FROM members WHERE tenant_id = $1)'],
    ]) {
      const { rows } = await client.query(
        `SELECT t::text AS row FROM ${table} t WHERE ${condition} ORDER BY 1`,
        [tenantId],
      );
      contents[table] = rows.map(({ row }) => row);
    }
    return contents;
  });
}
