import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { SERVER } from '../setup/database.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';
import { asSuperuser } from '../setup/superuser.js';

const TENANT = '/tenants/cycles';
const KB = `${TENANT}/kbs/docs`;
const TEXTS = {
  warranty: 'Frames carry a warranty of ten years. Batteries are covered for two years.',
  returns: 'A bicycle may be returned within thirty days. The customer pays for the transport.',
  hours: 'The shop opens at nine in the morning. It is closed on Sundays.',
  framing: 'Framing a picture takes two days in the workshop next door.',
};

/** What may be asked of a search beyond its query. */
describe('ways of searching', () => {
  let app: TestApplication;
  let model: ModelServer;
  const ids: Record<string, string> = {};
  const search = async (body: object, kb = KB) =>
    (await expectStatus(200, app.admin.post(`${kb}/search`, body))).body.passages as any[];
  const titles = async (body: object, kb = KB) =>
    (await search(body, kb)).map(passage => passage.document_title);

  beforeAll(async () => {
    model = await startModelServer({ dimensions: 64 });
    app = await startTestApplication({ EMBEDDING_BASE_URL: model.url, EMBEDDING_MODEL: 'stub' });
    await app.createTenant('cycles');
    for (const [index, [title, text]] of Object.entries(TEXTS).entries()) {
      const metadata = { year: 2020 + index, tags: [title], draft: title === 'hours' };
      ids[title] = (await app.addText('cycles', text, { title, metadata })).id;
    }
  });
  afterAll(async () => {
    await app?.close();
    await model?.close();
  });

  it('keeps to quoted words where they are asked to stand together', async () => {
    const query = 'is "two years" long?';
    expect(await titles({ query, mode: 'keyword' })).toContain('framing');
    expect(await titles({ query, phrase: true, mode: 'keyword' })).toEqual(['warranty']);
    expect(await titles({ query: '"years two"', phrase: true })).toEqual([]);
    expect(await titles({ query: `"'; DROP TABLE chunks; --"`, phrase: true })).toEqual([]);
  });

  it('finds words by their beginnings where it is asked to', async () => {
    const query = 'fram*';
    expect(await titles({ query, mode: 'keyword' })).toEqual([]);
    const found = await titles({ query, prefix: true, mode: 'keyword' });
    expect(found.toSorted()).toEqual(['framing', 'warranty']);
    expect((await titles({ query, prefix: true })).length).toBeGreaterThan(0);
    expect(await titles({ query: 'zzz* (.* [a-z]* \\m*', prefix: true, mode: 'keyword' })).toEqual([]);
  });

  it('filters by operators, and refuses what it does not know', async () => {
    const found = async (metadata: object) =>
      (await titles({ query: 'warranty bicycle shop picture', filter: { metadata } })).toSorted();
    expect(await found({ year: { $gte: 2021, $lt: 2023 } })).toEqual(['hours', 'returns']);
    expect(await found({ tags: { $in: ['warranty', 'framing'] } })).toEqual(['framing', 'warranty']);
    expect(await found({ draft: false, year: { $ne: 2020 } })).toEqual(['framing', 'returns']);
    expect(await found({ $or: [{ draft: true }, { year: 2020 }] })).toEqual(['hours', 'warranty']);
    expect(await found({ owner: { $exists: true } })).toEqual([]);
    expect(await found({ year: { $gt: "0 || true' --" } })).toEqual([]);
    for (const metadata of [
      { year: { $where: 'sleep(1)' } },
      { $or: 'x' },
      { year: { $gt: {} } },
      { tags: { $in: [['a']] } },
    ]) {
      const answer = await app.admin.post(`${KB}/search`, { query: 'shop', filter: { metadata } });
      expectProblem(answer, 422, 'validation_failed');
    }
  });

  it('fuses by rank or by score, with the weight that is asked for', async () => {
    const query = 'warranty of batteries';
    const byRank = await search({ query, fusion: 'rank', fusion_weight: 0.5 });
    expect(byRank[0]).toMatchObject({ document_title: 'warranty', score: 1 });
    const [words] = await search({ query, fusion_weight: 0 });
    const [keyword] = await search({ query, mode: 'keyword' });
    expect(words.score).toBe(keyword.score);
    const [alike] = await search({ query, fusion_weight: 1 });
    expect(alike.score).toBeCloseTo(alike.scores.vector, 5);
  });

  it('widens a query by feedback', async () => {
    const query = 'warranty';
    expect(await titles({ query, mode: 'keyword' })).toEqual(['warranty']);
    const widened = await titles({ query, mode: 'keyword', feedback: true });
    expect(widened[0]).toBe('warranty');
    expect(widened.length).toBeGreaterThan(1);
  });

  it('keeps apart what says the same', async () => {
    await app.createTenant('twins');
    const twins = '/tenants/twins/kbs/docs';
    const texts = {
      one: 'The blue bicycle has a bell.',
      two: 'The blue bicycle has a bell!',
      three: 'A bicycle needs air in its tyres.',
    };
    for (const [title, text] of Object.entries(texts)) await app.addText('twins', text, { title });
    const query = 'blue bicycle bell';
    expect((await titles({ query, top_k: 2 }, twins)).toSorted()).toEqual(['one', 'two']);
    expect(await titles({ query, top_k: 2, mmr: 0.3 }, twins)).toContain('three');
    expect(await titles({ query, top_k: 2, mmr: 1 }, twins)).toEqual(
      await titles({ query, top_k: 2 }, twins),
    );
  });

  it('keeps what the vector leg finds above the configured cosine', async () => {
    const query = 'nine o’clock';
    const all = await search({ query, mode: 'vector', threshold: 0 });
    const cosines = all.map(passage => passage.scores.vector);
    const least = cosines[0] - 0.001;
    await expectStatus(200, app.admin.patch(KB, { config: { cosine_threshold: least } }));
    expect(await search({ query, mode: 'vector' })).toHaveLength(cosines.filter(c => c >= least).length);
    await expectStatus(200, app.admin.patch(KB, { config: {} }));
  });

  it('joins neighbours to a passage, each character once', async () => {
    await expectStatus(
      201,
      app.admin.post(`${TENANT}/kbs`, {
        name: 'Long',
        config: { chunk_size: 200, chunk_overlap: 40 },
      }),
    );
    const long = `${TENANT}/kbs/long`;
    const sentences = Array.from({ length: 40 }, (_, i) => `Fact ${i} tells that wheel${i} has ${i} spokes.`);
    const text = sentences.join(' ');
    const { body } = await expectStatus(
      202,
      app.admin.post(`${long}/documents/text`, { text, title: 'long' }),
    );
    await app.settled('cycles', body.id, 'long');
    const query = 'wheel20';
    const [single] = await search({ query, mode: 'keyword', top_k: 1 }, long);
    expect(single.positions).toEqual([single.position]);
    const [passage] = await search({ query, mode: 'keyword', top_k: 1, neighbours: 1 }, long);
    expect(passage).toMatchObject({ chunk_id: single.chunk_id, position: single.position });
    expect(passage.positions).toEqual([single.position - 1, single.position, single.position + 1]);
    expect(text).toContain(passage.text);
    expect(passage.text).toContain(single.text);
    const whole = await search({ query: 'fact', mode: 'keyword', top_k: 100, neighbours: 0 }, long);
    expect(whole.map(({ text: joined }) => joined)).toEqual([text]);
  });

  it('asks the embedding model once for a text, and each tenant for itself', async () => {
    const query = 'a question that nobody has asked before';
    const before = model.requests.embeddings;
    for (let i = 0; i < 3; i++) await search({ query });
    await search({ query, mode: 'vector' });
    expect(model.requests.embeddings).toBe(before + 1);
    await app.createTenant('others');
    await expectStatus(200, app.admin.post('/tenants/others/kbs/docs/search', { query }));
    expect(model.requests.embeddings).toBe(before + 2);
  });

  it.each([
    { query: 'x', top_k: 0 },
    { query: 'x', top_k: 10_000 },
    { query: '   ' },
    { query: 'x'.repeat(100_000) },
    { query: 'x', mode: 'psychic' },
    { query: 'x', mmr: 2 },
    { query: 'x', fusion: 'magic' },
    { query: 'x', fusion_weight: -1 },
    { query: 'x', neighbours: 1000 },
    { query: 'x', rerank: 7 },
    { query: 'x', filter: { metadata: { a: { $gt: [1] } } } },
  ])('refuses %j', async body => {
    expectProblem(await app.admin.post(`${KB}/search`, body), 422, 'validation_failed');
  });

  it('survives whatever looks like a language', async () => {
    const queries = [
      "'; DROP TABLE chunks; --",
      'a & b | !c <-> d:*',
      '{1:0.5}/268435456',
      '"unbalanced',
      '*** """ ***',
      '[0.1,0.2]',
      '$."a" == 1',
      '\\m\\M(?=',
      '🚲'.repeat(500),
      '猫'.repeat(9_000),
    ];
    for (const query of queries) {
      for (const more of [
        {},
        { phrase: true, prefix: true, feedback: true, fusion: 'rank', mmr: 0.5, neighbours: 2 },
      ]) {
        expect((await app.admin.post(`${KB}/search`, { query, ...more })).status).toBe(200);
      }
    }
    expectProblem(await app.admin.post(`${KB}/search`, { query: 'a\0b' }), 400, 'malformed_text');
  });
});

describe('the language of a knowledge base', () => {
  let app: TestApplication;
  const kb = `${TENANT}/kbs/german`;
  const titles = async (query: string) => {
    const { body } = await expectStatus(200, app.admin.post(`${kb}/search`, { query, mode: 'keyword' }));
    return (body.passages as any[]).map(passage => passage.document_title).toSorted();
  };
  const add = async (title: string, text: string) => {
    const { body } = await expectStatus(202, app.admin.post(`${kb}/documents/text`, { text, title }));
    expect(await app.settled('cycles', body.id, 'german')).toMatchObject({ status: 'ready' });
  };

  beforeAll(async () => {
    app = await startTestApplication();
    await app.createTenant('cycles');
  });
  afterAll(() => app?.close());

  it('is given when it is made', async () => {
    const made = await expectStatus(
      201,
      app.admin.post(`${TENANT}/kbs`, { name: 'German', language: 'german' }),
    );
    expect(made.body).toMatchObject({ language: 'german', indexed_language: 'german' });
    expectProblem(
      await app.admin.post(`${TENANT}/kbs`, { name: 'Klingon', language: 'klingon' }),
      422,
      'validation_failed',
    );
    await add('plural', 'Die Häuser am Hafen sind alt.');
    await add('singular', 'Das Haus der Kunst ist neu.');
    await add('tokyo', 'Die Stadt 東京都 liegt am Meer.');
    expect(await titles('haus')).toEqual(['plural', 'singular']);
    expect(await titles('東京')).toEqual(['tokyo']);
  });

  it('is changed, and the keyword index with it', async () => {
    const changed = await expectStatus(200, app.admin.patch(kb, { language: 'simple' }));
    expect(changed.body.language).toBe('simple');
    await expect
      .poll(async () => (await app.admin.get(kb)).body.indexed_language, { timeout: 20_000 })
      .toBe('simple');
    expect(await titles('haus')).toEqual(['singular']);
    expect(await titles('die')).toEqual(['plural', 'tokyo']);
    await add('later', 'Haus und Hof.');
    expect(await titles('haus')).toEqual(['later', 'singular']);
    await expectStatus(200, app.admin.patch(kb, { language: 'german' }));
    await expect
      .poll(async () => (await app.admin.get(kb)).body.indexed_language, { timeout: 20_000 })
      .toBe('german');
    expect(await titles('häuser')).toEqual(['later', 'plural', 'singular']);
    expect(await titles('die')).toEqual([]);
  });

  it('is changed in each tenant apart', async () => {
    await app.createTenant('boats');
    await app.addText('boats', 'The houses at the harbour are old.');
    const docs = '/tenants/boats/kbs/docs';
    await expectStatus(200, app.admin.patch(docs, { language: 'simple' }));
    await expect
      .poll(async () => (await app.admin.get(docs)).body.indexed_language, { timeout: 20_000 })
      .toBe('simple');
    expect((await app.admin.get(kb)).body.indexed_language).toBe('german');
  });

  it.runIf(SERVER)('does not wait for whoever holds one of its documents', async () => {
    const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
    await asSuperuser(app.env, dataSource, async somebody => {
      await somebody.query(`SELECT FROM documents WHERE title = 'plural' FOR UPDATE`);
      await expectStatus(200, app.admin.patch(kb, { language: 'simple' }));
      await expect
        .poll(async () => (await app.admin.get(kb)).body.indexed_language, { timeout: 10_000 })
        .toBe('simple');
    });
    expect(await titles('die')).toEqual(['plural', 'tokyo']);
  });
});
