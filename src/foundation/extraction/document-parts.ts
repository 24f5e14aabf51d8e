import { readFile } from 'node:fs/promises';
import { DocumentError } from './document-error.js';
import type { DocumentMimeType } from './document-type.js';

/** A file on this machine; what an archive holds is unpacked into one too. */
export interface SourceFile {
  path: string;
  sizeBytes: number;
  mimeType: DocumentMimeType;
  fileName: string | null;
}

/** A stretch of a document, in reading order: a page, a sheet, a megabyte of a long text. */
export interface TextPart {
  /** From 1; null where the format has no pages. */
  page: number | null;
  text: string;
  /** Whether the text is Markdown, with headings, tables and code to respect, or plain. */
  format: 'markdown' | 'plain';
  /** The headings above the part, outermost first: the file in an archive, the sheet of a workbook. */
  headings?: readonly string[];
  /**
   * The text goes on where the part before it ended, with nothing between: under the same headings, in the
   * same table or code block. Otherwise a part begins anew, an empty line after the one before it.
   */
  continues?: boolean;
}

export interface DocumentWarning {
  /** Stable, such as `scanned_pages`. */
  code: string;
  /** A sentence for the person who uploaded the file. */
  message: string;
  pages?: number[];
}

/** What is known of a document when all of it has been read. */
export interface ReadSummary {
  title: string | null;
  /** The address that a web page calls its own. */
  canonicalUrl?: string | null;
  warnings?: DocumentWarning[];
}

/** A picture that may hold text. `page` is null where the format has no pages. */
export interface Picture {
  page: number | null;
  png: Uint8Array;
}

export interface ReadContext {
  /** Of a web page, its main content alone. */
  readable: boolean;
  /** Reads the text of a picture; null where nobody can. Its faults end the reading. */
  recognize: ((picture: Picture) => Promise<string>) | null;
  /** Where files may be unpacked to; made when first asked for, and removed with all it holds after the reading. */
  scratch(): Promise<string>;
  /**
   * Reads a file that the document contains, by the reader of its type.
   *
   * @throws DocumentError where its type is unknown, or it cannot be read
   */
  readInner(path: string, fileName: string): AsyncGenerator<TextPart, ReadSummary>;
}

/** Reads a file part by part. @throws DocumentError */
export type Reader = (file: SourceFile, context: ReadContext) => AsyncGenerator<TextPart, ReadSummary>;

export interface DocumentPage {
  /** From 1; null where the format has no pages. */
  page: number | null;
  text: string;
}

/** A document that was read as a whole. */
export interface ExtractedText extends ReadSummary {
  format: 'markdown' | 'plain';
  pages: DocumentPage[];
}

/** Bytes of a file of which a reader needs the whole in memory. */
export const MAX_WHOLE_BYTES = 256 * 1024 * 1024;

/** The bytes of a file, which nothing else holds. @throws DocumentError `too_large` */
export async function readWhole({ path, sizeBytes }: SourceFile): Promise<Uint8Array<ArrayBuffer>> {
  if (sizeBytes > MAX_WHOLE_BYTES) {
    throw new DocumentError(
      'too_large',
      `A file of this format may have ${MAX_WHOLE_BYTES / 1024 ** 2} MB at most.`,
    );
  }
  const { buffer, byteOffset, byteLength } = await readFile(path);
  // Small buffers may share one with others.
  return byteLength === buffer.byteLength
    ? new Uint8Array(buffer)
    : Uint8Array.from(new Uint8Array(buffer, byteOffset, byteLength));
}

/** Makes a reader of a function that takes a file as a whole and gives all of its text at once. */
export const whole = (
  extract: (content: Uint8Array, context: ReadContext) => Promise<ExtractedText> | ExtractedText,
): Reader =>
  async function* (file, context) {
    const { format, pages, ...summary } = await extract(await readWhole(file), context);
    for (const { page, text } of pages) yield { page, text, format };
    return summary;
  };

/** UTF-16 code units of extracted text: what the offsets of chunks can count (int4). */
export const MAX_TEXT_LENGTH = 2 ** 31 - 1;

export const tooLong = () =>
  new DocumentError(
    'too_large',
    `The file contains more than ${Math.floor(MAX_TEXT_LENGTH / 1e6)} million characters of text. Split it into several files.`,
  );

/** How a document is cut into chunks. */
export interface SplitOptions {
  /** Upper bound of a chunk, in `chunkUnit`s [1200]. */
  chunkSize?: number;
  /** How much of the text before it a chunk repeats, at most [100]. Less than half of chunkSize. */
  chunkOverlap?: number;
  /** Characters are UTF-16 code units, tokens those of o200k_base ['characters']. */
  chunkUnit?: 'characters' | 'tokens';
}

export interface LoadRequest {
  /** Of a file on this machine. */
  path: string;
  fileName?: string;
  /** What the client declared, e.g. the part's Content-Type; parameters are ignored. */
  declaredMimeType?: string;
  /** Of a web page, its main content alone [false]. */
  readable?: boolean;
  split?: SplitOptions;
  /** Ends the work; the generator throws the signal's reason. */
  signal?: AbortSignal;
  /** Reads the text of a picture, asked for scanned pages; without it they become a warning. */
  recognize?: (picture: Picture) => Promise<string>;
}

export interface LoadSummary {
  mimeType: DocumentMimeType;
  title: string | null;
  canonicalUrl: string | null;
  /** Pages with text; 1 where the format has no pages. */
  pageCount: number;
  /** UTF-16 code units of text. */
  characterCount: number;
  warnings: DocumentWarning[];
}
