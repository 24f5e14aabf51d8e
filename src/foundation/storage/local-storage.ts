import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, open, opendir, readFile, rename, rm, rmdir, stat, utimes } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import type { Readable } from 'node:stream';
import {
  type ByteRange,
  FileDamagedError,
  FileMissingError,
  FileStorage,
  type LocalFile,
  type ReceivedFile,
  type StoredFile,
} from './file-storage.js';
import { IncomingFolder } from './incoming-folder.js';
import { refuse } from './storage-unavailable.js';

/** Somebody who deletes removes the folder that is made just now; more often than a few times in a row is no chance. */
const MOST_ATTEMPTS = 10;

/** Files in a local folder; several processes may share it. */
export class LocalStorage extends FileStorage {
  private readonly root: string;
  private readonly incomingPath: string;
  private readonly incoming: IncomingFolder;

  /** @param dataDir absolute path; the files lie in `files` in it */
  constructor(dataDir: string) {
    super();
    this.root = join(dataDir, 'files');
    // On the same file system as what is stored: a file moves into its place at once or not at all.
    this.incomingPath = join(this.root, '.incoming');
    this.incoming = new IncomingFolder(this.incomingPath);
  }

  async receive(content: AsyncIterable<Buffer>): Promise<ReceivedFile> {
    const { path, ...file } = await this.incoming.take(content, true);
    return {
      ...file,
      keep: async key => {
        const target = this.pathOf(key);
        try {
          const now = new Date();
          // What is stored is as old as its place, however long the rest of the upload took.
          await utimes(path, now, now);
          await this.move(path, target);
        } catch (error) {
          await file.discard();
          refuse(error);
        }
      },
    };
  }

  async read(key: string): Promise<Buffer> {
    return readFile(this.pathOf(key)).catch(missingOr(key));
  }

  async open(key: string, range?: ByteRange): Promise<Readable> {
    const file = await open(this.pathOf(key)).catch(missingOr(key));
    return file.createReadStream(range);
  }

  async localCopy(key: string, sha256: string): Promise<LocalFile> {
    const hash = createHash('sha256');
    let sizeBytes = 0;
    for await (const chunk of await this.open(key)) {
      hash.update(chunk as Buffer);
      sizeBytes += (chunk as Buffer).length;
    }
    if (hash.digest('hex') !== sha256)
      throw new FileDamagedError(`The file ${key} has changed since it was stored.`);
    return { path: this.pathOf(key), sizeBytes, release: () => Promise.resolve() };
  }

  async has(key: string): Promise<boolean> {
    const found = await stat(this.pathOf(key)).catch(nullWhereMissing);
    return found?.isFile() ?? false;
  }

  async *list(prefix: string): AsyncIterable<StoredFile> {
    for await (const path of filesBelow(prefix === '' ? this.root : this.pathOf(prefix), this.incomingPath)) {
      const found = await stat(path).catch(nullWhereMissing);
      if (found) yield { key: relative(this.root, path), sizeBytes: found.size, modifiedAt: found.mtime };
    }
  }

  async delete(key: string): Promise<void> {
    const path = this.pathOf(key);
    await rm(path, { force: true }).catch(refuse);
    for (let folder = dirname(path); folder !== this.root; folder = dirname(folder)) {
      const removed = await rmdir(folder).then(
        () => true,
        () => false,
      );
      if (!removed) return;
    }
  }

  async deleteAll(prefix: string): Promise<void> {
    // A file that is stored there meanwhile makes it try again.
    await rm(this.pathOf(prefix), { recursive: true, force: true, maxRetries: 3 }).catch(refuse);
  }

  removeLeftovers(): Promise<void> {
    return this.incoming.removeLeftovers();
  }

  async isHealthy(): Promise<boolean> {
    try {
      await mkdir(this.root, { recursive: true, mode: 0o700 });
      await access(this.root, constants.R_OK | constants.W_OK);
      return true;
    } catch {
      return false;
    }
  }

  /** A row that says the file is there must not outlive the file, or a folder that it is in, on a power cut. */
  private async move(from: string, to: string): Promise<void> {
    const folder = dirname(to);
    const made = await this.moveInto(folder, from, to);
    const highest = made === undefined ? folder : dirname(made);
    for (let path = folder; path.startsWith(highest); path = dirname(path)) await syncFolder(path);
  }

  /** @returns the highest folder that had to be made */
  private async moveInto(folder: string, from: string, to: string): Promise<string | undefined> {
    for (let attempt = 1; ; attempt++) {
      const made = await mkdir(folder, { recursive: true, mode: 0o700 });
      try {
        await rename(from, to);
        return made;
      } catch (error) {
        if (!isMissing(error) || attempt === MOST_ATTEMPTS) throw error;
      }
    }
  }

  private pathOf(key: string): string {
    const path = resolve(this.root, key);
    if (!path.startsWith(this.root + sep)) throw new Error('A storage key leaves the folder of the files.');
    return path;
  }
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

const missingOr =
  (key: string) =>
  (error: unknown): never => {
    if (isMissing(error)) throw new FileMissingError(`There is no file ${key}.`);
    return refuse(error);
  };

const nullWhereMissing = (error: unknown): null => (isMissing(error) ? null : refuse(error));

async function syncFolder(path: string): Promise<void> {
  // Whoever has deleted it has deleted what is in it.
  const folder = await open(path).catch(nullWhereMissing);
  try {
    await folder?.sync();
  } finally {
    await folder?.close();
  }
}

/** Others may delete files and folders meanwhile, which is why this does not leave it to `opendir` to go down. */
async function* filesBelow(folder: string, except: string): AsyncGenerator<string> {
  const entries = await opendir(folder).catch(nullWhereMissing);
  if (!entries) return;
  try {
    for await (const entry of entries) {
      const path = join(folder, entry.name);
      if (entry.isFile()) yield path;
      else if (entry.isDirectory() && path !== except) yield* filesBelow(path, except);
    }
  } catch (error) {
    nullWhereMissing(error);
  }
}
