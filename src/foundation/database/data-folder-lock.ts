import { randomUUID } from 'node:crypto';
import { linkSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { type Server, connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Another process works on the same data folder. */
export class DataFolderInUseError extends Error {
  override readonly name = 'DataFolderInUseError';
}

/**
 * Holds a data folder for this process, by listening on a Unix socket in it: the operating system ends the hold
 * with the process, however that ends, which no lock file can promise.
 *
 * @param path of the socket
 * @returns releases the folder
 * @throws DataFolderInUseError when a living process holds it
 */
export async function lockDataFolder(path: string, folder: string): Promise<() => Promise<void>> {
  const inUse = () =>
    new DataFolderInUseError(
      `Another process is already using the data folder ${folder}. Stop it first, or choose another folder with DATA_DIR.`,
    );
  const server = createServer(socket => socket.end());
  // Under a name of its own first: the shared name is then taken in one step, and closing a server that lost the race
  // removes its own name, not the winner's. As short as the name of PostgreSQL's socket, whose length has been checked.
  const own = join(dirname(path), `lock-${randomUUID().slice(0, 8)}`);
  await listen(server, own);
  const identity = identityOf(own);
  try {
    if (!claim(own, path)) {
      const found = identityOf(path);
      if (await answers(path)) throw inUse();
      // The socket of a process that was killed, unless somebody has just taken over from it.
      if (identityOf(path) !== found) throw inUse();
      renameSync(own, path);
    }
    // Two processes that found the same dead socket at once may both get here; the later one has replaced our socket.
    await sleep(20);
    if (identityOf(path) !== identity) throw inUse();
  } catch (error) {
    server.close();
    throw error;
  }
  server.unref();
  return () => {
    if (identityOf(path) === identity) unlinkSync(path);
    return new Promise(done => server.close(() => done()));
  };
}

/** Gives the socket its shared name, unless that is taken. */
function claim(own: string, path: string): boolean {
  try {
    linkSync(own, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  unlinkSync(own);
  return true;
}

/** Inode and birth: a file system gives the number of a deleted file to the next one. */
function identityOf(path: string): string | null {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats ? `${stats.ino}/${stats.birthtimeNs}` : null;
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((done, fail) => {
    server.once('error', fail).listen(path, () => {
      server.off('error', fail);
      done();
    });
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise(done => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      done(true);
    });
    socket.once('error', () => done(false));
  });
}
