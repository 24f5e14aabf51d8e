import { statSync, unlinkSync } from 'node:fs';
import { type Server, connect, createServer } from 'node:net';
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
  if (!(await listen(server, path))) {
    if (await answers(path)) throw inUse();
    // The socket of a process that was killed.
    unlinkSync(path);
    if (!(await listen(server, path))) throw inUse();
  }
  const inode = statSync(path).ino;
  // Two processes that found the same dead socket at once may both get here; the later one has replaced our socket.
  await sleep(20);
  if (statSync(path, { throwIfNoEntry: false })?.ino !== inode) {
    server.close();
    throw inUse();
  }
  server.unref();
  return () => new Promise(done => server.close(() => done()));
}

function listen(server: Server, path: string): Promise<boolean> {
  return new Promise((done, fail) => {
    const onError = (error: NodeJS.ErrnoException) => {
      server.off('listening', onListening);
      if (error.code === 'EADDRINUSE') done(false);
      else fail(error);
    };
    const onListening = () => {
      server.off('error', onError);
      done(true);
    };
    server.once('error', onError).once('listening', onListening).listen(path);
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
