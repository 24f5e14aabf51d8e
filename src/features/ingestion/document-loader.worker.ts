import { splitDocument, type Chunk, type SplitOptions } from './chunk-splitter.js';
import { DocumentError, type DocumentErrorCode } from '../documents/document-error.js';
import { extractText, type LoadedDocument } from './document-text.js';
import type { DocumentSource } from '../documents/document-type.js';

export interface LoadTask {
  content: Uint8Array;
  source: DocumentSource;
  /** Null: the pages are asked for, not the chunks. */
  split: SplitOptions | null;
}

/** Only the message of an error survives the way between threads, so its code travels as data. */
export type LoadResult =
  | { document: LoadedDocument }
  | { document: Omit<LoadedDocument, 'pages'>; pageCount: number; characterCount: number; chunks: Chunk[] }
  | { error: { code: DocumentErrorCode; message: string } };

/** Entry of the worker threads of `document-loader.ts`. */
export default async function load({ content, source, split }: LoadTask): Promise<LoadResult> {
  try {
    const document = await extractText(content, source);
    if (!split) return { document };
    const chunks = await splitDocument(document, split);
    const { pages, ...rest } = document;
    const characterCount = pages.reduce((sum, page) => sum + page.text.length, 0);
    return { document: rest, pageCount: pages.length, characterCount, chunks };
  } catch (error) {
    if (error instanceof DocumentError) return { error: { code: error.code, message: error.message } };
    throw error;
  }
}
