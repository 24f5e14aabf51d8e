import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { openEvents } from '../setup/event-stream.js';
import { type ModelServer, type StubMessage, startModelServer } from '../setup/model-server.js';
import { MULTI_HOP } from '../setup/multi-hop.js';
import { expectProblem } from '../setup/problem.js';

// LightRAG's set-up example for several tenants: tenants, their knowledge bases, a user each, documents, questions in each mode.

const GRAPH_MODES = ['local', 'global', 'graph', 'mix'];
const ALL_MODES = ['naive', 'vector', 'keyword', 'hybrid', ...GRAPH_MODES];
const { question, way } = MULTI_HOP;
const QUOTE = 'The premises of Borealis Systems stand on the harbour of Tromsø, next to the cathedral.';
const GRAZ =
  'Anna Keller of the other company paints at Studio Graz. The employer pays her in the city of Graz.';

let app: TestApplication;
let model: ModelServer;
let acme: Client;
let globex: Client;
const documents: Record<string, string> = {};

const ACME = '/tenants/acme-corp/kbs/product-docs';
const GLOBEX = '/tenants/globex/kbs/product-docs';

beforeAll(async () => {
  model = await startModelServer();
  app = await startTestApplication({
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'gpt-4o',
  });
  acme = await setUp('acme-corp', { graph: 'names' });
  globex = await setUp('globex', { graph: 'names' });
  for (const [title, text] of Object.entries(MULTI_HOP.texts)) {
    documents[title] = await add(acme, ACME, 'acme-corp', title, text);
  }
  await add(globex, GLOBEX, 'globex', 'painter', GRAZ);
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});
beforeEach(() => {
  model.respond = answerOf;
});

/** A tenant with its own settings, a knowledge base, and an editor who is in it. */
async function setUp(name: string, config: object): Promise<Client> {
  await expectStatus(201, app.admin.post('/tenants', { name, config: { llm_model: 'gpt-4o', top_k: 20 } }));
  await expectStatus(201, app.admin.post(`/tenants/${name}/kbs`, { name: 'Product Docs', config }));
  return (await app.createMember(name, 'editor')).client;
}

async function add(
  by: Client,
  kb: string,
  tenant: string,
  title: string,
  text: string,
  fields = {},
): Promise<string> {
  const { body } = await expectStatus(202, by.post(`${kb}/documents/text`, { title, text, ...fields }));
  expect(await app.settled(tenant, body.id, kb.split('/').at(-1))).toMatchObject({ status: 'ready' });
  return body.id;
}

const search = async (by: Client, kb: string, body: object): Promise<any> =>
  (await expectStatus(200, by.post(`${kb}/search`, { query: question, ...body }))).body;
const titlesOf = ({ passages }: { passages: any[] }): string[] =>
  passages.map(passage => passage.document_title);
const system = (messages: StubMessage[]) => messages.find(({ role }) => role === 'system')?.content ?? '';
const asksForKeywords = (messages: StubMessage[]) => system(messages).includes('low_level_keywords');
const asksForGraph = (messages: StubMessage[]) => system(messages).includes('knowledge graph.');
const chats = (of: (messages: StubMessage[]) => boolean) =>
  model.received.filter(({ body }) => Array.isArray(body?.messages) && of(body.messages)).length;

/** The chat model of the tests: it says what is in a passage, what a question names, and answers from the first passage. */
function answerOf(messages: StubMessage[]): string {
  const said = messages.at(-1)?.content ?? '';
  if (asksForKeywords(messages)) {
    return JSON.stringify({
      high_level_keywords: ['premises of employers'],
      // A name that the question does not say: a model knows better.
      low_level_keywords: [said.includes('engineer of turbines') ? 'Anna Keller' : said],
    });
  }
  if (asksForGraph(messages)) {
    const names = ['Anna Keller', 'Borealis Systems', 'Tromsø'].filter(name => said.includes(name));
    return JSON.stringify({
      entities: names.map(name => ({ name, type: 'thing', description: `${name} is in this passage.` })),
      relations: names
        .slice(1)
        .map((name, i) => ({ source: names[i], target: name, type: 'belongs to', strength: 9 })),
    });
  }
  return 'It stands on the harbour of Tromsø. [1]';
}

describe('a graph of names', () => {
  it('answers in every mode, with passages that have the scores of what found them', async () => {
    for (const mode of ALL_MODES) {
      const found = await search(acme, ACME, { mode });
      expect(found.mode).toBe(mode);
      const usesGraph = GRAPH_MODES.includes(mode);
      expect(found.graph === null).toBe(!usesGraph);
      for (const { score, scores, kb_id } of found.passages) {
        expect(score).toBeGreaterThanOrEqual(0);
        expect(score).toBeLessThanOrEqual(1);
        expect(scores.graph === null).toBe(!usesGraph);
        expect(kb_id).toBe(found.passages[0].kb_id);
      }
      if (usesGraph) expect(found.passages.length).toBeGreaterThan(0);
    }
    const [naive, vector] = [
      await search(acme, ACME, { mode: 'naive' }),
      await search(acme, ACME, { mode: 'vector' }),
    ];
    expect(naive.passages).toEqual(vector.passages);
  });

  it('finds what takes two steps, and says through what', async () => {
    expect(titlesOf(await search(acme, ACME, { mode: 'hybrid', top_k: 10 }))).not.toContain('headquarters');
    for (const mode of ['local', 'graph', 'mix']) {
      const found = await search(acme, ACME, { mode, top_k: 10 });
      expect(titlesOf(found)).toEqual(expect.arrayContaining(way));
      const names = found.graph.entities.map(({ name }: any) => name);
      expect(names).toEqual(expect.arrayContaining(['Anna Keller', 'Borealis Systems']));
      expect(found.graph.relations.length).toBeGreaterThan(0);
    }
    const local = await search(acme, ACME, { mode: 'local', top_k: 2 });
    expect(titlesOf(local)).toEqual(way);
    expect(local.passages[0].scores.graph).toBe(1);
  });

  it('works with what else a search may ask for', async () => {
    const only = { document_ids: [documents['headquarters']] };
    for (const mode of ['local', 'graph', 'mix']) {
      expect(titlesOf(await search(acme, ACME, { mode, filter: only }))).toEqual(['headquarters']);
    }
    expect((await search(acme, ACME, { mode: 'local', threshold: 1 })).passages).toEqual([]);
    expect((await search(acme, ACME, { mode: 'mix', top_k: 1 })).passages).toHaveLength(1);
    expect(titlesOf(await search(acme, ACME, { mode: 'local', mmr: 0.5, top_k: 2 })).toSorted()).toEqual(way);
    const [joined] = (await search(acme, ACME, { mode: 'local', neighbours: 1 })).passages;
    expect(joined.positions).toEqual([0]);
    expect((await search(acme, ACME, { mode: 'mix', fusion: 'rank' })).passages.length).toBeGreaterThan(0);
    expect(
      (await search(acme, ACME, { mode: 'mix', query: 'fram* "no such words"', phrase: true, prefix: true }))
        .passages,
    ).toEqual([]);
    const nobody = await search(acme, ACME, { mode: 'local', query: 'Who is it that nobody has heard of?' });
    expect(nobody).toMatchObject({ passages: [], graph: { entities: [], relations: [] } });
    expectProblem(
      await acme.post(`${ACME}/search`, { query: question, mode: 'bypass' }),
      422,
      'validation_failed',
    );
  });

  it('answers questions, streams, and keeps answers of each mode apart', async () => {
    const ask = async (mode: string) =>
      (await expectStatus(200, acme.post(`${ACME}/query`, { query: question, mode, top_k: 5 }))).body;
    const answer = await ask('graph');
    expect(answer).toMatchObject({ answered: true, cached: false });
    expect(answer.passages[0].scores.graph).toBeGreaterThan(0);
    expect(await ask('graph')).toMatchObject({ cached: true, answer: answer.answer });
    expect(await ask('mix')).toMatchObject({ cached: false });
    const events = await openEvents(
      acme,
      `${ACME}/query`,
      {},
      { query: question, mode: 'mix', stream: true, top_k: 4 },
    );
    expect(await events.ended).toBe('closed');
    expect(events.events.at(-1)?.type).toBe('done');
    const chat = (await expectStatus(200, acme.post(`${ACME}/chat`, { message: question, mode: 'local' })))
      .body;
    expect(chat.answered).toBe(true);
    expect(titlesOf(chat).slice(0, 2)).toEqual(way);
  });

  it('quotes without a model, and says so where nothing is found', async () => {
    await app.restart({ LLM_BASE_URL: '', LLM_MODEL: '' });
    acme = (await app.createMember('acme-corp', 'viewer')).client;
    globex = (await app.createMember('globex', 'viewer')).client;
    const ask = (body: object) => expectStatus(200, acme.post(`${ACME}/query`, body));
    const query = 'Where are the premises of Borealis Systems?';
    const { body } = await ask({ query, mode: 'graph' });
    expect(body).toMatchObject({ answered: true, model: 'extractive' });
    expect(body.citations[0].quote).toBe(QUOTE);
    for (const mode of ['local', 'graph']) {
      const { body: none } = await ask({ query: 'How does one bake sourdough bread?', mode });
      expect(none).toMatchObject({ answered: false, citations: [], passages: [] });
    }
    await app.restart();
    acme = (await app.createMember('acme-corp', 'editor')).client;
    globex = (await app.createMember('globex', 'editor')).client;
  });
});

describe('tenants', () => {
  it('find nothing of each other, whatever the mode', async () => {
    for (const mode of ALL_MODES) {
      const mine = await search(globex, GLOBEX, { mode });
      expect([...new Set(titlesOf(mine))].every(title => title === 'painter')).toBe(true);
      expect(JSON.stringify(mine)).not.toMatch(/Borealis|Tromsø/);
      expect(JSON.stringify(await search(acme, ACME, { mode }))).not.toContain('Graz');
      expectProblem(await globex.post(`${ACME}/search`, { query: question, mode }), 404, 'not_found');
    }
    const named = await search(globex, GLOBEX, { mode: 'local', query: 'What is Borealis Systems?' });
    expect(named).toMatchObject({ passages: [], graph: { entities: [], relations: [] } });
  });

  it('do not pay for, or see, what the others ask', async () => {
    const ids = (await search(globex, GLOBEX, { mode: 'local' })).graph.entities.map(({ id }: any) => id);
    const others = (await search(acme, ACME, { mode: 'local' })).graph.entities.map(({ id }: any) => id);
    expect(ids.filter((id: string) => others.includes(id))).toEqual([]);
  });
});

describe('restricted documents', () => {
  it('lead nowhere for those who may not read them', async () => {
    const reader = await app.createMember('acme-corp', 'editor');
    const outsider = await app.createMember('acme-corp', 'editor');
    const secret = 'Anna Keller secretly advises Zephyr Industries on mergers.';
    const open = 'The yard of Zephyr Industries lies at the end of the line.';
    await add(app.admin, ACME, 'acme-corp', 'secret', secret, { acl: { members: [reader.id] } });
    await add(app.admin, ACME, 'acme-corp', 'yard', open);
    for (const mode of GRAPH_MODES) {
      const hidden = await search(outsider.client, ACME, { mode });
      expect(JSON.stringify(hidden)).not.toMatch(/secret|Zephyr/);
    }
    const shown = await search(reader.client, ACME, { mode: 'local' });
    expect(titlesOf(shown)).toEqual(expect.arrayContaining(['secret', 'yard', ...way]));
    expect(shown.graph.entities.map(({ name }: any) => name)).toContain('Zephyr Industries');
    // What everybody may read of the same thing is found by everybody.
    const yard = await search(outsider.client, ACME, { mode: 'local', query: 'Where is Zephyr Industries?' });
    expect(titlesOf(yard)).toEqual(['yard']);
    expect(yard.graph.entities.map(({ name }: any) => name)).not.toContain('Anna Keller');
  });
});

describe('a knowledge base without a graph', () => {
  beforeAll(async () => {
    await expectStatus(201, app.admin.post('/tenants/acme-corp/kbs', { name: 'Plain' }));
    await add(acme, '/tenants/acme-corp/kbs/plain', 'acme-corp', 'plain', 'Anna Keller likes plain texts.');
  });
  const PLAIN = '/tenants/acme-corp/kbs/plain';

  it('is told apart, and searched without it where that was asked for as well', async () => {
    for (const mode of ['local', 'global', 'graph']) {
      for (const route of ['search', 'query', 'chat']) {
        const body = route === 'chat' ? { message: question, mode } : { query: question, mode };
        expectProblem(await acme.post(`${PLAIN}/${route}`, body), 422, 'graph_off');
      }
    }
    const mixed = await search(acme, PLAIN, { mode: 'mix' });
    const hybrid = await search(acme, PLAIN, { mode: 'hybrid' });
    expect(mixed.graph).toBeNull();
    expect(mixed.passages).toEqual(hybrid.passages);
  });

  it('is left out where others have one', async () => {
    const ask = (kbs: string[], mode: string, query = question) =>
      acme.post('/tenants/acme-corp/query', { query, kbs, mode });
    const { body } = await expectStatus(200, ask(['plain', 'product-docs'], 'local'));
    expect(titlesOf(body).slice(0, 2)).toEqual(way);
    expect(titlesOf(body)).not.toContain('plain');
    const mixed = (await expectStatus(200, ask(['plain', 'product-docs'], 'mix', 'Who is Anna Keller?')))
      .body;
    expect(titlesOf(mixed)).toEqual(expect.arrayContaining(['plain', ...way]));
    const byTitle = new Map<string, any>(
      mixed.passages.map((passage: any) => [passage.document_title, passage]),
    );
    expect(byTitle.get('plain').scores.graph).toBeNull();
    expect(byTitle.get('headquarters').scores.graph).toBeGreaterThan(0);
    expectProblem(await ask(['plain'], 'graph'), 422, 'graph_off');
  });

  it('has no agents that search in it; another one has', async () => {
    const agent = { name: 'Guide', enabled_tools: ['graph_search'] };
    const refused = await acme.post(`${PLAIN}/agents`, agent);
    expectProblem(refused, 422, 'validation_failed');
    expect(refused.body.errors).toMatchObject([{ path: 'enabled_tools', code: 'graph_off' }]);
    const { body } = await expectStatus(201, acme.post(`${ACME}/agents`, agent));
    expect(body.enabled_tools).toEqual(['graph_search']);
    model.next(
      { for: 'chat', toolCalls: [{ name: 'graph_search', args: { query: question } }] },
      { for: 'chat', text: 'On the harbour of Tromsø. [2]' },
    );
    const answer = await expectStatus(200, acme.post(`${ACME}/chat`, { message: question, agent: body.id }));
    expect(answer.body.tool_calls).toMatchObject([{ tool: 'graph_search', query: question }]);
    expect(titlesOf(answer.body)).toEqual(expect.arrayContaining(way));

    // A graph that is turned off later is a search that fails; the agent goes on.
    await expectStatus(200, app.admin.patch(ACME, { config: { graph: 'off' } }));
    model.next(
      { for: 'chat', toolCalls: [{ name: 'graph_search', args: { query: question } }] },
      { for: 'chat', text: 'NO_ANSWER' },
    );
    const without = await expectStatus(200, acme.post(`${ACME}/chat`, { message: question, agent: body.id }));
    expect(without.body.tool_calls).toMatchObject([{ tool: 'graph_search', found: null }]);
    await expectStatus(200, app.admin.patch(ACME, { config: { graph: 'names' } }));
  });
});

describe('a graph that a model makes', () => {
  const MODEL = '/tenants/acme-corp/kbs/by-model';
  const indirect = 'In which city is the employer of the engineer of turbines?';

  beforeAll(async () => {
    model.respond = answerOf;
    const config = { graph: 'model', graph_model: 'gpt-4o' };
    await expectStatus(201, app.admin.post('/tenants/acme-corp/kbs', { name: 'By model', config }));
    for (const [title, text] of Object.entries(MULTI_HOP.texts).slice(0, 12)) {
      await add(acme, MODEL, 'acme-corp', title, text);
    }
  });

  it('is asked for with the model’s keywords, once for a question and a tenant', async () => {
    const before = chats(asksForKeywords);
    const found = await search(acme, MODEL, { mode: 'local', query: indirect });
    expect(titlesOf(found).slice(0, 2).toSorted()).toEqual(way);
    expect(found.graph.relations).toContainEqual(
      expect.objectContaining({
        source: expect.objectContaining({ name: 'Anna Keller', type: 'thing' }),
        target: expect.objectContaining({ name: 'Borealis Systems' }),
        type: 'belongs to',
      }),
    );
    for (const mode of GRAPH_MODES) await search(acme, MODEL, { mode, query: indirect });
    expect(chats(asksForKeywords) - before).toBe(1);
    for (const mode of ['hybrid', 'vector', 'keyword', 'naive'])
      await search(acme, MODEL, { mode, query: 'Another one' });
    await search(acme, ACME, { mode: 'graph', query: 'And one of names' });
    expect(chats(asksForKeywords) - before).toBe(1);
  });

  it('is looked at without them where the model fails, or gives none', async () => {
    for (const [n, fault] of [{ status: 400 }, { garbage: true as const }].entries()) {
      model.next({ for: 'chat', ...fault });
      const found = await search(acme, MODEL, { mode: 'local', query: `${question} ${n}` });
      expect(titlesOf(found).slice(0, 2)).toEqual(way);
    }
    model.respond = () => 'I would rather not.';
    const found = await search(acme, MODEL, { mode: 'mix', query: `${question} Please.` });
    expect(titlesOf(found)).toEqual(expect.arrayContaining(way));
  });

  it('has its keywords paid for, as usage and with credits', async () => {
    const price = { operation: 'input_tokens', model: 'gpt-4o', micro_credits: 1_000_000 };
    await expectStatus(200, app.admin.put('/prices', { prices: [price] }));
    const query = `${question} For money.`;
    expectProblem(await acme.post(`${MODEL}/search`, { query, mode: 'local' }), 402, 'insufficient_credits');
    await expectStatus(201, app.admin.post('/tenants/acme-corp/credits', { type: 'grant', amount: 1e12 }));
    const paid = await search(acme, MODEL, { query, mode: 'local' });
    expect(paid.usage.credits).toBeGreaterThan(0);
    expect((await search(acme, MODEL, { query, mode: 'local' })).usage.credits).toBe(0);
    await expectStatus(200, app.admin.put('/prices', { prices: [{ ...price, micro_credits: null }] }));
  });
});
