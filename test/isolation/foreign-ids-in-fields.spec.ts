import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { GuardedRoute } from '../../src/core/authorization/route-access.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Answer, Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { ofTurn, tried } from '../setup/isolation-cases.js';
import { type Ids, callRoute, expectSame, keyOf, nameOfNothing, parametersOf } from '../setup/route-calls.js';
import { type StringField, queryIdParameters, requestIdFields, stringFields } from './request-fields.js';
import { MODEL_TYPES, addTwoTenants } from './two-tenants.js';

/** Where a body names members, groups, knowledge bases, agents, models or chats; with what stands in the place of the example's. */
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

for (const type of MODEL_TYPES)
  GRANTEES.push(['PUT /tenants/:tenant/models/defaults', type, id => ({ [type]: [id] })]);

/** Whose the chats of both tenants are. */
const WHO_CHATS = 'platform admin';

/** Of what was taken, or was there before. */
const TAKEN = [200, 201, 202, 204, 409];

/** Fields of bodies and queries that take an id or a name as a plain string, and what it names. */
const NAMING: Record<string, string[]> = {
  agent: ['agent'],
  kb: ['kb', 'kb slug'],
  kbs: ['kb', 'kb slug'],
  session_id: ['chat'],
  role: ['role'],
  role_name: ['role'],
  roles: ['role'],
  resource_id: ['document'],
  ...Object.fromEntries(
    ['model', 'graph_model', 'llm_model', 'embedding_model', 'rerank_model', 'rerank'].map(name => [
      name,
      ['model chat', 'model name'],
    ]),
  ),
};

/** Strings that name nothing of a tenant, and why those do not that could be taken for it. */
const WORDS: Record<string, string> = {
  ...Object.fromEntries(
    `action allowed_document_types allowed_origins answers api_base api_key api_version comment company_name
     current_password cursor description display_name email event_type events exclude full_name include keep_alive
     language message metadata model_name name new_password note operation password primary_color query question
     question_set resource_type search slug source system_prompt text timezone title type url urls username users value
     variant`
      .split(/\s+/)
      .map(name => [name, 'no id, and no name of what is there']),
  ),
  acl: 'beside files, as text: fields of its own below, "acl.members" and "acl.groups"',
  external_id: 'an id of the caller’s own system',
  source_id: 'an id of the caller’s own system',
  idempotency_key: 'the caller’s own; see T7',
  refresh_token: 'a credential; see T3',
  token: 'a credential; see T3',
  template: 'the platform’s own',
  shared_with: 'the platform’s own',
  tenant: 'see "a tenant named beside the path" and "signs nobody in"',
  tenant_id: 'see "a tenant named beside the path"',
};

/** What stands in such a field. */
function kindOf(key: string, field: string): string {
  if (key.endsWith('/models/defaults')) return `model ${field}`;
  if (field === 'session_id') return 'chat';
  return ['group', 'kb', 'agent'].find(name => field.includes(name)) ?? 'user';
}

let app: TestApplication;
let routes: GuardedRoute[];
/** By route: the fields of its body that take an id. */
let bodies: Map<string, string[]>;
/** Parameters of queries that take an id, with their routes. */
let queryIds: Array<[key: string, name: string]>;
/** Tenant A, the victim, and B, whose people try. */
let a: Ids;
let b: Ids;
let secrets: string[];
let strings: StringField[];
let credentials: Map<string, Client>;
let before: string;
let checksum: () => Promise<string>;

beforeAll(async () => {
  app = await startTestApplication();
  ({ routes, a, b, secrets, credentials, checksum } = await addTwoTenants(app));
  const { body: api } = await app.anonymous.get('//openapi.json');
  bodies = requestIdFields(api);
  queryIds = queryIdParameters(api);
  strings = stringFields(api);
  before = await checksum();
});
afterAll(() => app?.close());

afterEach(async () => {
  expect(await checksum(), 'what tenant A keeps').toBe(before);
});

describe('T1 foreign ids', () => {
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
        const send = (id: string) =>
          callRoute(credentials.get(who) as Client, route, b, { fields: body(id) });
        const kind = kindOf(key, field);
        const nobody = randomUUID();
        const foreign = await send(a[kind] as string);
        const unknown = await send(nobody);
        // The answer may say which one it has not found.
        const told = JSON.stringify(unknown.body).replaceAll(nobody, a[kind] as string);
        expectSame(foreign, { ...unknown, body: JSON.parse(told) }, `${who}: ${key}`);
        expect([404, 422], `${who}: ${key}`).toContain(foreign.status);
        // One's own is taken: it is for whose it is that the foreign one is not.
        if (kind === 'chat' && who !== WHO_CHATS) continue;
        const own = await send(b[kind] as string);
        expect(TAKEN, `${who}: ${key}: ${JSON.stringify(own.body)}`).toContain(own.status);
        tried(2);
      }
      // As it was: nobody answers for these models.
      if (key.endsWith('/models/defaults'))
        await expectStatus(200, callRoute(app.admin, route, b, { fields: { [field]: [] } }));
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
          tried();
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
          tried();
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
        tried();
      }
    });
  });

  describe('an id in a query', () => {
    /** What such a parameter names. */
    const KINDS: Record<string, string> = {
      kb_id: 'kb',
      agent_id: 'agent',
      user_id: 'user',
      created_by: 'user',
      token_id: 'token',
      entity: 'entity',
      job_id: 'job',
      parent_id: 'tenant',
    };

    it('finds what an id of nothing finds', async () => {
      const asked = queryIds.map(([key, name]) => ({
        route: routes.find(candidate => keyOf(candidate) === key) as GuardedRoute,
        name,
      }));
      expect(asked.filter(({ name }) => !(name in KINDS))).toEqual([]);
      expect(asked.length).toBeGreaterThan(3);
      for (const [index, { route, name }] of asked.entries()) {
        // An export is written down, with what it was asked for, in what it exports.
        if (route.permission?.startsWith('platform:') || route.path.endsWith('/audit/export')) continue;
        await atOnce(ofTurn(credentials, index), async ([who, client]) => {
          const ask = (id: string) => callRoute(client, route, b, { query: `?${name}=${id}` });
          const foreign = await ask(a[KINDS[name] as string] as string);
          expectSame(foreign, await ask(randomUUID()), `${who}: ${keyOf(route)}?${name}`);
          if (foreign.status === 200) expect(foreign.body.items ?? [], `${who}: ${keyOf(route)}`).toEqual([]);
          tried();
        });
      }
    });

    it('or in X-KB-ID names no knowledge base of another tenant', async () => {
      const beside = routes.filter(
        route =>
          !parametersOf(route).includes('kb') &&
          /^(kb|document|query|chat):/.test(route.permission ?? '') &&
          !route.path.startsWith('/messages'),
      );
      expect(beside.length).toBeGreaterThan(5);
      for (const kind of ['kb', 'kb slug']) {
        for (const route of beside) {
          await atOnce(['owner', 'viewer', 'API token'], async who => {
            const client = (credentials.get(who) as Client).withHeaders({
              'x-tenant-id': b['tenant'] as string,
            });
            const asked = (id: string) =>
              Promise.all([
                callRoute(client.withHeaders({ 'x-kb-id': id }), route, b),
                callRoute(client, route, b, { query: `?kb=${id}` }),
              ]);
            const foreign = await asked(a[kind] as string);
            const unknown = await asked(nameOfNothing(kind));
            foreign.forEach((answer, index) => {
              const what = `${who}: ${keyOf(route)} ${index === 0 ? 'X-KB-ID' : '?kb'}`;
              // What takes no knowledge base from beside its path answers as ever, each time a little otherwise.
              const { status } = unknown[index] as Answer;
              expect(answer.status, what).toBe(status);
              if (status >= 400) expectSame(answer, unknown[index] as Answer, what);
              else
                expect(
                  secrets.filter(id => JSON.stringify(answer.body).includes(id)),
                  what,
                ).toEqual([]);
            });
            tried(2);
          });
        }
      }
    });
  });

  // These change what tenant B is, so they come last.
  describe('a name in a string', () => {
    it('stands in no field that these tests do not know', () => {
      const names = new Set(strings.map(({ name }) => name));
      expect([...names].filter(name => !(name in NAMING) && !(name in WORDS))).toEqual([]);
      expect([...Object.keys(NAMING), ...Object.keys(WORDS)].filter(name => !names.has(name))).toEqual([]);
    });

    it('of another tenant is answered as if it named nothing', async () => {
      const owner = credentials.get('owner') as Client;
      const asked = strings.flatMap(({ key, path, name }) => {
        const route = routes.find(candidate => keyOf(candidate) === key) as GuardedRoute;
        const isTenants = route.permission !== null && !route.permission.startsWith('platform:');
        const kinds = isTenants && !route.path.endsWith('/audit/export') ? (NAMING[name] ?? []) : [];
        return kinds.map(kind => ({ route, path, kind }));
      });
      expect(asked.length).toBeGreaterThan(30);
      // A setting takes any name, and what asks a model afterwards would have none.
      const isSetting = ({ route, path }: { route: GuardedRoute; path: string }) =>
        /config|settings|agents\/:agent/.test(route.path + path);
      asked.sort((one, another) => Number(isSetting(one)) - Number(isSetting(another)));
      const inTenant = owner.withHeaders({ 'x-tenant-id': b['tenant'] as string });
      const refusing = new Set<string>();
      const exampleOf = (route: GuardedRoute) => ({
        ...EXAMPLE_BODIES[keyOf(route)]?.(),
        ...THEIRS[keyOf(route)]?.(b['user'] as string),
      });
      for (const { route, path, kind } of asked) {
        const caller =
          route.path === '/chat' ? inTenant.withHeaders({ 'x-kb-id': b['kb'] as string }) : inTenant;
        const send = async (value: string) => {
          const answer = await (path.startsWith('?')
            ? callRoute(caller, route, b, { query: `${path}=${encodeURIComponent(value)}` })
            : callRoute(caller, route, b, {
                fields: withField(exampleOf(route), path, value),
              }));
          // Few of these may run at a time.
          if (route.path.endsWith('/evaluations') && answer.status === 202)
            await untilEnded(caller, answer.body.job_id);
          return answer;
        };
        const [theirs, nobody] = [a[kind] as string, nameOfNothing(kind)];
        const foreign = await send(theirs);
        const unknown = await send(nobody);
        const what = `${keyOf(route)} ${path}, ${kind}`;
        expect(withoutName(foreign, theirs), what).toBe(withoutName(unknown, nobody));
        const others = secrets.filter(
          id => !theirs.includes(id) && JSON.stringify(foreign.body).includes(id),
        );
        expect(others, what).toEqual([]);
        if (foreign.status >= 400) {
          const own = await send(b[kind] as string);
          // It was asked, and nobody answers for it.
          const isTaken = TAKEN.includes(own.status) || own.body.code === 'model_rejected';
          if (!isTaken && kind !== 'chat') refusing.add(`${what}: ${own.status} ${JSON.stringify(own.body)}`);
        } else {
          // What lists finds nothing by it; what takes any name keeps it as a word.
          expect(foreign.body?.items ?? [], what).toEqual([]);
        }
        tried();
      }
      expect([...refusing], 'which refuse one’s own as well').toEqual([]);
    });
  });

  it('has an example for every route with a body', () => {
    expect([...bodies.keys()].filter(key => !(key in EXAMPLE_BODIES))).toEqual([]);
  });
});

async function untilEnded(client: Client, job: string): Promise<void> {
  for (let waited = 0; waited < 20_000; waited += 50) {
    const { body } = await expectStatus(200, client.get(`/jobs/${job}`));
    if (body.status !== 'queued' && body.status !== 'running') return;
    await sleep(50);
  }
  throw new Error(`The job ${job} has not ended in 20 s.`);
}

/** Where the example of a body names somebody who is not there. */
const THEIRS: Record<string, (user: string) => object> = {
  'POST /tenants/:tenant/members': user => ({ email: undefined, user_id: user }),
  'POST /tenants/:tenant/kbs/:kb/grants': user => ({ user_id: user }),
  'PUT /tenants/:tenant/kbs/:kb/grants': user => ({ grants: [{ user_id: user }] }),
};

const ROLE_FIELDS = ['role', 'roles', 'role_name'];

/** The example with this value there, and no other role beside one. */
function withField(example: any, path: string, value: string): Record<string, unknown> {
  const [head = '', ...rest] = path.split('.');
  const isList = head.endsWith('[]');
  const name = head.replace('[]', '');
  const old = isList ? example?.[name]?.[0] : example?.[name];
  const inner = rest.length > 0 ? withField(old, rest.join('.'), value) : value;
  const others = ROLE_FIELDS.includes(name)
    ? Object.fromEntries(ROLE_FIELDS.map(other => [other, undefined]))
    : {};
  return { ...example, ...others, [name]: isList ? [inner] : inner };
}

/** An answer without what differs from one to the next, and without the name that it was asked for. */
function withoutName({ status, body }: Answer, name: string): string {
  const moving =
    /"(request_id|latency_ms|session_id|message_id|id|job_id|email|name|slug|created_at|updated_at|instance)":("[^"]*"|[\d.]+|\{[^}]*\})/g;
  return JSON.stringify({ status, body }).replaceAll(name, 'a name').replaceAll(moving, '');
}
