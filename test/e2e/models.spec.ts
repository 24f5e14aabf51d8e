import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ModelCatalogue } from '../../src/core/models/model-catalogue.service.js';
import { ModelUsage } from '../../src/core/models/model-usage.service.js';
import { ModelsService } from '../../src/core/models/models.service.js';
import { TenantContext } from '../../src/core/tenancy/tenant-context.js';
import { KeyRotationService } from '../../src/features/tenants/key-rotation.service.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import type { Client } from '../setup/client.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

const KEY = 'sk-acme-0123456789abcdef-x9Kd';
const FACT = 'Frames carry a warranty of ten years. Batteries are covered for two years.';
const OLD_KEY = 'the key that seals what models keep at first';
const NEW_KEY = 'the key that seals what models keep from then on';

let app: TestApplication;
/** Of acme; of acme, when the first fails; of the platform. */
let first: ModelServer;
let second: ModelServer;
let platform: ModelServer;
let owner: Client;
let acmeId: string;
let otherId: string;

beforeAll(async () => {
  [first, second, platform] = await Promise.all([startModelServer(), startModelServer(), startModelServer()]);
  app = await startTestApplication({
    ENCRYPTION_KEY: OLD_KEY,
    // Two of them are hosts that tenants may name; the platform may name any.
    OUTBOUND_ALLOWED_HOSTS: [first, second].map(({ origin }) => new URL(origin).host).join(','),
  });
  acmeId = (await app.createTenant('acme')).id;
  otherId = (await app.createTenant('other')).id;
  owner = (await app.createMember('acme', 'owner')).client;
  for (const tenant of ['acme', 'other']) {
    await app.addText(tenant, FACT, { title: 'Warranty' });
    // Who answers is what this is about.
    await expectStatus(200, app.admin.patch(`/tenants/${tenant}/config`, { enable_llm_cache: false }));
  }
});
afterAll(async () => {
  await app?.close();
  await Promise.all([first, second, platform].map(server => server?.close()));
});
beforeEach(() => {
  for (const server of [first, second, platform]) server.received.length = 0;
});

const at = '/tenants/acme/models';
const chatModel = (name: string, server: ModelServer, more: object = {}) => ({
  provider: 'openai_compatible',
  model_type: 'chat',
  model_name: name,
  api_base: server.url,
  api_key: KEY,
  settings: { max_retries: 0 },
  ...more,
});
const make = async (body: object, client = owner, path = at): Promise<any> =>
  (await expectStatus(201, client.post(path, body))).body;
const ask = async (tenant = 'acme', body: object = {}) =>
  app.admin.post(`/tenants/${tenant}/kbs/docs/query`, {
    query: 'How long is the warranty on frames?',
    ...body,
  });
const setDefaults = (body: object, client = owner, path = at) =>
  expectStatus(200, client.put(`${path}/defaults`, body));

/** Everything that is stored of models, and what the audit and its events say. */
function everythingStored(): Promise<string> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  return asSuperuser(app.env, dataSource, async client => {
    const { rows } = await client.query(
      `SELECT coalesce((SELECT json_agg(a) FROM audit_entries a)::text, '')
         || coalesce((SELECT json_agg(m) FROM models m)::text, '')
         || coalesce((SELECT json_agg(m) FROM platform_models m)::text, '')
         || coalesce((SELECT json_agg(e) FROM events e)::text, '') AS text`,
    );
    return rows[0].text;
  });
}

describe('a tenant’s own models', () => {
  it('answer with the tenant’s own key, which is never shown again', async () => {
    await expectStatus(200, owner.put('/tenants/acme/variables/MODEL_KEY', { value: KEY }));
    const made = await make(chatModel('llama', first, { api_key: '${MODEL_KEY}', display_name: 'Llama' }));
    expect(made).toEqual({
      id: expect.any(String),
      owner: 'tenant',
      provider: 'openai_compatible',
      model_type: 'chat',
      model_name: 'llama',
      display_name: 'Llama',
      api_base: first.url,
      has_api_key: true,
      api_key_last_four: null,
      api_key_variables: ['MODEL_KEY'],
      max_tokens: null,
      dimensions: null,
      settings: { max_retries: 0 },
      price_per_1k: null,
      used_tokens: 0,
      status: 'active',
      created_by: expect.any(String),
      created_at: expect.any(String),
      updated_at: expect.any(String),
    });
    const { body: defaults } = await setDefaults({ chat: [made.id] });
    expect(defaults.chat).toEqual({
      models: [{ id: made.id, owner: 'tenant', model_name: 'llama', display_name: 'Llama' }],
      source: 'tenant',
      effective: 'llama',
    });
    const { body } = await expectStatus(200, ask());
    expect(body).toMatchObject({ answered: true, model: 'llama' });
    expect(first.received.at(-1)).toMatchObject({
      headers: { authorization: `Bearer ${KEY}` },
      body: { model: 'llama' },
    });
    await expectStatus(204, owner.delete(`${at}/${made.id}`));
  });

  it('are shown by the last four characters of their keys', async () => {
    const made = await make(chatModel('shown', first));
    expect(made).toMatchObject({ has_api_key: true, api_key_last_four: 'x9Kd', api_key_variables: [] });
    const short = await make(chatModel('short', first, { api_key: 'abc' }));
    expect(short).toMatchObject({ has_api_key: true, api_key_last_four: null });
    const answers = [
      await owner.get(at),
      await owner.get(`${at}/${made.id}`),
      await owner.patch(`${at}/${made.id}`, { api_key: `${KEY}-2` }),
      await owner.post(`${at}/${made.id}/test`),
    ];
    for (const { status, body } of answers) {
      expect(status).toBe(200);
      expect(JSON.stringify(body)).not.toContain(KEY);
    }
    expect(await everythingStored()).not.toContain(KEY);
    for (const { id } of [made, short]) await expectStatus(204, owner.delete(`${at}/${id}`));
  });

  it('are listed, searched, changed and deleted', async () => {
    const chat = await make(chatModel('gpt-x', first, { display_name: 'Big' }));
    const rerank = await make({ ...chatModel('rank-x', first), model_type: 'rerank' });
    const list = async (query = '') => (await expectStatus(200, owner.get(`${at}${query}`))).body;
    expect((await list()).items.map((item: any) => item.display_name)).toEqual(['Big', 'rank-x']);
    expect((await list('?model_type=rerank')).items).toHaveLength(1);
    expect((await list('?search=gpt')).items[0].id).toBe(chat.id);
    expect(await list('?sort=-display_name&page_size=1')).toMatchObject({
      total: 2,
      items: [{ display_name: 'rank-x' }],
    });
    const { body } = await expectStatus(
      200,
      owner.patch(`${at}/${chat.id}`, { display_name: 'Bigger', max_tokens: 32_000, price_per_1k: 25 }),
    );
    expect(body).toMatchObject({ display_name: 'Bigger', max_tokens: 32_000, price_per_1k: 25 });
    expectProblem(
      await owner.post(at, chatModel('another', first, { display_name: 'bigger' })),
      409,
      'name_taken',
    );
    for (const { id } of [chat, rerank]) await expectStatus(204, owner.delete(`${at}/${id}`));
    expectProblem(await owner.get(`${at}/${chat.id}`), 404, 'not_found');
    expectProblem(await owner.delete(`${at}/${chat.id}`), 404, 'not_found');
  });

  it.each([
    ['a private address', { api_base: 'http://10.0.0.7/v1' }, 'api_base', 'address_refused'],
    ['this machine', { api_base: 'http://127.0.0.1:8099/v1' }, 'api_base', 'address_refused'],
    ['a cloud’s metadata', { api_base: 'http://169.254.169.254/latest' }, 'api_base', 'address_refused'],
    [
      'a password in the address',
      { api_base: 'https://a:b@example.com/v1' },
      'api_base',
      'credentials_in_url',
    ],
    ['another scheme', { api_base: 'file:///etc/passwd' }, 'api_base', 'unsupported_scheme'],
    ['a query in the address', { api_base: 'https://example.com/v1?a=b' }, 'api_base', 'invalid_url'],
    ['a dialect without an address', { api_base: null }, 'api_base', 'required'],
    [
      'no key where one is needed',
      { provider: 'openai', api_base: null, api_key: null },
      'api_key',
      'required',
    ],
    ['a variable that there is not', { api_key: '${NOBODY_HAS_IT}' }, 'api_key', 'unknown_variable'],
    [
      'a type that is not offered',
      { provider: 'anthropic', model_type: 'embedding' },
      'model_type',
      'not_offered',
    ],
    ['an unknown provider', { provider: 'nobody' }, 'provider', 'invalid_value'],
    ['an unknown setting', { settings: { colour: 'red' } }, 'settings.colour', 'unknown_field'],
    ['a key with a line break', { api_key: 'a\nb' }, 'api_key', 'invalid_format'],
    ['a context of nothing', { max_tokens: 0 }, 'max_tokens', 'too_small'],
    ['another bundled model', { provider: 'bundled', model_type: 'embedding' }, 'model_name', 'not_offered'],
  ])('are refused with %s', async (_, change, path, code) => {
    const answer = await owner.post(at, chatModel('refused', first, change));
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toContainEqual(expect.objectContaining({ path, code }));
  });

  it('take no key to another server than it was given for', async () => {
    const { id } = await make(chatModel('moved', first));
    const answer = await owner.patch(`${at}/${id}`, { api_base: second.url });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0]).toMatchObject({ path: 'api_key', code: 'api_key_required' });
    await expectStatus(200, owner.patch(`${at}/${id}`, { api_base: `${first.origin}/v1/` }));
    await expectStatus(200, owner.patch(`${at}/${id}`, { api_base: second.url, api_key: 'another' }));
    await expectStatus(204, owner.delete(`${at}/${id}`));
  });

  it('name variables only for those who may set them', async () => {
    await expectStatus(200, owner.put('/tenants/acme/variables/SECRET', { value: 'of the owner' }));
    await expectStatus(
      201,
      owner.post('/tenants/acme/roles', { name: 'modellers', permissions: ['tenant:manage_models'] }),
    );
    const modeller = (await app.createMember('acme', 'modellers')).client;
    const body = chatModel('spy', first, { api_key: '${SECRET}' });
    expectProblem(await modeller.post(at, body), 403, 'variables_refused');
    const { id } = await make(body);
    expectProblem(await modeller.patch(`${at}/${id}`, { api_base: second.url }), 403, 'variables_refused');
    await expectStatus(200, modeller.patch(`${at}/${id}`, { display_name: 'Renamed' }));
    const mine = await make(chatModel('mine', first), modeller);
    for (const made of [{ id }, mine]) await expectStatus(204, owner.delete(`${at}/${made.id}`));
  });

  it('are nothing for those who may not manage them', async () => {
    const editor = (await app.createMember('acme', 'editor')).client;
    expectProblem(await editor.get(at), 403, 'forbidden');
    expectProblem(await editor.post(at, chatModel('x', first)), 403, 'forbidden');
    expectProblem(await editor.put(`${at}/defaults`, {}), 403, 'forbidden');
  });

  it('count what they use', async () => {
    const { id } = await make(chatModel('counted', first));
    const { body } = await expectStatus(200, ask('acme', { model: 'counted' }));
    expect(body.model).toBe('counted');
    await app.application.nest.get(ModelUsage, { strict: false }).flush();
    const shown = (await expectStatus(200, owner.get(`${at}/${id}`))).body;
    expect(shown.used_tokens).toBe(body.usage.prompt_tokens + body.usage.completion_tokens);
    await expectStatus(204, owner.delete(`${at}/${id}`));
  });
});

describe('the order of models', () => {
  it('is kept where the first fails for a passing reason, and not where it refuses', async () => {
    const one = await make(chatModel('one', first));
    const two = await make(chatModel('two', second));
    await setDefaults({ chat: [one.id, two.id] });
    first.failNext({ for: 'chat', status: 503 });
    expect((await expectStatus(200, ask())).body).toMatchObject({ answered: true, model: 'two' });
    expect((await expectStatus(200, ask())).body).toMatchObject({ answered: true, model: 'one' });
    first.failNext({ for: 'chat', status: 401 });
    const refused = await ask();
    expectProblem(refused, 502, 'model_rejected');
    expect(refused.body.detail).toBe('The model "one" answered 401: its API key is missing or wrong.');
    // Named by itself, and not in the order, it stands alone.
    await setDefaults({ chat: [two.id] });
    first.failNext({ for: 'chat', status: 429, headers: { 'retry-after': '77' } });
    const limited = await ask('acme', { model: 'one' });
    expectProblem(limited, 503, 'model_unavailable');
    expect(limited.headers.get('retry-after')).toBe('77');
    expect((await expectStatus(200, ask())).body.model).toBe('two');
    await expectStatus(204, owner.delete(`${at}/${two.id}`));
    // What is deleted is no default any more.
    expect((await owner.get(`${at}/defaults`)).body.chat).toEqual({
      models: [],
      source: null,
      effective: null,
    });
    expect((await expectStatus(200, ask())).body.model).toBe('extractive');
    await expectStatus(204, owner.delete(`${at}/${one.id}`));
  });

  it('names models of the right type, each once', async () => {
    const chat = await make(chatModel('typed', first));
    const refusals: Array<[object, string]> = [
      [{ embedding: [chat.id] }, 'unknown_model'],
      [{ chat: [chat.id, chat.id] }, 'custom'],
      [{ chat: [randomUUID()] }, 'unknown_model'],
      [{ chats: [] }, 'unknown_field'],
    ];
    for (const [body, code] of refusals) {
      const answer = await owner.put(`${at}/defaults`, body);
      expectProblem(answer, 422, 'validation_failed');
      expect(answer.body.errors[0].code).toBe(code);
    }
    await expectStatus(200, owner.patch(`${at}/${chat.id}`, { status: 'disabled' }));
    expectProblem(await owner.put(`${at}/defaults`, { chat: [chat.id] }), 422, 'validation_failed');
    await expectStatus(204, owner.delete(`${at}/${chat.id}`));
  });
});

describe('a model that is chosen by its name', () => {
  it('answers, whatever the default is', async () => {
    const { id } = await make(chatModel('named', first, { display_name: 'By Name' }));
    for (const model of ['named', 'by name', id])
      expect((await expectStatus(200, ask('acme', { model }))).body.model).toBe('named');
    await expectStatus(200, owner.patch('/tenants/acme/config', { llm_model: 'named' }));
    expect((await expectStatus(200, ask())).body.model).toBe('named');
    expectProblem(await ask('acme', { model: 'nobody' }), 409, 'unknown_model');
    await expectStatus(200, owner.patch('/tenants/acme/config', { llm_model: null }));
    await expectStatus(204, owner.delete(`${at}/${id}`));
  });
});

describe('an embedding model of one’s own', () => {
  const kb = '/tenants/acme/kbs/vectors';
  const search = (query: string) => owner.post(`${kb}/search`, { query, mode: 'vector' });

  it('makes the vectors of new knowledge bases; others keep theirs', async () => {
    const { id } = await make({ ...chatModel('embed-x', first), model_type: 'embedding', dimensions: 256 });
    await setDefaults({ embedding: [id] });
    await expectStatus(201, owner.post('/tenants/acme/kbs', { name: 'Vectors' }));
    const { body } = await expectStatus(202, owner.post(`${kb}/documents/text`, { text: FACT }));
    expect(await app.settled('acme', body.id, 'vectors')).toMatchObject({ status: 'ready' });
    expect((await expectStatus(200, search('warranty on frames'))).body.passages).toHaveLength(1);
    expect(first.received.some(({ body: asked }) => asked?.model === 'embed-x')).toBe(true);
    const old = await owner.post('/tenants/acme/kbs/docs/search', { query: 'warranty', mode: 'vector' });
    expect(old.body.passages).toHaveLength(1);

    for (const answer of [
      await owner.delete(`${at}/${id}`),
      await owner.patch(`${at}/${id}`, { status: 'disabled' }),
    ])
      expectProblem(answer, 409, 'model_in_use');
  });

  it('is refused its vectors where they suddenly have other dimensions', async () => {
    first.next({ for: 'embeddings', dimensions: 7 });
    const answer = await search('how long batteries last');
    expectProblem(answer, 502, 'model_rejected');
    expect(answer.body.detail).toContain('7 dimensions');
    first.next({ for: 'embeddings', dimensions: 7 });
    const { body } = await expectStatus(202, owner.post(`${kb}/documents/text`, { text: 'Another fact.' }));
    expect(await app.settled('acme', body.id, 'vectors')).toMatchObject({
      status: 'failed',
      error: { code: 'model_rejected' },
    });
  });

  it('goes once its knowledge bases have the vectors of another', async () => {
    await setDefaults({ embedding: [] });
    const { headers } = await expectStatus(202, owner.post(`${kb}/reindex`));
    await app.jobEnded(headers.get('location') as string);
    expect((await owner.get(kb)).body.embedding_model).not.toBe('embed-x');
    const { items } = (await owner.get(`${at}?model_type=embedding`)).body;
    await expectStatus(204, owner.delete(`${at}/${items[0].id}`));
    expect((await expectStatus(200, search('warranty'))).body.passages).not.toHaveLength(0);
  });
});

describe('the test of a model', () => {
  const trial = async (body: object, prepare?: () => void) => {
    const { id } = await make(body);
    prepare?.();
    const answer = await expectStatus(200, owner.post(`${at}/${id}/test`));
    await expectStatus(204, owner.delete(`${at}/${id}`));
    return answer.body;
  };

  it.each([
    ['chat', {}, null],
    ['embedding', { model_type: 'embedding' }, 256],
    ['rerank', { model_type: 'rerank' }, null],
    ['image2text', { model_type: 'image2text' }, null],
    ['asr', { model_type: 'asr' }, null],
    ['tts', { model_type: 'tts' }, null],
    ['anthropic', { provider: 'anthropic', base: 'origin' }, null],
    ['ollama', { provider: 'ollama', base: 'origin' }, null],
    [
      'bundled',
      {
        provider: 'bundled',
        model_type: 'embedding',
        model_name: 'bundled/universal-sentence-encoder-lite',
        api_base: null,
        api_key: null,
      },
      512,
    ],
  ])('tells that %s answers', async (name, { base, ...change }: Record<string, unknown>, dimensions) => {
    const address = base ? { api_base: first.origin } : {};
    const body = await trial(chatModel(`trial-${name}`, first, { ...address, ...change }));
    expect(body).toEqual({ ok: true, latency_ms: expect.any(Number), dimensions, error: null });
  });

  it.each([
    ['a wrong key', { status: 401 }, 'model_rejected', false],
    ['a server that is overloaded', { status: 503 }, 'model_unavailable', true],
    ['garbage', { garbage: true as const }, 'model_rejected', false],
    ['a dropped connection', { reset: true as const }, 'model_unavailable', true],
  ])('tells of %s', async (_, fault, code, retryable) => {
    const body = await trial(chatModel('trial', first), () => first.failNext(fault));
    expect(body).toMatchObject({ ok: false, error: { code, retryable, message: expect.any(String) } });
    expect(first.received).toHaveLength(1);
  });

  it('tells of an address that has become a private one', async () => {
    await expectStatus(200, owner.put('/tenants/acme/variables/BASE', { value: first.url }));
    const { id } = await make(chatModel('rebound', first, { api_base: '${BASE}' }));
    await expectStatus(200, owner.post(`${at}/${id}/test`));
    await expectStatus(200, owner.put('/tenants/acme/variables/BASE', { value: platform.url }));
    platform.received.length = 0;
    const { body } = await expectStatus(200, owner.post(`${at}/${id}/test`));
    expect(body).toMatchObject({ ok: false, error: { code: 'model_rejected' } });
    expect(platform.received).toEqual([]);
    await setDefaults({ chat: [id] });
    expectProblem(await ask(), 502, 'model_rejected');
    await expectStatus(204, owner.delete('/tenants/acme/variables/BASE'));
    const unresolved = await ask();
    expectProblem(unresolved, 502, 'model_rejected');
    expect(unresolved.body.detail).toContain('BASE');
    await expectStatus(204, owner.delete(`${at}/${id}`));
  });
});

describe('another tenant', () => {
  it('neither sees nor uses what is not its own', async () => {
    const stranger = (await app.createMember('other', 'owner')).client;
    const { id } = await make(chatModel('ours', first));
    await setDefaults({ chat: [id] });
    const theirs = '/tenants/other/models';
    expect((await stranger.get(theirs)).body.items).toEqual([]);
    for (const answer of [
      await stranger.get(`${theirs}/${id}`),
      await stranger.patch(`${theirs}/${id}`, { status: 'disabled' }),
      await stranger.delete(`${theirs}/${id}`),
      await stranger.post(`${theirs}/${id}/test`),
      await stranger.get(`${at}/${id}`),
    ])
      expectProblem(answer, 404, 'not_found');
    const refused = await stranger.put(`${theirs}/defaults`, { chat: [id] });
    expectProblem(refused, 422, 'validation_failed');
    for (const model of ['ours', id])
      expect((await expectStatus(200, ask('other', { model }))).body.model).toBe('extractive');
    expect((await expectStatus(200, ask('other'))).body.model).toBe('extractive');
    expect(first.received).toEqual([]);
    expect((await expectStatus(200, ask())).body.model).toBe('ours');

    // An entry of the same name is another entry.
    const namesake = await make(
      chatModel('ours', second, { api_key: 'key-of-the-others' }),
      stranger,
      theirs,
    );
    await setDefaults({ chat: [namesake.id] }, stranger, theirs);
    first.received.length = 0;
    expect((await expectStatus(200, ask('other'))).body.model).toBe('ours');
    expect(second.received.at(-1)?.headers.authorization).toBe('Bearer key-of-the-others');
    expect(first.received).toEqual([]);
    await expectStatus(204, stranger.delete(`${theirs}/${namesake.id}`));
    await expectStatus(204, owner.delete(`${at}/${id}`));
  });

  it('opens no key that was put into it', async () => {
    const { id } = await make(chatModel('stolen', first));
    const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    await asSuperuser(app.env, dataSource, client =>
      client.query(
        `INSERT INTO models (id, tenant_id, provider, model_type, model_name, display_name, api_base, api_key)
         SELECT gen_random_uuid(), '${otherId}', provider, model_type, model_name, 'Stolen', api_base, api_key
         FROM models WHERE id = '${id}'`,
      ),
    );
    const { body } = await app.admin.get('/tenants/other/models');
    const copy = body.items.find((item: any) => item.display_name === 'Stolen');
    first.received.length = 0;
    expect((await app.admin.post(`/tenants/other/models/${copy.id}/test`)).body).toMatchObject({
      ok: false,
      error: { code: 'model_rejected' },
    });
    expect(first.received).toEqual([]);
    await expectStatus(204, app.admin.delete(`/tenants/other/models/${copy.id}`));
    await expectStatus(204, owner.delete(`${at}/${id}`));
  });
});

describe('the platform’s models', () => {
  const path = '/platform/models';
  const shared = (name: string, more: object = {}) =>
    chatModel(name, platform, { api_key: 'key-of-the-platform-1234', ...more });

  it('are no tenant’s choice where they were deleted at the same moment', async () => {
    const gone = await make(shared('gone', { shared_with: 'all' }), app.admin, path);
    const stays = await make(shared('stays', { shared_with: 'all' }), app.admin, path);
    await expectStatus(200, owner.get(`${at}/${gone.id}`));
    // What is shared is known by heart: nobody has told that this one is not.
    const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    await asSuperuser(app.env, dataSource, client =>
      client.query(`DELETE FROM platform_models WHERE id = '${gone.id}'`),
    );
    const answer = await owner.put(`${at}/defaults`, { chat: [stays.id, gone.id] });
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors).toMatchObject([{ path: 'chat.1', code: 'unknown_model' }]);
    await expectStatus(204, app.admin.delete(`${path}/${stays.id}`));
  });

  it('are there for the tenants that they are shared with', async () => {
    const all = await make(shared('for-all', { shared_with: 'all' }), app.admin, path);
    const some = await make(shared('for-acme', { shared_with: ['acme'] }), app.admin, path);
    expect(some).toMatchObject({ shared_with: [acmeId], default_position: null, api_key_last_four: '1234' });
    const seen = async (tenant: string) =>
      (await app.admin.get(`/tenants/${tenant}/models?model_type=chat`)).body.items.map(
        (item: any) => item.model_name,
      );
    expect(await seen('acme')).toEqual(['for-all', 'for-acme']);
    expect(await seen('other')).toEqual(['for-all']);
    const shown = (await expectStatus(200, owner.get(`${at}/${all.id}`))).body;
    expect(shown).toMatchObject({
      owner: 'platform',
      api_base: null,
      has_api_key: true,
      api_key_last_four: null,
      used_tokens: null,
      created_by: null,
    });
    for (const answer of [
      await owner.patch(`${at}/${all.id}`, { status: 'disabled' }),
      await owner.delete(`${at}/${all.id}`),
      await owner.post(`${at}/${all.id}/test`),
      await app.admin.get(`/tenants/other/models/${some.id}`),
    ])
      expectProblem(answer, 404, 'not_found');
    expectProblem(await owner.get(path), 403, 'forbidden');
    expectProblem(
      await app.admin.put('/tenants/other/models/defaults', { chat: [some.id] }),
      422,
      'validation_failed',
    );

    // At an address that tenants may not name.
    expect((await expectStatus(200, ask('other', { model: 'for-all' }))).body.model).toBe('for-all');
    expect(platform.lastRequest?.authorization).toBe('Bearer key-of-the-platform-1234');
    expect((await expectStatus(200, app.admin.post(`${path}/${all.id}/test`))).body.ok).toBe(true);

    const { body } = await expectStatus(200, app.admin.put(`${path}/defaults`, { chat: [some.id, all.id] }));
    expect(body.chat).toEqual([some.id, all.id]);
    expect((await expectStatus(200, ask())).body.model).toBe('for-acme');
    expect((await expectStatus(200, ask('other'))).body.model).toBe('for-all');
    platform.failNext({ for: 'chat', status: 503 });
    expect((await expectStatus(200, ask())).body.model).toBe('for-all');
    expect((await owner.get(`${at}/defaults`)).body.chat).toMatchObject({
      source: 'platform',
      effective: 'for-acme',
    });

    // What a tenant chooses itself comes first, also among the platform's.
    await setDefaults({ chat: [all.id] });
    expect((await expectStatus(200, ask())).body.model).toBe('for-all');
    await expectStatus(200, app.admin.patch(`${path}/${all.id}`, { shared_with: ['other'] }));
    expect((await expectStatus(200, ask())).body.model).toBe('for-acme');
    await setDefaults({ chat: [] });
    for (const { id } of [all, some]) await expectStatus(204, app.admin.delete(`${path}/${id}`));
    expect((await expectStatus(200, ask())).body.model).toBe('extractive');
  });

  it('name no variables, and no tenants that there are not', async () => {
    const answer = await app.admin.post(path, shared('v', { api_key: '${KEY}' }));
    expectProblem(answer, 422, 'validation_failed');
    expect(answer.body.errors[0]).toMatchObject({ path: 'api_key', code: 'variables_refused' });
    const unknown = await app.admin.post(path, shared('t', { shared_with: ['acme', 'nobody'] }));
    expect(unknown.body.errors[0]).toMatchObject({ path: 'shared_with.1', code: 'unknown_tenant' });
    expect((await app.admin.get(path)).body.items).toEqual([]);
  });
});

describe('what a process knows of a tenant’s models', () => {
  it('is asked of the database once', async () => {
    const { id } = await make(chatModel('remembered', first));
    await setDefaults({ chat: [id] });
    await expectStatus(200, ask());
    const catalogue = app.application.nest.get(ModelCatalogue, { strict: false });
    const context = app.application.nest.get(TenantContext, { strict: false });
    const models = app.application.nest.get(ModelsService, { strict: false });
    await context.runAsSystem({ id: acmeId, name: 'acme' }, async () => {
      const known = catalogue.current();
      expect(known).not.toBeInstanceOf(Promise);
      expect(catalogue.current()).toBe(known);
      expect(await models.chat()).toBe(await models.chat('remembered'));
    });
    await expectStatus(204, owner.delete(`${at}/${id}`));
  });
});

describe('keys of models', () => {
  it('outlive a new encryption key', async () => {
    const { id } = await make(chatModel('sealed', first));
    const hosts = { OUTBOUND_ALLOWED_HOSTS: new URL(first.origin).host };
    await app.restart({ ...hosts, ENCRYPTION_KEY: NEW_KEY, ENCRYPTION_OLD_KEYS: OLD_KEY });
    const rotation = app.application.nest.get(KeyRotationService, { strict: false });
    expect((await rotation.run()).others['keys of models']).toBe(1);
    expect((await rotation.run()).others['keys of models']).toBe(0);
    await app.restart({ ...hosts, ENCRYPTION_KEY: NEW_KEY });
    const { body } = await expectStatus(200, app.admin.post(`${at}/${id}/test`));
    expect(body).toMatchObject({ ok: true });
    expect(first.lastRequest?.authorization).toBe(`Bearer ${KEY}`);
    await expectStatus(204, app.admin.delete(`${at}/${id}`));
  });
});
