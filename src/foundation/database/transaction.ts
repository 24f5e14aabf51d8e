import { AsyncLocalStorage } from 'node:async_hooks';
import type { Client, ClientBase, QueryResult } from 'pg';
import {
  type DataSource,
  type EntityManager,
  type QueryRunner,
  QueryRunnerAlreadyReleasedError,
  QueryRunnerProviderAlreadyReleasedError,
} from 'typeorm';
import { script } from './statement-client.js';

/** One open transaction. Handed down visibly, so that a reader sees what runs inside of it. */
export type Tx = EntityManager;

/** What an open transaction ends with. */
interface Ending {
  /** Goes in one message with COMMIT. */
  statements: Array<() => string>;
  /** COMMIT, where it left with the last statement. */
  committed?: Promise<void>;
  /** Called when it has committed. */
  afterwards: Array<() => void>;
}

const open = new AsyncLocalStorage<true>();
const endings = new WeakMap<Tx, Ending>();

function endingOf(tx: Tx): Ending {
  const ending = endings.get(tx);
  if (!ending) throw new Error('This is no transaction of runTransaction().');
  return ending;
}

/** A statement that every connection parses once, and plans anew only where that pays. Its name belongs to its text. */
export interface PreparedStatement {
  name: string;
  text: string;
}

/** Runs a prepared statement in the transaction: for a large one on a hot path, most of whose time is its planning. */
export async function queryPrepared<Row>(
  tx: Tx,
  statement: PreparedStatement,
  values: unknown[],
): Promise<Row[]> {
  const connection = await connectionOf(tx);
  const { rows } = await connection.query({ ...statement, values });
  return rows as Row[];
}

async function connectionOf(tx: Tx): Promise<Client> {
  const connection = (await tx.queryRunner?.connect()) as Client | undefined;
  if (!connection) throw new Error('A prepared statement was called outside of a transaction.');
  return connection;
}

/**
 * The same, as the last statement of the transaction: on a server COMMIT leaves together with it. Where it fails, that rolls
 * back; afterwards nothing can be asked of `tx`.
 */
export async function queryLast<Row>(
  tx: Tx,
  statement: PreparedStatement,
  values: unknown[],
): Promise<Row[]> {
  const connection = await connectionOf(tx);
  const answer = connection.query({ ...statement, values });
  // Without pipelining it would only wait in a queue.
  if (connection.pipeline) {
    const ending = endingOf(tx);
    ending.committed = commit(connection, ending);
    ending.committed.catch(() => undefined);
  }
  return (await answer).rows as Row[];
}

/**
 * Sends `statement` in one message with COMMIT: for what must hold a lock no longer than it has to, since nothing of
 * this process stands between the two. Its values are quoted by whoever writes it.
 */
export function withCommit(tx: Tx, statement: () => string): void {
  endingOf(tx).statements.push(statement);
}

/** Calls `work` once the transaction has committed; never when it is rolled back. `work` must not throw. */
export function afterCommit(tx: Tx, work: () => void): void {
  endingOf(tx).afterwards.push(work);
}

/** The connection was lost between two statements of a transaction: TypeORM gives it up, and knows of no reason. */
class ConnectionLostError extends Error {
  override readonly name = 'ConnectionLostError';
  /** connection_failure */
  readonly code = '08006';

  constructor(cause: Error) {
    super('The connection was lost between two statements.', { cause });
  }
}

/**
 * Runs `work` in one transaction that begins with `enter`, and commits it, or rolls it back when `work` throws.
 * Transactions do not nest: on the embedded database's single connection an inner one would wait for ever.
 *
 * @param enter statements without parameters, sent together with BEGIN in one message
 */
export async function runTransaction<T>(
  dataSource: DataSource,
  enter: string,
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  if (open.getStore())
    throw new Error('A transaction is already open here: hand its `tx` on instead of opening another.');
  const runner = dataSource.createQueryRunner();
  const ending: Ending = { statements: [], afterwards: [] };
  try {
    const connection = (await runner.connect()) as ClientBase;
    // Not awaited: what `work` asks first may go out right behind it. Were it to fail, that would find no privileges.
    const entered = script(connection, `BEGIN; ${enter}`);
    entered.catch(() => undefined);
    // BEGIN went past TypeORM, which must know of it: else save() opens a transaction of its own.
    (runner as { isTransactionActive: boolean }).isTransactionActive = true;
    const tx = runner.manager;
    endings.set(tx, ending);
    const result = await open.run(true, () => work(tx));
    await entered;
    await (ending.committed ?? commit(connection, ending));
    await runner.release();
    for (const call of ending.afterwards) call();
    return result;
  } catch (error) {
    await rollBack(runner);
    throw wasReleased(error) ? new ConnectionLostError(error) : error;
  }
}

/** What TypeORM says, by the runner or by its manager, where it let go of a connection that broke. */
const wasReleased = (error: unknown): error is Error =>
  error instanceof QueryRunnerAlreadyReleasedError ||
  error instanceof QueryRunnerProviderAlreadyReleasedError;

/** After an error that `work` has swallowed, PostgreSQL answers COMMIT with a rollback, and no error. */
async function commit(connection: ClientBase, { statements }: Ending): Promise<void> {
  const last = statements.map(statement => statement());
  const answer: unknown = await script(connection, [...last, 'COMMIT'].join('; '));
  // Of several statements in one message there are several results.
  const { command } = [answer].flat().at(-1) as QueryResult;
  if (command !== 'COMMIT') throw new Error('The transaction was rolled back: a statement in it had failed.');
}

async function rollBack(runner: QueryRunner): Promise<void> {
  if (runner.isReleased) return;
  try {
    await runner.query('ROLLBACK');
    await runner.release();
  } catch (error) {
    // A connection that cannot roll back must not serve the next request.
    await (
      runner as unknown as { releasePostgresConnection(error: unknown): Promise<void> }
    ).releasePostgresConnection(error);
  }
}
