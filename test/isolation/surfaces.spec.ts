import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Permission, PERMISSIONS, isKbPermission } from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Answer, Client } from '../setup/client.js';
import { type EventStream, openEvents } from '../setup/event-stream.js';
import { ofTurn, tried } from '../setup/isolation-cases.js';
import { type ModelServer, type StubMessage, startModelServer } from '../setup/model-server.js';

/** Where documents are: tenant and knowledge base. */
interface Place {
  tenant: string;
  kb: string;
  path: string;
}

interface Fixture {
  place: Place;
  /** Stands in its text and its title, and nowhere else. */
  marker: string;
  text: string;
  id: string;
  /** Of what it is about, in the graph. */
  entity: string;
}

type DocumentName = 'open' | 'restricted' | 'closed' | 'foreign';

interface Subject {
  client: Client;
  /** What the subject may see, whatever it is asked through. */
  sees: DocumentName[];
  permissions: Set<string>;
  /** Asks agents, and nothing past them. */
  agentsOnly?: boolean;
}

interface Surface {
  /** `METHOD /path` of what it asks. */
  routes: string[];
  /** Beside those of its routes. */
  needs?: Permission[];
  /** Whether a token that is kept to an agent may ask it. */
  agents?: boolean;
  /** All that it tells of the documents of a place. */
  ofPlace?: (client: Client, place: Place) => Promise<string>;
  /** All that it tells of one. */
  ofDocument?: (client: Client, document: Fixture) => Promise<string>;
}

const QUESTION = 'What merger did Ada Lovelace plan?';
const SHARED = 'Ada Lovelace';
const KB = '/tenants/:tenant/kbs/:kb';
const DOCUMENT = `${KB}/documents/:document`;
const place = (tenant: string, kb: string): Place => ({ tenant, kb, path: `/tenants/${tenant}/kbs/${kb}` });
const DOCS = place('acme', 'docs');
const CLOSED = place('acme', 'closed');
const FOREIGN = place('other', 'docs');

let app: TestApplication;
let model: ModelServer;
let routes: GuardedRoute[];
let documents: Record<DocumentName, Fixture>;
/** Ids of the entity that all documents of a place name, by its path. */
const shared = new Map<string, string>();
/** By tenant: told of every document. */
const webhooks = new Map<string, string>();
/** By document: what the webhook was told of it. */
const deliveries = new Map<string, string>();
const subjects = new Map<string, Subject>();
const people: Record<string, { id: string; client: Client }> = {};
let group: string;
let grant: string;

/** What is said of a problem but its path, in which an id stands that was asked for. */
const told = ({ status, body }: Answer): string => {
  if (status >= 500) throw new Error(`${status}: ${JSON.stringify(body)}`);
  return typeof body === 'string' ? body : JSON.stringify({ ...body, instance: null });
};
const get = async (client: Client, path: string) => told(await client.get(path));
const post = async (client: Client, path: string, body: unknown) => told(await client.post(path, body));
const streamed = async (stream: EventStream) => {
  await stream.ended;
  return JSON.stringify([{ ...stream.body, instance: null }, stream.events]);
};

/** Asks, and reads what was kept of it, by whatever route. */
async function chatReadAgain(client: Client, { tenant, path }: Place): Promise<string> {
  const said = await client.post(`${path}/chat`, { message: QUESTION });
  if (said.status !== 200) return told(said);
  const chat = `/tenants/${tenant}/sessions/${said.body.session_id}`;
  const read = ['', '/messages', '/export', '/export?format=markdown'].map(part => get(client, chat + part));
  return (await Promise.all(read)).join('\n');
}

async function evaluated(client: Client, { path }: Place): Promise<string> {
  const started = await client.post(`${path}/evaluations`, {
    questions: [{ question: QUESTION }],
    variants: [{ name: 'search', answer: false }],
  });
  if (started.status !== 202) return told(started);
  const evaluation = `${path}/evaluations/${started.body.id}`;
  await app.jobEnded(`/jobs/${started.body.job_id}`);
  const read = [evaluation, `${evaluation}/results`, `${path}/evaluations`, `/jobs/${started.body.job_id}`];
  return (await Promise.all(read.map(part => get(client, part)))).join('\n');
}

const search = (mode: string): Surface => ({
  routes: [`POST ${KB}/search`],
  ofPlace: (client, { path }) => post(client, `${path}/search`, { query: QUESTION, mode, top_k: 20 }),
});
const chat = (agent: string | undefined): Surface => ({
  routes: [`POST ${KB}/chat`],
  agents: agent !== 'plain',
  ofPlace: (client, { path }) => post(client, `${path}/chat`, { message: QUESTION, agent }),
});

/** Every way to what stands in documents. */
const SURFACES: Record<string, Surface> = {
  'list of documents': {
    routes: [`GET ${KB}/documents`],
    ofPlace: (client, { path }) => get(client, `${path}/documents?page_size=100`),
  },
  'list of documents, searched': {
    routes: [`GET ${KB}/documents`],
    ofDocument: (client, { place: { path }, marker }) =>
      get(client, `${path}/documents?search=${encodeURIComponent(marker)}`),
  },
  ...Object.fromEntries(
    ['', '/versions', '/chunks', '/content', '/acl'].map((part): [string, Surface] => [
      `document${part}`,
      {
        routes: [`GET ${DOCUMENT}${part}`],
        ofDocument: async (client, { place: { path }, id }) => {
          const answer = await client.get(`${path}/documents/${id}${part}`);
          // Of some of them an answer names no document.
          return answer.status === 200 ? `${id} ${told(answer)}` : told(answer);
        },
      },
    ]),
  ),
  'preview of a document': {
    routes: [`POST ${KB}/documents/preview`],
    needs: ['document:read'],
    ofDocument: async (client, { place: { path }, id }) => {
      for (;;) {
        const answer = await client.post(`${path}/documents/preview`, { document_id: id });
        // Few are made at a time.
        if (answer.body.code !== 'concurrency_limited') return told(answer);
        await sleep(20);
      }
    },
  },
  'the same text again': {
    routes: [`POST ${KB}/documents/text`],
    ofDocument: (client, { place: { path }, text }) => post(client, `${path}/documents/text`, { text }),
  },
  'job of the ingestion': {
    routes: ['GET /jobs/:job'],
    needs: ['document:read'],
    ofDocument: (client, { id }) => get(client, `/jobs/${id}`),
  },
  'events of the ingestion': {
    routes: ['GET /jobs/:job/events'],
    needs: ['document:read'],
    ofDocument: async (client, { id }) => streamed(await openEvents(client, `/jobs/${id}/events`)),
  },
  ...Object.fromEntries(
    ['hybrid', 'vector', 'keyword', 'local', 'global', 'graph', 'mix'].map(mode => [
      `search, ${mode}`,
      search(mode),
    ]),
  ),
  'search in one document': {
    routes: [`POST ${KB}/search`],
    ofDocument: (client, { place: { path }, id }) =>
      post(client, `${path}/search`, { query: QUESTION, filter: { document_ids: [id] } }),
  },
  query: {
    routes: [`POST ${KB}/query`],
    ofPlace: (client, { path }) => post(client, `${path}/query`, { query: QUESTION }),
  },
  'query, answer alone': {
    routes: [`POST ${KB}/query`],
    ofPlace: async (client, { path }) => {
      const answer = await client.post(`${path}/query`, { query: QUESTION, include_text: false });
      return answer.status === 200 ? answer.body.answer : told(answer);
    },
  },
  'query, streamed': {
    routes: [`POST ${KB}/query`],
    ofPlace: async (client, { path }) =>
      streamed(await openEvents(client, `${path}/query`, {}, { query: QUESTION, stream: true })),
  },
  'query of knowledge bases by name': {
    routes: ['POST /tenants/:tenant/query'],
    ofPlace: (client, { tenant, kb }) =>
      post(client, `/tenants/${tenant}/query`, { query: QUESTION, kbs: [kb] }),
  },
  'query of all knowledge bases': {
    routes: ['POST /tenants/:tenant/query'],
    ofPlace: (client, { tenant }) => post(client, `/tenants/${tenant}/query`, { query: QUESTION }),
  },
  'query of all knowledge bases, streamed': {
    routes: ['POST /tenants/:tenant/query'],
    ofPlace: async (client, { tenant }) =>
      streamed(
        await openEvents(client, `/tenants/${tenant}/query`, {}, { query: `${QUESTION}!`, stream: true }),
      ),
  },
  chat: chat(undefined),
  'chat with an agent': chat('plain'),
  'chat with an agent that has tools': chat('tools'),
  'chat, streamed': {
    routes: [`POST ${KB}/chat`],
    agents: true,
    ofPlace: async (client, { path }) =>
      streamed(await openEvents(client, `${path}/chat`, {}, { message: QUESTION, stream: true })),
  },
  'chat with an agent that has tools, streamed': {
    routes: [`POST ${KB}/chat`],
    agents: true,
    ofPlace: async (client, { path }) =>
      streamed(
        await openEvents(client, `${path}/chat`, {}, { message: QUESTION, agent: 'tools', stream: true }),
      ),
  },
  'chat at the one address': {
    routes: ['POST /chat'],
    agents: true,
    ofPlace: (client, { tenant, kb }) =>
      post(client.withHeaders({ 'x-tenant-id': tenant, 'x-kb-id': kb }), '/chat', { message: QUESTION }),
  },
  'chat, read again': {
    routes: [
      `POST ${KB}/chat`,
      ...['', '/messages', '/export'].map(part => `GET /tenants/:tenant/sessions/:chat${part}`),
    ],
    agents: true,
    ofPlace: chatReadAgain,
  },
  evaluation: {
    routes: [
      `POST ${KB}/evaluations`,
      `GET ${KB}/evaluations`,
      `GET ${KB}/evaluations/:evaluation`,
      `GET ${KB}/evaluations/:evaluation/results`,
    ],
    needs: ['query:run'],
    ofPlace: evaluated,
  },
  'entities of the graph': {
    routes: [`GET ${KB}/graph/entities`],
    ofPlace: (client, { path }) => get(client, `${path}/graph/entities?page_size=100`),
  },
  'entity of the graph': {
    routes: [`GET ${KB}/graph/entities/:entity`],
    ofDocument: (client, { place: { path }, entity }) => get(client, `${path}/graph/entities/${entity}`),
  },
  'sources of an entity': {
    routes: [`GET ${KB}/graph/entities/:entity`],
    ofPlace: (client, { path }) => get(client, `${path}/graph/entities/${shared.get(path)}?page_size=100`),
  },
  'neighbours in the graph': {
    routes: [`GET ${KB}/graph/entities/:entity/neighbours`],
    ofPlace: (client, { path }) => get(client, `${path}/graph/entities/${shared.get(path)}/neighbours`),
  },
  'audit of a document': {
    routes: ['GET /tenants/:tenant/audit'],
    ofDocument: (client, { place: { tenant }, id }) =>
      get(client, `/tenants/${tenant}/audit?resource_type=document&resource_id=${id}`),
  },
  'audit, exported': {
    routes: ['GET /tenants/:tenant/audit/export'],
    ofDocument: (client, { place: { tenant }, id }) =>
      get(client, `/tenants/${tenant}/audit/export?resource_type=document&resource_id=${id}`),
  },
  'delivery to a webhook': {
    routes: ['GET /tenants/:tenant/webhooks/:webhook/deliveries/:delivery'],
    ofDocument: (client, { place: { tenant }, id }) =>
      get(client, `/tenants/${tenant}/webhooks/${webhooks.get(tenant)}/deliveries/${deliveries.get(id)}`),
  },
  'relations of the graph': {
    routes: [`GET ${KB}/graph/relations`],
    ofPlace: (client, { path }) => get(client, `${path}/graph/relations?page_size=100`),
  },
};

/** What else is about knowledge bases, or may name documents, and why it is no way to what stands in them. */
const NOT_CONTENT: Record<string, string> = {
  ...Object.fromEntries(
    [
      `GET /tenants/:tenant/kbs`,
      `POST /tenants/:tenant/kbs`,
      `GET ${KB}`,
      `PATCH ${KB}`,
      `PUT ${KB}`,
      `DELETE ${KB}`,
      `GET ${KB}/config`,
      `GET ${KB}/stats`,
      `GET ${KB}/graph`,
      `GET ${KB}/grants`,
      `POST ${KB}/grants`,
      `PUT ${KB}/grants`,
      `DELETE ${KB}/grants/:grant`,
      `POST ${KB}/ingestion/pause`,
      `POST ${KB}/ingestion/resume`,
      `POST ${KB}/reindex`,
    ].map(key => [key, 'tells of the knowledge base, and counts']),
  ),
  ...Object.fromEntries(
    ['GET', 'POST', 'GET /:agent', 'PATCH /:agent', 'DELETE /:agent'].map(part => {
      const [method, path = ''] = part.split(' ');
      return [`${method} ${KB}/agents${path}`, 'tells of agents'];
    }),
  ),
  ...Object.fromEntries(
    [`POST ${KB}/documents`, `POST ${KB}/documents/url`, `POST ${KB}/documents/urls`, 'POST /upload'].map(
      key => [key, 'adds, through what "the same text again" asks'],
    ),
  ),
  ...Object.fromEntries(
    [
      `DELETE ${DOCUMENT}`,
      `PATCH ${DOCUMENT}`,
      `PUT ${DOCUMENT}/acl`,
      `POST ${DOCUMENT}/cancel`,
      `POST ${DOCUMENT}/reindex`,
      `POST ${KB}/documents/bulk-delete`,
      `DELETE ${KB}/evaluations/:evaluation`,
      `POST ${KB}/evaluations/:evaluation/cancel`,
      `PATCH /tenants/:tenant/sessions/:chat`,
      `DELETE /tenants/:tenant/sessions/:chat`,
      'POST /messages/:message/feedback',
      'POST /jobs/:job/cancel',
    ].map(key => [key, 'changes; to whoever may not it is a 404, which T1 tries']),
  ),
  'GET /audit': 'what the platform itself did, which enters no tenant',
  ...Object.fromEntries(
    [
      'GET /tenants',
      'POST /tenants',
      ...['GET', 'PATCH', 'PUT'].map(method => `${method} /tenants/:tenant`),
      ...['suspend', 'activate'].map(part => `POST /tenants/:tenant/${part}`),
      ...['GET', 'PUT'].map(method => `${method} /tenants/:tenant/features`),
      ...['GET', 'POST'].map(method => `${method} /tenant-templates`),
      ...['GET', 'PUT'].map(method => `${method} /tenant-templates/:template`),
      'GET /invitations/:token',
      'POST /tenants/:tenant/members/bulk',
      'POST /tenants/:tenant/members/import',
      'POST /platform/storage/sweep',
    ].map(key => [
      key,
      'settings, people or counts; its free JSON is what a caller gave, of a tenant or its members',
    ]),
  ),
  'GET /tenants/:tenant/webhooks/:webhook/deliveries': 'names no document',
  'POST /tenants/:tenant/webhooks/:webhook/test': 'sends an example',
  'POST /tenants/:tenant/webhooks/:webhook/deliveries/:delivery/redeliver':
    'answers as the delivery does, which is read',
  'GET /tenants/:tenant/sessions': 'titles, which are questions; see "what was kept"',
};

/** Fields that tell what stands in documents, or which ones there are. */
const TELLING = [
  'document_id',
  'document_ids',
  'document_title',
  'chunk_id',
  'chunk_ids',
  'passages',
  'quote',
];

beforeAll(async () => {
  model = await startModelServer({ respond });
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub-chat',
  });
  routes = app.application.nest.get(RouteAccess, { strict: false }).list();
  for (const tenant of ['acme', 'other']) {
    await app.createTenant(tenant);
    const webhook = { url: 'https://hooks.invalid/x', events: ['document.*'] };
    const { body } = await expectStatus(201, app.admin.post(`/tenants/${tenant}/webhooks`, webhook));
    webhooks.set(tenant, body.id);
    // Every document is found for the question, however it is worded.
    await expectStatus(200, app.admin.patch(`/tenants/${tenant}/config`, { cosine_threshold: 0, top_k: 20 }));
  }
  const closed = { name: 'Closed', slug: 'closed', visibility: 'granted' };
  await expectStatus(201, app.admin.post('/tenants/acme/kbs', closed));
  for (const { path } of [DOCS, CLOSED, FOREIGN]) {
    await expectStatus(200, app.admin.patch(path, { config: { graph: 'names' } }));
    const agent = { name: 'Plain', slug: 'plain', enabled_tools: [] };
    await expectStatus(201, app.admin.post(`${path}/agents`, agent));
    const enabled_tools = ['vector_search', 'keyword_search', 'hybrid_search', 'graph_search'];
    await expectStatus(
      201,
      app.admin.post(`${path}/agents`, { name: 'Tools', slug: 'tools', enabled_tools }),
    );
  }
  await addPeople();
  const acl = { members: [people['listed']?.id], groups: [group] };
  documents = {
    open: await addDocument(DOCS, 'Zephyr Industries'),
    restricted: await addDocument(DOCS, 'Omega Fund', acl),
    closed: await addDocument(CLOSED, 'Kestrel Holdings'),
    foreign: await addDocument(FOREIGN, 'Borealis Union'),
  };
  await addSubjects();
}, 240_000);
afterAll(async () => {
  await app?.close();
  await model?.close();
});

describe('T4 surfaces', () => {
  it('are all ways to what stands in documents', async () => {
    const sorted = new Set([
      ...Object.values(SURFACES).flatMap(surface => surface.routes),
      ...Object.keys(NOT_CONTENT),
    ]);
    const known = new Set(routes.map(route => keyOf(route)));
    expect(
      [...sorted].filter(key => !known.has(key)),
      'of which there is no such route',
    ).toEqual([]);
    const telling = await tellingRoutes();
    const unsorted = routes.filter(
      route =>
        !sorted.has(keyOf(route)) &&
        (isKbPermission((route.permission ?? '') as Permission) ||
          /^\/(jobs|messages)\//.test(route.path) ||
          telling.has(keyOf(route))),
    );
    expect(unsorted.map(keyOf), 'which stand in neither list').toEqual([]);
    tried();
  });

  it('say the same of each document to each who asks', async () => {
    for (const [turn, [name, subject]] of [...subjects].entries()) await expectVerdicts(name, subject, turn);
  }, 240_000);

  it('say the same of what was asked while it was allowed, once it is no more', async () => {
    const { board } = people;
    const acl = { members: [], groups: [group] };
    await expectStatus(200, app.admin.put(`${DOCS.path}/documents/${documents.restricted.id}/acl`, { acl }));
    await expectStatus(204, app.admin.delete(`/tenants/acme/groups/${group}/members/${board?.id}`));
    await expectStatus(204, app.admin.delete(`${CLOSED.path}/grants/${grant}`));
    const taken = ['listed', 'token of whoever is listed', 'in the group', 'granted'];
    const turns = [...subjects.keys()];
    for (const name of taken) {
      const subject = subjects.get(name) as Subject;
      subject.sees = ['open'];
      // The same third as before: of what nobody has asked nothing can be remembered.
      await expectVerdicts(`${name}, before`, subject, turns.indexOf(name));
      // One keeps what one was told oneself, but for what a knowledge base said that is closed now.
      expect(await keptChats(subject.client), `chats of ${name}`).not.toContain(documents.closed.marker);
      tried();
    }
  }, 120_000);

  it('say no to a job whose right was taken while it ran', async () => {
    const { client, id } = people['listed'] as { client: Client; id: string };
    const acl = (members: string[]) =>
      app.admin.put(`${DOCS.path}/documents/${documents.restricted.id}/acl`, {
        acl: { members, groups: [] },
      });
    await expectStatus(200, acl([id]));
    model.latency = 150;
    try {
      const questions = Array.from({ length: 8 }, (_, n) => ({ question: `${QUESTION} (${n})` }));
      const variants = [{ name: 'answers' }];
      const started = await expectStatus(
        202,
        client.post(`${DOCS.path}/evaluations`, { questions, variants }),
      );
      const evaluation = `${DOCS.path}/evaluations/${started.body.id}`;
      await expect
        .poll(async () => (await client.get(evaluation)).body.progress, { timeout: 20_000 })
        .toBeGreaterThan(0);
      await expectStatus(200, acl([]));
      await app.jobEnded(`/jobs/${started.body.job_id}`);
      const { items } = (await expectStatus(200, app.admin.get(`${evaluation}/results`))).body;
      const found = items.map(({ passages }: any) =>
        passages.some((passage: any) => passage.document_id === documents.restricted.id),
      );
      expect(found).toHaveLength(8);
      expect([found[0], found.at(-1)]).toEqual([true, false]);
      tried();
    } finally {
      model.latency = 0;
    }
  });
});

/** Asks every surface for every document, and expects what the subject's rights say. */
async function expectVerdicts(name: string, subject: Subject, turn: number): Promise<void> {
  const wrong: string[] = [];
  const judge = (what: string, text: string, { marker, id }: Fixture, allowed: boolean) => {
    const shown = text.includes(marker) || text.includes(id);
    if (shown !== allowed) wrong.push(`${what}: ${marker}: expected ${allowed}: ${text.slice(0, 600)}`);
    tried();
  };
  const all = Object.entries(documents) as Array<[DocumentName, Fixture]>;
  const asked = Object.entries(SURFACES).flatMap(([surface, { ofPlace, ofDocument }]) => [
    ...(ofPlace ? [DOCS, CLOSED, FOREIGN] : []).map(at => async () => {
      const text = (await ofPlace?.(subject.client, at)) as string;
      for (const [document, fixture] of all) {
        // What is elsewhere is shown by none that is about one knowledge base.
        const here = fixture.place === at || (/of all/.test(surface) && fixture.place.tenant === at.tenant);
        judge(`${surface} of ${at.path}`, text, fixture, here && allows(subject, surface, document));
      }
    }),
    ...(ofDocument ? all : []).map(([document, fixture]) => async () => {
      const text = (await ofDocument?.(subject.client, fixture)) as string;
      judge(surface, text, fixture, allows(subject, surface, document));
    }),
  ]);
  await atOnce(ofTurn(asked, turn), ask => ask());
  expect(wrong, name).toEqual([]);
}

function allows(
  { sees, permissions, agentsOnly }: Subject,
  surface: string,
  document: DocumentName,
): boolean {
  const { routes: keys, needs = [], agents = false } = SURFACES[surface] as Surface;
  if (!sees.includes(document) || (agentsOnly && !agents)) return false;
  const asked = keys.map(key => routes.find(route => keyOf(route) === key)?.permission as string);
  return [...asked, ...needs].every(
    permission => permission.startsWith('user:') || permissions.has(permission),
  );
}

/** All that is left of the subject's chats. */
async function keptChats(client: Client): Promise<string> {
  const { body } = await expectStatus(200, client.get('/tenants/acme/sessions?page_size=100'));
  const read = body.items.map(({ id }: { id: string }) =>
    Promise.all(['', '/messages', '/export'].map(part => get(client, `/tenants/acme/sessions/${id}${part}`))),
  );
  return JSON.stringify([body, await Promise.all(read)]);
}

/** @returns the id of what the webhook was told of this document */
async function deliveryOf(tenant: string, document: string): Promise<string> {
  const path = `/tenants/${tenant}/webhooks/${webhooks.get(tenant)}/deliveries`;
  for (let waited = 0; waited < 20_000; waited += 100) {
    const { body } = await expectStatus(200, app.admin.get(`${path}?page_size=100`));
    for (const { id } of body.items)
      if ((await get(app.admin, `${path}/${id}`)).includes(document)) return id;
    await sleep(100);
  }
  throw new Error(`The webhook has not been told of ${document} in 20 s.`);
}

/** Says everything that it was given, so that whatever a model is shown can be seen. */
function respond(messages: StubMessage[], { tools }: { tools: string[] }) {
  const results = messages.filter(({ role }) => role === 'tool');
  if (tools.length > 0 && results.length === 0)
    return { toolCalls: tools.map(name => ({ name, args: { query: QUESTION } })) };
  const given = messages.filter(({ role }) => role !== 'system').map(({ content }) => content);
  const found = [...given.join('\n').matchAll(/\[(\d+)\](?:(?!\[\d+\])[^])*?merger with (\w+ \w+)/g)];
  const sentences = new Map(
    found.map(([, number, name]) => [number, `${SHARED} planned the merger with ${name}. [${number}]`]),
  );
  return [...sentences.values()].join(' ') || 'NOT_FOUND';
}

async function addDocument(at: Place, marker: string, acl?: object): Promise<Fixture> {
  const text = `${SHARED} planned the merger with ${marker}.`;
  const fields = { text, title: `About ${marker}`, acl };
  const { body } = await expectStatus(202, app.admin.post(`${at.path}/documents/text`, fields));
  await app.settled(at.tenant, body.id, at.kb);
  const { body: entities } = await expectStatus(
    200,
    app.admin.get(`${at.path}/graph/entities?page_size=100`),
  );
  const idOf = (name: string) =>
    entities.items.find((entity: { name: string }) => entity.name === name).id as string;
  shared.set(at.path, idOf(SHARED));
  deliveries.set(body.id, await deliveryOf(at.tenant, body.id));
  return { place: at, marker, text, id: body.id, entity: idOf(marker) };
}

async function addPeople(): Promise<void> {
  for (const [name, role] of [
    ['owner', 'owner'],
    ['listed', 'editor'],
    ['editor', 'editor'],
    ['board', 'viewer'],
    ['granted', 'viewer'],
    ['viewer', 'viewer'],
    ['readonly', 'viewer_readonly'],
    ['removed', 'admin'],
  ] as const)
    people[name] = await app.createMember('acme', role);
  people['stranger'] = await app.createUser();
  people['neighbour'] = await app.createMember('other', 'owner');
  group = (await expectStatus(201, app.admin.post('/tenants/acme/groups', { name: 'Board' }))).body.id;
  const members = `/tenants/acme/groups/${group}/members`;
  await expectStatus(201, app.admin.post(members, { user_id: people['board']?.id }));
  const granting = { user_id: people['granted']?.id, role: 'viewer' };
  grant = (await expectStatus(201, app.admin.post(`${CLOSED.path}/grants`, granting))).body.id;
}

async function addSubjects(): Promise<void> {
  const of = async (name: string): Promise<Pick<Subject, 'client' | 'permissions'>> => {
    const { client } = people[name] as { client: Client };
    const { body } = await client
      .withHeaders({ 'x-tenant-id': name === 'neighbour' ? 'other' : 'acme' })
      .get('/permissions');
    return { client, permissions: new Set(body.granted) };
  };
  const add = async (label: string, name: string, sees: DocumentName[]) =>
    subjects.set(label, { ...(await of(name)), sees });
  await add('owner', 'owner', ['open', 'restricted', 'closed']);
  await add('listed', 'listed', ['open', 'restricted']);
  await add('editor', 'editor', ['open']);
  await add('in the group', 'board', ['open', 'restricted']);
  await add('granted', 'granted', ['open', 'closed']);
  await add('viewer', 'viewer', ['open']);
  await add('read-only viewer', 'readonly', ['open']);
  await add('neighbour', 'neighbour', ['foreign']);
  for (const name of ['stranger', 'removed'])
    subjects.set(name, {
      client: (people[name] as { client: Client }).client,
      permissions: new Set(),
      sees: [],
    });
  subjects.set('platform admin', {
    client: app.admin,
    permissions: new Set(Object.keys(PERMISSIONS)),
    sees: ['open', 'restricted', 'closed', 'foreign'],
  });
  const token = async (label: string, name: string, sees: DocumentName[], fields: object = {}) => {
    const { client, permissions } = await of(name);
    const scopes = [...permissions].filter(
      scope => isKbPermission(scope as Permission) && scope !== 'kb:create',
    );
    const issued = await issueToken(app, client, 'acme', {
      scopes,
      rate_limit_per_minute: 1_000_000,
      ...fields,
    });
    const held = new Set((issued.body.scopes as string[]) ?? scopes);
    subjects.set(label, { client: issued.client, permissions: held, sees });
  };
  // Owners and admins make tokens: whoever is listed is given the right for as long as it takes.
  const kbId = async ({ path }: Place) => (await expectStatus(200, app.admin.get(path))).body.id as string;
  await token('token', 'owner', ['open', 'restricted', 'closed']);
  await token('token of one knowledge base', 'owner', ['closed'], { kb_ids: [await kbId(CLOSED)] });
  const { body: agents } = await app.admin.get(`${DOCS.path}/agents`);
  await token('token of one agent', 'owner', ['open', 'restricted'], {
    scopes: ['query:run', 'chat:own'],
    agent_ids: agents.items.flatMap(({ id, slug }: Record<string, string>) => (slug === 'tools' ? [id] : [])),
  });
  (subjects.get('token of one agent') as Subject).agentsOnly = true;
  await tokenOfListed();
  await expectStatus(204, app.admin.delete(`/tenants/acme/members/${people['removed']?.id}`));
}

/** Made while they were an admin; now it may what its creator may. */
async function tokenOfListed(): Promise<void> {
  const { id, client } = people['listed'] as { id: string; client: Client };
  const listed = subjects.get('listed') as Subject;
  const member = `/tenants/acme/members/${id}`;
  await expectStatus(200, app.admin.put(member, { role: 'admin' }));
  const scopes = [...listed.permissions].filter(scope => isKbPermission(scope as Permission));
  const { client: token } = await issueToken(app, client, 'acme', {
    scopes,
    rate_limit_per_minute: 1_000_000,
  });
  await expectStatus(200, app.admin.put(member, { role: 'editor' }));
  subjects.set('token of whoever is listed', {
    client: token,
    permissions: new Set(scopes),
    sees: ['open', 'restricted'],
  });
}

const keyOf = ({ method, path }: GuardedRoute): string => `${method} ${path}`;

/** Routes whose answer, as the API document describes it, tells of documents. */
async function tellingRoutes(): Promise<Set<string>> {
  const { body: api } = await app.anonymous.get('//openapi.json');
  const found = new Set<string>();
  for (const [path, operations] of Object.entries<any>(api.paths)) {
    for (const [method, operation] of Object.entries<any>(operations)) {
      const schemas = Object.entries<any>(operation.responses)
        .filter(([status]) => status.startsWith('2'))
        .flatMap(([, { content = {} }]) => Object.values<any>(content).map(({ schema }) => schema));
      const key = `${method.toUpperCase()} ${path.replace('/api/v1', '').replace(/\{(\w+)\}/g, ':$1')}`;
      if (schemas.some(schema => tells(api, schema))) found.add(key);
    }
  }
  expect(found.size).toBeGreaterThan(10);
  return found;
}

const isFree = (additional: unknown): boolean =>
  additional === true ||
  (typeof additional === 'object' && additional !== null && Object.keys(additional).length === 0);

/**
 * Whether it has such a field, or one of free JSON, which may hold anything.
 *
 * @param above references that led here: free JSON refers to itself
 */
function tells(api: any, schema: any, above: string[] = []): boolean {
  if (typeof schema !== 'object' || schema === null) return false;
  if (above.includes(schema.$ref) || isFree(schema.additionalProperties)) return true;
  if (schema.$ref)
    return tells(api, api.components.schemas[schema.$ref.split('/').at(-1)], [...above, schema.$ref]);
  const inner = [
    schema.items,
    schema.additionalProperties,
    ...['anyOf', 'allOf', 'oneOf'].flatMap(name => schema[name] ?? []),
    ...Object.values(schema.properties ?? {}),
  ];
  return (
    Object.keys(schema.properties ?? {}).some(name => TELLING.includes(name)) ||
    inner.some(part => tells(api, part, above))
  );
}
