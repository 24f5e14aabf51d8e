import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

const TENANT = '/tenants/cycles';
const TEXTS = {
  warranty: 'Frames carry a warranty of ten years. Batteries are covered for two years.',
  returns: 'A bicycle may be returned within thirty days. The customer pays for the transport.',
  hours: 'The shop opens at nine in the morning. It is closed on Sundays.',
};

/** Searching with models of the tenant's own. */
describe('models of a search', () => {
  let app: TestApplication;
  let small: ModelServer;
  let large: ModelServer;
  let reranker: ModelServer;

  const search = (kb: string, body: object) => app.admin.post(`${TENANT}/kbs/${kb}/search`, body);
  const found = async (kb: string, body: object) => (await expectStatus(200, search(kb, body))).body;
  const addModel = async (model_type: string, model_name: string, server: ModelServer, more = {}) =>
    (
      await expectStatus(
        201,
        app.admin.post(`${TENANT}/models`, {
          provider: 'openai_compatible',
          model_type,
          model_name,
          api_base: server.url,
          api_key: 'a-key-of-the-tests',
          settings: { max_retries: 0 },
          ...more,
        }),
      )
    ).body.id as string;
  const setDefaults = (body: object) => expectStatus(200, app.admin.put(`${TENANT}/models/defaults`, body));
  const addKb = async (name: string, texts: Record<string, string>) => {
    await expectStatus(201, app.admin.post(`${TENANT}/kbs`, { name }));
    for (const [title, text] of Object.entries(texts)) {
      const { body } = await expectStatus(
        202,
        app.admin.post(`${TENANT}/kbs/${name}/documents/text`, { text, title }),
      );
      expect(await app.settled('cycles', body.id, name)).toMatchObject({ status: 'ready' });
    }
  };

  beforeAll(async () => {
    [small, large, reranker] = await Promise.all([
      startModelServer({ dimensions: 32 }),
      startModelServer({ dimensions: 128 }),
      startModelServer(),
    ]);
    app = await startTestApplication({
      OUTBOUND_ALLOWED_HOSTS: [small, large, reranker].map(({ origin }) => new URL(origin).host).join(','),
    });
    await expectStatus(201, app.admin.post('/tenants', { name: 'cycles' }));
  });
  afterAll(async () => {
    await app?.close();
    await Promise.all([small, large, reranker].map(server => server?.close()));
  });

  it('are those that the vectors of a knowledge base are of, whatever the default is by now', async () => {
    const smallId = await addModel('embedding', 'small', small);
    await setDefaults({ embedding: [smallId] });
    await addKb('old', TEXTS);
    const largeId = await addModel('embedding', 'large', large);
    await setDefaults({ embedding: [largeId] });
    await addKb('new', { bells: 'Bells ring loudly in the morning.' });
    for (const [kb, server, model] of [
      ['old', small, 'small'],
      ['new', large, 'large'],
    ] as const) {
      expect((await app.admin.get(`${TENANT}/kbs/${kb}`)).body.embedding_model).toBe(model);
      const query = `What happens in the morning at ${kb}?`;
      const before = server.requests.embeddings;
      const { passages } = await found(kb, { query, mode: 'vector', threshold: 0 });
      expect(passages[0].text).toContain('in the morning');
      expect(server.requests.embeddings).toBe(before + 1);
    }
  });

  it('are each knowledge base’s own where several are searched', async () => {
    const ask = async (body: object) =>
      (await expectStatus(200, app.admin.post(`${TENANT}/query`, { kbs: ['old', 'new'], ...body }))).body;
    const { passages } = await ask({ query: 'What happens in the morning?' });
    expect(new Set(passages.map((passage: any) => passage.kb_id)).size).toBe(2);
    expect(passages.slice(0, 2).every((passage: any) => passage.text.includes('morning'))).toBe(true);
    expect(passages.every((passage: any) => passage.scores.vector !== null)).toBe(true);
    const scores = passages.map((passage: any) => passage.score);
    expect(scores).toEqual(scores.toSorted((a: number, b: number) => b - a));
    const words = await ask({ query: 'morning', mode: 'keyword' });
    expect(words.passages).toHaveLength(2);
  });

  it('put passages into another order, where there is one for that', async () => {
    const query = 'When is the shop closed?';
    const before = await found('old', { query });
    expect(before).toMatchObject({ reranked: false });
    expect(before.passages.every((passage: any) => passage.scores.rerank === null)).toBe(true);
    const id = await addModel('rerank', 'ranker', reranker);
    await setDefaults({ rerank: [id] });
    const after = await found('old', { query });
    expect(after.reranked).toBe(true);
    expect(reranker.requests.rerank).toBe(1);
    expect(after.passages[0]).toMatchObject({ document_title: 'hours' });
    for (const { score, scores } of after.passages) expect(scores.rerank).toBe(score);
    // The request has the last word, then the knowledge base.
    expect((await found('old', { query, rerank: false })).reranked).toBe(false);
    const kb = `${TENANT}/kbs/old`;
    await expectStatus(200, app.admin.patch(kb, { config: { enable_rerank: false } }));
    expect((await found('old', { query })).reranked).toBe(false);
    expect((await found('old', { query, rerank: true })).reranked).toBe(true);
    expect((await found('old', { query, rerank: 'ranker' })).reranked).toBe(true);
    expectProblem(await search('old', { query, rerank: 'nobody' }), 409, 'unknown_model');
    await expectStatus(200, app.admin.patch(kb, { config: { chunk_top_k: 1 } }));
    const words = { query: 'bicycle frames in the shop', rerank: true };
    expect((await found('old', words)).passages).toHaveLength(1);
    expect((await found('old', { ...words, top_k: 2 })).passages).toHaveLength(2);
    await expectStatus(200, app.admin.patch(kb, { config: {} }));
  });

  it('leave the order as it was, and cost nothing, where they fail', async () => {
    const query = 'When is the shop closed?';
    const plain = await found('old', { query, rerank: false });
    for (const fault of [{ status: 500 }, { garbage: true }, { reset: true }] as const) {
      reranker.next({ for: 'rerank', ...fault });
      const failed = await found('old', { query });
      expect(failed).toMatchObject({ reranked: false, usage: { credits: 0 } });
      expect(failed.passages).toEqual(plain.passages);
    }
  });
});
