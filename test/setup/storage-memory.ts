import { randomBytes } from 'node:crypto';
import { LocalStorage } from '../../src/foundation/storage/local-storage.js';
import { S3Storage } from '../../src/foundation/storage/s3-storage.js';

/** Started with an IPC channel and --expose-gc. With S3 settings it is that storage, and a local one without. */
const [dataDir = '', sizeBytes = '0', s3] = process.argv.slice(2);
const size = Number(sizeBytes);
const storage = s3 ? new S3Storage(dataDir, JSON.parse(s3)) : new LocalStorage(dataDir);
const { gc: collectGarbage } = globalThis as unknown as { gc: () => void };

const held = () => {
  // The second waits until all is given back that the first has found.
  collectGarbage();
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
};

async function* pieces(): AsyncGenerator<Buffer> {
  const piece = randomBytes(1024 * 1024);
  for (let sent = 0; sent < size; sent += piece.length) yield piece;
}

/** @returns the most that is held in buffers while it is done, in bytes more than before */
async function mostDuring<T>(action: () => Promise<T>): Promise<{ most: number; result: T }> {
  const before = held();
  let most = 0;
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    const from = performance.now();
    most = Math.max(most, held() - before);
    // Looking stops everything else: it gets a fifth of the time, however long it takes.
    timer = setTimeout(look, 4 * (performance.now() - from));
  };
  look();
  const result = await action().finally(() => clearTimeout(timer));
  return { most, result };
}

const received = await mostDuring(() => storage.receive(pieces()));
const kept = await mostDuring(() => received.result.keep('a/large'));
const copied = await mostDuring(() => storage.localCopy('a/large', received.result.sha256));
process.send?.({
  sizeBytes: copied.result.sizeBytes,
  received: received.most,
  kept: kept.most,
  copied: copied.most,
});
await copied.result.release();
process.disconnect?.();
