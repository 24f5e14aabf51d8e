import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { DocumentError, type DocumentErrorCode } from './document-error.js';
import type { DocumentWarning, ReadContext, ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { detectType, TYPE_DETECTION_BYTES } from './document-type.js';
import { ZipContainer, type ZipEntry } from './zip-container.js';
import { ZIP } from './zip-type.js';

/** Entries that a warning names one by one; the others are counted. */
const MAX_NAMED = 50;
const MAX_NAME_LENGTH = 200;

/** An archive of documents: entry by entry, each under its path. What cannot be read is left out with a warning. */
export async function* readZip(
  file: SourceFile,
  context: ReadContext,
): AsyncGenerator<TextPart, ReadSummary> {
  const zip = await ZipContainer.open(file.path, 'archive');
  const warnings = new SkippedEntries();
  try {
    const entries = zip.entries.filter(entry => !entry.directory && !isJunk(entry.name));
    if (entries.length === 0) throw new DocumentError('empty', 'The archive is empty.');
    if (entries.every(entry => entry.encrypted)) throw zip.encrypted();
    let read = 0;
    for (const entry of entries) {
      let text = false;
      try {
        for await (const part of readEntry(zip, entry, context, warnings)) {
          text ||= part.text.trim() !== '';
          yield part;
        }
        if (!text) throw new DocumentError('no_text', 'The file contains no text.');
      } catch (error) {
        // A fault of the entry is its own; one that holds for the rest of the archive too is not.
        if (!(error instanceof DocumentError) || zip.exhausted) throw error;
        warnings.add(entry, error, text);
      }
      if (text) read++;
    }
    if (read === 0) throw warnings.error();
    return { title: null, warnings: warnings.list() };
  } finally {
    zip.close();
  }
}

async function* readEntry(
  zip: ZipContainer,
  entry: ZipEntry,
  context: ReadContext,
  warnings: SkippedEntries,
): AsyncGenerator<TextPart, void> {
  if (entry.unsafe) {
    throw new DocumentError('damaged', 'Its name leads out of the archive, as only hostile archives do.');
  }
  // A name of our own: that of the entry is never a path on this machine.
  const path = join(await context.scratch(), randomUUID());
  let inner: ReturnType<ReadContext['readInner']> | null = null;
  const fileName = posix.basename(entry.name);
  try {
    await pipeline(zip.read(entry), createWriteStream(path, { mode: 0o600 }));
    const type = await detectType(await readHead(path), { fileName }, { alsoReadable: () => true });
    if (type === ZIP) {
      throw new DocumentError('unsupported_type', 'Archives inside of archives are not opened.');
    }
    if (/^(?:audio|image|video)\//.test(type)) {
      throw new DocumentError('unsupported_type', 'Pictures, recordings and films in archives are not read.');
    }
    inner = context.readInner(path, fileName);
    let step = await inner.next();
    for (; !step.done; step = await inner.next()) {
      yield { ...step.value, headings: [entry.name, ...(step.value.headings ?? [])] };
    }
    for (const { code, message, pages } of step.value.warnings ?? []) {
      warnings.addOther({ code, message: `${shown(entry)}: ${message}`, ...(pages ? { pages } : {}) });
    }
  } finally {
    // It is stepped by hand, and holds globals where it is left in its midst.
    await inner?.return(undefined as never);
    await rm(path, { force: true });
  }
}

async function readHead(path: string): Promise<Buffer> {
  const handle = await open(path);
  try {
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(TYPE_DETECTION_BYTES),
      0,
      TYPE_DETECTION_BYTES,
      0,
    );
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** What macOS and Windows leave in archives, and what is hidden. */
const isJunk = (name: string): boolean =>
  name
    .split('/')
    .some(part => part === '__MACOSX' || /^(?:thumbs\.db|desktop\.ini)$/i.test(part) || isHidden(part));

const isHidden = (part: string): boolean => part.startsWith('.') && part !== '.' && part !== '..';

const shown = ({ name }: ZipEntry): string =>
  // oxlint-disable-next-line no-control-regex -- they are what is replaced
  name.slice(0, MAX_NAME_LENGTH).replaceAll(/[\u0000-\u001f\u007f]|\p{Surrogate}/gu, '\uFFFD');

class SkippedEntries {
  private readonly named: DocumentWarning[] = [];
  private readonly others: DocumentWarning[] = [];
  private readonly codes = new Set<DocumentErrorCode>();
  private count = 0;

  add(entry: ZipEntry, { code, message }: DocumentError, inPart: boolean): void {
    this.count++;
    this.codes.add(code);
    if (this.named.length >= MAX_NAMED) return;
    const fate = inPart ? 'was read in part only' : 'was left out';
    this.named.push({ code: 'entry_skipped', message: `${shown(entry)} ${fate}: ${message}` });
  }

  addOther(warning: DocumentWarning): void {
    if (this.others.length < MAX_NAMED) this.others.push(warning);
  }

  /** Nothing at all was read. */
  error(): DocumentError {
    const [code = 'no_text', ...others] = this.codes;
    const message = `The archive holds no file that can be read. ${this.named[0]?.message ?? ''}`.trim();
    return new DocumentError(others.length === 0 ? code : 'no_text', message);
  }

  list(): DocumentWarning[] {
    const rest = this.count - this.named.length;
    const more = { code: 'entry_skipped', message: `${rest} more files of the archive were left out.` };
    return [...this.named, ...(rest > 0 ? [more] : []), ...this.others];
  }
}
