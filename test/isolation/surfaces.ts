import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Permission } from '../../src/core/authorization/permissions.js';
import type { TestApplication } from '../setup/application.js';
import type { Answer, Client } from '../setup/client.js';
import { type EventStream, openEvents } from '../setup/event-stream.js';
import { type ApiDocument, operationsOf } from '../setup/fuzz/api-document.js';
import type { Fixture, Place } from './documents-and-subjects.js';

export interface Surface {
  /** `METHOD /path` of what it asks. */
  routes: string[];
  /** Beside those of its routes. */
  needs?: Permission[];
  /** Whether a token that is kept to an agent may ask it. */
  agents?: boolean;
  /** All that it tells of the documents of a place. */
  ofPlace?: (client: Client, place: Place, around: Surroundings) => Promise<string>;
  /** All that it tells of one. */
  ofDocument?: (client: Client, document: Fixture) => Promise<string>;
}

export interface Surroundings {
  app: TestApplication;
  /** Ids of the entity that all documents of a place name, by its path. */
  sharedEntities: ReadonlyMap<string, string>;
}

export const QUESTION = 'What merger did Ada Lovelace plan?';
const KB = '/tenants/:tenant/kbs/:kb';
const DOCUMENT = `${KB}/documents/:document`;

/** What is said of a problem but its path, in which an id stands that was asked for. */
const told = ({ status, body }: Answer): string => {
  if (status >= 500) throw new Error(`${status}: ${JSON.stringify(body)}`);
  return typeof body === 'string' ? body : JSON.stringify({ ...body, instance: null });
};
export const get = async (client: Client, path: string) => told(await client.get(path));
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

async function evaluated(client: Client, { path }: Place, { app }: Surroundings): Promise<string> {
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
export const SURFACES: Record<string, Surface> = {
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
    ofPlace: (client, { path }, { sharedEntities }) =>
      get(client, `${path}/graph/entities/${sharedEntities.get(path)}?page_size=100`),
  },
  'neighbours in the graph': {
    routes: [`GET ${KB}/graph/entities/:entity/neighbours`],
    ofPlace: (client, { path }, { sharedEntities }) =>
      get(client, `${path}/graph/entities/${sharedEntities.get(path)}/neighbours`),
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
    ofDocument: (client, { delivery }) => get(client, delivery),
  },
  'relations of the graph': {
    routes: [`GET ${KB}/graph/relations`],
    ofPlace: (client, { path }) => get(client, `${path}/graph/relations?page_size=100`),
  },
};

/** What else is about knowledge bases, or may name documents, and why it is no way to what stands in them. */
export const NOT_CONTENT: Record<string, string> = {
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

/** Routes whose answer, as the API document describes it, tells of documents. */
export function tellingRoutes(api: ApiDocument): Set<string> {
  const telling = operationsOf(api).filter(({ responses }) =>
    Object.entries(responses)
      .filter(([status]) => status.startsWith('2'))
      .flatMap(([, { content = {} }]) => Object.values(content).map(({ schema }) => schema))
      .some(schema => tells(api, schema)),
  );
  const found = new Set(telling.map(({ key }) => key));
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
function tells(api: ApiDocument, schema: any, above: string[] = []): boolean {
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
