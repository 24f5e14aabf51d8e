import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ModelServer, startModelServer } from '../test/setup/model-server.js';
import { type RedisServer, startRedisServer } from '../test/setup/redis-server.js';
import { type Victim, endSessions, startPostgres } from './breakable-postgres.js';
import { type ServerProcess, startServer } from './child-process.js';
import { type Installation, createInstallation } from './installation.js';

/** Of a disk that can be filled: the embedded database needs most of it. */
const SMALL_DISK_MB = 400;
const LONGEST_STOP_MS = 15_000;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

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

/**
 * @param smallDisk whether the data folder lies on a disk that can be filled, where one can be mounted; what writes much
 *   fills it by itself
 */
export async function startPlace(name: string, { smallDisk = true } = {}): Promise<Place> {
  const isServer = name === 'server';
  const undo = new Undo();
  try {
    const folder = mkdtempSync(join(tmpdir(), 'enclave-bench-'));
    undo.push(() => rmSync(folder, { recursive: true, force: true }));
    const model = await startModelServer({ dimensions: 64 });
    undo.push(() => model.close());
    const redis = isServer ? await startRedisServer() : null;
    if (redis) undo.push(() => redis.stop());
    const postgres = isServer ? await startPostgres() : null;
    if (postgres) undo.push(() => postgres.stop());
    const installation = await createInstallation(postgres?.url);
    undo.push(() => installation.remove());
    const hasSmallDisk = smallDisk && mountSmallDisk(installation.dataDir);
    if (hasSmallDisk) undo.push(() => execFileSync('umount', ['-l', installation.dataDir]));
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
    undo.push(() => ended(server));
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
        await undo.all();
      },
    };
  } catch (error) {
    await undo.all();
    throw error;
  }
}

/** What was begun is ended in the other order, also after Ctrl-C; where one part cannot be, the others are. */
class Undo {
  private readonly steps: Array<() => unknown> = [];
  private readonly onSignal = () => void this.all().finally(() => process.exit(130));

  constructor() {
    for (const signal of SIGNALS) process.once(signal, this.onSignal);
  }

  push(step: () => unknown): void {
    this.steps.push(step);
  }

  async all(): Promise<void> {
    for (let step = this.steps.pop(); step; step = this.steps.pop()) {
      try {
        await step();
      } catch (error) {
        console.error(`Something is left behind: ${(error as Error).message}`);
      }
    }
    for (const signal of SIGNALS) process.off(signal, this.onSignal);
  }
}

/** A server that hangs after a fault does not end when it is asked to. */
async function ended(server: ServerProcess): Promise<void> {
  const waited = new AbortController();
  const late = sleep(LONGEST_STOP_MS, undefined, { signal: waited.signal }).then(
    () => server.kill(),
    () => undefined,
  );
  await server.stop();
  waited.abort();
  await late;
}

/** Only root may. */
function mountSmallDisk(folder: string): boolean {
  mkdirSync(folder, { recursive: true });
  const options = ['-t', 'tmpfs', '-o', `size=${SMALL_DISK_MB}m,mode=700`, 'tmpfs', folder];
  return process.getuid?.() === 0 && spawnSync('mount', options).status === 0;
}
