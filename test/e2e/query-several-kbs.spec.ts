import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { openEvents } from '../setup/event-stream.js';
import { expectProblem } from '../setup/problem.js';

const NOWHERE = '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11';
const TEXTS = {
  docs: 'The warranty on frames is ten years.',
  support: 'A warranty claim is sent to the support desk.',
  secret: 'The warranty reserve is four million francs.',
};

let app: TestApplication;
let owner: Client;
const ids: Record<string, string> = {};
let foreign: string;

beforeAll(async () => {
  app = await startTestApplication();
  ids['docs'] = (await app.createTenant('acme')).kbId;
  foreign = (await app.createTenant('other')).kbId;
  await app.addText('other', 'The warranty of the others is a year.');
  owner = (await app.createMember('acme', 'owner')).client;
  for (const [name, visibility] of [
    ['support', 'tenant'],
    ['secret', 'granted'],
  ] as const) {
    const { body } = await expectStatus(201, owner.post('/tenants/acme/kbs', { name, visibility }));
    ids[name] = body.id;
  }
  for (const [kb, text] of Object.entries(TEXTS)) {
    const { body } = await expectStatus(
      202,
      owner.post(`/tenants/acme/kbs/${kb}/documents/text`, { text, title: kb }),
    );
    await app.settled('acme', body.id, kb);
  }
});
afterAll(() => app?.close());

const ask = (client: Client, body: object = {}) =>
  client.post('/tenants/acme/query', { query: 'What about the warranty?', ...body });
const titles = async (client: Client, body: object = {}) => {
  const { passages } = (await expectStatus(200, ask(client, body))).body;
  return [...new Set<string>(passages.map((passage: any) => passage.document_title))].toSorted();
};

describe('one question to several knowledge bases', () => {
  it('is answered from all of them in one ranking', async () => {
    const { body } = await expectStatus(200, ask(owner, { kbs: ['docs', 'support'] }));
    expect(body.answered).toBe(true);
    expect(new Set(body.passages.map((passage: any) => passage.kb_id))).toEqual(
      new Set([ids['docs'], ids['support']]),
    );
    const scores = body.passages.map((passage: any) => passage.score);
    expect(scores).toEqual(scores.toSorted((a: number, b: number) => b - a));
    for (const citation of body.citations) {
      const passage = body.passages.find((found: any) => found.chunk_id === citation.chunk_id);
      expect(passage.text).toContain(citation.quote);
    }
  });

  it('goes to those that are named, by id or slug, each once', async () => {
    expect(await titles(owner, { kbs: ['support'] })).toEqual(['support']);
    expect(await titles(owner, { kbs: [ids['docs'], 'docs', ids['docs']?.toUpperCase()] })).toEqual(['docs']);
  });

  it('goes to all that the caller may ask, where none is named', async () => {
    const { client: viewer } = await app.createMember('acme', 'viewer');
    expect(await titles(owner)).toEqual(['docs', 'secret', 'support']);
    expect(await titles(viewer)).toEqual(['docs', 'support']);
    expect(await titles(viewer, { kbs: null })).toEqual(['docs', 'support']);
    await expectStatus(200, owner.patch('/tenants/acme/kbs/support', { is_active: false }));
    expect(await titles(viewer)).toEqual(['docs']);
    expect(await titles(viewer, { kbs: ['support'] })).toEqual(['support']);
    await expectStatus(200, owner.patch('/tenants/acme/kbs/support', { is_active: true }));
  });

  it('can be streamed', async () => {
    const stream = await openEvents(
      owner,
      '/tenants/acme/query',
      {},
      { query: 'What about the warranty?', stream: true },
    );
    await stream.ended;
    expect(stream.events[0]?.type).toBe('passages');
    expect(stream.events.at(-1)).toMatchObject({ type: 'done', data: { answered: true } });
  });
});

describe('under the caller’s rights in each', () => {
  it('one that may not be asked is not there, whatever it is', async () => {
    const { client: viewer } = await app.createMember('acme', 'viewer');
    const answers = await Promise.all(
      [ids['secret'], 'secret', foreign, NOWHERE, 'nothing'].map(kb => ask(viewer, { kbs: ['docs', kb] })),
    );
    for (const answer of answers) {
      expectProblem(answer, 404, 'not_found');
      expect(answer.body.detail).toBe(answers[0]?.body.detail);
      expect(answer.body.passages).toBeUndefined();
    }
    expectProblem(await ask(owner, { kbs: [foreign] }), 404, 'not_found');
  });

  it('a grant opens one', async () => {
    const { id, client } = await app.createMember('acme', 'viewer');
    await expectStatus(
      201,
      owner.post('/tenants/acme/kbs/secret/grants', { user_id: id, role: 'viewer_readonly' }),
    );
    expect(await titles(client)).toEqual(['docs', 'secret', 'support']);
    expect(await titles(client, { kbs: ['secret'] })).toEqual(['secret']);
  });

  it('a member who may ask in one alone asks that one', async () => {
    const { body: role } = await expectStatus(
      201,
      owner.post('/tenants/acme/roles', { name: 'guest', permissions: ['tenant:read'] }),
    );
    const { id, client } = await app.createMember('acme', role.name);
    expectProblem(await ask(client), 403, 'forbidden');
    await expectStatus(201, owner.post('/tenants/acme/kbs/docs/grants', { user_id: id, role: 'viewer' }));
    expect(await titles(client)).toEqual(['docs']);
    expectProblem(await ask(client, { kbs: ['docs', 'support'] }), 404, 'not_found');
  });

  it('a document that is hidden stays so', async () => {
    const { client: viewer } = await app.createMember('acme', 'viewer');
    const { body } = await expectStatus(
      202,
      owner.post('/tenants/acme/kbs/docs/documents/text', {
        text: 'The warranty fund is empty.',
        title: 'hidden',
        acl: { members: [], groups: [] },
      }),
    );
    await app.settled('acme', body.id);
    expect(await titles(viewer)).toEqual(['docs', 'support']);
    expect(await titles(owner)).toContain('hidden');
    await expectStatus(204, owner.delete(`/tenants/acme/kbs/docs/documents/${body.id}`));
  });

  it('a token asks the knowledge bases that it is for', async () => {
    const { body } = await expectStatus(
      201,
      owner.post('/tenants/acme/api-tokens', {
        name: 'One',
        scopes: ['query:run'],
        kb_ids: [ids['support']],
      }),
    );
    const token = app.anonymous.withToken(body.secret);
    expect(await titles(token)).toEqual(['support']);
    expectProblem(await ask(token, { kbs: ['docs'] }), 404, 'not_found');
    expectProblem(await ask(token, { kbs: ['support', 'docs'] }), 404, 'not_found');
  });

  it('whoever is no member finds no tenant', async () => {
    const { client } = await app.createUser();
    expectProblem(await ask(client), 404, 'not_found');
    expectProblem(await ask(app.anonymous), 401, 'unauthorized');
  });
});

describe('what a request names beside its body', () => {
  it('chooses', async () => {
    expect(await titles(owner.withHeaders({ 'x-kb-id': 'support' }))).toEqual(['support']);
    expect(await titles(owner.withHeaders({ 'x-kb-id': 'support' }), { kbs: ['support'] })).toEqual([
      'support',
    ]);
  });

  it('must agree with it', async () => {
    const header = owner.withHeaders({ 'x-kb-id': 'support' });
    expectProblem(await ask(header, { kbs: ['docs'] }), 400, 'kb_mismatch');
    expectProblem(await ask(header, { kbs: ['docs', 'support'] }), 400, 'kb_mismatch');
    expectProblem(await ask(owner.withHeaders({ 'x-kb-id': foreign })), 404, 'not_found');
  });

  it('is refused where it is no list of knowledge bases', async () => {
    for (const kbs of [[], 'docs', [''], [7], Array.from({ length: 51 }, () => 'docs'), ['x'.repeat(300)]])
      expectProblem(await ask(owner, { kbs }), 422, 'validation_failed');
  });
});
