import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { workerEntry } from '../worker-threads/worker-entry.js';
import { lockDataFolder } from './data-folder-lock.js';

/** sun_path of sockaddr_un holds 108 bytes with the final NUL; the longest name below it is `/.s.PGSQL.5432`. */
const LONGEST_SOCKET_FOLDER = 107 - '/.s.PGSQL.5432'.length;

/** PostgreSQL in WebAssembly (PGlite), in a worker thread of this process. */
export interface EmbeddedPostgres {
  /** Folder of the Unix socket: what `pg` takes as `host`. */
  host: string;
  port: number;
  close(): Promise<void>;
}

/**
 * Opens (and at first makes) the database in `dataDir`. It runs in a thread of its own, because a statement of
 * PGlite occupies its thread until it ends: building an index would stop every request of the process.
 *
 * @throws DataFolderInUseError when another process has it open
 */
export async function startEmbeddedPostgres(dataDir: string): Promise<EmbeddedPostgres> {
  const databaseDir = join(dataDir, 'postgres');
  mkdirSync(databaseDir, { recursive: true, mode: 0o700 });
  // The socket asks for no password: who may enter the folder may enter the database.
  chmodSync(dataDir, 0o700);
  const host = socketFolder(dataDir);
  const unlock = await lockDataFolder(join(host, 'lock.sock'), dataDir);
  const socketPath = join(host, '.s.PGSQL.5432');
  rmSync(socketPath, { force: true });

  const { filename, execArgv } = workerEntry(import.meta.url, './embedded-postgres.worker');
  const worker = new Worker(filename, { execArgv, workerData: { dataDir: databaseDir, socketPath } });
  try {
    await nextMessage(worker, 'ready');
  } catch (error) {
    await unlock();
    throw error;
  }
  return {
    host,
    port: 5432,
    async close() {
      const closed = nextMessage(worker, 'closed');
      worker.postMessage('close');
      await closed;
      await worker.terminate();
      await unlock();
    },
  };
}

/** The data folder itself, or a short place of its own where its path is too long for a Unix socket. */
function socketFolder(dataDir: string): string {
  if (Buffer.byteLength(dataDir) <= LONGEST_SOCKET_FOLDER) return dataDir;
  const folder = join(tmpdir(), `enclave-${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (statSync(folder).uid !== process.getuid?.()) {
    throw new Error(
      `${folder} belongs to somebody else. Choose a shorter path for the data folder with DATA_DIR.`,
    );
  }
  chmodSync(folder, 0o700);
  return folder;
}

function nextMessage(worker: Worker, expected: string): Promise<void> {
  return new Promise((done, fail) => {
    const settle = (error?: Error) => {
      worker.off('message', onMessage);
      worker.off('error', settle);
      worker.off('exit', onExit);
      if (error) fail(error);
      else done();
    };
    const onMessage = (message: unknown) => {
      if (message === expected) settle();
    };
    const onExit = (code: number) => settle(new Error(`The embedded database ended with code ${code}.`));
    worker.on('message', onMessage);
    worker.once('error', settle);
    worker.once('exit', onExit);
  });
}
