import { open } from 'node:fs/promises';
import { DocumentError } from './document-error.js';
import {
  type LoadSummary,
  MAX_TEXT_LENGTH,
  type ReadContext,
  type Reader,
  type ReadSummary,
  type TextPart,
  tooLong,
  whole,
} from './document-parts.js';
import {
  detectType,
  type DocumentMimeType,
  type DocumentSource,
  TYPE_DETECTION_BYTES,
} from './document-type.js';
import { DOCX, EPUB, ODT, PPTX, XLSX, ZIP } from './zip-type.js';

const csv = async (): Promise<Reader> => (await import('./csv-reader.js')).readCsv;
const json = async (): Promise<Reader> => (await import('./json-reader.js')).readJson;

/** Imported when they are needed: a thread starts sooner and takes less without the parsers of all formats. */
const READERS: Record<DocumentMimeType, () => Promise<Reader>> = {
  'text/plain': async () => (await import('./markdown-reader.js')).readPlainText,
  'text/markdown': async () => (await import('./markdown-reader.js')).readMarkdown,
  'text/html': async () => whole((await import('./html-reader.js')).readHtml),
  'application/pdf': async () => (await import('./pdf-reader.js')).readPdf,
  'text/csv': csv,
  'text/tab-separated-values': csv,
  'application/json': json,
  'application/x-ndjson': json,
  [DOCX]: async () => (await import('./docx-reader.js')).readDocx,
  [PPTX]: async () => (await import('./pptx-reader.js')).readPptx,
  [XLSX]: async () => (await import('./xlsx-reader.js')).readXlsx,
  [ODT]: async () => (await import('./odt-reader.js')).readOdt,
  [EPUB]: async () => (await import('./epub-reader.js')).readEpub,
  [ZIP]: async () => (await import('./zip-reader.js')).readZip,
};

const MAX_TITLE_LENGTH = 300;
/** A document within a document within the file. */
const MAX_DEPTH = 2;
/** What an empty line between two parts takes of the offsets. */
const SEPARATOR_LENGTH = 2;

/**
 * Turns a file into text, part by part: normalised, without blanks around it, parts without text left out.
 * CPU-bound and at the mercy of its parsers: for worker threads.
 *
 * @throws DocumentError where the file cannot be read
 */
export async function* readDocument(
  path: string,
  source: DocumentSource,
  context: Omit<ReadContext, 'readInner'>,
): AsyncGenerator<TextPart, LoadSummary> {
  const reading = readFile(path, source, context, 0);
  const count = new PageCount();
  let characterCount = 0;
  let parts = 0;
  // Whether there is text of the part that others may continue, and the blanks at its end.
  let begun = false;
  let blanks = '';
  try {
    for (;;) {
      const { done, value } = await reading.next();
      if (done) {
        if (parts === 0) throw new DocumentError('no_text', 'The file contains no text.');
        const { mimeType, title, canonicalUrl = null, warnings = [] } = value;
        const pageCount = Math.max(count.pages, 1);
        return { mimeType, title: oneLine(title), canonicalUrl, pageCount, characterCount, warnings };
      }
      const continues: boolean = value.continues === true && begun;
      const normalized = normalizeText(value.text);
      const untrimmed: string = continues ? blanks + normalized : normalized.trimStart();
      const text: string = untrimmed.trimEnd();
      // Blanks belong to the text only where more of it follows.
      blanks = untrimmed.slice(text.length);
      begun = continues || text !== '';
      if (text === '') continue;
      characterCount += text.length;
      if (characterCount + parts * SEPARATOR_LENGTH > MAX_TEXT_LENGTH) throw tooLong();
      parts++;
      count.add(value);
      yield { ...value, text, continues };
    }
  } finally {
    // Readers hold files, and what they have put in the place of globals.
    await reading.return(undefined as never);
  }
}

/** Counts pages with text; a page may come in several parts, and several documents may have a page 1. */
class PageCount {
  pages = 0;
  private last = '';

  add({ page, headings = [] }: TextPart): void {
    if (page === null) return;
    const name = [page, ...headings].join('\n');
    if (name !== this.last) this.pages++;
    this.last = name;
  }
}

async function* readFile(
  path: string,
  source: DocumentSource,
  context: Omit<ReadContext, 'readInner'>,
  depth: number,
): AsyncGenerator<TextPart, ReadSummary & { mimeType: DocumentMimeType }> {
  if (depth > MAX_DEPTH) {
    throw new DocumentError('unsupported_type', 'Archives inside of archives are not opened.');
  }
  const { head, sizeBytes } = await readHead(path);
  const mimeType = await detectType(head, source);
  const file = { path, sizeBytes, mimeType, fileName: source.fileName ?? null };
  const read = await READERS[mimeType]();
  try {
    const summary = yield* read(file, {
      ...context,
      readInner: (inner, fileName) => readFile(inner, { fileName }, context, depth + 1),
    });
    return { ...summary, mimeType };
  } catch (cause) {
    // Parsers recurse into what is nested: the stack runs out, or a string grows beyond what V8 can hold.
    if (cause instanceof RangeError) {
      throw new DocumentError(
        'damaged',
        'The file is nested too deeply or too large in one part to be read.',
        { cause },
      );
    }
    // Or they take for granted that there is what a well-formed file has.
    if (cause instanceof TypeError)
      throw new DocumentError('damaged', 'The file is damaged and cannot be read.', { cause });
    throw cause;
  }
}

async function readHead(path: string): Promise<{ head: Uint8Array; sizeBytes: number }> {
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read({
      buffer: Buffer.alloc(Math.min(size, TYPE_DETECTION_BYTES)),
      position: 0,
    });
    return { head: buffer.subarray(0, bytesRead), sizeBytes: size };
  } finally {
    await handle.close();
  }
}

function oneLine(title: string | null): string | null {
  const line = title === null ? '' : normalizeText(title).replaceAll(/\s+/g, ' ').trim();
  return line.slice(0, MAX_TITLE_LENGTH).replace(/\p{Surrogate}$/u, '') || null;
}

/** NFC, `\n` line ends, no control characters but tab and line end, no lone surrogates, no U+FEFF. */
export function normalizeText(text: string): string {
  return (
    text
      .replaceAll(/\r\n?|[\u0085\u2028\u2029\f\v]/g, '\n')
      // oxlint-disable-next-line no-control-regex -- they are what is removed
      .replaceAll(/[\u0000-\u0008\u000E-\u001F\u007F-\u009F\uFEFF]|\p{Surrogate}/gu, '')
      .normalize('NFC')
  );
}
