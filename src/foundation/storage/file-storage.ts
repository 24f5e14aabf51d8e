import type { Readable } from 'node:stream';

/** A file that has arrived and has no place yet. */
export interface ReceivedFile {
  sizeBytes: number;
  /** Of the whole content, hexadecimal. */
  sha256: string;
  /** The first bytes, at most 64 kB: enough to tell the type. */
  head: Buffer;
  /** Puts the file under `key`, durably; replaces what is there. */
  keep(key: string): Promise<void>;
  /** Removes it, unless it was kept. */
  discard(): Promise<void>;
}

/** Nothing is stored under this key. */
export class FileMissingError extends Error {
  override readonly name = 'FileMissingError';
}

/** Original files, by key (`a/b/c`, made by this application, never from a request). */
export abstract class FileStorage {
  /** Takes a stream in without holding it in memory. */
  abstract receive(content: AsyncIterable<Buffer>): Promise<ReceivedFile>;
  /** @throws FileMissingError */
  abstract read(key: string): Promise<Buffer>;
  /** The content from its beginning to its end. @throws FileMissingError */
  abstract open(key: string): Promise<Readable>;
  abstract delete(key: string): Promise<void>;
  /** Deletes every key that begins with `prefix` and a slash. */
  abstract deleteAll(prefix: string): Promise<void>;
  /** Whether files can be written at present. */
  abstract isHealthy(): Promise<boolean>;
}
