import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ADMIN, expectStatus, signIn } from '../setup/application.js';
import { Client } from '../setup/client.js';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../setup/database.js';
import { freePort } from '../setup/free-port.js';

/** An event waits for a second; writing it takes a moment, more of it on a busy machine. */
const WAIT_MS = 1_000;
const WRITING_MS = 1_000;

describe.skipIf(SERVER)('a process that is killed', () => {
  let database: TestDatabase;
  let child: ChildProcess;
  let client: Client;

  const start = async () => {
    const port = await freePort();
    // The compiled process, as it runs in earnest.
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
    const url = `http://127.0.0.1:${port}`;
    await vi.waitFor(async () => expect((await fetch(`${url}/api/v1/health/live`)).ok).toBe(true), {
      timeout: 30_000,
    });
    client = await signIn(new Client(url), ADMIN);
  };

  beforeAll(async () => {
    database = await createTestDatabase();
    await start();
    await expectStatus(201, client.post('/tenants', { name: 'acme' }));
  }, 60_000);
  afterAll(async () => {
    if (child?.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await database?.drop();
  });

  it('loses about a second of usage, and none of what was before', async () => {
    const answered: number[] = [];
    const end = Date.now() + 5_000;
    while (Date.now() < end) {
      await expectStatus(200, client.get('/tenants/acme/kbs'));
      answered.push(Date.now());
      await sleep(20);
    }
    const killed = Date.now();
    child.kill('SIGKILL');
    await once(child, 'exit');
    await start();
    const { body } = await expectStatus(200, client.get('/tenants/acme/usage?group_by=operation&period=24h'));
    const { calls } = body.items.find(({ key }: { key: string }) => key === 'kb.read');
    const safe = answered.filter(time => time < killed - WAIT_MS - WRITING_MS).length;
    expect(safe).toBeGreaterThan(20);
    expect(calls).toBeGreaterThanOrEqual(safe);
    expect(calls).toBeLessThanOrEqual(answered.length);
  }, 60_000);
});
