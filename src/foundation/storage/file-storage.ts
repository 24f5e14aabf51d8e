import { Logger } from '@nestjs/common';
import type { Readable } from 'node:stream';

/** A file that has arrived and has no place yet. */
export interface ReceivedFile {
  sizeBytes: number;
  /** Of the whole content, hexadecimal. */
  sha256: string;
  /** The first bytes, at most 64 kB: enough to tell the type. */
  head: Buffer;
  /**
   * Puts the file under `key`, durably; replaces what is there. Where that fails, the file is gone.
   *
   * @throws StorageUnavailableError
   */
  keep(key: string): Promise<void>;
  /** Removes it, unless it was kept. */
  discard(): Promise<void>;
}

export interface ByteRange {
  start: number;
  end: number;
}

/** A file that this process can open by its path until it is released. */
export interface LocalFile {
  path: string;
  sizeBytes: number;
  release(): Promise<void>;
}

export interface StoredFile {
  key: string;
  sizeBytes: number;
  modifiedAt: Date;
}

/** What is stored is not what was stored. */
export class FileDamagedError extends Error {
  override readonly name = 'FileDamagedError';
}

/** Nothing is stored under this key. */
export class FileMissingError extends Error {
  override readonly name = 'FileMissingError';
}

/**
 * Original files, by key (`a/b/c`, made by this application, never from a request). Everything may throw a
 * StorageUnavailableError: a fault that passes.
 */
export abstract class FileStorage {
  protected readonly logger = new Logger('storage');

  /** Takes a stream in without holding it in memory. Where the stream breaks, nothing is left of it. */
  abstract receive(content: AsyncIterable<Buffer>): Promise<ReceivedFile>;
  /** The whole content in memory: for what is known to be small. @throws FileMissingError */
  abstract read(key: string): Promise<Buffer>;
  /**
   * The content as a stream. @throws FileMissingError
   *
   * @param range bytes, both ends included [all]
   */
  abstract open(key: string, range?: ByteRange): Promise<Readable>;
  /**
   * The file where parsers can open it, checked against its SHA-256 (hexadecimal).
   *
   * @throws FileMissingError, FileDamagedError
   */
  abstract localCopy(key: string, sha256: string): Promise<LocalFile>;
  abstract has(key: string): Promise<boolean>;
  /** What is stored whose key begins with `prefix` and a slash; everything where it is empty. In no order. */
  abstract list(prefix: string): AsyncIterable<StoredFile>;
  abstract delete(key: string): Promise<void>;
  /** Deletes every key that begins with `prefix` and a slash. */
  abstract deleteAll(prefix: string): Promise<void>;
  /**
   * Deletes what no row refers to any more. Never fails: what is done is done, and what is left lying is found by the
   * sweep.
   */
  async forget(keys: readonly string[]): Promise<void> {
    await this.orWarn(async () => {
      for (const key of keys) await this.delete(key);
    });
  }

  /** The same for every key that begins with `prefix` and a slash. */
  async forgetAll(prefix: string): Promise<void> {
    await this.orWarn(() => this.deleteAll(prefix));
  }

  /** Removes what was neither kept nor discarded for a day: whoever received it is dead. */
  abstract removeLeftovers(): Promise<void>;
  /** Whether files can be written at present. */
  abstract isHealthy(): Promise<boolean>;

  private async orWarn(work: () => Promise<void>): Promise<void> {
    await work().catch((error: Error) => {
      this.logger.warn(`Files are left lying that nobody needs: ${error.message}`);
    });
  }
}
