import { hkdfSync } from 'node:crypto';
import type { ClientBase } from 'pg';
import { DataSource, type EntitySchema, type MixedList } from 'typeorm';
import { MIGRATIONS } from '../../../migrations/all.js';
import type { Env } from '../config/env.js';
import { SettingsError } from '../config/env.js';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded-postgres.js';
import { GatheringSocket } from './gathering-socket.js';
import { DEFAULT_LOGIN_ROLE } from './roles.js';
import { StatementClient, script } from './statement-client.js';

export type Entities = MixedList<string | (new () => unknown) | EntitySchema>;

/** No statement of this application needs longer; a runaway one ends with an error instead of holding its connection. */
const STATEMENT_TIMEOUT_MS = 60_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** A new connection plans each statement of its own several times, which for a search costs more than ten searches. */
const IDLE_MS = 300_000;
const KEEP_ALIVE_MS = 30_000;
/** What runs for a process that has died ends, instead of holding its locks until it is done. */
const CLIENT_CHECK_MS = 10_000;

/** How to reach one database: as the running role, and as the one that may create roles and tables. */
export interface DatabaseAccess {
  /** Connects as the login role; not yet initialized. */
  application(entities: Entities): DataSource;
  /** Connects with the right to migrate; not yet initialized. Throws SettingsError where no such access is set. */
  administration(): DataSource;
  /** Name and password of the login role, for the migration that makes it. Null password: the role is left as it is. */
  login: { role: string; password: string | null };
  /** The connection string of the running role; null on the embedded database. */
  url: string | null;
  close(): Promise<void>;
}

/** Opens the way to the database that the settings name, and starts it where it is the embedded one. */
export async function openDatabase(env: Env, secret: string): Promise<DatabaseAccess> {
  return env.database.mode === 'embedded'
    ? embeddedAccess(await startEmbeddedPostgres(env.dataDir))
    : serverAccess(env.database, secret);
}

function embeddedAccess(postgres: EmbeddedPostgres): DatabaseAccess {
  const base = {
    type: 'postgres' as const,
    host: postgres.host,
    port: postgres.port,
    username: 'postgres',
    database: 'postgres',
    // All connections share the one session of PGlite; a second would see the first one's transaction.
    poolSize: 1,
    installExtensions: false,
  };
  return {
    application: entities =>
      new DataSource({
        ...base,
        entities,
        extra: {
          Client: StatementClient,
          idleTimeoutMillis: 0,
          // PGlite's session belongs to the superuser, and outlives the connection with all that was prepared in it;
          // from here on it is the login role's, and empty, as on a server.
          onConnect: (client: ClientBase) =>
            script(client, `SET SESSION AUTHORIZATION ${DEFAULT_LOGIN_ROLE}; DEALLOCATE ALL`),
        },
      }),
    administration: () =>
      new DataSource({
        ...base,
        migrations: MIGRATIONS,
        extra: { onConnect: (client: ClientBase) => client.query('RESET SESSION AUTHORIZATION') },
      }),
    login: { role: DEFAULT_LOGIN_ROLE, password: null },
    url: null,
    close: () => postgres.close(),
  };
}

function serverAccess(
  settings: Extract<Env['database'], { mode: 'server' }>,
  secret: string,
): DatabaseAccess {
  const url = settings.url ?? derivedLoginUrl(settings.adminUrl as string, secret);
  const { username, password } = new URL(url);
  const base = {
    type: 'postgres' as const,
    connectTimeoutMS: CONNECT_TIMEOUT_MS,
    applicationName: 'enclave',
    installExtensions: false,
  };
  return {
    application: entities =>
      new DataSource({
        ...base,
        url,
        entities,
        poolSize: settings.poolSize,
        extra: {
          Client: StatementClient,
          // What is asked behind something else does not wait for its answer.
          pipeline: true,
          stream: () => new GatheringSocket(),
          idleTimeoutMillis: IDLE_MS,
          // Whatever lies between forgets a connection on which nothing is said.
          keepAlive: true,
          keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
          statement_timeout: STATEMENT_TIMEOUT_MS,
          idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS,
          // Policies make statements look dearer than they are: compiling them takes longer than running them.
          options: `-c jit=off -c client_connection_check_interval=${CLIENT_CHECK_MS}`,
        },
      }),
    administration: () => {
      if (!settings.adminUrl) {
        throw new SettingsError(
          'DATABASE_ADMIN_URL must be set for migrations: a connection that may create roles and tables',
        );
      }
      return new DataSource({ ...base, url: settings.adminUrl, poolSize: 2, migrations: MIGRATIONS });
    },
    login: { role: decodeURIComponent(username), password: password ? decodeURIComponent(password) : null },
    url,
    close: () => Promise.resolve(),
  };
}

/** Outside production the running role may be left to us: same server, its own name, a password from the secret. */
function derivedLoginUrl(adminUrl: string, secret: string): string {
  const url = new URL(adminUrl);
  url.username = DEFAULT_LOGIN_ROLE;
  url.password = Buffer.from(hkdfSync('sha256', secret, '', 'database login role', 24)).toString('base64url');
  return url.href;
}
