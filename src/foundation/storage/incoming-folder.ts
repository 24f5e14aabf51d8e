import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ReceivedFile } from './file-storage.js';
import { removeOld } from './leftovers.js';
import { refuse } from './storage-unavailable.js';

const HEAD_BYTES = 64 * 1024;
const CLEAN_EVERY_MS = 3_600_000;

/** A file that lies in the folder until somebody moves or discards it. */
export type IncomingFile = Omit<ReceivedFile, 'keep'> & { path: string };

/** Where files lie on this machine before they are stored, or while they are read. */
export class IncomingFolder {
  private cleanedAt = 0;

  constructor(private readonly path: string) {}

  /**
   * Writes a stream into a file of its own.
   *
   * @param durable whether the file has to outlive a power cut
   * @throws StorageUnavailableError for a fault of the disk; what the stream throws passes through
   */
  async take(content: AsyncIterable<Buffer>, durable: boolean): Promise<IncomingFile> {
    if (Date.now() - this.cleanedAt > CLEAN_EVERY_MS) await this.removeLeftovers();
    await mkdir(this.path, { recursive: true, mode: 0o700 }).catch(refuse);
    const path = join(this.path, randomUUID());
    const hash = createHash('sha256');
    const head: Buffer[] = [];
    let sizeBytes = 0;
    const file = await open(path, 'wx', 0o600).catch(refuse);
    try {
      for await (const chunk of content) {
        if (sizeBytes < HEAD_BYTES) head.push(chunk.subarray(0, HEAD_BYTES - sizeBytes));
        sizeBytes += chunk.length;
        hash.update(chunk);
        // Unlike write(), it goes on where a disk that is nearly full takes a part.
        await file.writeFile(chunk).catch(refuse);
      }
      if (durable) await file.sync().catch(refuse);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    return {
      path,
      sizeBytes,
      sha256: hash.digest('hex'),
      head: Buffer.concat(head),
      discard: () => rm(path, { force: true }),
    };
  }

  async removeLeftovers(): Promise<void> {
    this.cleanedAt = Date.now();
    await removeOld(this.path);
  }
}
