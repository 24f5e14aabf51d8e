import { Injectable } from '@nestjs/common';
import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import type { Readable } from 'node:stream';
import { InjectEnv } from '../config/config.module.js';
import type { Env } from '../config/env.js';
import { FileMissingError, FileStorage, type ReceivedFile } from './file-storage.js';

const HEAD_BYTES = 64 * 1024;

/** Files in a local folder; several processes may share it. */
@Injectable()
export class LocalStorage extends FileStorage {
  private readonly root: string;
  private readonly incoming: string;

  constructor(@InjectEnv() env: Pick<Env, 'dataDir'>) {
    super();
    this.root = join(env.dataDir, 'files');
    this.incoming = join(this.root, '.incoming');
  }

  async receive(content: AsyncIterable<Buffer>): Promise<ReceivedFile> {
    await mkdir(this.incoming, { recursive: true, mode: 0o700 });
    const path = join(this.incoming, randomUUID());
    const hash = createHash('sha256');
    const head: Buffer[] = [];
    let sizeBytes = 0;
    const file = await open(path, 'wx', 0o600);
    try {
      for await (const chunk of content) {
        if (sizeBytes < HEAD_BYTES) head.push(chunk.subarray(0, HEAD_BYTES - sizeBytes));
        sizeBytes += chunk.length;
        hash.update(chunk);
        await file.write(chunk);
      }
      // A row that says the file is there must not outlive the file on a power cut.
      await file.sync();
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    return {
      sizeBytes,
      sha256: hash.digest('hex'),
      head: Buffer.concat(head),
      keep: async key => {
        const target = this.pathOf(key);
        await mkdir(dirname(target), { recursive: true, mode: 0o700 });
        await rename(path, target);
      },
      discard: () => rm(path, { force: true }),
    };
  }

  async read(key: string): Promise<Buffer> {
    try {
      return await readFile(this.pathOf(key));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT')
        throw new FileMissingError(`There is no file ${key}.`);
      throw error;
    }
  }

  async open(key: string): Promise<Readable> {
    const file = await open(this.pathOf(key)).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ENOENT' ? new FileMissingError(`There is no file ${key}.`) : error;
    });
    return file.createReadStream();
  }

  async delete(key: string): Promise<void> {
    await rm(this.pathOf(key), { force: true });
  }

  async deleteAll(prefix: string): Promise<void> {
    await rm(this.pathOf(prefix), { recursive: true, force: true });
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

  private pathOf(key: string): string {
    const path = resolve(this.root, key);
    if (!path.startsWith(this.root + sep)) throw new Error('A storage key leaves the folder of the files.');
    return path;
  }
}
