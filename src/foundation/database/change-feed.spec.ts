import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { afterEach, beforeAll, afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  SERVER,
  TEST_SECRET,
  type TestDatabase,
  createTestDatabase,
  withAdmin,
} from '../../../test/setup/database.js';
import { parseEnv } from '../config/env.js';
import { ChangeFeed } from './change-feed.js';
import { type DatabaseAccess, openDatabase } from './data-source.js';
import { runTransaction } from './transaction.js';

let database: TestDatabase;
let access: DatabaseAccess;
let dataSource: DataSource;
let here: ChangeFeed;
const forget = vi.fn();
const forgetAll = vi.fn();

beforeAll(async () => {
  // A connection that is cut on purpose is warned about.
  Logger.overrideLogger(false);
  database = await createTestDatabase();
  access = await openDatabase(
    parseEnv({ ...database.env, JWT_SECRET: TEST_SECRET, ENCRYPTION_KEY: TEST_SECRET }),
    TEST_SECRET,
  );
  dataSource = access.application([]);
  await dataSource.initialize();
});
beforeEach(async () => {
  forget.mockReset();
  forgetAll.mockReset();
  here = new ChangeFeed(access.url);
  await here.onApplicationBootstrap();
});
afterEach(() => here.onApplicationShutdown());
afterAll(async () => {
  await dataSource.destroy();
  await access.close();
  await database.drop();
});

const publish = (feed: ChangeFeed, key: string, fail = false) =>
  runTransaction(dataSource, 'SELECT 1', async tx => {
    await feed.publish(tx, 'topic', key);
    expect(forget).not.toHaveBeenCalledWith(key);
    if (fail) throw new Error('rolled back');
  });

describe('in the same process', () => {
  it('tells its subscribers as soon as the transaction has committed', async () => {
    here.subscribe('topic', forget, forgetAll);
    here.subscribe('another topic', forgetAll, forgetAll);
    await publish(here, 'a key');
    expect(forget).toHaveBeenCalledWith('a key');
    expect(forgetAll).not.toHaveBeenCalled();
  });

  it('tells nobody of what was rolled back', async () => {
    here.subscribe('topic', forget, forgetAll);
    await expect(publish(here, 'a key', true)).rejects.toThrow('rolled back');
    await sleep(50);
    expect(forget).not.toHaveBeenCalled();
  });
});

describe.runIf(SERVER)('in another process', () => {
  let there: ChangeFeed;

  beforeEach(async () => {
    there = new ChangeFeed(access.url);
    await there.onApplicationBootstrap();
    there.subscribe('topic', forget, forgetAll);
  });
  afterEach(() => there.onApplicationShutdown());

  it('tells subscribers within a second', async () => {
    await publish(here, 'a "key"');
    await vi.waitFor(() => expect(forget).toHaveBeenCalledWith('a "key"'), { timeout: 1000, interval: 5 });
  });

  it('tells nobody of what was rolled back', async () => {
    await expect(publish(here, 'undone', true)).rejects.toThrow('rolled back');
    await publish(here, 'done');
    await vi.waitFor(() => expect(forget).toHaveBeenCalledWith('done'), { timeout: 1000, interval: 5 });
    expect(forget).toHaveBeenCalledTimes(1);
  });

  it('forgets everything when its connection was away, and hears again afterwards', async () => {
    const name = new URL(access.url as string).pathname.slice(1);
    await withAdmin(SERVER?.adminUrl as string, admin =>
      admin.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'enclave changes'`,
        [name],
      ),
    );
    // Once while it is away, once more when LISTEN stands again.
    await vi.waitFor(() => expect(forgetAll.mock.calls.length).toBeGreaterThanOrEqual(2), { timeout: 5000 });
    await publish(here, 'after');
    await vi.waitFor(() => expect(forget).toHaveBeenCalledWith('after'), { timeout: 1000, interval: 5 });
  });

  it('stays quiet once it has been shut down', async () => {
    await there.onApplicationShutdown();
    await publish(here, 'too late');
    await sleep(600);
    expect(forget).not.toHaveBeenCalled();
    expect(forgetAll).not.toHaveBeenCalled();
  });
});
