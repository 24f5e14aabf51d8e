import { open } from 'node:fs/promises';
import { pipeline, type Readable } from 'node:stream';
import { crc32, createInflateRaw } from 'node:zlib';
import * as yauzl from 'yauzl';
import { DocumentError } from './document-error.js';

const MAX_ENTRIES = 10_000;
/** Bytes that one entry may unpack to. */
const MAX_ENTRY_BYTES = 512 * 1024 * 1024;
/** Bytes that may be unpacked of one archive, all in all. */
const MAX_TOTAL_BYTES = 2 * 1024 * 1024 * 1024;
/** Times its packed size that an entry may unpack to once it is large; DEFLATE can do 1032, honest files 100. */
const MAX_RATIO = 400;
const RATIO_COUNTS_FROM = 32 * 1024 * 1024;
const LOCAL_HEADER_BYTES = 30;
const END_RECORD_BYTES = 22;
const ZIP64_END_BYTES = 56;
const ZIP64_LOCATOR_BYTES = 20;
/** Both records, with what the first may be extended by. */
const MAX_ZIP64_BYTES = 64 * 1024;

export interface ZipEntry {
  /** With `/` between its parts, as the archive has it: for people to read, never a path on this machine. */
  name: string;
  /** Whether the name leads out of the archive: an absolute path, `..`, a control character. */
  unsafe: boolean;
  directory: boolean;
  encrypted: boolean;
  /** What the archive says that it unpacks to, which may be a lie. */
  declaredBytes: number;
}

interface KnownEntry extends ZipEntry {
  raw: yauzl.Entry;
}

export interface ZipLimits {
  entryBytes?: number;
  totalBytes?: number;
}

/**
 * A zip file that may be hostile (APPNOTE.TXT 6.3.10). Nothing of it is believed: what is unpacked is counted
 * while it is unpacked, and nothing is written anywhere.
 */
export class ZipContainer {
  private unpackedBytes = 0;
  private readonly byName = new Map<string, KnownEntry>();

  private constructor(
    private readonly zip: yauzl.ZipFile,
    private readonly what: string,
    readonly entries: readonly KnownEntry[],
    private readonly limits: Required<ZipLimits>,
  ) {
    for (const entry of entries) {
      const key = entry.name.toLowerCase();
      if (!this.byName.has(key)) this.byName.set(key, entry);
    }
  }

  /**
   * @param what the kind of file, for the sentences of errors: "Word document"
   * @throws DocumentError `damaged` or `too_large`
   */
  static async open(path: string, what: string, limits: ZipLimits = {}): Promise<ZipContainer> {
    let zip: yauzl.ZipFile;
    try {
      // Without decoding, a name that leads out of the archive ends nothing but its own entry.
      zip = await yauzl.openPromise(path, {
        autoClose: false,
        decodeStrings: false,
        validateEntrySizes: false,
      });
    } catch (cause) {
      throw damaged(what, cause);
    }
    try {
      const entries = await readDirectory(zip, what);
      await refuseGap(zip, path, what);
      return new ZipContainer(zip, what, entries, {
        entryBytes: limits.entryBytes ?? MAX_ENTRY_BYTES,
        totalBytes: limits.totalBytes ?? MAX_TOTAL_BYTES,
      });
    } catch (error) {
      zip.close();
      throw error;
    }
  }

  /** By its name, in whatever case. */
  find(name: string): ZipEntry | null {
    return this.byName.get(name.toLowerCase()) ?? null;
  }

  /**
   * Unpacks an entry piece by piece.
   *
   * @throws DocumentError `damaged`, `encrypted`, `unsupported_type` (of packing) or `too_large`
   */
  async *read(entry: ZipEntry): AsyncGenerator<Buffer> {
    const { raw } = entry as KnownEntry;
    if (entry.encrypted) throw this.encrypted();
    if (raw.compressionMethod !== 0 && raw.compressionMethod !== 8) {
      throw new DocumentError(
        'unsupported_type',
        `The ${this.what} is packed by a method that cannot be read. Pack it anew by the usual one (Deflate).`,
      );
    }
    if (entry.declaredBytes > this.limits.entryBytes) throw this.tooLarge(this.limits.entryBytes);
    let unpacked = 0;
    let sum = 0;
    try {
      for await (const bytes of await this.stream(raw)) {
        unpacked += bytes.length;
        this.unpackedBytes += bytes.length;
        if (unpacked > this.limits.entryBytes) throw this.tooLarge(this.limits.entryBytes);
        if (this.exhausted) throw this.tooLarge(this.limits.totalBytes);
        if (unpacked > RATIO_COUNTS_FROM && unpacked > raw.compressedSize * MAX_RATIO) {
          throw this.tooLarge(RATIO_COUNTS_FROM);
        }
        sum = crc32(bytes, sum);
        yield bytes;
      }
    } catch (cause) {
      throw cause instanceof DocumentError ? cause : damaged(this.what, cause);
    }
    if (sum !== raw.crc32 || unpacked !== raw.uncompressedSize) throw damaged(this.what);
  }

  /** Whether so much has been unpacked that nothing more will be. */
  get exhausted(): boolean {
    return this.unpackedBytes > this.limits.totalBytes;
  }

  close(): void {
    this.zip.close();
  }

  encrypted(): DocumentError {
    return new DocumentError(
      'encrypted',
      `The ${this.what} is protected by a password. Remove it and upload the file again.`,
    );
  }

  private tooLarge(bytes: number): DocumentError {
    return new DocumentError(
      'too_large',
      `The ${this.what} unpacks to more than ${Math.floor(bytes / 1024 ** 2)} MB and is not opened.`,
    );
  }

  private async stream(raw: yauzl.Entry): Promise<Readable> {
    const packed = await this.zip.openReadStreamPromise(raw, { decodeFileData: false });
    if (raw.compressionMethod === 0) return packed;
    const inflate = createInflateRaw();
    // The fault is that of the stream which is returned, and met there.
    pipeline(packed, inflate, () => undefined);
    return inflate;
  }
}

async function readDirectory(zip: yauzl.ZipFile, what: string): Promise<KnownEntry[]> {
  if (zip.entryCount > MAX_ENTRIES) throw tooMany(what);
  const entries: KnownEntry[] = [];
  try {
    for await (const raw of zip.eachEntry()) {
      if (entries.length >= MAX_ENTRIES) throw tooMany(what);
      const name = nameOf(raw);
      entries.push({
        raw,
        name,
        unsafe: leadsOut(name),
        directory: name.endsWith('/'),
        encrypted: raw.isEncrypted(),
        declaredBytes: raw.uncompressedSize,
      });
    }
  } catch (cause) {
    if (cause instanceof DocumentError) throw cause;
    if (cause instanceof Error && cause.message.includes('encryption')) {
      throw new DocumentError(
        'encrypted',
        `The ${what} is protected by a password. Remove it and upload the file again.`,
        { cause },
      );
    }
    throw damaged(what, cause);
  }
  refuseOverlaps(entries, what);
  return entries;
}

/**
 * The end record stands right after the directory, or after the records of zip64 (4.3.6). Parsers that look for the
 * directory at its place, and those that look for it before the end record, would see two different archives otherwise.
 */
async function refuseGap(zip: yauzl.ZipFile, path: string, what: string): Promise<void> {
  // Its types call it a boolean.
  const directoryEnd = Number(zip.readEntryCursor);
  const gap = zip.fileSize - END_RECORD_BYTES - zip.comment.length - directoryEnd;
  if (gap === 0) return;
  if (gap < ZIP64_END_BYTES + ZIP64_LOCATOR_BYTES || gap > MAX_ZIP64_BYTES) throw damaged(what);
  const handle = await open(path);
  try {
    const { buffer } = await handle.read(Buffer.alloc(gap), 0, gap, directoryEnd);
    const locator = gap - ZIP64_LOCATOR_BYTES;
    const fits =
      buffer.readUInt32LE(0) === 0x06064b50 &&
      // The size of the record leaves out its first 12 bytes.
      Number(buffer.readBigUInt64LE(4)) + 12 === locator &&
      buffer.readUInt32LE(locator) === 0x07064b50 &&
      Number(buffer.readBigUInt64LE(locator + 8)) === directoryEnd;
    if (!fits) throw damaged(what);
  } finally {
    await handle.close();
  }
}

/** Entries that share their bytes are how a small file unpacks to terabytes (Fifield, "A better zip bomb", 2019). */
function refuseOverlaps(entries: readonly KnownEntry[], what: string): void {
  const spans = entries
    .map(({ raw }) => {
      const start = raw.relativeOffsetOfLocalHeader;
      return { start, end: start + LOCAL_HEADER_BYTES + raw.fileNameLength + raw.compressedSize };
    })
    .toSorted((a, b) => a.start - b.start);
  for (let index = 1; index < spans.length; index++) {
    if (spans[index]!.start < spans[index - 1]!.end) {
      throw new DocumentError(
        'damaged',
        `The ${what} holds entries that overlap, as only damaged or hostile files do, and is not opened.`,
      );
    }
  }
}

/** Archives of macOS hold UTF-8 without saying so; those of old hold code page 437. */
function nameOf(raw: yauzl.Entry): string {
  const bytes = raw.fileNameRaw;
  const declared = yauzl.getFileNameLowLevel(raw.generalPurposeBitFlag, bytes, raw.extraFields, false);
  if (bytes.every(byte => byte < 0x80)) return declared;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes).replaceAll('\\', '/');
  } catch {
    return declared;
  }
}

const leadsOut = (name: string): boolean =>
  /^\/|^[a-z]:/i.test(name) ||
  name.split('/').includes('..') ||
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  /[\u0000-\u001f\u007f]/.test(name);

const tooMany = (what: string) =>
  new DocumentError('too_large', `The ${what} holds more than ${MAX_ENTRIES} entries and is not opened.`);

const damaged = (what: string, cause?: unknown) =>
  new DocumentError('damaged', `The ${what} is damaged and cannot be opened.`, { cause });
