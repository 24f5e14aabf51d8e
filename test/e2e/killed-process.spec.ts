import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseEnv } from '../../src/foundation/config/env.js';
import { openDatabase } from '../../src/foundation/database/data-source.js';
import { ADMIN, signIn } from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../setup/database.js';
import { freePort } from '../setup/free-port.js';
import { findRemains, storedKeys } from '../setup/ingestion-remains.js';
import { type ModelServer, startModelServer } from '../setup/model-server.js';

const DOCUMENTS = 16;
const KILLS = 3;
/** Chunks of the document that no process lives long enough to ingest as a whole. */
const LARGE = 1_200;
/** Texts whose vectors a process that dies has asked for in vain: of two documents, each in two batches. */
const UNDER_WAY = 2 * 2 * 64;

/** A worker of another process is given half a minute to show that it lives, so this takes as long on a server. */
describe.skipIf(SERVER)('a process that is killed while it ingests', () => {
  let database: TestDatabase;
  let child: ChildProcess;
  let model: ModelServer;
  let client: Client;
  let url: string;
  /** Texts that the model had been asked for when a process was killed for the last time. */
  let askedBefore = 0;
  const uploaded: string[] = [];

  beforeAll(async () => {
    database = await createTestDatabase();
    model = await startModelServer({ dimensions: 16, latency: 60 });
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const start = async () => {
      // The compiled process, as it runs in earnest: a loader that compiles would be killed and started with it.
      child = spawn(process.execPath, ['dist/src/main.js'], {
        cwd: join(import.meta.dirname, '../..'),
        stdio: ['ignore', 'ignore', 'inherit'],
        env: {
          PATH: process.env['PATH'],
          PORT: String(port),
          JWT_SECRET: TEST_SECRET,
          ENCRYPTION_KEY: TEST_SECRET,
          PLATFORM_ADMIN_EMAIL: ADMIN.email,
          PLATFORM_ADMIN_PASSWORD: ADMIN.password,
          LOG_LEVEL: 'fatal',
          EMBEDDING_BASE_URL: model.url,
          EMBEDDING_MODEL: 'stub',
          ...database.env,
        },
      });
      await untilReady(url, child);
      client = await signIn(new Client(url), ADMIN);
    };
    await start();
    await client.post('/tenants', { name: 'acme' });
    await client.post('/tenants/acme/kbs', { name: 'Docs' });
    await client.patch('/tenants/acme/kbs/docs', { config: { chunk_size: 800, chunk_overlap: 0 } });
    const texts = Array.from({ length: DOCUMENTS - 1 }, (_, number) => textOf(number, 60));
    for (const text of [textOf(DOCUMENTS - 1, LARGE * 14), ...texts]) {
      const { status } = await client.post('/tenants/acme/kbs/docs/documents/text', { text });
      expect(status).toBe(202);
      uploaded.push(text);
    }
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(200 + 400 * kill);
      child.kill('SIGKILL');
      askedBefore = model.texts;
      await once(child, 'exit');
      await start();
    }
  }, 120_000);

  afterAll(async () => {
    if (child?.exitCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await database?.drop();
    await model?.close();
  });

  it('loses no document, doubles none, and leaves none half searchable', async () => {
    await expect
      .poll(async () => (await client.get('/tenants/acme/kbs/docs/stats')).body.documents_by_status, {
        timeout: 60_000,
      })
      .toEqual({ ready: DOCUMENTS });
    const { body: list } = await client.get('/tenants/acme/kbs/docs/documents?page_size=100');
    expect(list.total).toBe(DOCUMENTS);
    let chunks = 0;
    for (const document of list.items) {
      const last = Math.ceil(document.chunk_count / 100);
      const { body } = await client.get(
        `/tenants/acme/kbs/docs/documents/${document.id}/chunks?page_size=100&page=${last}`,
      );
      expect(body.total).toBe(document.chunk_count);
      expect(body.items.at(-1).ordinal).toBe(body.total - 1);
      chunks += body.total;
    }
    const { body: stats } = await client.get('/tenants/acme/kbs/docs/stats');
    expect(stats.chunk_count).toBe(chunks);
    for (let number = 0; number < DOCUMENTS; number += 5) {
      const { body } = await client.post('/tenants/acme/kbs/docs/search', {
        query: `topic${number}`,
        mode: 'keyword',
        top_k: 50,
      });
      expect(new Set(body.passages.map((passage: { document_id: string }) => passage.document_id)).size).toBe(
        1,
      );
    }
  }, 120_000);

  it('goes on where the process before it was, and asks the model for next to nothing twice', async () => {
    const { body: stats } = await client.get('/tenants/acme/kbs/docs/stats');
    expect(stats.chunk_count).toBeGreaterThan(LARGE);
    expect(askedBefore).toBeGreaterThan(0);
    expect(askedBefore).toBeLessThan(stats.chunk_count);
    expect(model.texts).toBeGreaterThanOrEqual(stats.chunk_count);
    expect(model.texts).toBeLessThanOrEqual(stats.chunk_count + KILLS * UNDER_WAY);
  });

  it('ends in peace when it is asked to', async () => {
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
  });

  it('leaves nothing half there behind', async () => {
    const env = parseEnv({ JWT_SECRET: TEST_SECRET, ENCRYPTION_KEY: TEST_SECRET, ...database.env });
    const access = await openDatabase(env, TEST_SECRET);
    const dataSource = access.administration();
    await dataSource.initialize();
    const found = await findRemains((sql, parameters) => dataSource.query(sql, parameters), {
      contents: new Set(uploaded.map(text => createHash('sha256').update(text).digest('hex'))),
      stored: storedKeys(env.dataDir),
    });
    await dataSource.destroy();
    await access.close();
    expect(found.filter(({ count }) => count > 0)).toEqual([]);
  });
});

/** Some twelve or thirteen sentences a chunk. */
function textOf(number: number, length: number): string {
  const sentences = Array.from(
    { length },
    (_, i) => `Sentence ${i} of document ${number} is about topic${number} and no other.`,
  );
  return `# Document ${number}\n\n${sentences.join(' ')}`;
}

async function untilReady(url: string, child: ChildProcess): Promise<void> {
  for (let waited = 0; waited < 30_000; waited += 100) {
    if (child.exitCode !== null)
      throw new Error(`The process ended with code ${child.exitCode} before it was ready.`);
    const answered = await fetch(`${url}/api/v1/health/live`).then(
      response => response.ok,
      () => false,
    );
    if (answered) return;
    await sleep(100);
  }
  throw new Error('The process was not ready in 30 s.');
}
