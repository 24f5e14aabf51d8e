import pg from 'pg';
import type { DataSource } from 'typeorm';
import type { Env } from '../../src/foundation/config/env.js';
import { script } from '../../src/foundation/database/statement-client.js';
import { withAdmin } from './database.js';

/**
 * Runs `work` in one transaction as the database's superuser, whom no policy holds: to see, and to break, what the
 * application must not.
 *
 * @param dataSource of the running role; the embedded database has no second session to offer
 */
export function asSuperuser<T>(
  env: Env,
  dataSource: DataSource,
  work: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  if (env.database.mode === 'server') {
    return withAdmin(env.database.adminUrl as string, client => inTransaction(client, 'BEGIN', work));
  }
  return onConnection(dataSource, client =>
    inTransaction(client, 'BEGIN; SET LOCAL SESSION AUTHORIZATION postgres', work),
  );
}

async function onConnection<T>(
  dataSource: DataSource,
  work: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  const runner = dataSource.createQueryRunner();
  try {
    return await work(ofManyStatements((await runner.connect()) as pg.ClientBase));
  } finally {
    await runner.release();
  }
}

/** As a connection of a test's own takes them: several in one message. */
function ofManyStatements(client: pg.ClientBase): pg.ClientBase {
  return new Proxy(client, {
    get: (target, name) =>
      name === 'query'
        ? (text: string, values?: unknown[]) => (values ? target.query(text, values) : script(target, text))
        : Reflect.get(target, name),
  });
}

async function inTransaction<T>(
  client: pg.ClientBase,
  begin: string,
  work: (client: pg.ClientBase) => Promise<T>,
): Promise<T> {
  await client.query(begin);
  try {
    const result = await work(client);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}
