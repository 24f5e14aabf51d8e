import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { APPLICATION_DATA_SOURCE } from '../../src/foundation/database/tokens.js';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { atOnce } from '../setup/at-once.js';
import { tried } from '../setup/isolation-cases.js';
import { asSuperuser } from '../setup/superuser.js';

/** An index that filters after it has found would now find nothing but the neighbour's. */
const COPIES_OF_EACH = 150;

let app: TestApplication;

beforeAll(async () => {
  app = await startTestApplication();
  await app.createTenant('small');
  // Every text is found by its vector, however far it is.
  await expectStatus(200, app.admin.patch('/tenants/small/config', { cosine_threshold: 0 }));
  await app.createTenant('neighbour');
  for (const text of [
    'Frames carry a warranty of ten years.',
    'Batteries are covered for two years.',
    'Tyres wear and carry no warranty.',
    'Returns are free within thirty days.',
    'Bicycles are delivered on Fridays.',
    'The shop is closed on Sunday.',
  ]) {
    await app.addText('small', text);
  }
  await app.addText('neighbour', 'A text of the neighbour.');
  for (const [tenant, name] of [
    ['small', 'Graph'],
    ['small', 'Other graph'],
    ['neighbour', 'Graph'],
  ]) {
    const kb = { name, config: { graph: 'names' } };
    await expectStatus(201, app.admin.post(`/tenants/${tenant}/kbs`, kb));
  }
  for (const text of [
    'In 1898 Marie Curie discovered Radium with Pierre Curie in Paris.',
    'Pierre Curie taught in Paris.',
  ])
    await addText('/tenants/small/kbs/graph', text);
});
afterAll(() => app?.close());

describe('T6 neighbours', () => {
  it.each(['hybrid', 'vector', 'keyword'])(
    'packed around the question change neither passages nor scores: %s',
    async mode => {
      const ask = async () => {
        const { body } = await app.admin.post('/tenants/small/kbs/docs/search', {
          query: 'How long is the warranty?',
          mode,
          top_k: 5,
        });
        return body.passages;
      };
      const before = await ask();
      expect(before).toHaveLength(mode === 'keyword' ? 2 : 5);
      await packNeighbours();
      expect(await ask()).toEqual(before);
      tried();
    },
  );

  it('that name the same things change nothing that is found through the graph', async () => {
    const ask = async (mode: string) => {
      const question = { query: 'Where did Marie Curie discover Radium?', mode, top_k: 5 };
      const { body } = await expectStatus(200, app.admin.post('/tenants/small/kbs/graph/search', question));
      expect(body.passages.length, mode).toBeGreaterThan(0);
      return body.passages;
    };
    const modes = ['local', 'global', 'graph', 'mix', 'hybrid'];
    const before = await atOnce(modes, ask);
    // Of another tenant, and of another knowledge base of the same one.
    for (const path of ['/tenants/neighbour/kbs/graph', '/tenants/small/kbs/other-graph']) {
      const texts = [1, 2, 3].map(n => `Marie Curie discovered Radium in Paris, says text ${n} of ${path}.`);
      await atOnce(texts, text => addText(path, text));
    }
    expect(await atOnce(modes, ask)).toEqual(before);
    tried(modes.length);
  });

  it('answers the neighbour from its own texts', async () => {
    const { body } = await app.admin.post('/tenants/neighbour/kbs/docs/search', {
      query: 'How long is the warranty?',
      top_k: 100,
    });
    const { body: kb } = await app.admin.get('/tenants/neighbour/kbs/docs');
    expect(body.passages).toHaveLength(100);
    expect(new Set(body.passages.map((passage: { kb_id: string }) => passage.kb_id))).toEqual(
      new Set([kb.id]),
    );
    tried();
  });
});

/** Adds a text, and waits until it has been ingested. */
async function addText(path: string, text: string): Promise<void> {
  const { body } = await expectStatus(202, app.admin.post(`${path}/documents/text`, { text }));
  const [, , tenant, , kb] = path.split('/') as [string, string, string, string, string];
  expect((await app.settled(tenant, body.id, kb)).status).toBe('ready');
}

/** Copies of the small tenant's chunks and vectors, word for word, that belong to the neighbour. */
async function packNeighbours(): Promise<void> {
  const dataSource = app.application.nest.get<DataSource>(APPLICATION_DATA_SOURCE, { strict: false });
  await asSuperuser(app.env, dataSource, async client => {
    await client.query(`
      WITH target AS (
        SELECT d.id, d.kb_id, d.tenant_id FROM documents d JOIN tenants t ON t.id = d.tenant_id WHERE t.name = 'neighbour'
      ), source AS (
        SELECT c.*, v.length, v.embedding, v.lexical, gen_random_uuid() AS copy_id,
               (SELECT coalesce(max(ordinal), 0) FROM chunks) + row_number() OVER () AS copy_ordinal
        FROM chunks c JOIN chunk_vectors v ON v.chunk_id = c.id JOIN tenants t ON t.id = c.tenant_id,
             generate_series(1, ${COPIES_OF_EACH})
        WHERE t.name = 'small'
      ), chunk AS (
        INSERT INTO chunks (id, tenant_id, kb_id, document_id, ordinal, text, heading, page, start_offset, end_offset, token_count)
        SELECT copy_id, target.tenant_id, target.kb_id, target.id, copy_ordinal, text, heading, page, start_offset, end_offset, token_count
        FROM source, target
      )
      INSERT INTO chunk_vectors (chunk_id, tenant_id, kb_id, document_id, length, embedding, lexical)
      SELECT copy_id, target.tenant_id, target.kb_id, target.id, length, embedding, lexical FROM source, target`);
  });
}
