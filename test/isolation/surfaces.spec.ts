import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Permission, isKbPermission } from '../../src/core/authorization/permissions.js';
import { type GuardedRoute, RouteAccess } from '../../src/core/authorization/route-access.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import type { Client } from '../setup/client.js';
import { ofTurn, tried } from '../setup/isolation-cases.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { keyOf } from '../setup/route-calls.js';
import {
  CLOSED,
  DOCS,
  type DocumentName,
  type DocumentsAndSubjects,
  FOREIGN,
  type Fixture,
  type Subject,
  addDocumentsAndSubjects,
  respond,
} from './documents-and-subjects.js';
import { NOT_CONTENT, QUESTION, SURFACES, type Surface, get, tellingRoutes } from './surfaces.js';

let app: TestApplication;
let model: ModelServer;
let routes: GuardedRoute[];
let documents: DocumentsAndSubjects['documents'];
let subjects: DocumentsAndSubjects['subjects'];
let people: DocumentsAndSubjects['people'];
let group: string;
let grant: string;

beforeAll(async () => {
  model = await startModelServer({ respond });
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub-chat',
  });
  routes = app.application.nest.get(RouteAccess, { strict: false }).list();
  ({ documents, subjects, people, group, grant } = await addDocumentsAndSubjects(app));
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
    const { body: api } = await app.anonymous.get('//openapi.json');
    const telling = tellingRoutes(api);
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
  const sharedEntities = new Map(all.map(([, { place, sharedEntity }]) => [place.path, sharedEntity]));
  const asked = Object.entries(SURFACES).flatMap(([surface, { ofPlace, ofDocument }]) => [
    ...(ofPlace ? [DOCS, CLOSED, FOREIGN] : []).map(at => async () => {
      const text = (await ofPlace?.(subject.client, at, { app, sharedEntities })) as string;
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
