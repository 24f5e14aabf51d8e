import mammoth from 'mammoth';
import { DocumentError } from './document-error.js';
import type { ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { toMarkdown } from './html-reader.js';
import { OpcPackage } from './opc-package.js';
import { storedZip } from './stored-zip.js';

/** Bytes that the parts of a .docx may unpack to: they are read as a whole. */
export const MAX_UNPACKED_BYTES = 200 * 1024 * 1024;

/** What mammoth never asks for, and most of what is large. */
const PICTURES = /^word\/(?:media|fonts|embeddings)\//i;

/** A Word document (ECMA-376, part 1, 17): headings, lists, tables and footnotes as Markdown. */
export async function* readDocx(file: SourceFile): AsyncGenerator<TextPart, ReadSummary> {
  const what = 'Word document';
  const limits = { entryBytes: MAX_UNPACKED_BYTES, totalBytes: MAX_UNPACKED_BYTES };
  const document = await OpcPackage.open(file.path, what, limits);
  let title: string | null;
  let counted: Buffer;
  try {
    counted = storedZip(await document.parts(name => !PICTURES.test(name)));
    title = await document.title();
  } finally {
    document.close();
  }
  let html: string;
  try {
    ({ value: html } = await mammoth.convertToHtml(
      // Not the file itself: another parser may find another directory in it, and count nothing that it unpacks.
      { buffer: counted },
      // Without it every picture would become a data: URL; and nothing outside of the file is read.
      { convertImage: mammoth.images.imgElement(async () => ({ src: '' })), externalFileAccess: false },
    ));
  } catch (cause) {
    if (cause instanceof RangeError) throw cause;
    throw new DocumentError('damaged', `The ${what} is damaged and cannot be opened.`, { cause });
  }
  const text = toMarkdown(html);
  yield { page: null, text, format: 'markdown' };
  return { title: title ?? /^#+ (.+)$/m.exec(text)?.[1] ?? null };
}
