import { open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { getDocumentProxy } from 'unpdf';
import { ArrayBudget } from './array-budget.js';
import { DocumentError } from './document-error.js';
import type { DocumentWarning, ReadContext, ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { readWhole } from './document-parts.js';
import {
  MAX_PICTURE_PIXELS,
  MIN_PICTURE_PIXELS,
  type PagePictures,
  type PdfPage,
  picturesOf,
  pngOf,
} from './pdf-pictures.js';

/** Bytes that one page of a PDF may allocate while its streams are unpacked (buffers double as they grow). */
const MAX_PDF_PAGE_BYTES = 256 * 1024 * 1024;
const MAX_PAGES = 20_000;
/** After so many pages, or bytes of unpacked streams, the parser is told to forget what it keeps of them. */
const PAGES_KEPT = 25;
const BYTES_KEPT = 16 * 1024 * 1024;
/** Pages that a warning names. */
const MAX_NAMED_PAGES = 500;
/** A page with fewer characters that a picture covers is a scan, with a stamp or a number that a program has added. */
const HARDLY_ANY_TEXT = 100;
const COVERED = 0.7;
/** Of one page, that are shown to whoever reads them: scans are stored in strips, albums are not. */
const MOST_PICTURES = 10;

interface ScannedPage {
  number: number;
  /** Whether there is some text beside the picture. */
  typed: boolean;
}

/** A PDF (ISO 32000), page by page. Pages that are pictures without text are shown to `context.recognize`. */
export async function* readPdf(
  file: SourceFile,
  { recognize }: Pick<ReadContext, 'recognize'>,
): AsyncGenerator<TextPart, ReadSummary> {
  await refuseCutOff(file);
  const budget = new ArrayBudget(MAX_PDF_PAGE_BYTES);
  const warnings = new ParserWarnings();
  let pdf: Awaited<ReturnType<typeof getDocumentProxy>> | null = null;
  let foreignFault: unknown;
  try {
    // Where nobody reads pictures, it is enough to hear that there is one.
    const maxImageSize = recognize ? MAX_PICTURE_PIXELS : MIN_PICTURE_PIXELS;
    // The parser takes the bytes over.
    pdf = await getDocumentProxy(await readWhole(file), { verbosity: 1, maxImageSize });
    if (pdf.numPages > MAX_PAGES) {
      throw new DocumentError(
        'too_large',
        `The PDF has ${pdf.numPages} pages; it may have ${MAX_PAGES} at most. Split it into several files.`,
      );
    }
    const scanned: ScannedPage[] = [];
    /** Pages with more pictures than are shown. */
    const crowded: number[] = [];
    let readable = false;
    let kept = 0;
    for (let number = 1; number <= pdf.numPages; number++) {
      budget.refill();
      const page = await pdf.getPage(number);
      let part: TextPart = { page: number, text: await textOf(page), format: 'plain' };
      const typed = part.text.trim();
      if (budget.exhausted) throw tooMuch(number);
      if (typed.length < HARDLY_ANY_TEXT) {
        warnings.pictureLeftOut = false;
        // A page that cannot be drawn is as good as empty.
        const found = await picturesOf(page).catch(() => null);
        if (found && isScanned(found, typed, warnings.pictureLeftOut)) {
          const texts: string[] = [];
          const shown = recognize ? found.pictures.slice(0, MOST_PICTURES) : [];
          for (const picture of shown) {
            const png = await pngOf(page, picture).catch(() => null);
            if (!recognize || !png) continue;
            const text = await recognize({ page: number, png }).catch((fault: unknown) => {
              foreignFault = fault;
              throw fault;
            });
            if (text.trim() !== '') texts.push(text);
          }
          if (found.pictures.length > shown.length && recognize) crowded.push(number);
          if (texts.length === 0) scanned.push({ number, typed: typed !== '' });
          else part = { ...part, text: joined(texts.join('\n\n'), typed), format: 'markdown' };
        }
      }
      // Its pictures are too much; its text was read before.
      if (typed !== '') budget.forgive();
      if (budget.exhausted) throw tooMuch(number);
      page.cleanup();
      kept += budget.usedBytes;
      if (kept > BYTES_KEPT || number % PAGES_KEPT === 0) {
        await pdf.cleanup();
        kept = 0;
      }
      readable ||= part.text.trim() !== '';
      yield part;
      // Messages within the parser are copied through ports, which are not freed before the event loop turns.
      await setImmediate();
    }
    if (!readable) throw noText(recognize !== null && scanned.length > 0);
    const { info } = await pdf.getMetadata();
    const title = 'Title' in info && typeof info.Title === 'string' ? info.Title : null;
    return {
      title,
      warnings: [
        ...(scanned.length > 0 ? [scannedPages(scanned, recognize !== null)] : []),
        ...(crowded.length > 0 ? [picturesLeftOut(crowded)] : []),
      ],
    };
  } catch (cause) {
    throw cause === foreignFault ? cause : faultOf(cause, budget.exhausted);
  } finally {
    // Its faults were told, and there is nothing else to lose.
    await pdf?.destroy().catch(() => undefined);
    warnings.release();
    budget.release();
  }
}

/** The parser would rebuild a file that was cut off and silently lose its end. */
async function refuseCutOff({ path, sizeBytes }: SourceFile): Promise<void> {
  const handle = await open(path);
  try {
    const length = Math.min(sizeBytes, 4096);
    const { buffer } = await handle.read(Buffer.alloc(length), 0, length, sizeBytes - length);
    if (buffer.includes('%%EOF')) return;
  } finally {
    await handle.close();
  }
  throw new DocumentError('damaged', 'The PDF is incomplete: its end is missing.');
}

async function textOf(page: PdfPage): Promise<string> {
  const { items } = await page.getTextContent();
  return items.map(item => ('str' in item ? item.str + (item.hasEOL ? '\n' : '') : '')).join('');
}

function noText(looked: boolean): DocumentError {
  const advice = looked
    ? 'Its pages are pictures in which no text was found.'
    : 'It is probably a scan: run text recognition (OCR) on it first.';
  return new DocumentError('no_text', `The PDF contains no text. ${advice}`);
}

const tooMuch = (page: number): RangeError => new RangeError(`Page ${page} unpacks to too much.`);

/** A page without text may be any picture; one with a little of it is a scan where a picture is all of the page. */
function isScanned(
  { pictures, coverage, placedCoverage }: PagePictures,
  typed: string,
  leftOut: boolean,
): boolean {
  if (typed === '') return pictures.length > 0 || leftOut;
  return (leftOut ? placedCoverage : coverage) >= COVERED;
}

const bare = (text: string): string => text.replaceAll(/\s+/g, '');

/** What a program has written on a scan need not be seen in its picture. */
function joined(recognized: string, typed: string): string {
  return bare(recognized).includes(bare(typed)) ? recognized : `${typed}\n\n${recognized}`;
}

function picturesLeftOut(pages: number[]): DocumentWarning {
  const those = pages.length === 1 ? 'One page has' : `${pages.length} pages have`;
  return {
    code: 'pictures_left_out',
    message: `${those} more than ${MOST_PICTURES} pictures; the others were not looked at.`,
    pages: pages.slice(0, MAX_NAMED_PAGES),
  };
}

function scannedPages(pages: ScannedPage[], looked: boolean): DocumentWarning {
  const what = pages.some(({ typed }) => typed) ? 'with hardly any text' : 'without text';
  const [those, are] =
    pages.length === 1 ? ['One page', 'is a picture'] : [`${pages.length} pages`, 'are pictures'];
  return {
    code: 'scanned_pages',
    message: `${those} ${are} ${what}${looked ? ', and no text was found in' : '; text recognition (OCR) would be needed for'} ${pages.length === 1 ? 'it' : 'them'}.`,
    pages: pages.slice(0, MAX_NAMED_PAGES).map(({ number }) => number),
  };
}

function faultOf(cause: unknown, exhausted: boolean): unknown {
  if (exhausted) {
    return new DocumentError('too_large', 'The PDF unpacks to more than one page may and is not opened.', {
      cause,
    });
  }
  if (cause instanceof DocumentError || !(cause instanceof Error)) return cause;
  if (cause.name === 'PasswordException') {
    return new DocumentError(
      'encrypted',
      'The PDF is protected by a password. Remove it and upload the file again.',
    );
  }
  return new DocumentError('damaged', 'The PDF is damaged and cannot be opened.', { cause });
}

/** Hears the parser's warnings, the only sign of a picture that it left out for its size; none of them is for the log. */
class ParserWarnings {
  pictureLeftOut = false;
  private readonly original = globalThis.console;

  constructor() {
    const warn = (message: unknown): void => {
      this.pictureLeftOut ||= String(message).includes('Image exceeded maximum allowed size');
    };
    globalThis.console = Object.assign(Object.create(this.original) as Console, { warn });
  }

  release(): void {
    globalThis.console = this.original;
  }
}
