import * as cheerio from 'cheerio';
import JSZip from 'jszip';
import mammoth from 'mammoth';
import TurndownService from 'turndown';
import { getDocumentProxy } from 'unpdf';
import { ArrayBudget } from './array-budget.js';
import { DocumentError } from '../documents/document-error.js';
import {
  decodeText,
  detectType,
  DOCX,
  type DocumentMimeType,
  type DocumentSource,
} from '../documents/document-type.js';

export interface DocumentPage {
  /** From 1; null where the format has no pages. */
  page: number | null;
  text: string;
}

export interface LoadedDocument {
  mimeType: DocumentMimeType;
  title: string | null;
  /** Whether the pages hold Markdown, with headings to follow, or plain text. */
  format: 'markdown' | 'plain';
  /** Pages without text are left out; there is at least one. */
  pages: DocumentPage[];
}

type ExtractedText = Omit<LoadedDocument, 'mimeType'>;

/** UTF-16 code units of extracted text. */
export const MAX_TEXT_LENGTH = 20_000_000;
/** Bytes that the parts of a .docx may unpack to. */
export const MAX_UNPACKED_BYTES = 200 * 1024 * 1024;
/** Bytes that one page of a PDF may allocate while its streams are unpacked (buffers double as they grow). */
const MAX_PDF_PAGE_BYTES = 256 * 1024 * 1024;
const MAX_ZIP_ENTRIES = 10_000;
const MAX_TITLE_LENGTH = 300;

/**
 * Turns a file into text. CPU-bound and at the mercy of its parsers: for worker threads.
 *
 * @throws DocumentError where the file cannot be read
 */
export async function extractText(content: Uint8Array, source: DocumentSource): Promise<LoadedDocument> {
  const mimeType = await detectType(content, source);
  const { title, format, pages } = await extract(mimeType, content);
  const readable: DocumentPage[] = [];
  let length = 0;
  for (const { page, text } of pages) {
    length += text.length;
    if (length > MAX_TEXT_LENGTH) throw tooLong();
    const normalized = normalizeText(text).trim();
    if (normalized !== '') readable.push({ page, text: normalized });
  }
  if (readable.length === 0) {
    throw new DocumentError(
      'no_text',
      mimeType === 'application/pdf'
        ? 'The PDF contains no text. It is probably a scan: run text recognition (OCR) on it first.'
        : 'The file contains no text.',
    );
  }
  const line = title === null ? '' : normalizeText(title).replaceAll(/\s+/g, ' ').trim();
  return {
    mimeType,
    title: line.slice(0, MAX_TITLE_LENGTH).replace(/\p{Surrogate}$/u, '') || null,
    format,
    pages: readable,
  };
}

async function extract(mimeType: DocumentMimeType, content: Uint8Array): Promise<ExtractedText> {
  try {
    return await EXTRACTORS[mimeType](content);
  } catch (cause) {
    // Parsers recurse into what is nested: the stack runs out, or a string grows beyond what V8 can hold.
    if (!(cause instanceof RangeError)) throw cause;
    throw new DocumentError('damaged', 'The file is nested too deeply or too large in one part to be read.', {
      cause,
    });
  }
}

const EXTRACTORS: Record<DocumentMimeType, (content: Uint8Array) => Promise<ExtractedText> | ExtractedText> =
  {
    'text/plain': content => ({
      title: null,
      format: 'plain',
      pages: [{ page: null, text: decodeText(content) }],
    }),
    'text/markdown': content => readMarkdown(decodeText(content)),
    'text/html': content => readHtml(decodeText(content)),
    'application/pdf': readPdf,
    [DOCX]: readDocx,
  };

const tooLong = () =>
  new DocumentError(
    'too_large',
    `The file contains more than ${MAX_TEXT_LENGTH / 1e6} million characters of text. Split it into several files.`,
  );

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

function readMarkdown(source: string): ExtractedText {
  // Front matter (YAML between two lines of ---) describes the text and is none itself.
  const frontMatter = /^\uFEFF?---[ \t]*\r?\n([^]{0,10000}?)\r?\n---[ \t]*(?:\r?\n|$)/.exec(source);
  const text = frontMatter ? source.slice(frontMatter[0].length) : source;
  const title =
    /^title:[ \t]*["']?([^\r\n]{1,300}?)["']?[ \t]*$/m.exec(frontMatter?.[1] ?? '')?.[1] ??
    /^ {0,3}#[ \t]+([^\r\n]{1,300})/m.exec(text)?.[1];
  return { title: title ?? null, format: 'markdown', pages: [{ page: null, text }] };
}

const NOT_CONTENT =
  'script, style, noscript, template, svg, math, iframe, object, canvas, form, button, select, dialog, nav, ' +
  'footer, [role=navigation], [role=search], [hidden], [aria-hidden=true]';

function readHtml(html: string): ExtractedText {
  const $ = cheerio.load(html);
  const title = $('head > title').first().text().trim() || $('h1').first().text().trim();
  $(NOT_CONTENT).remove();
  const main = $('main');
  const content = main.length === 1 && main.text().trim() !== '' ? main : $('body');
  return { title, format: 'markdown', pages: [{ page: null, text: toMarkdown(content.html() ?? '') }] };
}

async function readDocx(content: Uint8Array): Promise<ExtractedText> {
  const buffer = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  try {
    const archive = await JSZip.loadAsync(buffer);
    await refuseZipBomb(archive);
    const { value: html } = await mammoth.convertToHtml(
      { buffer },
      // Without it every picture would become a data: URL.
      { convertImage: mammoth.images.imgElement(async () => ({ src: '' })) },
    );
    const core = await archive.file('docProps/core.xml')?.async('string');
    const title = core ? cheerio.load(core, { xml: true })('dc\\:title').text().trim() : '';
    return {
      title: title || cheerio.load(html)('h1').first().text(),
      format: 'markdown',
      pages: [{ page: null, text: toMarkdown(html) }],
    };
  } catch (cause) {
    if (cause instanceof DocumentError) throw cause;
    throw new DocumentError('damaged', 'The Word document is damaged and cannot be opened.', { cause });
  }
}

/** Unpacks every part without keeping it: the sizes that a zip's directory declares may be lies. */
async function refuseZipBomb(archive: JSZip): Promise<void> {
  const parts = Object.values(archive.files);
  const refusal = new DocumentError(
    'too_large',
    'The Word document unpacks to more than 200 MB and is not opened.',
  );
  if (parts.length > MAX_ZIP_ENTRIES) throw refusal;
  let unpacked = 0;
  for (const part of parts) {
    await new Promise<void>((resolve, reject) => {
      const stream = part.nodeStream();
      stream.on('data', (chunk: Buffer) => {
        unpacked += chunk.length;
        if (unpacked <= MAX_UNPACKED_BYTES) return;
        stream.pause();
        reject(refusal);
      });
      stream.on('error', reject);
      stream.on('end', resolve);
    });
  }
}

async function readPdf(content: Uint8Array): Promise<ExtractedText> {
  // The parser would rebuild a file that was cut off and silently lose its end.
  if (
    !Buffer.from(content.buffer, content.byteOffset, content.byteLength).subarray(-4096).includes('%%EOF')
  ) {
    throw new DocumentError('damaged', 'The PDF is incomplete: its end is missing.');
  }
  const budget = new ArrayBudget(MAX_PDF_PAGE_BYTES);
  try {
    // verbosity 0: the faults of a file are no business of the log.
    const pdf = await getDocumentProxy(content, { verbosity: 0 });
    const pages: DocumentPage[] = [];
    let length = 0;
    for (let number = 1; number <= pdf.numPages; number++) {
      budget.refill();
      const page = await pdf.getPage(number);
      const { items } = await page.getTextContent();
      if (budget.exhausted) throw new RangeError(`Page ${number} unpacks to too much.`);
      const text = items.map(item => ('str' in item ? item.str + (item.hasEOL ? '\n' : '') : '')).join('');
      page.cleanup();
      length += text.length;
      if (length > MAX_TEXT_LENGTH) throw tooLong();
      pages.push({ page: number, text });
    }
    const { info } = await pdf.getMetadata();
    const title = 'Title' in info && typeof info.Title === 'string' ? info.Title : null;
    await pdf.destroy();
    return { title, format: 'plain', pages };
  } catch (cause) {
    if (cause instanceof DocumentError) throw cause;
    if (budget.exhausted) {
      throw new DocumentError('too_large', 'The PDF unpacks to more than one page may and is not opened.', {
        cause,
      });
    }
    if (cause instanceof Error && cause.name === 'PasswordException') {
      throw new DocumentError(
        'encrypted',
        'The PDF is protected by a password. Remove it and upload the file again.',
      );
    }
    throw new DocumentError('damaged', 'The PDF is damaged and cannot be opened.', { cause });
  } finally {
    budget.release();
  }
}

const turndown = new TurndownService({
  headingStyle: 'atx',
  codeBlockStyle: 'fenced',
  bulletListMarker: '-',
  hr: '---',
});
// The text is searched and read, not rendered again: "snake\_case" would be another word than "snake_case".
turndown.escape = text => text;
turndown.addRule('link', {
  filter: node => node.nodeName === 'A',
  // Relative addresses lead nowhere outside of their site.
  replacement: (content, node) => {
    const href = node instanceof Object && 'getAttribute' in node ? node.getAttribute('href') : null;
    return content.trim() && href && /^(?:https?|mailto):/i.test(href) ? `[${content}](${href})` : content;
  },
});
turndown.addRule('image', {
  filter: 'img',
  replacement: (_, node) => ('getAttribute' in node ? (node.getAttribute('alt') ?? '') : ''),
});
// GitHub's tables. turndown-plugin-gfm leaves a table without <th> as HTML, and those of Word have none.
turndown.addRule('cell', {
  filter: ['td', 'th'],
  replacement: content => ` ${oneLine(content).replaceAll('|', '\\|')} |`,
});
turndown.addRule('row', { filter: 'tr', replacement: content => `\n|${content}` });
turndown.addRule('table', {
  filter: 'table',
  replacement: content => {
    const lines = content.split('\n').filter(line => line.trim() !== '');
    const rows = lines.filter(line => line.startsWith('|'));
    const caption = lines.filter(line => !line.startsWith('|')).join('\n');
    const columns = (rows[0]?.match(/(?<!\\)\|/g)?.length ?? 1) - 1;
    return `\n\n${[caption, '', rows[0], `|${' --- |'.repeat(columns)}`, ...rows.slice(1)].join('\n').trim()}\n\n`;
  },
});

const oneLine = (text: string): string =>
  text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '')
    .join(' ');

const toMarkdown = (html: string): string => turndown.turndown(html);
