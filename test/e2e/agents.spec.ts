import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { issueToken } from '../setup/api-tokens.js';
import type { Client } from '../setup/client.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

let model: ModelServer;
let app: TestApplication;
let owner: Client;
const docs = '/tenants/techstartup/kbs/docs';

beforeAll(async () => {
  model = await startModelServer();
  app = await startTestApplication({ LLM_BASE_URL: model.url, LLM_MODEL: 'stub-chat' });
  await app.createTenant('techstartup');
  owner = (await app.createMember('techstartup', 'owner')).client;
  await app.addText(
    'techstartup',
    'Requests are authenticated with a bearer token. Tokens last for one hour.',
  );
  // The same question is asked again and again here, and is to be answered each time.
  await expectStatus(200, owner.patch('/tenants/techstartup/config', { enable_llm_cache: false }));
  await app.addText('techstartup', 'The widget is opened by a click. It closes after ten minutes.');
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});

const create = async (fields: Record<string, unknown>, as = owner) =>
  (await expectStatus(201, as.post(`${docs}/agents`, fields))).body;
const lastRequest = (): any => model.received.at(-1)?.body;
const unique = (name: string) => `${name} ${randomUUID().slice(0, 8)}`;

describe('several agents on one knowledge base', () => {
  it('share what is in it, each with its own behaviour, and a token for each', async () => {
    const expert = await create({
      name: 'Docs Expert',
      slug: 'docs-expert',
      system_prompt: 'You are a technical documentation expert.',
      temperature: 0.3,
      enabled_tools: [],
    });
    const helper = await create({
      name: 'API Helper',
      system_prompt: 'You help developers integrate with our API.',
      temperature: 0.5,
      enabled_tools: [],
    });
    expect(expert).toMatchObject({ slug: 'docs-expert', temperature: 0.3, is_active: true, model: null });
    expect(helper).toMatchObject({ slug: 'api-helper', kb_id: expert.kb_id });
    const { body: page } = await expectStatus(200, owner.get(`${docs}/agents?sort=name`));
    expect(page.items.map(({ slug }: { slug: string }) => slug)).toEqual(['api-helper', 'docs-expert']);

    for (const agent of [expert, helper]) {
      const limits = { scopes: ['query:run', 'chat:own'], kb_ids: [agent.kb_id], agent_ids: [agent.id] };
      const { client } = await issueToken(app, owner, 'techstartup', limits);
      // Of a token that is for one agent it need not be said which one is asked.
      const { body } = await expectStatus(
        200,
        client.post(`${docs}/chat`, { message: 'How are requests authenticated?' }),
      );
      expect(body).toMatchObject({ answered: true, agent_id: agent.id });
      expect(body.answer).toContain('bearer token');
      const { messages, temperature } = lastRequest();
      expect(messages[0].content).toContain(agent.system_prompt);
      expect(temperature).toBe(agent.temperature);

      const other = agent === expert ? helper : expert;
      const ask = (fields: object) => client.post(`${docs}/chat`, { message: 'Hello?', ...fields });
      expectProblem(await ask({ agent: other.id }), 404, 'not_found');
      expectProblem(await ask({ agent: other.slug }), 404, 'not_found');
      expect((await ask({ agent: agent.slug })).status).toBe(200);
      // Its behaviour is the agent's: nothing is asked past it.
      for (const what of ['query', 'search'])
        expectProblem(await client.post(`${docs}/${what}`, { query: 'tokens' }), 403, 'agents_only');
    }
  });

  it('are kept to what a change, a stop and a deletion say', async () => {
    const agent = await create({ name: unique('Changing'), enabled_tools: [] });
    const path = `${docs}/agents/${agent.slug}`;
    const { body: changed, headers } = await expectStatus(
      200,
      owner.patch(path, { name: 'Updated Name', temperature: 0.8, system_prompt: 'Be brief.' }),
    );
    expect(changed).toMatchObject({ id: agent.id, name: 'Updated Name', temperature: 0.8 });
    const stale = owner.withHeaders({ 'if-match': '"before"' });
    expectProblem(await stale.patch(path, { name: 'Lost' }), 412, 'changed_meanwhile');
    const current = owner.withHeaders({ 'if-match': headers.get('etag') as string });
    await expectStatus(200, current.patch(path, { is_active: false }));
    const ask = (fields: object) => owner.post(`${docs}/chat`, { message: 'Hello?', ...fields });
    expectProblem(await ask({ agent: agent.id }), 409, 'agent_inactive');

    await expectStatus(200, owner.patch(path, { is_active: true }));
    const { body: said } = await expectStatus(200, ask({ agent: agent.id }));
    await expectStatus(204, owner.delete(path));
    expectProblem(await owner.get(path), 404, 'not_found');
    // What was said with it stays, and goes on with the knowledge base itself.
    const { body: after } = await expectStatus(200, ask({ session_id: said.session_id }));
    expect(after).toMatchObject({ session_id: said.session_id, agent_id: null });
  });

  it('answer with the temperature of the request before their own, and a model of their own', async () => {
    const another = { provider: 'openai_compatible', model_type: 'chat', model_name: 'another-model' };
    const entry = { ...another, api_base: model.url, shared_with: 'all' };
    const fields = { enabled_tools: [], temperature: 1.5, max_tokens: 77, model: 'another-model' };
    // Nobody has that one yet: it does not go to the installation's server either.
    const refused = await owner.post(`${docs}/agents`, { name: unique('Warm'), ...fields });
    expectProblem(refused, 422, 'validation_failed');
    expect(refused.body.errors).toMatchObject([{ path: 'model', code: 'unknown_model' }]);
    await expectStatus(201, app.admin.post('/platform/models', entry));
    const { id } = await create({ name: unique('Warm'), ...fields });
    const sent = async (request: object) => {
      const message = 'How long do tokens last?';
      await expectStatus(200, owner.post(`${docs}/chat`, { message, agent: id, ...request }));
      const { model: name, temperature, max_tokens, max_completion_tokens } = lastRequest();
      return [name, temperature, max_tokens ?? max_completion_tokens];
    };
    expect(await sent({})).toEqual(['another-model', 1.5, 77]);
    expect(await sent({ temperature: 0, max_tokens: 9 })).toEqual(['another-model', 0, 9]);
  });
});

describe('what is refused', () => {
  it('an unknown tool, a graph that nobody has, and limits without sense, each with its field', async () => {
    const attempt = async (fields: object) => {
      const answer = await owner.post(`${docs}/agents`, { name: 'Nobody', ...fields });
      expectProblem(answer, 422, 'validation_failed');
      return answer.body.errors.map(({ path, message }: any) => `${path}: ${message}`).join('\n');
    };
    expect(await attempt({ enabled_tools: ['graph_search'] })).toMatch(/^enabled_tools: .*no graph/);
    expect(await attempt({ enabled_tools: ['shell'] })).toContain('enabled_tools.0');
    expect(await attempt({ tool_config: { max_steps: 0 } })).toContain('tool_config.max_steps');
    expect(await attempt({ tool_config: { max_steps: 1000 } })).toContain('tool_config.max_steps');
    expect(await attempt({ temperature: 3 })).toContain('temperature');
    expect(await attempt({ slug: 'Not A Slug' })).toContain('slug');
    expect(await attempt({ slug: randomUUID() })).toContain('slug');
    expect(await attempt({ kb_id: randomUUID() })).toContain('kb_id');
  });

  it('a slug that another has, at once and by a change', async () => {
    const taken = await create({ name: unique('Taken') });
    const other = await create({ name: unique('Other') });
    expectProblem(await owner.post(`${docs}/agents`, { name: 'Again', slug: taken.slug }), 409, 'name_taken');
    expectProblem(await owner.patch(`${docs}/agents/${other.slug}`, { slug: taken.slug }), 409, 'name_taken');
    // In another knowledge base it is free.
    const { body: kb } = await expectStatus(
      201,
      owner.post('/tenants/techstartup/kbs', { name: unique('Kb') }),
    );
    await expectStatus(
      201,
      owner.post(`/tenants/techstartup/kbs/${kb.slug}/agents`, { name: 'Again', slug: taken.slug }),
    );
  });

  it('whoever lacks the permission, and agents of another knowledge base', async () => {
    const agent = await create({ name: unique('Guarded') });
    const { client: viewer } = await app.createMember('techstartup', 'viewer');
    const { client: asking } = await app.createMember('techstartup', 'viewer_readonly');
    await expectStatus(200, viewer.get(`${docs}/agents/${agent.slug}`));
    expectProblem(await viewer.post(`${docs}/agents`, { name: 'Mine' }), 403, 'forbidden');
    expectProblem(await viewer.delete(`${docs}/agents/${agent.slug}`), 403, 'forbidden');
    expectProblem(await asking.get(`${docs}/agents`), 403, 'forbidden');
    // Asking needs no more than to be let in.
    await expectStatus(200, asking.post(`${docs}/chat`, { message: 'Tokens?', agent: agent.slug }));

    const { body: kb } = await expectStatus(
      201,
      owner.post('/tenants/techstartup/kbs', { name: unique('Kb') }),
    );
    const elsewhere = `/tenants/techstartup/kbs/${kb.slug}`;
    expectProblem(await owner.get(`${elsewhere}/agents/${agent.id}`), 404, 'not_found');
    expectProblem(
      await owner.post(`${elsewhere}/chat`, { message: 'Tokens?', agent: agent.id }),
      404,
      'not_found',
    );
  });

  it('what a closed knowledge base has, to those it is not granted to', async () => {
    const { body: kb } = await expectStatus(
      201,
      owner.post('/tenants/techstartup/kbs', { name: unique('Closed'), visibility: 'granted' }),
    );
    const closed = `/tenants/techstartup/kbs/${kb.slug}`;
    await expectStatus(201, owner.post(`${closed}/agents`, { name: 'Hidden' }));
    const { client: editor } = await app.createMember('techstartup', 'editor');
    expectProblem(await editor.get(`${closed}/agents/hidden`), 404, 'not_found');
    expectProblem(
      await editor.post(`${closed}/chat`, { message: 'Hello?', agent: 'hidden' }),
      404,
      'not_found',
    );
  });

  it('a token for agents that are not there, or are somebody else’s', async () => {
    await app.createTenant('elsewhere');
    const { body: foreign } = await expectStatus(
      201,
      app.admin.post('/tenants/elsewhere/kbs/docs/agents', { name: 'Foreign' }),
    );
    const token = (agent_ids: string[]) =>
      owner.post('/tenants/techstartup/api-tokens', {
        name: unique('token'),
        scopes: ['query:run'],
        agent_ids,
      });
    for (const id of [foreign.id, randomUUID()]) {
      const answer = await token([id]);
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors).toEqual([
        { path: 'agent_ids.0', code: 'unknown_agent', message: `There is no agent ${id}.` },
      ]);
    }
  });
});

describe('a token that is kept to some agents', () => {
  it('says which of several it asks, and sees, changes and makes no others', async () => {
    const [one, two, other] = [
      await create({ name: unique('One') }),
      await create({ name: unique('Two') }),
      await create({ name: unique('Three') }),
    ];
    const { client, id } = await issueToken(app, owner, 'techstartup', {
      scopes: ['query:run', 'chat:own', 'agent:read', 'agent:update', 'agent:create'],
      agent_ids: [one.id, two.id],
    });
    const answer = await client.post(`${docs}/chat`, { message: 'Hello?' });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0]).toMatchObject({ path: 'agent', code: 'agent_required' });
    const { body: page } = await expectStatus(200, client.get(`${docs}/agents`));
    expect(page.items.map((agent: any) => agent.id).toSorted()).toEqual([one.id, two.id].toSorted());
    expectProblem(await client.patch(`${docs}/agents/${other.id}`, { name: 'Mine' }), 404, 'not_found');
    expectProblem(await client.post(`${docs}/agents`, { name: 'Mine' }), 403, 'forbidden');

    // It loses with an agent that it is no more for what was said there, too.
    const { body: said } = await expectStatus(
      200,
      client.post(`${docs}/chat`, { message: 'How long do tokens last?', agent: one.slug }),
    );
    await expectStatus(200, client.get(`/tenants/techstartup/sessions/${said.session_id}`));
    await expectStatus(200, owner.patch(`/tenants/techstartup/api-tokens/${id}`, { agent_ids: [two.id] }));
    expectProblem(await client.get(`/tenants/techstartup/sessions/${said.session_id}`), 404, 'not_found');
  });
});

describe('the limit max_agents', () => {
  it('holds for twenty at once, counts what is deleted, and goes with a knowledge base', async () => {
    await app.createTenant('limited');
    const path = '/tenants/limited/kbs/docs/agents';
    await expectStatus(200, app.admin.put('/tenants/limited/quotas', { quotas: { max_agents: 3 } }));
    await expectStatus(201, app.admin.post(path, { name: 'First' }));
    await expectStatus(201, app.admin.post(path, { name: 'Second' }));
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => app.admin.post(path, { name: `Agent ${i}` })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    for (const refused of answers.filter(({ status }) => status !== 201)) {
      expectProblem(refused, 403, 'quota_exceeded');
      expect(refused.body).toMatchObject({ limit: 'max_agents', used: 3, max: 3 });
    }
    const { body: usage } = await expectStatus(200, app.admin.get('/tenants/limited/quotas/usage'));
    expect(usage.current_usage.agents).toBe(3);
    await expectStatus(204, app.admin.delete(`${path}/first`));
    await expectStatus(201, app.admin.post(path, { name: 'In its place' }));
    await expectStatus(204, app.admin.delete('/tenants/limited/kbs/docs'));
    await expectStatus(201, app.admin.post('/tenants/limited/kbs', { name: 'Docs' }));
    for (const name of ['a', 'b', 'c']) await expectStatus(201, app.admin.post(path, { name }));
    expectProblem(await app.admin.post(path, { name: 'd' }), 403, 'quota_exceeded');
  });
});
