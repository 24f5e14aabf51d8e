import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type Permission,
  TENANT_PERMISSIONS,
  isKbPermission,
} from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Answer, Client } from '../setup/client.js';
import { EXAMPLE_BODIES } from '../setup/example-bodies.js';
import { tried } from '../setup/isolation-cases.js';
import { type Ids, callRoute, expectSame, keyOf, nameOfNothing, parametersOf } from '../setup/route-calls.js';
import { rowsOfTenant } from '../setup/rows-of-tenant.js';

/**
 * What is hidden from members of the same tenant, and is answered as if there were none. What of a tenant is no
 * knowledge base's and nobody's own (roles, groups, webhooks …) all may see who hold the permission.
 */
const HIDDEN = {
  kb: 'a knowledge base without a grant',
  'kb slug': '… by its name',
  document: 'a restricted document',
  entity: 'what only a restricted document names',
  job: 'the ingestion of a restricted document',
  agent: 'an agent of a knowledge base without a grant',
  evaluation: 'an evaluation of such a knowledge base',
  chat: 'another member’s chat',
  message: 'an answer in another member’s chat',
  session: 'another member’s sign-in',
} as const;
type Hidden = keyof typeof HIDDEN;

/** Parameters that name what every member of the tenant may see who holds the permission, or what is the platform's. */
const OF_ALL = [
  'tenant',
  'user',
  'role',
  'group',
  'grant',
  'invitation',
  'variable',
  'token',
  'webhook',
  'delivery',
  'alert',
  'model',
  'template',
];

/** Changes with every request. */
const MOVING = /^(audit_|usage_|events$|jobs$|api_tokens$|tenant_counters$|idempotency|credit_|users$)/;

let app: TestApplication;
let routes: GuardedRoute[];
let callers: Map<string, Client>;
/** What is there for everybody, and what is hidden. */
let open: Ids;
let hidden: Record<Hidden, string>;
/** Ids that only owners and admins may come to see. */
let secrets: string[];
/** What stands in the closed knowledge base, which its owner sees. */
let inner: Ids;
let owner: Client;
let before: Record<string, string[]>;
let tenantId: string;

const at = (path: string) => `/tenants/acme${path}`;
const made = async (client: Client, path: string, body: unknown) =>
  (await expectStatus(201, client.post(at(path), body))).body;
const addText = async (kb: string, text: string, fields: object = {}) => {
  const { body } = await expectStatus(
    202,
    app.admin.post(at(`/kbs/${kb}/documents/text`), { text, ...fields }),
  );
  await app.settled('acme', body.id, kb);
  return body.id as string;
};

beforeAll(async () => {
  app = await startTestApplication();
  routes = app.application.nest.get(RouteAccess, { strict: false }).list();
  tenantId = (await app.createTenant('acme')).id;
  const member = await app.createMember('acme', 'owner');
  owner = member.client;
  const { body: closed } = await expectStatus(
    201,
    owner.post(at('/kbs'), { name: 'Closed', slug: 'closed-plans', visibility: 'granted' }),
  );
  for (const kb of ['docs', closed.slug])
    await expectStatus(200, owner.patch(at(`/kbs/${kb}`), { config: { graph: 'names' } }));
  const text = 'The launch code is four eight fifteen, as Ada Lovelace knows.';
  const openDocument = await addText('docs', 'The warranty lasts two years, says Grace Hopper.');
  const document = await addText('docs', text, { acl: { members: [], groups: [] } });
  const closedDocument = await addText(closed.slug, 'The base has nine rooms, says Katherine Johnson.');
  const question = { message: 'What is the launch code?', mode: 'keyword' };
  const chat = (await expectStatus(200, owner.post(at('/kbs/docs/chat'), question))).body;
  expect(chat.passages.map((passage: { document_id: string }) => passage.document_id)).toContain(document);
  const entities = (await owner.get(at('/kbs/docs/graph/entities'))).body.items;
  const entityOf = (name: string) => entities.find((entity: { name: string }) => entity.name === name).id;
  const agent = await made(owner, `/kbs/${closed.slug}/agents`, { name: 'Closed agent' });
  const { body: evaluation } = await expectStatus(
    202,
    owner.post(
      at(`/kbs/${closed.slug}/evaluations`),
      EXAMPLE_BODIES['POST /tenants/:tenant/kbs/:kb/evaluations']?.(),
    ),
  );
  await app.jobEnded(`/jobs/${evaluation.job_id}`);
  hidden = {
    kb: closed.id,
    'kb slug': closed.slug,
    document,
    entity: entityOf('Ada Lovelace'),
    job: document,
    agent: agent.id,
    evaluation: evaluation.id,
    chat: chat.session_id,
    message: chat.message_id,
    session: (await owner.get('/auth/sessions')).body.items[0].id,
  };
  const grantee = await made(owner, '/groups', { name: 'Builders' });
  const grant = await made(owner, `/kbs/${closed.slug}/grants`, { group_id: grantee.id, role: 'viewer' });
  const { items } = (await owner.get(at(`/kbs/${closed.slug}/graph/entities`))).body;
  inner = {
    document: closedDocument,
    entity: items[0].id,
    agent: agent.id,
    evaluation: evaluation.id,
    grant: grant.id,
  };
  secrets = [...new Set([...Object.values(hidden), ...Object.values(inner), evaluation.job_id])];
  open = {
    tenant: 'acme',
    kb: 'docs',
    document: openDocument,
    entity: entityOf('Grace Hopper'),
    user: member.id,
    role: 'viewer',
  };
  await addCallers();
  await addOpen(grantee.id);
  before = await unmoved();
});
afterAll(() => app?.close());

afterEach(async () => {
  const after = await unmoved();
  // What was asked about is kept: chats of the callers, and their evaluations.
  const changed = Object.entries(before).flatMap(([table, rows]) =>
    rows.filter(row => !after[table]?.includes(row)).map(row => `${table}: ${row}`),
  );
  expect(changed, 'what was there before').toEqual([]);
});

describe('T1 within a tenant', () => {
  it('every parameter of a path is known as hidden from some, or as everybody’s', () => {
    const parameters = new Set(routes.flatMap(parametersOf));
    const known = new Set([...Object.keys(HIDDEN), ...OF_ALL]);
    expect([...parameters].filter(name => !known.has(name))).toEqual([]);
  });

  it.each(Object.entries(HIDDEN))('%s, %s, is answered as if there were none, by every route', async kind => {
    const parameter = kind.split(' ', 1)[0] as string;
    const asked = routes.filter(route => parametersOf(route).includes(parameter));
    expect(asked.length).toBeGreaterThan(0);
    await atOnce(
      asked.flatMap(route => [...callers].map(([who, client]) => ({ route, who, client }))),
      async ({ route, who, client }) => {
        const caller = route.path.includes(':tenant')
          ? client
          : client.withHeaders({ 'x-tenant-id': 'acme' });
        const ask = (id: string) => callRoute(caller, route, { ...open, [parameter]: id });
        const foreign = await ask(hidden[kind as Hidden]);
        const unknown = await ask(nameOfNothing(kind));
        const what = `${who}: ${keyOf(route)}`;
        expectSame(foreign, unknown, what);
        expect([403, 404], what).toContain(foreign.status);
        if (who === 'everything' && !route.permission?.startsWith('platform:'))
          expect(foreign.status, what).toBe(404);
        tried();
      },
    );
  });

  it('what stands in one knowledge base is not there below another, even for whoever sees both', async () => {
    const nested = routes.filter(({ path }) => /\/kbs\/:kb\/.*:/.test(path));
    expect(nested.length).toBeGreaterThan(15);
    const nothing = () => Object.fromEntries(Object.keys(inner).map(name => [name, randomUUID()]));
    await atOnce(
      nested.flatMap(route => ['everything', 'owner'].map(who => ({ route, who }))),
      async ({ route, who }) => {
        const client = who === 'owner' ? owner : (callers.get(who) as Client);
        const mixed = await callRoute(client, route, { ...open, ...inner, kb: 'docs' });
        const unknown = await callRoute(client, route, { ...open, ...nothing(), kb: 'docs' });
        expectSame(mixed, unknown, `${who}: ${keyOf(route)}`);
        expect(mixed.status, `${who}: ${keyOf(route)}`).toBe(404);
        tried();
      },
    );
  });

  it('no answer has an id of it in it', async () => {
    for (const route of routes.filter(({ method, permission }) => method === 'GET' && permission !== null)) {
      await atOnce(callers, async ([who, client]) => {
        // Whoever may read the audit reads what was done to whatever there is, by its id.
        if (who === 'everything' && /\/audit/.test(route.path)) return;
        const caller = route.path.includes(':tenant')
          ? client
          : client.withHeaders({ 'x-tenant-id': 'acme' });
        const answer = await callRoute(caller, route, open);
        const text = JSON.stringify({ ...answer.body, instance: null });
        expect(
          secrets.filter(id => text.includes(id)),
          `${who}: ${keyOf(route)}`,
        ).toEqual([]);
        // Else it would have none of them because it has nothing.
        if (who === 'everything' && !/^platform:|^tenant:manage$/.test(route.permission ?? ''))
          expect(answer.status, `${keyOf(route)}: ${text}`).toBe(200);
        tried();
      });
    }
  });

  it('what a body, a header or a query names is answered as if there were none', async () => {
    const query = 'What is the launch code?';
    const told = ({ status, body }: Answer, id: string) =>
      JSON.stringify({ status, body: { ...body, instance: null, request_id: null, latency_ms: null } })
        .replaceAll(id, 'an id')
        .replaceAll(/"(session_id|message_id)":"[^"]*"/g, '');
    const ways: Array<[name: string, kind: Hidden, ask: (client: Client, id: string) => Promise<Answer>]> = [
      [
        'documents/bulk-delete',
        'document',
        (client, id) => client.post(at('/kbs/docs/documents/bulk-delete'), { document_ids: [id] }),
      ],
      [
        'documents/preview',
        'document',
        (client, id) => client.post(at('/kbs/docs/documents/preview'), { document_id: id }),
      ],
      ...['search', 'query'].map((what): (typeof ways)[number] => [
        `${what} filter`,
        'document',
        (client, id) => client.post(at(`/kbs/docs/${what}`), { query, filter: { document_ids: [id] } }),
      ]),
      [
        'chat filter',
        'document',
        (client, id) => client.post(at('/kbs/docs/chat'), { message: query, filter: { document_ids: [id] } }),
      ],
      [
        'query of all, filter',
        'document',
        (client, id) => client.post(at('/query'), { query, filter: { document_ids: [id] } }),
      ],
      ...(['kb', 'kb slug'] as const).flatMap((kind): typeof ways => [
        ['query of', kind, (client, id) => client.post(at('/query'), { query, kbs: [id] })],
        ['query of several', kind, (client, id) => client.post(at('/query'), { query, kbs: ['docs', id] })],
        [
          'chat, X-KB-ID',
          kind,
          (client, id) =>
            client.withHeaders({ 'x-tenant-id': 'acme', 'x-kb-id': id }).post('/chat', { message: query }),
        ],
        ['chat, kb', kind, (client, id) => client.post(`/chat?tenant=acme&kb=${id}`, { message: query })],
        [
          'upload, X-KB-ID',
          kind,
          (client, id) =>
            client
              .withHeaders({ 'x-tenant-id': 'acme', 'x-kb-id': id })
              .post('/upload', { url: 'https://pages.invalid/a' }),
        ],
        [
          'upload, kb',
          kind,
          (client, id) => client.post(`/upload?tenant=acme&kb=${id}`, { url: 'https://pages.invalid/a' }),
        ],
      ]),
      [
        'chat session_id',
        'chat',
        (client, id) => client.post(at('/kbs/docs/chat'), { message: query, session_id: id }),
      ],
      [
        'chat agent',
        'agent',
        (client, id) => client.post(at('/kbs/docs/chat'), { message: query, agent: id }),
      ],
      ['sessions?kb_id', 'kb', (client, id) => client.get(at(`/sessions?kb_id=${id}`))],
      ['sessions?agent_id', 'agent', (client, id) => client.get(at(`/sessions?agent_id=${id}`))],
      [
        'relations?entity',
        'entity',
        (client, id) => client.get(at(`/kbs/docs/graph/relations?entity=${id}`)),
      ],
      [
        'evaluations filter',
        'document',
        (client, id) => evaluate(client, { filter: { document_ids: [id] } }),
      ],
    ];
    for (const [who, client] of callers) {
      for (const [name, kind, ask] of ways) {
        const id = hidden[kind];
        const nobody = nameOfNothing(kind);
        const foreign = await ask(client, id);
        const unknown = await ask(client, nobody);
        expect(foreign.status, `${who}: ${name}`).toBeLessThan(500);
        expect(told(foreign, id), `${who}: ${name}`).toBe(told(unknown, nobody));
        const found = [...(foreign.body?.passages ?? []), ...(foreign.body?.items ?? [])];
        expect(
          found.filter((item: unknown) => secrets.some(secret => JSON.stringify(item).includes(secret))),
        ).toEqual([]);
        tried();
      }
    }
  });
});

/** Starts an evaluation, and tells what it has found. */
async function evaluate(client: Client, variant: object): Promise<Answer> {
  const started = await client.post(at('/kbs/docs/evaluations'), {
    questions: [{ question: 'What is the launch code?' }],
    variants: [{ name: 'words', mode: 'keyword', answer: false, ...variant }],
  });
  if (started.status !== 202) return started;
  await app.jobEnded(`/jobs/${started.body.job_id}`);
  const { status, headers, body } = await client.get(at(`/kbs/docs/evaluations/${started.body.id}/results`));
  const items = body.items.map(({ passages, error }: any) => ({ passages, error }));
  return { status, headers, body: { items } };
}

async function addCallers(): Promise<void> {
  // Whoever manages the tenant sees all of it.
  const permissions = TENANT_PERMISSIONS.filter(permission => permission !== 'tenant:manage');
  const everything = { name: 'everything', permissions };
  await expectStatus(201, app.admin.post(at('/roles'), everything));
  callers = new Map();
  for (const role of ['everything', 'editor', 'viewer', 'viewer_readonly'])
    callers.set(role, (await app.createMember('acme', role)).client);
  // Made while its creator was an admin; it may do what they may now.
  const { id, client } = await app.createMember('acme', 'admin');
  const scopes = TENANT_PERMISSIONS.filter(scope => isKbPermission(scope as Permission));
  const token = await issueToken(app, client, 'acme', { scopes, rate_limit_per_minute: 1_000_000 });
  await expectStatus(200, app.admin.put(at(`/members/${id}`), { role: 'editor' }));
  callers.set('API token', token.client);
}

/** One of whatever a path can name beside: for everybody, or of whoever holds everything. @param group that is granted what is closed */
async function addOpen(group: string): Promise<void> {
  const everything = callers.get('everything') as Client;
  const example = (key: string) => EXAMPLE_BODIES[key]?.() as object;
  const webhook = await made(owner, '/webhooks', {
    url: 'https://hooks.invalid/x',
    events: ['*'],
    is_active: false,
  });
  const delivery = await expectStatus(200, owner.post(at(`/webhooks/${webhook.id}/test`)));
  const alert = { ...example('POST /tenants/:tenant/alerts'), name: 'Users', is_active: false };
  const said = await expectStatus(
    200,
    everything.post(at('/kbs/docs/chat'), { message: 'warranty', mode: 'keyword' }),
  );
  const evaluation = await expectStatus(
    202,
    everything.post(at('/kbs/docs/evaluations'), example('POST /tenants/:tenant/kbs/:kb/evaluations')),
  );
  await app.jobEnded(`/jobs/${evaluation.body.job_id}`);
  await expectStatus(200, app.admin.put(at('/variables/KEY'), { value: 'a secret' }));
  const sessions = await expectStatus(200, everything.get('/auth/sessions'));
  Object.assign(open, {
    group,
    variable: 'KEY',
    webhook: webhook.id,
    delivery: delivery.body.id,
    alert: (await made(owner, '/alerts', alert)).id,
    model: (await made(app.admin, '/models', example('POST /tenants/:tenant/models'))).id,
    token: (await made(owner, '/api-tokens', { name: 'A token', scopes: ['query:run'] })).id,
    invitation: (await made(owner, '/invitations', { email: 'guest@example.com', role: 'viewer' })).id,
    agent: (await made(owner, '/kbs/docs/agents', { name: 'Open agent' })).id,
    grant: (await made(owner, '/kbs/docs/grants', { group_id: group, role: 'viewer' })).id,
    chat: said.body.session_id,
    message: said.body.message_id,
    evaluation: evaluation.body.id,
    job: evaluation.body.job_id,
    session: sessions.body.items[0].id,
  });
}

/** What no request of these tests may change. */
async function unmoved(): Promise<Record<string, string[]>> {
  const rows = await rowsOfTenant(app, tenantId);
  return Object.fromEntries(Object.entries(rows).filter(([table]) => !MOVING.test(table)));
}
