import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LargeIndexService } from '../../src/features/retrieval/large-index.service.js';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, startTestApplication } from '../setup/application.js';
import { madeUpTexts } from '../setup/large-kb.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { asSuperuser } from '../setup/superuser.js';

let models: ModelServer;
let app: TestApplication;

beforeAll(async () => {
  models = await startModelServer();
  app = await startTestApplication({
    LARGE_KB_CHUNKS: '100',
    EMBEDDING_BASE_URL: models.url,
    EMBEDDING_MODEL: 'stub',
  });
  await app.createTenant('acme');
});
afterAll(async () => {
  await app?.close();
  await models?.close();
});

/** One paragraph that no other is like among many that are. */
const needle = 'The lighthouse keeper paints the railing green every spring.';
const pages = (seed: number) =>
  madeUpTexts(700, seed)
    .map(text => `${text}.`)
    .join('\n\n');

const runJob = () =>
  app.application.nest.get(LargeIndexService, { strict: false }).run({ signal: AbortSignal.timeout(60_000) });

const indexes = () =>
  asSuperuser(
    app.env,
    app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false }),
    async client => {
      const { rows } = await client.query(
        `SELECT i.generation = kb.large_generation AS served, i.chunk_count = kb.chunk_count AS complete,
              (SELECT count(*)::integer FROM pg_class WHERE relkind = 'r' AND relname LIKE 'large_vectors_%') AS tables
       FROM large_indexes i JOIN knowledge_bases kb ON kb.id = i.kb_id`,
      );
      return rows;
    },
  );

const search = async (fields: object = {}) => {
  const { status, body } = await app.admin.post('/tenants/acme/kbs/docs/search', {
    query: 'Who paints the railing of the lighthouse?',
    ...fields,
  });
  expect(status).toBe(200);
  return body.passages as Array<{ text: string; chunk_id: string; score: number }>;
};

it('is searched through its index as it was without, while documents come and go', async () => {
  await app.addText('acme', pages(1));
  const document = await app.addText('acme', `${pages(2)}\n\n${needle}`);
  const before = await search({ top_k: 5 });
  expect(before[0]?.text).toContain(needle);

  const { steps } = await runJob();
  expect(steps).toBeGreaterThanOrEqual(4);
  expect(await indexes()).toEqual([{ served: true, complete: true, tables: 1 }]);
  // The first search learns that there is an index, the next one uses it.
  expect((await search({ top_k: 5 }))[0]).toEqual(before[0]);
  expect((await search({ top_k: 5 }))[0]).toEqual(before[0]);
  expect(await search({ top_k: 50 })).toHaveLength(
    (await search({ top_k: 50, filter: { metadata: {} } })).length,
  );

  const another = await app.addText('acme', `${needle} And blue every autumn.`);
  expect((await search()).map(passage => passage.text).join()).toContain('blue every autumn');
  for (const { id } of [document, another]) {
    expect((await app.admin.delete(`/tenants/acme/kbs/docs/documents/${id}`)).status).toBeLessThan(300);
  }
  await expect
    .poll(async () => (await search()).map(passage => passage.text).join(), { timeout: 10_000 })
    .not.toContain('lighthouse');
  expect(await runJob()).toEqual({ steps: expect.any(Number) });
  expect(await runJob()).toEqual({ steps: 0 });
});

it('leaves nothing behind when the knowledge base is deleted', async () => {
  expect((await app.admin.delete('/tenants/acme/kbs/docs')).status).toBeLessThan(300);
  await expect.poll(indexes, { timeout: 10_000 }).toEqual([]);
});
