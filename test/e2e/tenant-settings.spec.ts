import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { TenantVariablesService } from '../../src/core/variables/tenant-variables.service.js';
import { SettingsError } from '../../src/foundation/config/env.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

let app: TestApplication;
let model: ModelServer;
let tenantId: string;
let admin: Client;
let editor: Client;

beforeAll(async () => {
  model = await startModelServer({ respond: () => 'As the model says [1].' });
  app = await startTestApplication({
    LLM_BASE_URL: model.url,
    LLM_API_KEY: 'key-of-the-test',
    LLM_MODEL: 'stub-chat',
    FEATURES: JSON.stringify({ invitation_days: 5, custom_roles: false }),
  });
  tenantId = (await app.createTenant('acme')).id;
  await app.createTenant('other');
  admin = (await app.createMember('acme', 'admin')).client;
  editor = (await app.createMember('acme', 'editor')).client;
});
afterAll(async () => {
  await app?.close();
  await model?.close();
});

/** Everything that is written down somewhere, as text. */
function everythingStored(): Promise<string> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => {
    const { rows } = await client.query(
      `SELECT (SELECT json_agg(a) FROM audit_entries a)::text || (SELECT json_agg(t) FROM tenants t)::text
        || coalesce((SELECT json_agg(v) FROM tenant_variables v)::text, '') AS text`,
    );
    return rows[0].text;
  });
}

describe('features', () => {
  const path = '/tenants/acme/features';
  const featureOf = async (name: string) =>
    (await expectStatus(200, admin.get(path))).body.items.find(
      (item: { name: string }) => item.name === name,
    );

  it('are listed with their types, and with the level that set each', async () => {
    const { body } = await expectStatus(200, admin.get(path));
    expect(await featureOf('invitation_days')).toEqual({
      name: 'invitation_days',
      description: expect.any(String),
      schema: { type: 'integer', minimum: 1, maximum: 90 },
      value: 5,
      level: 'platform',
      default: 7,
    });
    expect(await featureOf('invitations')).toMatchObject({ value: true, level: 'default' });
    expect(body.features).toMatchObject({ invitation_days: 5, custom_roles: false, invitations: true });
    expect((await admin.get('/tenants/acme')).body.features).toEqual(body.features);
  });

  it('are set one by one, and unset with null', async () => {
    const change = (features: object) => expectStatus(200, admin.put(path, { features }));
    await change({ invitation_days: 30, invitations: false });
    await change({ custom_roles: true });
    expect((await change({ invitation_days: null })).body.features).toMatchObject({
      invitation_days: 5,
      invitations: false,
      custom_roles: true,
    });
    expect(await featureOf('invitations')).toMatchObject({ value: false, level: 'tenant' });
    expect((await app.admin.get('/tenants/other/features')).body.features).toMatchObject({
      invitations: true,
    });
    await change({ invitations: null, custom_roles: null });
  });

  it.each([
    [{ features: { teleport: true } }, 'features.teleport'],
    [{ features: { invitations: 'yes' } }, 'features.invitations'],
    [{ features: { invitation_days: 0 } }, 'features.invitation_days'],
    [{ features: { default_kb_visibility: 'nobody' } }, 'features.default_kb_visibility'],
    [{ invitations: true }, 'features'],
  ])('refuse %j', async (body, field) => {
    const answer = await admin.put(path, body);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toContainEqual(expect.objectContaining({ path: field }));
  });

  it('are for those who manage the tenant', async () => {
    expectProblem(await editor.get(path), 403, 'forbidden');
    expectProblem(await editor.put(path, { features: { invitations: false } }), 403, 'forbidden');
  });

  it('decide who sees a new knowledge base', async () => {
    await expectStatus(200, admin.put(path, { features: { default_kb_visibility: 'granted' } }));
    const { body } = await expectStatus(201, admin.post('/tenants/acme/kbs', { name: 'Closed' }));
    expect(body.visibility).toBe('granted');
    await expectStatus(200, admin.put(path, { features: { default_kb_visibility: null } }));
    expect((await admin.post('/tenants/acme/kbs', { name: 'Open' })).body.visibility).toBe('tenant');
  });

  it('decide whether a model writes answers', async () => {
    await app.addText('acme', 'Batteries are covered for two years.');
    const ask = async () =>
      (
        await expectStatus(
          200,
          editor.post('/tenants/acme/kbs/docs/query', { query: 'How long are batteries covered?' }),
        )
      ).body;
    expect(await ask()).toMatchObject({ model: 'stub-chat', answer: 'As the model says [1].' });
    await expectStatus(200, admin.put(path, { features: { generated_answers: false } }));
    const before = model.requests.chat;
    expect(await ask()).toMatchObject({
      model: 'extractive',
      answer: expect.stringContaining('Batteries are covered for two years.'),
    });
    expect(model.requests.chat).toBe(before);
    await expectStatus(200, admin.put(path, { features: { generated_answers: null } }));
    expect((await ask()).model).toBe('stub-chat');
  });
});

describe('variables', () => {
  const path = '/tenants/acme/variables';
  const SECRET = 'sk-a-very-secret-value-of-the-tests';
  const resolve = (text: string, tenant = { id: tenantId, name: 'acme' }) =>
    app.application.nest
      .get(TenantContext)
      .runAsSystem(tenant, () =>
        app.application.nest.get(TenantVariablesService, { strict: false }).resolve(text),
      );

  it('are set, listed and deleted, and never shown', async () => {
    const set = await expectStatus(200, admin.put(`${path}/API_KEY`, { value: SECRET }));
    expect(set.body).toEqual({
      name: 'API_KEY',
      updated_by: expect.any(String),
      created_at: expect.any(String),
      updated_at: expect.any(String),
    });
    await expectStatus(200, admin.put(`${path}/ENDPOINT`, { value: 'https://api.example.com' }));
    const list = await expectStatus(200, admin.get(path));
    expect(list.body).toMatchObject({ total: 2, items: [{ name: 'API_KEY' }, { name: 'ENDPOINT' }] });
    expect((await admin.get(`${path}/API_KEY`)).body).toEqual(set.body);
    expect(JSON.stringify([set.body, list.body])).not.toContain('very-secret');
    expect(await resolve('Bearer ${API_KEY} to ${ENDPOINT}')).toBe(
      `Bearer ${SECRET} to https://api.example.com`,
    );
    const changed = await expectStatus(200, admin.put(`${path}/API_KEY`, { value: `${SECRET}-2` }));
    expect(changed.body.created_at).toBe(set.body.created_at);
    expect(await resolve('${API_KEY}')).toBe(`${SECRET}-2`);
    await expectStatus(204, admin.delete(`${path}/ENDPOINT`));
    expectProblem(await admin.get(`${path}/ENDPOINT`), 404, 'not_found');
    expectProblem(await admin.delete(`${path}/ENDPOINT`), 404, 'not_found');
  });

  it('stand nowhere in the clear', async () => {
    const stored = await everythingStored();
    expect(stored).toContain('variable.created');
    expect(stored).toContain('API_KEY');
    expect(stored).not.toContain('very-secret');
  });

  it('are used by name, and only those that there are', async () => {
    await expect(resolve('${NO_SUCH} ${API_KEY}')).rejects.toThrow('There is no variable NO_SUCH.');
    await expect(resolve('${NO_SUCH}')).rejects.not.toThrow(SECRET);
    expect(await resolve('nothing $ {here} ${lower}')).toBe('nothing $ {here} ${lower}');
    const other = (await app.admin.get('/tenants/other')).body.id;
    await expect(resolve('${API_KEY}', { id: other, name: 'other' })).rejects.toThrow('no variable API_KEY');
  });

  it('belong to their place: a value that is moved does not open', async () => {
    const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    await asSuperuser(app.env, dataSource, client =>
      client.query(
        `INSERT INTO tenant_variables (tenant_id, name, sealed)
         SELECT tenant_id, 'STOLEN', sealed FROM tenant_variables WHERE name = 'API_KEY'`,
      ),
    );
    await expect(resolve('${STOLEN}')).rejects.toThrow('belongs somewhere else');
    await expectStatus(204, admin.delete(`${path}/STOLEN`));
  });

  it.each(['lower', '1ST', '_X', 'WITH-DASH', 'Ä', 'X'.repeat(65)])('cannot be called %s', async name => {
    const answer = await admin.put(`${path}/${encodeURIComponent(name)}`, { value: 'x' });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toMatchObject([{ path: 'variable' }]);
  });

  it.each([
    [{ value: '' }],
    [{ value: 'x'.repeat(8193) }],
    [{ value: 'ä'.repeat(4097) }],
    [{ value: 5 }],
    [{}],
  ])('cannot hold %#', async body => {
    const answer = await admin.put(`${path}/REFUSED`, body);
    expectProblem(answer, 422, 'validation_failed');
    expect(JSON.stringify(answer.body)).not.toContain('xxx');
    expectProblem(await admin.get(`${path}/REFUSED`), 404, 'not_found');
  });

  it('are for those who manage the tenant, and for no other tenant', async () => {
    expectProblem(await editor.get(path), 403, 'forbidden');
    expectProblem(await editor.put(`${path}/API_KEY`, { value: 'x' }), 403, 'forbidden');
    expectProblem(await admin.get('/tenants/other/variables'), 404, 'not_found');
    expect((await app.admin.get('/tenants/other/variables')).body.total).toBe(0);
  });

  it('are two hundred at most, also when many are set at once', async () => {
    await app.createTenant('crowded');
    const put = (index: number) => app.admin.put(`/tenants/crowded/variables/V${index}`, { value: 'x' });
    for (let index = 0; index < 195; index++) await expectStatus(200, put(index));
    const last = await Promise.all(Array.from({ length: 10 }, (_, index) => put(195 + index)));
    expect(last.map(({ status }) => status).toSorted()).toEqual([
      ...Array(5).fill(200),
      ...Array(5).fill(409),
    ]);
    expect(last.find(({ status }) => status === 409)?.body.code).toBe('too_many_variables');
    await expectStatus(200, put(3));
    expect((await app.admin.get('/tenants/crowded/variables?page_size=100&page=2')).body.items).toHaveLength(
      100,
    );
  });
});

describe('the configuration', () => {
  const path = '/tenants/acme/config';
  const kb = '/tenants/acme/kbs/docs';
  const set = (config: object) => expectStatus(200, admin.patch(path, config));

  it('names each field’s value and the level that set it', async () => {
    const { body } = await expectStatus(200, admin.get(path));
    expect(body.config).toEqual({
      llm_model: { value: null, level: 'default' },
      embedding_model: { value: null, level: 'default' },
      rerank_model: { value: null, level: 'default' },
      llm_temperature: { value: 1, level: 'default' },
      llm_max_tokens: { value: 4096, level: 'default' },
      embedding_dim: { value: null, level: 'default' },
      embedding_batch_num: { value: 10, level: 'default' },
      top_k: { value: 10, level: 'default' },
      chunk_top_k: { value: 20, level: 'default' },
      cosine_threshold: { value: 0.2, level: 'default' },
      enable_llm_cache: { value: true, level: 'default' },
      enable_rerank: { value: true, level: 'default' },
      chunk_unit: { value: 'characters', level: 'default' },
      chunk_size: { value: 1200, level: 'default' },
      chunk_overlap: { value: 100, level: 'default' },
      graph: { value: 'off', level: 'default' },
      graph_model: { value: null, level: 'default' },
      system_prompt: { value: null, level: 'default' },
    });
    await set({ top_k: 30, llm_temperature: 0.5 });
    await expectStatus(200, admin.patch(kb, { config: { top_k: 3 } }));
    expect((await editor.get(`${kb}/config`)).body.config).toMatchObject({
      top_k: { value: 3, level: 'kb' },
      llm_temperature: { value: 0.5, level: 'tenant' },
      chunk_unit: { value: 'characters', level: 'default' },
      chunk_size: { value: 1200, level: 'default' },
    });
    expect((await set({ top_k: null })).body.config.top_k).toEqual({ value: 10, level: 'default' });
    await set({ llm_temperature: null });
    await expectStatus(200, admin.patch(kb, { config: {} }));
    expectProblem(await editor.get('/tenants/acme/kbs/absent/config'), 404, 'not_found');
  });

  it.each([
    [{ top_k: 0 }, 'top_k'],
    [{ top_k: '5' }, 'top_k'],
    [{ chunk_size: 50 }, 'chunk_size'],
    [{ chunk_size: 150 }, 'chunk_overlap'],
    [{ chunk_overlap: 900 }, 'chunk_overlap'],
    [{ llm_temperature: 3 }, 'llm_temperature'],
    [{ enable_rerank: 'no' }, 'enable_rerank'],
    [{ flavour: 'sweet' }, 'flavour'],
    [{ system_prompt: 'x'.repeat(20_001) }, 'system_prompt'],
  ])('refuses %j', async (config, field) => {
    const answer = await admin.patch(path, config);
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toMatchObject([{ path: field }]);
  });

  it('is for those who manage the tenant; of a knowledge base, for those who read it', async () => {
    expectProblem(await editor.get(path), 403, 'forbidden');
    expectProblem(await editor.patch(path, { top_k: 1 }), 403, 'forbidden');
    const { client } = await app.createMember('acme', 'viewer_readonly');
    expectProblem(await client.get(`${kb}/config`), 403, 'forbidden');
  });

  it('of the tenant holds in every search, below the knowledge base’s and the request’s own', async () => {
    for (const number of [1, 2, 3, 4]) await app.addText('acme', `Visitors number ${number} come at noon.`);
    const search = async (fields: object = {}) =>
      (await expectStatus(200, editor.post(`${kb}/search`, { query: 'visitors at noon', ...fields }))).body
        .passages.length as number;
    const all = await search();
    expect(all).toBeGreaterThanOrEqual(4);
    await set({ top_k: 2 });
    expect(await search()).toBe(2);
    expect(await search({ filter: { created_after: '2020-01-01T00:00:00Z' } })).toBe(2);
    await expectStatus(200, admin.patch(kb, { config: { top_k: 3 } }));
    expect(await search()).toBe(3);
    expect(await search({ top_k: 1 })).toBe(1);
    await expectStatus(200, admin.patch(kb, { config: {} }));
    await set({ top_k: null });
    expect(await search()).toBe(all);
  });

  it('of the tenant holds in every answer', async () => {
    await set({
      system_prompt: 'Answer for Acme.',
      llm_temperature: 0.3,
      llm_max_tokens: 55,
      llm_model: 'large',
    });
    const ask = async () =>
      (await expectStatus(200, editor.post(`${kb}/query`, { query: 'When do visitors come?' }))).body;
    const query = { query: 'When do visitors come?' };
    expectProblem(await editor.post(`${kb}/query`, query), 409, 'unknown_model');
    const large = { provider: 'openai_compatible', model_type: 'chat', model_name: 'large' };
    const entry = { ...large, api_base: model.url, shared_with: 'all' };
    await expectStatus(201, app.admin.post('/platform/models', entry));
    expect((await ask()).model).toBe('large');
    const sent = () => model.lastRequest?.body as any;
    expect(sent()).toMatchObject({ model: 'large', temperature: 0.3, max_tokens: 55 });
    expect(sent().messages[0].content).toMatch(/^Answer for Acme\.\n/);
    await expectStatus(200, admin.patch(kb, { config: { system_prompt: null, llm_max_tokens: 66 } }));
    await ask();
    expect(sent()).toMatchObject({ temperature: 0.3, max_tokens: 66 });
    expect(sent().messages[0].content).not.toContain('Acme');
    await expectStatus(200, admin.patch(kb, { config: {} }));
    await set({ system_prompt: null, llm_temperature: null, llm_max_tokens: null, llm_model: null });
    expect((await ask()).model).toBe('stub-chat');
  });

  it('of the tenant holds in what is ingested from then on', async () => {
    const text = (word: string) =>
      Array.from({ length: 60 }, (_, index) => `${word} sentence ${index}.`).join(' ');
    const before = await app.addText('acme', text('First'));
    await set({ chunk_size: 200, chunk_overlap: 0 });
    const after = await app.addText('acme', text('Second'));
    expect(after.chunk_count).toBeGreaterThan(2 * before.chunk_count);
    // A knowledge base that overlaps more than the tenant's small chunks allow still ingests.
    await expectStatus(200, admin.patch(kb, { config: { chunk_overlap: 500 } }));
    expect((await app.addText('acme', text('Third'))).status).toBe('ready');
    await expectStatus(200, admin.patch(kb, { config: {} }));
    await set({ chunk_size: null, chunk_overlap: null });
  });

  it('loses nothing to several changes at once', async () => {
    await Promise.all([
      set({ top_k: 11 }),
      set({ chunk_top_k: 12 }),
      set({ llm_max_tokens: 13 }),
      set({ cosine_threshold: 0.14 }),
    ]);
    expect((await admin.get(path)).body.config).toMatchObject({
      top_k: { value: 11 },
      chunk_top_k: { value: 12 },
      llm_max_tokens: { value: 13 },
      cosine_threshold: { value: 0.14 },
    });
  });
});

describe('the platform’s features', () => {
  it('stop the start where they are none', async () => {
    const start = startTestApplication({ FEATURES: '{"teleport": true}' });
    await expect(start).rejects.toThrow(/FEATURES names teleport, which is no feature/);
    await expect(start).rejects.toBeInstanceOf(SettingsError);
  });
});
