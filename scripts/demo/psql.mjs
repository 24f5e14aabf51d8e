import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import pg from 'pg';
import { DIST } from '../build.mjs';

/** Type ids of numbers, which psql aligns to the right: int8, int2, int4 (pg_type.dat). */
const NUMBERS = new Set([20, 21, 23]);
const AS_TEXT = { getTypeParser: () => text => text };

const load = path => import(pathToFileURL(join(DIST, 'src/foundation/database', path)).href);

/**
 * Opens a session on the embedded database of a server that has ended.
 *
 * @param {string} folder the server's data folder
 */
export async function openEmbedded(folder) {
  const { startEmbeddedPostgres } = await load('embedded-postgres.js');
  const { DEFAULT_LOGIN_ROLE } = await load('roles.js');
  const postgres = await startEmbeddedPostgres(folder);
  const session = await connect({
    host: postgres.host,
    port: postgres.port,
    user: 'postgres',
    database: 'postgres',
  });
  // PGlite's sessions belong to the superuser; this makes it the role that the application signs in with.
  await session.client.query(`SET SESSION AUTHORIZATION ${DEFAULT_LOGIN_ROLE}`);
  return {
    ...session,
    async close() {
      await session.close();
      await postgres.close();
    },
  };
}

/** Opens a session on the PostgreSQL server of the settings, or returns null where they name none. */
export function openServer() {
  const connectionString = process.env.DATABASE_URL || process.env.DATABASE_ADMIN_URL;
  return connectionString ? connect({ connectionString, connectionTimeoutMillis: 10_000 }) : null;
}

async function connect(options) {
  const client = new pg.Client(options);
  await client.connect();
  return { client, close: () => client.end() };
}

/** Whether this is the database that holds the tenant. */
export async function holdsTenant({ client }, id) {
  await client.query('BEGIN; SET LOCAL ROLE enclave_platform');
  const { rowCount } = await client.query('SELECT FROM tenants WHERE id = $1', [id]);
  await client.query('ROLLBACK');
  return rowCount === 1;
}

/**
 * Runs a statement and prints it and its outcome as psql would.
 *
 * @param {(text: string) => void} print takes a line
 * @returns {Promise<{ rows: any[], rowCount: number | null, error: string | null }>} values as the database writes them
 */
export async function psql({ client }, statement, print) {
  for (const [index, text] of statement.split('\n').entries())
    print(`${index === 0 ? 'enclave=>' : 'enclave->'} ${text}`);
  try {
    const { command, fields, rows, rowCount } = await client.query({
      text: statement,
      rowMode: 'array',
      types: AS_TEXT,
    });
    if (fields.length > 0) printTable(fields, rows, print);
    else
      print(
        rowCount === null ? command : [command, ...(command === 'INSERT' ? [0] : []), rowCount].join(' '),
      );
    return { rows, rowCount, error: null };
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    print(`ERROR:  ${error.message}`);
    return { rows: [], rowCount: null, error: error.message };
  }
}

function printTable(fields, rows, print) {
  const widths = fields.map(({ name }, column) =>
    Math.max(name.length, ...rows.map(row => String(row[column] ?? '').length)),
  );
  const printRow = (cells, between) => print(cells.join(between).trimEnd());
  printRow(
    fields.map(({ name }, column) => ` ${centre(name, widths[column])} `),
    '|',
  );
  printRow(
    widths.map(width => '-'.repeat(width + 2)),
    '+',
  );
  for (const row of rows) {
    const cells = row.map((value, column) => {
      const text = String(value ?? '');
      const isNumber = NUMBERS.has(fields[column].dataTypeID);
      return ` ${isNumber ? text.padStart(widths[column]) : text.padEnd(widths[column])} `;
    });
    printRow(cells, '|');
  }
  print(`(${rows.length} row${rows.length === 1 ? '' : 's'})`);
}

function centre(text, width) {
  return text.padStart(text.length + Math.floor((width - text.length) / 2)).padEnd(width);
}
