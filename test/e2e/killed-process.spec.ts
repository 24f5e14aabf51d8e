import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADMIN, signIn } from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../setup/database.js';
import { freePort } from '../setup/free-port.js';

const DOCUMENTS = 16;
const KILLS = 3;

/** A worker of another process is given half a minute to show that it lives, so this takes as long on a server. */
describe.skipIf(SERVER)('a process that is killed while it ingests', () => {
  let database: TestDatabase;
  let child: ChildProcess;
  let client: Client;
  let url: string;

  beforeAll(async () => {
    database = await createTestDatabase();
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
          ...database.env,
        },
      });
      await untilReady(url, child);
      client = await signIn(new Client(url), ADMIN);
    };
    await start();
    await client.post('/tenants', { name: 'acme' });
    await client.post('/tenants/acme/kbs', { name: 'Docs' });
    for (let number = 0; number < DOCUMENTS; number++) {
      const { status } = await client.post('/tenants/acme/kbs/docs/documents/text', { text: textOf(number) });
      expect(status).toBe(202);
    }
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(200 + 400 * kill);
      child.kill('SIGKILL');
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
      const { body } = await client.get(
        `/tenants/acme/kbs/docs/documents/${document.id}/chunks?page_size=100`,
      );
      expect(body.total).toBe(document.chunk_count);
      expect(body.items.map((chunk: { ordinal: number }) => chunk.ordinal)).toEqual([
        ...Array(body.total).keys(),
      ]);
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

  it('ends in peace when it is asked to', async () => {
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
  });
});

/** Some five chunks. */
function textOf(number: number): string {
  const sentences = Array.from(
    { length: 60 },
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
