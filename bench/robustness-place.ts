import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ModelServer, startModelServer } from '../test/setup/model-server.js';
import { type RedisServer, startRedisServer } from '../test/setup/redis-server.js';
import { type Victim, startPostgres } from './breakable-postgres.js';
import { type ServerProcess, startServer } from './child-process.js';
import { type Installation, createInstallation, withClient } from './installation.js';

/** Of a disk that can be filled: the embedded database needs most of it. */
const SMALL_DISK_MB = 400;

/** An installation whose surroundings can be broken, with one server on it. */
export interface Place {
  name: string;
  server: ServerProcess;
  installation: Installation;
  model: ModelServer;
  /** Null where it is embedded. */
  redis: RedisServer | null;
  /** Null where it is embedded. */
  postgres: (Victim & { isOwn: boolean }) | null;
  /** Ends every session of the database; null where it is embedded. */
  endSessions: (() => Promise<void>) | null;
  /** Whether its data folder lies on a small disk of its own, which can be filled. */
  hasSmallDisk: boolean;
  /** The file that says how many milliseconds the server's clock is ahead. */
  clockFile: string;
  remove(): Promise<void>;
}

export async function startPlace(name: string): Promise<Place> {
  const isServer = name === 'server';
  const model = await startModelServer({ dimensions: 64 });
  const redis = isServer ? await startRedisServer() : null;
  const postgres = isServer ? await startPostgres() : null;
  const installation = await createInstallation(postgres?.url);
  const folder = mkdtempSync(join(tmpdir(), 'enclave-bench-'));
  const hasSmallDisk = mountSmallDisk(installation.dataDir);
  const clockFile = join(folder, 'clock');
  const settings: Record<string, string> = {
    ...installation.settings,
    LOG_LEVEL: process.env['BENCH_LOG_LEVEL'] ?? 'fatal',
    EMBEDDING_BASE_URL: model.url,
    EMBEDDING_MODEL: 'stub',
    LLM_BASE_URL: model.url,
    LLM_MODEL: 'stub',
    AUTH_RATE_LIMIT_PER_MINUTE: '100000',
    REQUEST_TIMEOUT_SECONDS: '10',
    // A clock that jumps by an hour ends no session that way.
    ACCESS_TOKEN_TTL_SECONDS: '86400',
    CLOCK_FILE: clockFile,
    ...(redis && { REDIS_URL: redis.url }),
  };
  const server = await startServer('dist/src/main.js', settings, {
    execArgv: ['--import', join(import.meta.dirname, 'shifted-clock.mjs')],
  });
  const { adminUrl } = installation;
  return {
    name,
    server,
    installation,
    model,
    redis,
    postgres: postgres && { ...postgres.victimIn(installation), isOwn: postgres.isOwn },
    endSessions: adminUrl ? () => endSessions(adminUrl) : null,
    hasSmallDisk,
    clockFile,
    async remove() {
      if (process.env['BENCH_LOG_LEVEL']) console.log(server.output().slice(-20_000));
      await server.stop();
      if (hasSmallDisk) execFileSync('umount', ['-l', installation.dataDir]);
      await installation.remove();
      await postgres?.stop();
      await redis?.stop();
      await model.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const endSessions = (adminUrl: string): Promise<void> =>
  withClient(adminUrl, async client => {
    await client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND pid <> pg_backend_pid()`,
    );
  });

/** Only root may. */
function mountSmallDisk(folder: string): boolean {
  mkdirSync(folder, { recursive: true });
  const options = ['-t', 'tmpfs', '-o', `size=${SMALL_DISK_MB}m,mode=700`, 'tmpfs', folder];
  return process.getuid?.() === 0 && spawnSync('mount', options).status === 0;
}
