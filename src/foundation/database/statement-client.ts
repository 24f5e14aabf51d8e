import pg from 'pg';

// oxlint-disable-next-line typescript/unbound-method -- it is called with its connection
const send = pg.Client.prototype.query as (this: pg.ClientBase, ...given: unknown[]) => unknown;

/**
 * A connection on which a message holds one statement. Of a text without parameters pg makes a message of the simple
 * protocol, which may hold several: whoever got a value into such a text could end its statement and begin another.
 * Prepared, as those with parameters are, PostgreSQL refuses the second one.
 */
export class StatementClient extends pg.Client {}

StatementClient.prototype.query = function (this: pg.ClientBase, text: unknown, ...rest: unknown[]) {
  return send.call(this, typeof text === 'string' ? { text, queryMode: 'extended' } : text, ...rest);
} as pg.ClientBase['query'];

/**
 * Sends several statements in one message; whoever writes them quotes the values in them.
 *
 * @returns a result for each statement, where there are several
 */
export function script(
  connection: pg.ClientBase,
  statements: string,
): Promise<pg.QueryResult | pg.QueryResult[]> {
  return send.call(connection, statements) as Promise<pg.QueryResult | pg.QueryResult[]>;
}
