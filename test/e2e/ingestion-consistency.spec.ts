import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, expectStatus, startTestApplication } from '../setup/application.js';
import { expectConsistent, sql } from '../setup/kb-counts.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';

const KB = '/tenants/acme/kbs/docs';
const STEPS = 120;
/** Calls under way at a time. */
const HANDS = 4;

/** Everything that changes documents, all at once, and in no order. */
describe('whatever happens to documents while they are ingested', () => {
  let app: TestApplication;
  let model: ModelServer;
  let tenant: { id: string; kbId: string };

  beforeAll(async () => {
    model = await startModelServer({ dimensions: 16, latency: 5 });
    app = await startTestApplication({ EMBEDDING_BASE_URL: model.url, EMBEDDING_MODEL: 'stub' });
    tenant = await app.createTenant('acme');
    await expectStatus(200, app.admin.patch(KB, { config: { graph: 'names' } }));
  });
  afterAll(async () => {
    await app?.close();
    await model?.close();
  });

  it.each([1, 2])('leaves counts that are right, and nothing half there (%d)', async seed => {
    const random = numbers(seed);
    const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
    const text = () => {
      const words = Array.from(
        { length: 20 + Math.floor(random() * 1500) },
        // Some of them are names.
        () => `${random() < 0.8 ? 'word' : 'Name'}${Math.floor(random() * 300)}`,
      );
      return `Text ${Math.floor(random() * 40)}: ${words.join(' ')}`;
    };
    const ids: string[] = [];
    const add = async (fields: Record<string, unknown> = {}) => {
      const answer = await app.admin.post(`${KB}/documents/text`, { text: text(), ...fields });
      if (answer.status === 202) ids.push(answer.body.id);
      return answer;
    };
    const actions: Array<() => Promise<{ status: number }>> = [
      () => add(),
      () => add({ source_id: `source-${Math.floor(random() * 5)}` }),
      () => add({ source_id: `source-${Math.floor(random() * 5)}` }),
      () => app.admin.post(`${KB}/documents/${pick(ids)}/reindex`),
      () => app.admin.post(`${KB}/documents/${pick(ids)}/cancel`),
      () => app.admin.delete(`${KB}/documents/${pick(ids)}`),
      // An ingestion whose worker is taken for dead.
      async () => {
        await sql(
          app,
          `UPDATE documents SET lease_expires_at = now() - interval '1 second'
           WHERE id = (SELECT id FROM documents WHERE status = 'processing' LIMIT 1)`,
        );
        return { status: 200 };
      },
    ];
    await add();
    let left = STEPS;
    const statuses = new Set<number>();
    const hand = async () => {
      while (left-- > 0) {
        const step = left;
        if (step === STEPS / 2) await app.admin.post(`${KB}/reindex`);
        statuses.add((await pick(actions)()).status);
      }
    };
    await Promise.all(Array.from({ length: HANDS }, hand));
    expect([...statuses].filter(status => status >= 500)).toEqual([]);
    await expect
      .poll(
        async () => {
          const { documents_by_status: by } = (await app.admin.get(`${KB}/stats`)).body;
          return (by.queued ?? 0) + (by.processing ?? 0);
        },
        { timeout: 40_000, interval: 200 },
      )
      .toBe(0);
    await expectConsistent(app, tenant);
    const failed = await sql(app, `SELECT error_code FROM documents WHERE status = 'failed'`);
    expect(failed).toEqual([]);
  });
});

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
