import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { RagQueryService } from '../../src/features/rag-query/rag-query.service.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { type EventStream, openEvents } from '../setup/event-stream.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { storedUsage, usageOf } from '../setup/usage-events.js';

const FACTS = {
  warranty: 'Frames carry a warranty of ten years. Batteries are covered for two years.',
  returns: 'A bicycle may be returned within thirty days. The customer pays for the transport.',
  hours: 'The shop opens at nine in the morning. It is closed on Sundays.',
};
const QUESTION = 'How long are batteries covered, and when may a bicycle be returned?';

let app: TestApplication;
let model: ModelServer;
let tenantId: string;
const KB = '/tenants/cycles/kbs/docs';

beforeAll(async () => {
  model = await startModelServer({ respond: () => 'Two years [1].' });
  app = await startTestApplication({
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub-chat',
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub-embedding',
    REQUEST_TIMEOUT_SECONDS: '4',
  });
  tenantId = (await app.createTenant('cycles')).id;
  for (const [title, text] of Object.entries(FACTS)) await app.addText('cycles', text, { title });
  // What a test has the model say is not what the one before it had.
  await expectStatus(200, app.admin.patch('/tenants/cycles/config', { enable_llm_cache: false }));
});
beforeEach(() => {
  model.latency = 0;
  model.respond = () => 'Two years [1].';
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});

const open = (body: object = {}, path = KB): Promise<EventStream> =>
  openEvents(app.admin, `${path}/query`, {}, { query: QUESTION, stream: true, ...body });

/** The whole stream. */
async function streamed(body: object = {}, path = KB) {
  const stream = await open(body, path);
  await stream.ended;
  const { events } = stream;
  const text = events
    .filter(({ type }) => type === 'token')
    .map(({ data }) => data.text)
    .join('');
  return { stream, events, text, types: events.map(({ type }) => type), last: events.at(-1)?.data };
}

describe('a streamed answer', () => {
  it('says what was found, the answer as it comes, what it cost, and the whole', async () => {
    const { stream, events, text, types, last } = await streamed();
    expect(stream.status).toBe(200);
    expect(stream.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(stream.headers.get('cache-control')).toContain('no-cache');
    expect(stream.headers.get('x-accel-buffering')).toBe('no');
    expect(types[0]).toBe('passages');
    expect(types.slice(-2)).toEqual(['usage', 'done']);
    expect(types.slice(1, -2)).toContain('token');
    expect(text).toBe('Two years [1].');
    // The citation comes before the token with its marker.
    const cited = types.indexOf('citation');
    expect(events.findIndex(({ data }) => data.text?.includes('[1]'))).toBe(cited + 1);
    const { body: whole } = await expectStatus(200, app.admin.post(`${KB}/query`, { query: QUESTION }));
    expect(last).toEqual({ ...whole, latency_ms: expect.any(Object) });
    expect(events[0]?.data).toEqual({ passages: whole.passages });
    expect(events[cited]?.data).toEqual(whole.citations[0]);
    expect(events.at(-2)?.data).toEqual(whole.usage);
  });

  it('is the same for an API token', async () => {
    const { body } = await expectStatus(
      201,
      app.admin.post('/tenants/cycles/api-tokens', { name: 'Reader', scopes: ['query:run'] }),
    );
    const client = app.anonymous.withToken(body.secret);
    const stream = await openEvents(client, `${KB}/query`, {}, { query: QUESTION, stream: true });
    await stream.ended;
    expect(stream.events.at(-1)).toMatchObject({ type: 'done', data: { answered: true } });
  });

  it('checks markers that are cut between two pieces', async () => {
    model.next({ for: 'chat', deltas: ['Two', ' years [', '1', '] and [', '9', '9]', ' more [', '2', '].'] });
    const { text, events, last } = await streamed();
    expect(text).toBe('Two years [1] and more [2].');
    expect(last).toMatchObject({ answered: true, answer: text, removed_citations: 1 });
    const tokens = events.filter(({ type }) => type === 'token').map(({ data }) => data.text);
    expect(tokens.length).toBeGreaterThan(2);
    for (const token of tokens) expect(token).not.toMatch(/\[\d*$|^\d*\]/);
  });

  it('shows nothing of the word for no answer', async () => {
    model.next({ for: 'chat', deltas: ['NOT', '_FO', 'UND'] });
    const { types, last } = await streamed();
    expect(types).toEqual(['passages', 'usage', 'done']);
    expect(last).toMatchObject({
      answered: false,
      citations: [],
      answer: expect.stringContaining('do not seem'),
    });
  });

  it('is quoted sentences where no model is to answer', async () => {
    await expectStatus(
      200,
      app.admin.put('/tenants/cycles/features', { features: { generated_answers: false } }),
    );
    try {
      const { events, types, text, last } = await streamed({ query: 'When does the shop open?' });
      expect(types[0]).toBe('passages');
      expect(types.slice(-2)).toEqual(['usage', 'done']);
      expect(last).toMatchObject({ answered: true, model: 'extractive', answer: text });
      expect(events.filter(({ type }) => type === 'citation').map(({ data }) => data)).toEqual(
        last.citations,
      );
      const none = await streamed({ query: 'Who composed the opera Fidelio?' });
      expect(none.types).toEqual(['passages', 'usage', 'done']);
      expect(none.last.answered).toBe(false);
    } finally {
      await expectStatus(
        200,
        app.admin.put('/tenants/cycles/features', { features: { generated_answers: null } }),
      );
    }
  });

  it('leaves the text of passages out where none is wanted', async () => {
    const { events, last } = await streamed({ include_text: false });
    for (const { text } of [...events[0]!.data.passages, ...last.passages]) expect(text).toBeNull();
  });

  it('begins when the model does', async () => {
    model.next({ for: 'chat', deltas: ['Two years', ' [1].'], hangAfter: 1 });
    const stream = await open();
    // The model says no more than that.
    const events = await stream.until(sent => sent.some(({ type }) => type === 'token'));
    expect(events.map(({ type }) => type)).toEqual(['passages', 'token']);
    stream.leave();
    await stream.ended;
  });

  it('goes on for longer than a request may take, and says that it does', async () => {
    model.next({ for: 'chat', deltas: ['Two years', ' [1].'], every: 3_000 });
    const { stream, last } = await streamed();
    expect(last).toMatchObject({ answered: true, answer: 'Two years [1].' });
    expect(stream.comments).toBeGreaterThan(1);
  }, 20_000);

  it('asks the model that the request names, and writes down which one answered', async () => {
    const another = { provider: 'openai_compatible', model_type: 'chat', model_name: 'another-model' };
    const entry = { ...another, api_base: model.url, shared_with: 'all' };
    const { body } = await expectStatus(201, app.admin.post('/platform/models', entry));
    const { last } = await streamed({ model: 'another-model' });
    expect(last.model).toBe('another-model');
    expect((model.lastRequest as any).body).toMatchObject({ model: 'another-model', stream: true });
    await expectStatus(204, app.admin.delete(`/platform/models/${body.id}`));
  });
});

describe('what goes wrong before the first event is a problem', () => {
  it.each([
    ['a knowledge base that is not there', '/tenants/cycles/kbs/nothing', {}, 404, 'not_found'],
    ['a question that is none', KB, { query: '   ' }, 422, 'validation_failed'],
    ['a question that is too long', KB, { query: 'x'.repeat(100_000) }, 422, 'validation_failed'],
    ['an unknown mode', KB, { mode: 'guess' }, 422, 'validation_failed'],
    ['no passages', KB, { top_k: 0 }, 422, 'validation_failed'],
    ['too many passages', KB, { top_k: 10_000 }, 422, 'validation_failed'],
    ['an answer of no length', KB, { max_tokens: 0 }, 422, 'validation_failed'],
    ['a format that is none', KB, { response_format: 'yaml' }, 422, 'validation_failed'],
    ['a field that is none', KB, { prompt: 'x' }, 422, 'validation_failed'],
    [
      'a system prompt that leaves no room',
      KB,
      { system_prompt: 'öäü'.repeat(6_600) },
      422,
      'prompt_too_long',
    ],
  ])('%s', async (_what, path, body, status, code) => {
    expectProblem(
      await app.admin.post(`${path}/query`, { query: QUESTION, stream: true, ...body }),
      status,
      code,
    );
  });

  it('a NUL in the question', async () => {
    expectProblem(
      await app.admin.post(`${KB}/query`, { query: 'a\0b', stream: true }),
      400,
      'malformed_text',
    );
  });
});

it.each([
  "'; DROP TABLE chunks; --",
  'a & b | !c <-> d:*',
  '{1:1}/268435456',
  '$1 $2 %s ${x} \\',
  '"unfinished phrase',
  '(((((',
  '🚲'.repeat(500),
  '\u202E\u200B',
])('answers a question that is meant badly: %j', async query => {
  for (const mode of ['hybrid', 'vector', 'keyword']) {
    const { types } = await streamed({ query, mode });
    expect(types.at(-1)).toBe('done');
  }
});

describe('a model that fails', () => {
  it('in the middle: what had come is kept, and said to have ended', async () => {
    model.next({ for: 'chat', deltas: ['Two years', ' [1]', '. And', ' more'], dieAfter: 3 });
    const { types, text, last, events } = await streamed();
    expect(types[0]).toBe('passages');
    expect(types.at(-1)).toBe('error');
    expect(types).not.toContain('done');
    expect(last).toMatchObject({
      status: 503,
      code: expect.stringMatching(/^model_/),
      detail: expect.any(String),
      request_id: expect.any(String),
    });
    expect(text).toMatch(/^Two years \[1\]/);
    expect(last.answer).toMatchObject({ answer: text, answered: false });
    expect(last.answer.citations).toEqual(
      events.filter(({ type }) => type === 'citation').map(({ data }) => data),
    );
    // It does not fail for good.
    expect((await streamed()).types.at(-1)).toBe('done');
  });

  it('at once', async () => {
    model.next({ for: 'chat', status: 401 });
    const { types, last } = await streamed();
    expect(types).toEqual(['passages', 'error']);
    expect(last).toMatchObject({ status: 502, code: 'model_rejected', answer: { answer: '' } });
  });

  it('by never coming to an end', async () => {
    model.next({ for: 'chat', endless: true });
    const { types, last } = await streamed({ max_tokens: 16 });
    expect(types.at(-1)).toBe('error');
    expect(last.code).toBe('model_rejected');
    await expect.poll(() => model.abandoned).toBeGreaterThan(0);
  });

  it('in the middle of an answer that is not streamed', async () => {
    model.next({ for: 'chat', garbage: true });
    const answer = await app.admin.post(`${KB}/query`, { query: QUESTION });
    expectProblem(answer, 502, 'model_rejected');
  });
});

describe('a client that goes away', () => {
  it('stops the model', async () => {
    const before = model.abandoned;
    model.next({ for: 'chat', endless: true, every: 20 });
    const stream = await open();
    await stream.until(events => events.filter(({ type }) => type === 'token').length > 2);
    stream.leave();
    await expect.poll(() => model.abandoned, { timeout: 5_000 }).toBe(before + 1);
  });

  it('stops a model that has said nothing yet', async () => {
    const before = model.abandoned;
    model.next({ for: 'chat', hang: 'headers' });
    const stream = await open();
    await stream.until(events => events.length > 0);
    stream.leave();
    await expect.poll(() => model.abandoned, { timeout: 5_000 }).toBe(before + 1);
  });

  it('stops the model where it asked for the whole', async () => {
    const before = model.abandoned;
    model.next({ for: 'chat', hang: 'headers' });
    const controller = new AbortController();
    const asked = fetch(`${app.admin.url}/api/v1${KB}/query`, {
      method: 'POST',
      headers: { authorization: `Bearer ${app.admin.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ query: QUESTION }),
      signal: controller.signal,
    });
    const requests = model.requests.chat;
    await expect.poll(() => model.requests.chat).toBe(requests + 1);
    controller.abort();
    await expect(asked).rejects.toThrow(/abort/);
    await expect.poll(() => model.abandoned, { timeout: 5_000 }).toBe(before + 1);
  });
});

describe('credits', () => {
  const PRICES = [
    { operation: 'query', micro_credits: 7 },
    { operation: 'input_tokens', micro_credits: 1_000 },
    { operation: 'output_tokens', micro_credits: 1_000_000 },
  ];
  const account = async () => (await expectStatus(200, app.admin.get('/tenants/cycles/credits'))).body;

  beforeAll(async () => {
    await expectStatus(200, app.admin.put('/prices', { prices: PRICES }));
    await expectStatus(
      201,
      app.admin.post('/tenants/cycles/credits', { type: 'grant', amount: 100_000_000 }),
    );
  });
  afterEach(async () => {
    // Whatever became of an answer, nothing stays set aside.
    await expect.poll(async () => (await account()).held, { timeout: 5_000 }).toBe(0);
  });
  afterAll(async () => {
    const prices = PRICES.map(({ operation }) => ({ operation, micro_credits: null }));
    await expectStatus(200, app.admin.put('/prices', { prices }));
  });

  it('are taken for the whole answer', async () => {
    const { balance } = await account();
    const { last } = await streamed();
    const { prompt_tokens: read, completion_tokens: written, credits } = last.usage;
    expect(credits).toBe(7 + read + written * 1_000);
    expect((await account()).balance).toBe(balance - credits);
  });

  it('are taken for what had come where the model dies', async () => {
    const { balance } = await account();
    model.next({ for: 'chat', deltas: ['Two years', ' [1]', '. And', ' more'], dieAfter: 3 });
    const { last } = await streamed();
    const { credits, completion_tokens: written } = last.answer.usage;
    expect(written).toBeGreaterThan(0);
    expect(written).toBeLessThan(10);
    expect((await account()).balance).toBe(balance - credits);
  });

  it('are taken for what had come where the client goes', async () => {
    const { balance } = await account();
    model.next({ for: 'chat', endless: true, every: 20 });
    const stream = await open({ max_tokens: 1_000 });
    await stream.until(events => events.filter(({ type }) => type === 'token').length > 3);
    stream.leave();
    await expect.poll(async () => (await account()).held, { timeout: 5_000 }).toBe(0);
    const taken = balance - (await account()).balance;
    expect(taken).toBeGreaterThan(7 + 1_000);
    expect(taken).toBeLessThan(1_000_000);
    await usageOf(app).onApplicationShutdown();
    const event = (await storedUsage(app, tenantId)).findLast(({ operation }) => operation === 'query');
    expect(event).toMatchObject({ model: 'stub-chat', outcome: 'failure', status: 499 });
    expect(Number(event?.output_tokens)).toBeGreaterThan(0);
  });

  it('are given back where the model says nothing', async () => {
    const { balance } = await account();
    model.next({ for: 'chat', status: 400 });
    await streamed();
    expect((await account()).balance).toBe(balance);
  });

  it('are asked for before anything is said', async () => {
    await app.createTenant('poor');
    await app.addText('poor', FACTS.warranty).catch(() => undefined);
    const answer = await app.admin.post('/tenants/poor/kbs/docs/query', { query: QUESTION, stream: true });
    expectProblem(answer, 402, 'insufficient_credits');
  });
});

describe('JSON', () => {
  const asked = (more: object = {}) => streamed({ response_format: 'json', ...more });

  it('is one valid object, whose texts are checked', async () => {
    model.respond = () => '```json\n{"years": [2], "why": "Batteries [1], and [9]."}\n```';
    const { text, last, types } = await asked();
    expect(JSON.parse(text)).toEqual({ years: [2], why: 'Batteries [1], and.' });
    expect(last).toMatchObject({ answered: true, answer: text, removed_citations: 1 });
    expect(last.citations).toHaveLength(1);
    expect(types.filter(type => type === 'token')).toHaveLength(1);
    const { body } = await expectStatus(
      200,
      app.admin.post(`${KB}/query`, { query: QUESTION, response_format: 'json' }),
    );
    expect(JSON.parse(body.answer)).toEqual(JSON.parse(text));
  });

  it('is asked for in the prompt', async () => {
    await asked();
    expect((model.lastRequest as any).body.messages[0].content).toContain('one JSON object');
  });

  it('says in JSON that there is no answer', async () => {
    model.respond = () => '{"answer": "NOT_FOUND"}';
    const { last } = await asked();
    expect(last.answered).toBe(false);
    expect(JSON.parse(last.answer)).toEqual({ answer: expect.stringContaining('do not seem') });
  });

  it('is not made up of what is none', async () => {
    model.respond = () => 'Two years [1].';
    const { types, last } = await asked();
    expect(types).toEqual(['passages', 'error']);
    expect(last).toMatchObject({ status: 502, code: 'model_rejected' });
    expectProblem(
      await app.admin.post(`${KB}/query`, { query: QUESTION, response_format: 'json' }),
      502,
      'model_rejected',
    );
  });
});

describe('a question that goes on from what was said', () => {
  const history = [
    { role: 'user' as const, content: 'How long is the warranty on frames?' },
    { role: 'assistant' as const, content: 'Ten years [1].' },
  ];
  const ask = (query: string, said = history) => {
    const nest = app.application.nest;
    const service = nest.get(RagQueryService, { strict: false });
    const tenant = { id: tenantId, name: 'cycles' };
    return nest
      .get(TenantContext, { strict: false })
      .runAsSystem(tenant, () =>
        service.ask(['docs'], { query, mode: 'keyword', history: said }, new AbortController().signal),
      );
  };
  const sent = (back: number) => model.received.filter(({ route }) => route.includes('chat')).at(-back)?.body;

  it('is searched for as one that stands for itself, and answered in its conversation', async () => {
    model.next(
      { for: 'chat', text: 'How long are batteries covered?' },
      { for: 'chat', text: 'Two years [1].' },
    );
    const answer = await ask('And those for power?');
    expect(answer).toMatchObject({ answered: true, answer: 'Two years [1].' });
    expect(answer.passages[0]?.document_title).toBe('warranty');
    expect(answer.usage.completionTokens).toBeGreaterThan(8);
    expect(sent(2).messages.at(-1).content).toContain('Last question: And those for power?');
    expect(sent(1).messages.map(({ role }: any) => role)).toEqual(['system', 'user', 'assistant', 'user']);
    expect(sent(1).messages[2].content).toBe('Ten years.');
    expect(sent(1).messages.at(-1).content).toMatch(/Question: And those for power\?$/);
  });

  it('lends its words from the one before where the model does not put it together', async () => {
    model.next({ for: 'chat', status: 400 }, { for: 'chat', text: 'Ten years [1].' });
    const answer = await ask('And why?');
    expect(answer.passages[0]?.document_title).toBe('warranty');
  });
});
