import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { issueToken } from '../setup/api-tokens.js';
import type { Client } from '../setup/client.js';
import { openEvents } from '../setup/event-stream.js';
import { type ModelServer, type StubMessage, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

const FACTS = [
  'Frames carry a warranty of ten years. Batteries are covered for two years.',
  'The quarterly results were a profit of nine million. The board met in Basel.',
];

let model: ModelServer;
let app: TestApplication;
let owner: { id: string; client: Client };
let member: { id: string; client: Client };
const tenant = '/tenants/acme-corp';
const chat = `${tenant}/kbs/docs/chat`;

beforeAll(async () => {
  model = await startModelServer();
  app = await startTestApplication({ LLM_BASE_URL: model.url, LLM_MODEL: 'stub-chat' });
  await app.createTenant('acme-corp');
  owner = await app.createMember('acme-corp', 'owner');
  member = await app.createMember('acme-corp', 'viewer_readonly');
  for (const text of FACTS) await app.addText('acme-corp', text);
  // The same question is asked again and again here, and is to be answered each time.
  await expectStatus(200, owner.client.patch(`${tenant}/config`, { enable_llm_cache: false }));
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});
const quotes = (messages: StubMessage[]) =>
  /ten years/.test(messages.at(-1)?.content ?? '') ? 'Ten years. [1]' : 'NOT_FOUND';
beforeEach(() => {
  model.respond = quotes;
});

const sql = (statement: string): Promise<any[]> =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => (await client.query(statement)).rows,
  );
const say = async (message: string, fields: Record<string, unknown> = {}, as = member.client) =>
  (await expectStatus(200, as.post(chat, { message, ...fields }))).body;
const messagesOf = async (session: string, as = member.client) =>
  (await expectStatus(200, as.get(`${tenant}/sessions/${session}/messages`))).body.items as any[];
const promptOf = (index = -1) => model.received.at(index)?.body.messages as StubMessage[];
const stream = (message: string, fields: Record<string, unknown> = {}, as = member.client) =>
  openEvents(as, chat, {}, { message, stream: true, ...fields });

describe('a chat', () => {
  it('is answered knowing what was said before it, and both are kept', async () => {
    const first = await say('How long is the warranty on frames?');
    expect(first).toMatchObject({ answered: true, agent_id: null, tool_calls: [], model: 'stub-chat' });
    expect(first.citations).toHaveLength(1);
    const second = await say('And who pays for it?', { session_id: first.session_id });
    expect(second.session_id).toBe(first.session_id);
    // What the model was told: of the latest call, or the one before it, which makes the question one of its own.
    const told = JSON.stringify([promptOf(-1), promptOf(-2)]);
    expect(told).toContain('How long is the warranty on frames?');
    expect(told).toContain('Ten years.');

    const messages = await messagesOf(first.session_id);
    expect(messages.map(({ role, content, status }) => [role, content, status])).toEqual([
      ['user', 'How long is the warranty on frames?', 'complete'],
      ['assistant', first.answer, 'complete'],
      ['user', 'And who pays for it?', 'complete'],
      ['assistant', second.answer, 'complete'],
    ]);
    expect(messages[1]).toMatchObject({
      id: first.message_id,
      answered: true,
      citations: first.citations,
      model: 'stub-chat',
      usage: { prompt_tokens: expect.any(Number), completion_tokens: expect.any(Number), credits: 0 },
      latency_ms: { retrieval: expect.any(Number), generation: expect.any(Number) },
      feedback: null,
    });
    const { body: session } = await expectStatus(
      200,
      member.client.get(`${tenant}/sessions/${first.session_id}`),
    );
    expect(session).toMatchObject({
      title: 'How long is the warranty on frames?',
      message_count: 4,
      user_id: member.id,
      token_id: null,
      external_id: null,
    });
  });

  it('goes on under the caller’s own name for it, as a system with ids of its own does', async () => {
    const fields = { scopes: ['query:run', 'chat:own'] };
    const { client, id } = await issueToken(app, owner.client, 'acme-corp', fields);
    const body = {
      tenant_id: 'acme-corp',
      external_id: 'user_123',
      message: 'What are the quarterly results?',
    };
    const { body: first } = await expectStatus(200, client.post(chat, body));
    const { body: second } = await expectStatus(200, client.post(chat, body));
    expect(second.session_id).toBe(first.session_id);
    // Somebody else's user_123 is somebody else.
    const other = await say('Hello?', { external_id: 'user_123' });
    expect(other.session_id).not.toBe(first.session_id);
    const { body: list } = await expectStatus(200, client.get(`${tenant}/sessions?external_id=user_123`));
    expect(list).toMatchObject({ total: 1, items: [{ id: first.session_id, token_id: id, user_id: null }] });
    // Both at once of one that is not there yet: one begins it.
    const answers = await Promise.all(
      [1, 2, 3].map(() => client.post(chat, { message: 'Hello?', external_id: 'user_456' })),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses).toContain(200);
    expect(statuses.every(status => status === 200 || status === 409)).toBe(true);
    const ids = answers.filter(({ status }) => status === 200).map(({ body: { session_id } }) => session_id);
    expect(new Set(ids).size).toBe(1);
  });

  it('has one address for clients that know no other, under any name for the chat', async () => {
    const body = {
      tenant_id: 'acme-corp',
      session_id: 'user_789',
      message: 'How long is the warranty on frames?',
    };
    const { body: first } = await expectStatus(200, member.client.post('/chat?kb=docs', body));
    expect(first).toMatchObject({ answered: true });
    const inKb = member.client.withHeaders({ 'x-kb-id': 'docs' });
    const { body: second } = await expectStatus(200, inKb.post('/chat', body));
    expect(second.session_id).toBe(first.session_id);
    const byId = { ...body, session_id: first.session_id };
    const { body: third } = await expectStatus(200, inKb.post('/chat', byId));
    expect(third.session_id).toBe(first.session_id);
    expect(await messagesOf(first.session_id)).toHaveLength(6);
    const events = await openEvents(inKb, '/chat', { 'x-kb-id': 'docs' }, { ...body, stream: true });
    expect(await events.ended).toBe('closed');
    expect(events.events.at(-1)).toMatchObject({ type: 'done', data: { session_id: first.session_id } });
    // Some name their chats by ids of their own.
    const named = { ...body, session_id: randomUUID() };
    const { body: own } = await expectStatus(200, inKb.post('/chat', named));
    expect(own.session_id).not.toBe(named.session_id);
    const { body: again } = await expectStatus(200, inKb.post('/chat', named));
    expect(again.session_id).toBe(own.session_id);
    // Another's chat is no more than a name.
    const { body: others } = await expectStatus(200, owner.client.post('/chat?kb=docs', byId));
    expect(others.session_id).not.toBe(first.session_id);
    expect(await messagesOf(first.session_id)).toHaveLength(8);
    expectProblem(await inKb.post('/chat?kb=none', body), 404, 'not_found');
    expectProblem(await member.client.post('/chat', { message: 'Hello?' }), 400, 'tenant_missing');
    const { client: stranger } = await app.createUser();
    expectProblem(await stranger.post('/chat?kb=docs', body), 404, 'not_found');
  });

  it('takes one message at a time', async () => {
    const { session_id } = await say('How long is the warranty on frames?');
    model.next({ for: 'chat', text: 'Ten years. [1]', deltas: ['Ten', ' years.', ' [1]'], every: 300 });
    model.next({ for: 'chat', text: 'Ten years. [1]', deltas: ['Ten', ' years.', ' [1]'], every: 300 });
    const asked = model.requests.chat;
    const slow = say('Is that so?', { session_id });
    await expect.poll(() => model.requests.chat).toBeGreaterThan(asked);
    const answer = await member.client.post(chat, { message: 'Hello?', session_id });
    expectProblem(answer, 409, 'session_busy');
    expect(answer.headers.get('retry-after')).toBe('1');
    await slow;
    await say('And now?', { session_id });
    const contents = (await messagesOf(session_id)).map(({ content }) => content);
    expect(contents).not.toContain('Hello?');
    expect(contents).toHaveLength(6);
  });

  it('of a process that died is somebody’s turn again', async () => {
    const { session_id } = await say('How long is the warranty on frames?');
    await sql(
      `UPDATE chat_sessions SET turn_id = '${randomUUID()}', turn_ends_at = now() + interval '1 minute' WHERE id = '${session_id}'`,
    );
    expectProblem(await member.client.post(chat, { message: 'Hello?', session_id }), 409, 'session_busy');
    await sql(
      `UPDATE chat_sessions SET turn_ends_at = now() - interval '1 second' WHERE id = '${session_id}'`,
    );
    await say('And now?', { session_id });
  });

  it('says so where nothing answers, and refuses what makes no sense', async () => {
    const { body } = await expectStatus(
      200,
      member.client.post(chat, { message: 'Who invented the xylophone?' }),
    );
    expect(body).toMatchObject({ answered: false, citations: [] });
    const attempt = async (fields: Record<string, unknown>, status = 422, code = 'validation_failed') =>
      expectProblem(await member.client.post(chat, { message: 'Hello?', ...fields }), status, code);
    await attempt({ message: ' ' });
    await attempt({ message: 'x'.repeat(10_001) });
    await attempt({ message: 'NUL \0' }, 400, 'malformed_text');
    await attempt({ session_id: 'user_123' });
    await attempt({ session_id: randomUUID(), external_id: 'both' });
    await attempt({ external_id: '' });
    await attempt({ role: 'assistant' });
    await attempt({ user_id: owner.id });
    await attempt({ session_id: randomUUID() }, 404, 'not_found');
    await attempt({ agent: 'nobody' }, 404, 'not_found');
    await attempt({ tenant_id: 'another' }, 404, 'not_found');
  });
});

describe('what fails', () => {
  it('before anything was said leaves nothing behind', async () => {
    const { session_id } = await say('How long is the warranty on frames?');
    const before = await messagesOf(session_id);
    const sessions = async () => (await member.client.get(`${tenant}/sessions`)).body.total as number;
    const count = await sessions();
    model.next({ for: 'chat', status: 400 }, { for: 'chat', status: 400 });
    const answer = await member.client.post(chat, { message: 'And batteries?', session_id });
    expect(answer.status).toBe(502);
    model.next({ for: 'chat', status: 400 });
    expect((await member.client.post(chat, { message: 'And batteries?' })).status).toBe(502);
    expect(await messagesOf(session_id)).toEqual(before);
    expect(await sessions()).toBe(count);
    await say('And batteries?', { session_id });
  });

  it('because the answer cannot be stored leaves the session to the next message', async () => {
    const { session_id } = await say('How long is the warranty on frames?');
    const before = await messagesOf(session_id);
    await sql(`ALTER TABLE chat_messages ADD CONSTRAINT nothing_said CHECK (role <> 'assistant') NOT VALID`);
    try {
      const message = 'How long is the warranty on frames?';
      expect((await member.client.post(chat, { message, session_id })).status).toBe(500);
      expect((await member.client.post(chat, { message, external_id: 'not-stored' })).status).toBe(500);
    } finally {
      await sql('ALTER TABLE chat_messages DROP CONSTRAINT nothing_said');
    }
    expect(await messagesOf(session_id)).toEqual(before);
    expect(await sql(`SELECT FROM chat_sessions WHERE external_id = 'not-stored'`)).toEqual([]);
    await say('How long is the warranty on frames?', { session_id });
  });

  it('after somebody else has had the turn takes nothing of theirs away', async () => {
    const asked = model.requests.chat;
    model.next({ for: 'chat', status: 400 });
    model.latency = 2_000;
    const body = { message: 'How long is the warranty on frames?', external_id: 'late' };
    const failing = member.client.post(chat, body);
    await eventually(async () => expect(model.requests.chat).toBe(asked + 1));
    model.latency = 0;
    await sql(
      `UPDATE chat_sessions SET turn_ends_at = now() - interval '1 second' WHERE external_id = 'late'`,
    );
    const { body: answer } = await expectStatus(200, member.client.post(chat, body));
    expect((await failing).status).toBe(502);
    const messages = await messagesOf(answer.session_id);
    expect(messages.map(({ content }) => content)).toEqual([body.message, answer.answer]);
  });

  it('in the middle is told, and what had been said is kept', async () => {
    model.next({ for: 'chat', deltas: ['Ten ', 'years ', 'and ', 'more'], dieAfter: 3, every: 20 });
    const events = await stream('How long is the warranty on frames?');
    await events.ended;
    const types = events.events.map(({ type }) => type);
    expect(types.slice(0, 2)).toEqual(['session', 'passages']);
    expect(types.at(-1)).toBe('error');
    expect(types).not.toContain('done');
    const error = events.events.at(-1)?.data;
    expect(error).toMatchObject({ status: expect.any(Number), code: expect.stringMatching(/^model_/) });
    const session = events.events[0]?.data.session_id;
    const messages = await messagesOf(session);
    expect(messages.map(({ role, status }) => [role, status])).toEqual([
      ['user', 'complete'],
      ['assistant', 'failed'],
    ]);
    expect(messages[1]).toMatchObject({ id: error.message_id, error_code: error.code, answered: null });
    expect(messages[1].content).toMatch(/^Ten years/);
    // It goes on, and the model hears what was said.
    await say('And batteries?', { session_id: session });
  });

  it('because whoever asked goes away stops the model, and what had been said is kept', async () => {
    model.next({ for: 'chat', endless: true, every: 20 });
    const abandoned = model.abandoned;
    const events = await stream('How long is the warranty on frames?');
    await events.until(came => came.filter(({ type }) => type === 'token').length >= 2);
    events.leave();
    await eventually(async () => expect(model.abandoned).toBe(abandoned + 1));
    const session = events.events[0]?.data.session_id;
    await eventually(async () => {
      const messages = await messagesOf(session);
      expect(messages.map(({ role, status }) => [role, status])).toEqual([
        ['user', 'complete'],
        ['assistant', 'interrupted'],
      ]);
      expect(messages[1].content).not.toBe('');
    });
    await say('And batteries?', { session_id: session });
  });
});

describe('a streamed answer', () => {
  it('comes as it is said, and ends with the whole', async () => {
    model.next({ for: 'chat', deltas: ['Ten', ' years.', ' [', '1', ']'], every: 5 });
    const events = await stream('How long is the warranty on frames?', { external_id: 'streamed' });
    expect(events.headers.get('content-type')).toMatch(/^text\/event-stream/);
    expect(await events.ended).toBe('closed');
    const of = (type: string) => events.events.filter(event => event.type === type).map(({ data }) => data);
    const [session] = of('session');
    expect(session).toMatchObject({
      is_new: true,
      agent_id: null,
      title: 'How long is the warranty on frames?',
    });
    const [done] = of('done');
    expect(done).toMatchObject({ answered: true, answer: 'Ten years. [1]', session_id: session.session_id });
    expect(
      of('token')
        .map(({ text }) => text)
        .join(''),
    ).toBe(done.answer);
    expect(of('citation')).toEqual(done.citations);
    expect(events.events.at(-1)?.type).toBe('done');
    const messages = await messagesOf(session.session_id);
    expect(messages.map(({ id, content }) => [id, content])).toEqual([
      [session.question_id, 'How long is the warranty on frames?'],
      [done.message_id, done.answer],
    ]);
    // What is refused is refused with its status, and not in a stream.
    const refused = await stream('Hello?', { session_id: randomUUID() });
    expect(refused).toMatchObject({ status: 404, body: { code: 'not_found' } });
  });
});

describe('one’s own chats', () => {
  it('are nobody else’s: another member’s are not there', async () => {
    const { session_id, message_id } = await say('How long is the warranty on frames?');
    const { client: other } = await app.createMember('acme-corp', 'editor');
    const nothing = randomUUID();
    const same = async (call: (id: string) => Promise<{ status: number; body: any }>, id: string) => {
      const [theirs, none] = [await call(id), await call(nothing)];
      const told = ({ status, body }: { status: number; body: any }) => ({
        status,
        body: { ...body, instance: null, request_id: null },
      });
      expect(told(theirs)).toEqual(told(none));
      expect(theirs.status).toBe(404);
    };
    const session = (id: string) => `${tenant}/sessions/${id}`;
    const inTenant = other.withHeaders({ 'x-tenant-id': 'acme-corp' });
    await same(id => other.get(session(id)), session_id);
    await same(id => other.get(`${session(id)}/messages`), session_id);
    await same(id => other.get(`${session(id)}/export`), session_id);
    await same(id => other.patch(session(id), { title: 'Mine' }), session_id);
    await same(id => other.delete(session(id)), session_id);
    await same(id => other.post(chat, { message: 'Hello?', session_id: id }), session_id);
    await same(id => inTenant.post(`/messages/${id}/feedback`, { rating: -1 }), message_id);
    const { body: list } = await expectStatus(200, other.get(`${tenant}/sessions`));
    expect(list).toMatchObject({ total: 0, items: [] });

    // A token is somebody else than whoever made it, in both directions.
    const { client: token } = await issueToken(app, owner.client, 'acme-corp', {
      scopes: ['query:run', 'chat:own'],
    });
    const mine = await say('How long is the warranty on frames?', {}, owner.client);
    await same(id => token.get(session(id)), mine.session_id);
    const its = await say('How long is the warranty on frames?', {}, token);
    await same(id => owner.client.post(chat, { message: 'Hello?', session_id: id }), its.session_id);
  });

  it('are read by those who may read all, and changed by nobody else', async () => {
    const { session_id, message_id } = await say('How long is the warranty on frames?');
    const path = `${tenant}/sessions/${session_id}`;
    await expectStatus(200, owner.client.get(path));
    expect(await messagesOf(session_id, owner.client)).toHaveLength(2);
    await expectStatus(200, owner.client.get(`${path}/export?format=markdown`));
    const all = await expectStatus(200, owner.client.get(`${tenant}/sessions?user_id=${member.id}`));
    expect(all.body.items.map(({ id }: { id: string }) => id)).toContain(session_id);
    const own = await expectStatus(200, owner.client.get(`${tenant}/sessions?own=true`));
    expect(own.body.items.every(({ user_id }: { user_id: string }) => user_id === owner.id)).toBe(true);
    expectProblem(await owner.client.patch(path, { title: 'Mine' }), 404, 'not_found');
    expectProblem(await owner.client.delete(path), 404, 'not_found');
    const inTenant = owner.client.withHeaders({ 'x-tenant-id': 'acme-corp' });
    expectProblem(await inTenant.post(`/messages/${message_id}/feedback`, { rating: 1 }), 404, 'not_found');
    expectProblem(await owner.client.post(chat, { message: 'Hello?', session_id }), 404, 'not_found');

    // With that permission and no other; not with another one.
    await expectStatus(
      201,
      owner.client.post(`${tenant}/roles`, { name: 'reader', permissions: ['tenant:read', 'chat:read_all'] }),
    );
    const { client: reader } = await app.createMember('acme-corp', 'reader');
    await expectStatus(200, reader.get(path));
    expectProblem(await reader.delete(path), 403, 'forbidden');
    await expectStatus(
      201,
      owner.client.post(`${tenant}/roles`, { name: 'asker', permissions: ['query:run'] }),
    );
    const { client: asker } = await app.createMember('acme-corp', 'asker');
    expectProblem(await asker.get(`${tenant}/sessions`), 403, 'forbidden');
    expectProblem(await asker.post(chat, { message: 'Hello?' }), 403, 'forbidden');
  });

  it('that rest on documents hidden from somebody are not read by them, with chat:read_all either', async () => {
    const roles = { name: 'chat-reader', permissions: ['tenant:read', 'chat:read_all', 'kb:read'] };
    await expectStatus(201, owner.client.post(`${tenant}/roles`, roles));
    const { client: reader, id } = await app.createMember('acme-corp', 'chat-reader');
    const secret = await app.addText('acme-corp', 'The saddle reserve is ten years of four million francs.', {
      title: 'Reserve',
      acl: { members: [], groups: [] },
    });
    const open = await say('How long is the warranty on batteries?', { mode: 'keyword' }, owner.client);
    const { session_id } = open;
    expect(open.passages.map((passage: any) => passage.document_id)).not.toContain(secret.id);
    const path = `${tenant}/sessions/${session_id}`;
    const listed = async () => {
      const { body } = await expectStatus(200, reader.get(`${tenant}/sessions?user_id=${owner.id}`));
      return body.items.some(({ id: each }: { id: string }) => each === session_id);
    };
    await expectStatus(200, reader.get(path));
    expect(await listed()).toBe(true);
    // What the model makes of the question first.
    model.next({ for: 'chat', text: 'saddle reserve' });
    const answer = await say('How large is the saddle reserve?', { session_id }, owner.client);
    expect(answer.passages.map((passage: any) => passage.document_id)).toContain(secret.id);
    for (const address of [path, `${path}/messages`, `${path}/export`])
      expectProblem(await reader.get(address), 404, 'not_found');
    expect(await listed()).toBe(false);
    // Who asked, and who sees all documents, read it as before.
    expect(await messagesOf(session_id, owner.client)).toHaveLength(4);
    expect(await messagesOf(session_id, app.admin)).toHaveLength(4);
    // Whoever may read the document may read what was said of it, for as long as that is so.
    const acl = `${tenant}/kbs/docs/documents/${secret.id}/acl`;
    await expectStatus(200, owner.client.put(acl, { acl: { members: [id], groups: [] } }));
    expect(await messagesOf(session_id, reader)).toHaveLength(4);
    await expectStatus(200, owner.client.put(acl, { acl: { members: [], groups: [] } }));
    expectProblem(await reader.get(path), 404, 'not_found');
    await expectStatus(204, owner.client.delete(`${tenant}/kbs/docs/documents/${secret.id}`));
    expectProblem(await reader.get(path), 404, 'not_found');
  });

  it('of a closed knowledge base are read by those alone who see it', async () => {
    const { body: kb } = await expectStatus(
      201,
      owner.client.post(`${tenant}/kbs`, { name: 'Closed', visibility: 'granted' }),
    );
    const { body: said } = await expectStatus(
      200,
      owner.client.post(`${tenant}/kbs/${kb.slug}/chat`, { message: 'Is anything here?', mode: 'keyword' }),
    );
    const path = `${tenant}/sessions/${said.session_id}`;
    const roles = { name: 'open-reader', permissions: ['tenant:read', 'chat:read_all'] };
    await expectStatus(201, owner.client.post(`${tenant}/roles`, roles));
    const { client: reader, id } = await app.createMember('acme-corp', 'open-reader');
    expectProblem(await reader.get(path), 404, 'not_found');
    const grants = `${tenant}/kbs/${kb.slug}/grants`;
    // Seeing the knowledge base is not enough: the grant says what one may do there.
    const { body: grant } = await expectStatus(
      201,
      owner.client.post(grants, { user_id: id, role: 'viewer' }),
    );
    expectProblem(await reader.get(path), 404, 'not_found');
    await expectStatus(201, owner.client.post(grants, { user_id: id, role: 'open-reader' }));
    await expectStatus(200, reader.get(path));
    expect(grant.role).toBe('viewer');
  });

  it('are called otherwise, exported and deleted', async () => {
    const { session_id, message_id } = await say('How long is the warranty on frames? Tell me.', {
      metadata: { page: '/bikes' },
    });
    const path = `${tenant}/sessions/${session_id}`;
    const { body: before } = await expectStatus(200, member.client.get(path));
    expect(before).toMatchObject({
      title: 'How long is the warranty on frames?',
      metadata: { page: '/bikes' },
    });
    const { body: after } = await expectStatus(200, member.client.patch(path, { title: ' Warranty ' }));
    expect(after).toMatchObject({ title: 'Warranty', metadata: { page: '/bikes' } });
    expectProblem(await member.client.patch(path, { title: '' }), 422, 'validation_failed');
    expectProblem(await member.client.patch(path, { user_id: owner.id }), 422, 'validation_failed');

    const json = await expectStatus(200, member.client.get(`${path}/export`));
    expect(json.headers.get('content-disposition')).toBe(`attachment; filename="chat-${session_id}.json"`);
    expect(json.body).toMatchObject({ session: { id: session_id, title: 'Warranty' } });
    expect(json.body.messages.map(({ role }: { role: string }) => role)).toEqual(['user', 'assistant']);
    const markdown = await expectStatus(200, member.client.get(`${path}/export?format=markdown`));
    expect(markdown.body).toMatch(/^# Warranty\n/);
    expect(markdown.body).toContain('Ten years. [1]');

    await expectStatus(204, member.client.delete(path));
    expectProblem(await member.client.get(path), 404, 'not_found');
    expect(await sql(`SELECT FROM chat_messages WHERE id = '${message_id}'`)).toEqual([]);
    // What was said, and its title, are in no audit.
    const entries = await sql(
      `SELECT details::text AS details FROM audit_entries WHERE action LIKE 'chat.%'`,
    );
    expect(entries.length).toBeGreaterThan(0);
    expect(entries.filter(({ details }) => /Warranty|frames/.test(details))).toEqual([]);
  });

  it('are rated, and rated otherwise', async () => {
    const { session_id, message_id } = await say('How long is the warranty on frames?');
    const client = member.client.withHeaders({ 'x-tenant-id': 'acme-corp' });
    const rate = (body: object, id = message_id) => client.post(`/messages/${id}/feedback`, body);
    const { body: rated } = await expectStatus(200, rate({ rating: 1, comment: ' Thanks ' }));
    expect(rated.feedback).toMatchObject({ rating: 1, comment: 'Thanks' });
    await expectStatus(200, rate({ rating: -1 }));
    const [question, answer] = await messagesOf(session_id);
    expect(answer.feedback).toMatchObject({ rating: -1, comment: '' });
    expectProblem(await rate({ rating: 1 }, question.id), 409, 'not_an_answer');
    expectProblem(await rate({ rating: 5 }), 422, 'validation_failed');
    expectProblem(await rate({ rating: 1 }, 'nothing'), 404, 'not_found');
    await expectStatus(200, rate({}));
    expect((await messagesOf(session_id))[1].feedback).toBeNull();
  });

  it('go with the knowledge base, stay when a token goes, and belong to nobody then', async () => {
    const fields = { scopes: ['query:run', 'chat:own'] };
    const { client, id } = await issueToken(app, owner.client, 'acme-corp', fields);
    const { session_id } = await say('How long is the warranty on frames?', {}, client);
    await expectStatus(204, owner.client.delete(`${tenant}/api-tokens/${id}`));
    const { body } = await expectStatus(200, owner.client.get(`${tenant}/sessions/${session_id}`));
    expect(body).toMatchObject({ token_id: null, user_id: null });
    const { body: kb } = await expectStatus(201, owner.client.post(`${tenant}/kbs`, { name: 'Passing' }));
    const { body: said } = await expectStatus(
      200,
      owner.client.post(`${tenant}/kbs/${kb.slug}/chat`, { message: 'Hello?', mode: 'keyword' }),
    );
    await expectStatus(204, owner.client.delete(`${tenant}/kbs/${kb.slug}`));
    expectProblem(await owner.client.get(`${tenant}/sessions/${said.session_id}`), 404, 'not_found');
  });
});

describe('retention', () => {
  it('deletes what was said longer ago than the tenant keeps things', async () => {
    const old = await say('How long is the warranty on frames?');
    const mixed = await say('How long is the warranty on frames?');
    await say('And batteries?', { session_id: mixed.session_id });
    const fresh = await say('How long is the warranty on frames?');
    await sql(
      `UPDATE chat_sessions SET last_message_at = now() - interval '31 days' WHERE id = '${old.session_id}'`,
    );
    await sql(
      `UPDATE chat_messages SET created_at = now() - interval '31 days'
       WHERE session_id = '${mixed.session_id}' AND position <= 2`,
    );
    await expectStatus(200, app.admin.patch(tenant, { settings: { data_retention_days: 30 } }));
    await sql(`DELETE FROM job_schedules WHERE kind = 'chat.retention'`);
    await eventually(async () => {
      expect((await member.client.get(`${tenant}/sessions/${old.session_id}`)).status).toBe(404);
      expect(await messagesOf(mixed.session_id)).toHaveLength(2);
    }, 25_000);
    expect(await messagesOf(fresh.session_id)).toHaveLength(2);
    const { body } = await expectStatus(200, member.client.get(`${tenant}/sessions/${mixed.session_id}`));
    expect(body.message_count).toBe(2);
    await eventually(async () => {
      const [entry] = await sql(`SELECT details FROM audit_entries WHERE action = 'chat.expired'`);
      expect(entry?.details).toMatchObject({ sessions: 1, messages: 2, retention_days: 30 });
    });
    await say('And now?', { session_id: mixed.session_id });
  }, 60_000);
});

/** Looks again until it holds. */
async function eventually(assertion: () => Promise<void>, timeout = 5_000): Promise<void> {
  for (const end = Date.now() + timeout; ; await sleep(100)) {
    try {
      return await assertion();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}
