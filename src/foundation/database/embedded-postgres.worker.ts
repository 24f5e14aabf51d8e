import { PGlite } from '@electric-sql/pglite';
import { vector } from '@electric-sql/pglite-pgvector';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { parentPort, workerData } from 'node:worker_threads';

const { dataDir, socketPath } = workerData as { dataDir: string; socketPath: string };

const db = await PGlite.create({ dataDir, extensions: { vector } });
// Two connections, of which only one is ever busy: the pool's next may arrive before its last has said good-bye.
const server = new PGLiteSocketServer({ db, path: socketPath, maxConnections: 4 });
await server.start();

async function close(): Promise<void> {
  await server.stop();
  await db.close();
  parentPort?.postMessage('closed');
  parentPort?.close();
}

parentPort?.once('message', () => void close());
parentPort?.postMessage('ready');
