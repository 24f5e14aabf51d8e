import { RecursiveCharacterTextSplitter } from '@langchain/textsplitters';
import { estimateTokens } from '../../core/models/token-estimate.js';
import type { LoadedDocument } from './document-text.js';

export interface SplitOptions {
  /** Upper bound of a chunk, in characters (UTF-16 code units) [1200]. */
  chunkSize?: number;
  /** How many characters of the text before it a chunk repeats, at most [100]. Less than half of chunkSize. */
  chunkOverlap?: number;
}

export interface Chunk {
  /** Position in the document, from 0. */
  ordinal: number;
  text: string;
  /** The headings above the chunk, outermost first, joined with ` > `. */
  heading: string | null;
  /** From 1; null where the format has no pages. */
  page: number | null;
  /**
   * Where the chunk stands in `documentText(document)`, in UTF-16 code units, end exclusive:
   * `documentText(document).slice(startOffset, endOffset) === text`.
   */
  startOffset: number;
  endOffset: number;
  /** Estimated: UTF-8 bytes / 4, which is close for English and high for most other languages. */
  tokenCount: number;
}

export const DEFAULT_CHUNK_SIZE = 1200;
export const DEFAULT_CHUNK_OVERLAP = 100;

const PAGE_SEPARATOR = '\n\n';
const MAX_HEADING_LENGTH = 200;

/** The text that the offsets of chunks refer to: the pages, with an empty line between them. */
export const documentText = (document: Pick<LoadedDocument, 'pages'>): string =>
  document.pages.map(page => page.text).join(PAGE_SEPARATOR);

/**
 * Splits a document into overlapping chunks. A chunk never reaches across a page or a Markdown heading, a
 * code block stays whole where it fits, and otherwise the cut is at the widest break there is: paragraph,
 * line, sentence, word. Takes time proportional to the text.
 *
 * @throws RangeError where the options contradict each other
 */
export async function splitDocument(
  document: Pick<LoadedDocument, 'pages' | 'format'>,
  { chunkSize = DEFAULT_CHUNK_SIZE, chunkOverlap = DEFAULT_CHUNK_OVERLAP }: SplitOptions = {},
): Promise<Chunk[]> {
  if (!Number.isInteger(chunkSize) || !Number.isInteger(chunkOverlap) || chunkOverlap < 0 || chunkSize < 4) {
    throw new RangeError('chunkSize must be a whole number from 4, chunkOverlap one from 0.');
  }
  if (chunkOverlap * 2 >= chunkSize)
    throw new RangeError('chunkOverlap must be less than half of chunkSize.');

  const splitter = new SpanSplitter(chunkSize - chunkOverlap);
  const chunks: Chunk[] = [];
  const headings = new HeadingPath();
  let pageOffset = 0;
  for (const { page, text } of document.pages) {
    const sections = document.format === 'markdown' ? markdownSections(text, headings) : [plainSection(text)];
    for (const section of sections) {
      const whole = section.end - section.start <= chunkSize;
      const spans = whole ? [trimSpan(text, section)] : await splitSection(text, section, splitter);
      for (const span of spans) {
        if (span.start >= span.end) continue;
        const start = overlapStart(text, section.start, span.start, chunkOverlap);
        const content = text.slice(start, span.end);
        chunks.push({
          ordinal: chunks.length,
          text: content,
          heading: section.heading,
          page,
          startOffset: pageOffset + start,
          endOffset: pageOffset + span.end,
          tokenCount: estimateTokens(content),
        });
      }
    }
    pageOffset += text.length + PAGE_SEPARATOR.length;
  }
  return chunks;
}

interface Span {
  start: number;
  end: number;
}

interface Section extends Span {
  heading: string | null;
  /** Fenced code, in order. */
  fences: Span[];
}

const plainSection = (text: string): Section => ({ start: 0, end: text.length, heading: null, fences: [] });

class HeadingPath {
  private readonly levels: { level: number; title: string }[] = [];

  enter(level: number, title: string): void {
    while ((this.levels.at(-1)?.level ?? 0) >= level) this.levels.pop();
    if (title !== '') this.levels.push({ level, title });
  }

  toString(): string | null {
    return this.levels.map(({ title }) => title).join(' > ') || null;
  }
}

/** Cuts before every heading; headings without text of their own stay with the text below them. */
function markdownSections(text: string, headings: HeadingPath): Section[] {
  const sections: Section[] = [];
  let section: Section = { start: 0, end: 0, heading: headings.toString(), fences: [] };
  let fence: { start: number; marker: string } | null = null;
  let bodyLines = 0;
  let previous = { start: 0, line: '' };

  const enter = (start: number, level: number, title: string): void => {
    if (bodyLines > 0) {
      sections.push({ ...section, end: start });
      section = { start, end: 0, heading: null, fences: [] };
    }
    headings.enter(level, plainTitle(title));
    section.heading = headings.toString();
    bodyLines = 0;
  };

  for (let start = 0; start < text.length;) {
    const newline = text.indexOf('\n', start);
    const end = newline === -1 ? text.length : newline + 1;
    // What marks a line stands at its start; a line of megabytes is not worth a copy.
    let line = text.slice(start, Math.min(end, start + 1000)).trimEnd();
    const marker = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    const heading = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/.exec(line);
    const underline = /^ {0,3}(=+|-+)$/.exec(line)?.[1];
    if (fence) {
      if (marker?.startsWith(fence.marker) && line.trim() === marker) {
        section.fences.push({ start: fence.start, end });
        fence = null;
      }
      line = '';
    } else if (marker) {
      fence = { start, marker };
      bodyLines++;
      line = '';
    } else if (heading) {
      enter(start, heading[1]!.length, heading[2] ?? '');
      line = '';
    } else if (underline && /^ {0,3}[^\s>|*+-]/.test(previous.line)) {
      // The title was taken for a line of text when it was read.
      bodyLines--;
      enter(previous.start, underline.startsWith('=') ? 1 : 2, previous.line);
      line = '';
    } else if (line !== '') {
      bodyLines++;
    }
    previous = { start, line };
    start = end;
  }
  sections.push({ ...section, end: text.length });
  return sections;
}

/** A heading without the marks of its links, emphasis and code, and without closing #s. */
const plainTitle = (markdown: string): string =>
  markdown
    .slice(0, MAX_HEADING_LENGTH * 2)
    .replace(/(?:^|[ \t])#+[ \t]*$/, '')
    .replaceAll(/!?\[([^[\]]*)\]\([^()]*\)/g, '$1')
    .replaceAll(/\*\*|__|`/g, '')
    .trim()
    .slice(0, MAX_HEADING_LENGTH)
    .replace(/\p{Surrogate}$/u, '');

/** Cuts a section that is too long for one chunk, then joins neighbours that fit into one again. */
async function splitSection(text: string, section: Section, splitter: SpanSplitter): Promise<Span[]> {
  const pieces: Span[] = [];
  let position = section.start;
  for (const fence of section.fences) {
    if (fence.end - fence.start > splitter.chunkSize) continue;
    pieces.push(
      ...(await splitter.split(text, { start: position, end: fence.start })),
      trimSpan(text, fence),
    );
    position = fence.end;
  }
  pieces.push(...(await splitter.split(text, { start: position, end: section.end })));

  const spans: Span[] = [];
  for (const piece of pieces) {
    const last = spans.at(-1);
    if (last && piece.end - last.start <= splitter.chunkSize) last.end = piece.end;
    else spans.push({ ...piece });
  }
  return spans;
}

/**
 * LangChain's recursive splitter, without its overlap: then its chunks follow one another in the text with
 * nothing but white space between them, so that where each stands is known and not searched for.
 */
class SpanSplitter extends RecursiveCharacterTextSplitter {
  static override lc_name(): string {
    return 'SpanSplitter';
  }

  constructor(chunkSize: number) {
    const separators = ['\n\n', '\n', '. ', '? ', '! ', '。', '？', '！', ' ', '、', '，', ''];
    super({ chunkSize, chunkOverlap: 0, keepSeparator: true, separators });
  }

  async split(text: string, span: Span): Promise<Span[]> {
    const spans: Span[] = [];
    let position = span.start;
    for (const chunk of await this.splitText(text.slice(span.start, span.end))) {
      const start = skipBlanks(text, position, span.end);
      position = start + chunk.trim().length;
      if (start < position) spans.push({ start, end: position });
    }
    return spans;
  }

  /** Leaves the separator with the text before it, and cuts text without one into pieces of equal size. */
  protected override splitOnSeparator(text: string, separator: string): string[] {
    const pieces: string[] = [];
    for (let start = 0; start < text.length;) {
      const found = separator === '' ? -1 : text.indexOf(separator, start);
      const end =
        separator === ''
          ? characterStart(text, Math.min(start + this.chunkSize - 1, text.length))
          : found === -1
            ? text.length
            : found + separator.length;
      pieces.push(text.slice(start, end));
      start = end;
    }
    return pieces;
  }
}

/** Where the overlap begins: at a word, at most `overlap` characters before `start`. */
function overlapStart(text: string, sectionStart: number, start: number, overlap: number): number {
  const earliest = characterStart(text, Math.max(sectionStart, start - overlap));
  if (earliest === start) return start;
  const before = text.slice(earliest, start);
  const wordStart = earliest === sectionStart ? 0 : /\s/.exec(before)?.index;
  // Languages without blanks between words have no word start to look for.
  return skipBlanks(text, earliest + (wordStart ?? 0), start);
}

/** The offset itself, or the one after it where it would cut a surrogate pair in two. */
const characterStart = (text: string, offset: number): number =>
  offset > 0 && (text.codePointAt(offset - 1) ?? 0) > 0xffff ? offset + 1 : offset;

function trimSpan(text: string, span: Span): Span {
  const start = skipBlanks(text, span.start, span.end);
  let { end } = span;
  while (end > start && isBlank(text, end - 1)) end--;
  return { start, end };
}

function skipBlanks(text: string, start: number, end: number): number {
  while (start < end && isBlank(text, start)) start++;
  return start;
}

// The set that String.prototype.trim removes, by which LangChain trims its chunks.
const isBlank = (text: string, offset: number): boolean => /\s/.test(text.charAt(offset));
