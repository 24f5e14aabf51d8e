import { setTimeout as sleep } from 'node:timers/promises';
import { type Permission, PERMISSIONS, isKbPermission } from '../../src/core/authorization/permissions.js';
import { issueToken } from '../setup/api-tokens.js';
import { type TestApplication, expectStatus } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import type { StubMessage } from '../setup/model-server.js';
import { QUESTION, get } from './surfaces.js';

/** Where documents are: tenant and knowledge base. */
export interface Place {
  tenant: string;
  kb: string;
  path: string;
}

export interface Fixture {
  place: Place;
  /** Stands in its text and its title, and nowhere else. */
  marker: string;
  text: string;
  id: string;
  /** Of what it is about, in the graph. */
  entity: string;
  /** Of what all documents of its place are about. */
  sharedEntity: string;
  /** The address of what a webhook was told of it. */
  delivery: string;
}

export type DocumentName = 'open' | 'restricted' | 'closed' | 'foreign';

export interface Subject {
  client: Client;
  /** What the subject may see, whatever it is asked through. */
  sees: DocumentName[];
  permissions: Set<string>;
  /** Asks agents, and nothing past them. */
  agentsOnly?: boolean;
}

type People = Record<string, { id: string; client: Client }>;

export interface DocumentsAndSubjects {
  documents: Record<DocumentName, Fixture>;
  subjects: Map<string, Subject>;
  people: People;
  /** May read the restricted document. */
  group: string;
  /** Of the closed knowledge base. */
  grant: string;
}

const SHARED = 'Ada Lovelace';
const place = (tenant: string, kb: string): Place => ({ tenant, kb, path: `/tenants/${tenant}/kbs/${kb}` });
export const DOCS = place('acme', 'docs');
export const CLOSED = place('acme', 'closed');
export const FOREIGN = place('other', 'docs');

/** Documents that not everybody may read, in two tenants, and whoever may ask for them. */
export async function addDocumentsAndSubjects(app: TestApplication): Promise<DocumentsAndSubjects> {
  /** By tenant, their addresses: told of every document. */
  const webhooks = new Map<string, string>();
  for (const tenant of ['acme', 'other']) {
    await app.createTenant(tenant);
    const webhook = { url: 'https://hooks.invalid/x', events: ['document.*'] };
    const { body } = await expectStatus(201, app.admin.post(`/tenants/${tenant}/webhooks`, webhook));
    webhooks.set(tenant, `/tenants/${tenant}/webhooks/${body.id}`);
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
  const { people, group, grant } = await addPeople(app);
  const add = (at: Place, marker: string, acl?: object) =>
    addDocument(app, at, webhooks.get(at.tenant) as string, marker, acl);
  const documents = {
    open: await add(DOCS, 'Zephyr Industries'),
    restricted: await add(DOCS, 'Omega Fund', { members: [people['listed']?.id], groups: [group] }),
    closed: await add(CLOSED, 'Kestrel Holdings'),
    foreign: await add(FOREIGN, 'Borealis Union'),
  };
  return { documents, subjects: await addSubjects(app, people), people, group, grant };
}

/** Says everything that it was given, so that whatever a model is shown can be seen. */
export function respond(messages: StubMessage[], { tools }: { tools: string[] }) {
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

/** @returns the address of what the webhook was told of this document */
async function deliveryOf(app: TestApplication, webhook: string, document: string): Promise<string> {
  const path = `${webhook}/deliveries`;
  for (let waited = 0; waited < 20_000; waited += 100) {
    const { body } = await expectStatus(200, app.admin.get(`${path}?page_size=100`));
    for (const { id } of body.items)
      if ((await get(app.admin, `${path}/${id}`)).includes(document)) return `${path}/${id}`;
    await sleep(100);
  }
  throw new Error(`The webhook has not been told of ${document} in 20 s.`);
}

async function addDocument(
  app: TestApplication,
  at: Place,
  webhook: string,
  marker: string,
  acl?: object,
): Promise<Fixture> {
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
  return {
    place: at,
    marker,
    text,
    id: body.id,
    entity: idOf(marker),
    sharedEntity: idOf(SHARED),
    delivery: await deliveryOf(app, webhook, body.id),
  };
}

async function addPeople(
  app: TestApplication,
): Promise<Pick<DocumentsAndSubjects, 'people' | 'group' | 'grant'>> {
  const people: People = {};
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
  const group = (await expectStatus(201, app.admin.post('/tenants/acme/groups', { name: 'Board' }))).body.id;
  const members = `/tenants/acme/groups/${group}/members`;
  await expectStatus(201, app.admin.post(members, { user_id: people['board']?.id }));
  const granting = { user_id: people['granted']?.id, role: 'viewer' };
  const grant = (await expectStatus(201, app.admin.post(`${CLOSED.path}/grants`, granting))).body.id;
  return { people, group, grant };
}

async function addSubjects(app: TestApplication, people: People): Promise<Map<string, Subject>> {
  const subjects = new Map<string, Subject>();
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
  const member = `/tenants/acme/members/${people['listed']?.id}`;
  subjects.set(
    'token of whoever is listed',
    await tokenOfListed(app, member, subjects.get('listed') as Subject),
  );
  await expectStatus(204, app.admin.delete(`/tenants/acme/members/${people['removed']?.id}`));
  return subjects;
}

/** Made while they were an admin; now it may what its creator may. */
async function tokenOfListed(
  app: TestApplication,
  member: string,
  { client, permissions }: Subject,
): Promise<Subject> {
  await expectStatus(200, app.admin.put(member, { role: 'admin' }));
  const scopes = [...permissions].filter(scope => isKbPermission(scope as Permission));
  const { client: token } = await issueToken(app, client, 'acme', {
    scopes,
    rate_limit_per_minute: 1_000_000,
  });
  await expectStatus(200, app.admin.put(member, { role: 'editor' }));
  return { client: token, permissions: new Set(scopes), sees: ['open', 'restricted'] };
}
