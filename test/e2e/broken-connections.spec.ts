import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestApplication, startTestApplication } from '../setup/application.js';
import { SERVER, withAdmin } from '../setup/database.js';
import { findRemains, storedKeys } from '../setup/ingestion-remains.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';
import { expectProblem } from '../setup/problem.js';

const DOCUMENTS = 30;
const CUTS = 4;

/** The embedded database and queue have no connection that could break. */
describe.skipIf(!SERVER)('a process whose connections break while it ingests', () => {
  let app: TestApplication;
  let model: ModelServer;

  beforeAll(async () => {
    model = await startModelServer({ dimensions: 16, latency: 30 });
    app = await startTestApplication({ EMBEDDING_BASE_URL: model.url, EMBEDDING_MODEL: 'stub' });
    await app.createTenant('acme');
  });
  afterAll(async () => {
    await app.close();
    await model.close();
  });

  it('loses no document, doubles none, and leaves nothing half there', async () => {
    const texts = Array.from({ length: DOCUMENTS }, (_, number) => textOf(number));
    const uploads = Promise.all(
      Array.from({ length: 3 }, async (_, lane) => {
        for (let number = lane; number < DOCUMENTS; number += 3) await bringIn(texts[number] as string);
      }),
    );
    for (let cut = 0; cut < CUTS; cut++) {
      await sleep(300 + 200 * cut);
      await (cut % 2 === 0 ? endSessions() : endRedisConnections());
    }
    await uploads;
    await expect
      .poll(async () => (await app.admin.get('/tenants/acme/kbs/docs/stats')).body?.documents_by_status, {
        timeout: 60_000,
      })
      .toEqual({ ready: DOCUMENTS });

    const found = await withAdmin(adminUrl(), client =>
      findRemains(async (sql, parameters) => (await client.query(sql, parameters)).rows, {
        contents: new Set(texts.map(text => createHash('sha256').update(text).digest('hex'))),
        stored: storedKeys(app.env.dataDir),
      }),
    );
    // The storage has not been swept.
    const wrong = found.filter(({ count, what }) => count > 0 && !what.includes('after the sweep'));
    expect(wrong).toEqual([]);
  }, 90_000);

  const adminUrl = () => (app.env.database.mode === 'server' ? (app.env.database.adminUrl as string) : '');

  /** As often as it takes: an answer that was lost says nothing. */
  async function bringIn(text: string): Promise<void> {
    for (;;) {
      const answer = await app.admin.post('/tenants/acme/kbs/docs/documents/text', { text });
      if (answer.status === 202 || answer.status === 409) return;
      expectProblem(answer, 503, 'database_unavailable');
      expect(answer.headers.get('retry-after')).toBe('5');
      await sleep(50);
    }
  }

  async function endSessions(): Promise<void> {
    await withAdmin(adminUrl(), client =>
      client.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      ),
    );
  }

  async function endRedisConnections(): Promise<void> {
    const redis = new Redis(app.env.redisUrl as string);
    // Of this test's own database alone: others run beside it.
    const { db } = redis.options;
    const list = (await redis.call('CLIENT', 'LIST')) as string;
    const own = list.split('\n').filter(line => line.includes(` db=${db} `));
    const me = await redis.call('CLIENT', 'ID');
    for (const line of own) {
      const id = /^id=(\d+)/.exec(line)?.[1];
      if (id && id !== String(me)) await redis.call('CLIENT', 'KILL', 'ID', id).catch(() => undefined);
    }
    redis.disconnect();
  }
});

/** Some five chunks. */
function textOf(number: number): string {
  const sentences = Array.from(
    { length: 60 },
    (_, i) => `Sentence ${i} of document ${number} is about topic${number} and no other.`,
  );
  return `# Document ${number}\n\n${sentences.join(' ')}`;
}
