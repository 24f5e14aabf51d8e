import type { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { SERVER, TEST_SECRET, type TestDatabase, createTestDatabase } from '../../../test/setup/database.js';
import { asSuperuser } from '../../../test/setup/superuser.js';
import { parseEnv } from '../config/env.js';
import { type DatabaseAccess, openDatabase } from './data-source.js';
import { afterCommit, queryLast, runTransaction } from './transaction.js';

let database: TestDatabase;
let access: DatabaseAccess;
let dataSource: DataSource;

beforeAll(async () => {
  database = await createTestDatabase();
  const env = parseEnv({
    ...database.env,
    JWT_SECRET: TEST_SECRET,
    ENCRYPTION_KEY: TEST_SECRET,
    DATABASE_POOL_SIZE: '1',
  });
  access = await openDatabase(env, TEST_SECRET);
  dataSource = access.application([]);
  await dataSource.initialize();
  await asSuperuser(env, dataSource, client =>
    client.query('CREATE TABLE notes (text text NOT NULL); GRANT ALL ON notes TO PUBLIC'),
  );
});
beforeEach(() => dataSource.query('TRUNCATE notes'));
afterAll(async () => {
  await dataSource.destroy();
  await access.close();
  await database.drop();
});

const ENTER = `SET LOCAL app.tenant_id = 'somebody'`;
const insert = `INSERT INTO notes VALUES ('a note')`;
const count = async () =>
  (await dataSource.query('SELECT count(*)::int AS notes FROM notes'))[0].notes as number;

describe('runTransaction', () => {
  it('commits what the work did, and returns what it returned', async () => {
    const result = await runTransaction(dataSource, ENTER, async tx => {
      await tx.query(insert);
      return 'done';
    });
    expect(result).toBe('done');
    expect(await count()).toBe(1);
  });

  it('begins with what it was told', async () => {
    const [row] = await runTransaction(dataSource, ENTER, tx =>
      tx.query(`SELECT current_setting('app.tenant_id') AS tenant`),
    );
    expect(row).toEqual({ tenant: 'somebody' });
  });

  it('rolls back and throws on what the work throws', async () => {
    const failing = runTransaction(dataSource, ENTER, async tx => {
      await tx.query(insert);
      throw new Error('the work failed');
    });
    await expect(failing).rejects.toThrow('the work failed');
    expect(await count()).toBe(0);
  });

  it('does not call a rollback a success where the work has swallowed an error of the database', async () => {
    const called = vi.fn();
    const failing = runTransaction(dataSource, ENTER, async tx => {
      afterCommit(tx, called);
      await tx.query(insert);
      await tx.query('SELECT 1 / 0').catch(() => undefined);
    });
    await expect(failing).rejects.toThrow(/rolled back/);
    expect(called).not.toHaveBeenCalled();
    expect(await count()).toBe(0);
  });

  it('refuses to nest, by whatever way the inner one is reached', async () => {
    const nested = runTransaction(dataSource, ENTER, async () => {
      await sleep(1);
      await runTransaction(dataSource, ENTER, tx => tx.query(insert));
    });
    await expect(nested).rejects.toThrow(/already open/);
    expect(await count()).toBe(0);
  });

  it('sends one statement at a time, with parameters or without', async () => {
    for (const parameters of [undefined, [], ['a note']]) {
      const text = `SELECT ${parameters?.length ? '$1::text' : `''`}; ${insert}`;
      await expect(runTransaction(dataSource, ENTER, tx => tx.query(text, parameters))).rejects.toThrow(
        /multiple commands/,
      );
    }
    expect(await count()).toBe(0);
  });

  it('runs side by side where the callers are independent', async () => {
    await Promise.all(
      Array.from({ length: 5 }, () => runTransaction(dataSource, ENTER, tx => tx.query(insert))),
    );
    expect(await count()).toBe(5);
  });

  it.runIf(SERVER)('does not use a broken connection again', async () => {
    const pid = () => dataSource.query('SELECT pg_backend_pid() AS pid');
    const [before] = await pid();
    const cut = runTransaction(dataSource, ENTER, tx =>
      tx.query('SELECT pg_terminate_backend(pg_backend_pid())'),
    );
    await expect(cut).rejects.toThrow(/terminat/);
    const [after] = await pid();
    expect(after).not.toEqual(before);
  });

  it.runIf(SERVER)(
    'says that the connection was lost where that happens between two statements',
    async () => {
      const cut = runTransaction(dataSource, ENTER, async tx => {
        await tx.query(insert);
        const connection = (await tx.queryRunner?.connect()) as EventEmitter;
        connection.emit('error', new Error('Connection terminated unexpectedly'));
        await tx.query(insert);
      });
      // connection_failure, which may be tried again.
      await expect(cut).rejects.toMatchObject({ code: '08006' });
      expect(await count()).toBe(0);
    },
  );
});

describe('queryLast', () => {
  const noted = { name: 'noted', text: 'INSERT INTO notes SELECT 6 / $1::integer RETURNING text' };

  it('is committed with what went before it', async () => {
    const seen = vi.fn();
    const rows = await runTransaction(dataSource, ENTER, async tx => {
      afterCommit(tx, seen);
      await tx.query(insert);
      return queryLast(tx, noted, [2]);
    });
    expect(rows).toEqual([{ text: '3' }]);
    expect(await count()).toBe(2);
    expect(seen).toHaveBeenCalledOnce();
  });

  it('takes with it what went before it where it fails, and nothing of what comes after', async () => {
    const seen = vi.fn();
    const failing = runTransaction(dataSource, ENTER, async tx => {
      afterCommit(tx, seen);
      await tx.query(insert);
      return queryLast(tx, noted, [0]);
    });
    await expect(failing).rejects.toThrow('division by zero');
    expect(seen).not.toHaveBeenCalled();
    expect(await count()).toBe(0);
    expect(await runTransaction(dataSource, ENTER, tx => queryLast(tx, noted, [3]))).toEqual([{ text: '2' }]);
  });

  it.runIf(SERVER)('leaves nothing of the transaction to ask in', async () => {
    const settings = await runTransaction(dataSource, ENTER, async tx => {
      const ask = `SELECT current_setting('app.tenant_id', true) AS tenant`;
      const before = await tx.query(ask);
      await queryLast(tx, noted, [1]);
      return [before, await tx.query(ask)];
    });
    expect(settings).toEqual([[{ tenant: 'somebody' }], [{ tenant: '' }]]);
  });
});

describe('afterCommit', () => {
  it('calls once the change can be seen by others, in order', async () => {
    const seen: string[] = [];
    await runTransaction(dataSource, ENTER, async tx => {
      afterCommit(tx, () => seen.push('first'));
      afterCommit(tx, () => seen.push('second'));
      await tx.query(insert);
      expect(seen).toEqual([]);
    });
    expect(seen).toEqual(['first', 'second']);
  });

  it('never calls where the transaction is rolled back, also by a constraint', async () => {
    const called = vi.fn();
    const failing = runTransaction(dataSource, ENTER, async tx => {
      afterCommit(tx, called);
      await tx.query('INSERT INTO notes VALUES (NULL)');
    });
    await expect(failing).rejects.toThrow(/null value/);
    expect(called).not.toHaveBeenCalled();
  });

  it('may begin another transaction', async () => {
    const next = await new Promise<Promise<unknown>>((done, fail) => {
      runTransaction(dataSource, ENTER, async tx => {
        afterCommit(tx, () => done(runTransaction(dataSource, ENTER, inner => inner.query(insert))));
      }).catch(fail);
    });
    await next;
    expect(await count()).toBe(1);
  });

  it('refuses what is no open transaction', () => {
    expect(() => afterCommit(dataSource.manager, () => undefined)).toThrow(
      /no transaction of runTransaction/,
    );
  });
});
