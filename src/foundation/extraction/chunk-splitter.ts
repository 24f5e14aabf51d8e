import type { SplitOptions, TextPart } from './document-parts.js';
import { type Block, HeadingPath, MarkdownScanner, type Section } from './markdown-scanner.js';
import { characterMeasure, type TextMeasure } from './text-measure.js';

export interface Chunk {
  /** Position in the document, from 0. */
  ordinal: number;
  text: string;
  /** The headings above the chunk, outermost first, joined with ` > `. */
  heading: string | null;
  /** From 1; null where the format has no pages. */
  page: number | null;
  /**
   * Where the chunk stands in `documentText(parts)`, in UTF-16 code units, end exclusive:
   * `documentText(parts).slice(startOffset, endOffset) === text`, but for chunks that begin inside of a table:
   * those have the table's header before that text.
   */
  startOffset: number;
  endOffset: number;
  /**
   * Of the text. Where chunks are measured in characters, estimated: UTF-8 bytes / 4, which is close for English
   * and high for most other languages.
   */
  tokenCount: number;
}

export const DEFAULT_CHUNK_SIZE = 1200;
export const DEFAULT_CHUNK_OVERLAP = 100;

const PART_SEPARATOR = '\n\n';
/** Characters behind a cut that are looked at before it is made, where the text goes on. */
const LOOK_AHEAD = 65_536;
/** A cut that leaves less of a chunk than this is not made for the sake of a wider break. */
const LEAST_SHARE = 1 / 4;

/** Where text may be cut, the widest break first: what stands there, and how much of it stays before the cut. */
const BREAKS: [separator: string, kept: number][][] = [
  [['\n\n', 0]],
  [['\n', 0]],
  [
    ['. ', 1],
    ['? ', 1],
    ['! ', 1],
    ['。', 1],
    ['？', 1],
    ['！', 1],
  ],
  [
    [' ', 0],
    ['\t', 0],
    ['\u3000', 0],
    ['、', 1],
    ['，', 1],
  ],
  [
    [',', 1],
    [';', 1],
  ],
];

/** The text that the offsets of chunks refer to: the parts, with an empty line between those that begin anew. */
export const documentText = (parts: readonly Pick<TextPart, 'text' | 'continues'>[]): string =>
  parts.map(({ text, continues }, index) => (index > 0 && !continues ? PART_SEPARATOR : '') + text).join('');

/**
 * Splits a document into overlapping chunks, part by part. A chunk never reaches across a page or a Markdown
 * heading; code blocks and tables stay whole where they fit, longer tables are cut between rows and every
 * further chunk of one begins with its header again; otherwise the cut is at the widest break there is:
 * paragraph, line, sentence, word. Takes time proportional to the text, and memory for a part.
 */
export class DocumentSplitter {
  private readonly size: number;
  private readonly overlap: number;
  private readonly lookAhead: number;
  private ordinal = 0;
  private chunks: Chunk[] = [];

  /** The end of the document so far, of which chunks are still to be made, and where it stands. */
  private text = '';
  private base = 0;
  private current: Pick<TextPart, 'page' | 'format'> | null = null;
  private headings = new HeadingPath();
  private scanner: MarkdownScanner | null = null;
  private plain: Section | null = null;
  /** Up to where chunks have been made, and whether of the section that goes on. */
  private at = 0;
  private begun = false;

  private constructor(
    { chunkSize = DEFAULT_CHUNK_SIZE, chunkOverlap = DEFAULT_CHUNK_OVERLAP }: SplitOptions,
    private readonly measure: TextMeasure,
  ) {
    if (
      !Number.isInteger(chunkSize) ||
      !Number.isInteger(chunkOverlap) ||
      chunkOverlap < 0 ||
      chunkSize < 4
    ) {
      throw new RangeError('chunkSize must be a whole number from 4, chunkOverlap one from 0.');
    }
    if (chunkOverlap * 2 >= chunkSize)
      throw new RangeError('chunkOverlap must be less than half of chunkSize.');
    this.size = chunkSize;
    this.overlap = chunkOverlap;
    this.lookAhead = LOOK_AHEAD + measure.charactersOf(chunkSize * 2);
  }

  /** @throws RangeError where the options contradict each other */
  static async of(options: SplitOptions = {}): Promise<DocumentSplitter> {
    // The vocabulary takes tens of megabytes.
    const measure =
      options.chunkUnit === 'tokens' ? (await import('./token-measure.js')).tokenMeasure : characterMeasure;
    return new DocumentSplitter(options, measure);
  }

  /** Takes the next part of the document. Returns the chunks that are complete. */
  push(part: TextPart): Chunk[] {
    const { page, format, text, continues = false } = part;
    const headings = part.headings ?? (continues ? this.headings.outer : []);
    if (!this.current || !continues || this.current.page !== page || this.current.format !== format) {
      if (this.current) {
        this.finish();
        this.base += this.text.length + (continues ? 0 : PART_SEPARATOR.length);
      }
      this.begin(part, headings);
      this.text = text;
    } else {
      this.text += text;
    }
    this.cut(false);
    return this.take();
  }

  /** The document is complete. Returns the chunks that are left. */
  end(): Chunk[] {
    this.finish();
    this.current = null;
    return this.take();
  }

  private begin({ page, format }: TextPart, headings: readonly string[]): void {
    this.current = { page, format };
    // Headings of one page stand above the next, too.
    if (headings.join('\n') !== this.headings.outer.join('\n')) this.headings = new HeadingPath(headings);
    this.at = 0;
    this.begun = false;
    this.scanner = format === 'markdown' ? new MarkdownScanner(this.headings, 0) : null;
    this.plain = { start: 0, heading: new HeadingPath(headings).toString(), blocks: [] };
  }

  private take(): Chunk[] {
    const { chunks } = this;
    this.chunks = [];
    return chunks;
  }

  private finish(): void {
    if (this.current) this.cut(true);
  }

  /** Makes chunks of the text, as far as they are certain. */
  private cut(ended: boolean): void {
    for (const section of this.scanner?.scan(this.text, ended) ?? []) {
      this.cutSection(section, section.end, true);
      this.at = section.end;
      this.begun = false;
    }
    const open = this.scanner?.open ?? this.plain;
    if (open) this.cutSection(open, this.scanner?.position ?? this.text.length, ended);
    if (!ended) this.forget();
  }

  /** Drops the text that is not needed any more. */
  private forget(): void {
    const room = this.measure.charactersOf(this.overlap) + 1;
    const from = Math.min(this.at - room, this.scanner?.neededFrom ?? this.at);
    if (from <= 0) return;
    this.text = this.text.slice(from);
    this.base += from;
    this.at -= from;
    this.scanner?.shift(from);
    if (this.plain) this.plain.start -= from;
  }

  private cutSection(section: Section, end: number, complete: boolean): void {
    const { text } = this;
    for (;;) {
      const start = skipBlanks(text, this.at, end);
      this.at = start;
      if (start >= end || (!complete && end - start < this.lookAhead)) break;
      while (section.blocks[0] && section.blocks[0].end <= start) {
        section.start = section.blocks.shift()!.end;
      }
      this.at = this.chunk(section, start, end);
      this.begun = true;
    }
  }

  /** Makes one chunk and says where it ends. */
  private chunk(section: Section, start: number, end: number): number {
    const header = this.headerAt(section, start);
    const from = header === null && this.begun ? this.overlapStart(section.start, start) : start;
    const most =
      header === null ? this.size - (this.begun ? this.overlap : 0) : this.size - this.measure.size(header);
    for (let budget = most; ;) {
      const reach = this.measure.reach(this.text, start, end, budget);
      const cut = reach >= end ? end : this.breakWithin(section, start, reach);
      const stop = trimmedEnd(this.text, start, cut);
      const content = (header ?? '') + this.text.slice(from, stop);
      // The words of a text may have fewer tokens one by one than together, if rarely.
      const size = this.measure.size(content);
      if (size > this.size && budget > 1) {
        budget = Math.max(1, budget - (size - this.size));
        continue;
      }
      this.chunks.push({
        ordinal: this.ordinal++,
        text: content,
        heading: section.heading,
        page: this.current?.page ?? null,
        startOffset: this.base + from,
        endOffset: this.base + stop,
        tokenCount: this.measure.tokens(content, size),
      });
      return cut;
    }
  }

  /** The header of the table that the text at `start` is further rows of, where there is room for it. */
  private headerAt(section: Section, start: number): string | null {
    const [block] = section.blocks;
    if (!block?.table || start < block.table.rows || block.table.header === null) return null;
    return this.measure.size(block.table.header) * 2 <= this.size ? block.table.header : null;
  }

  /** Where the overlap begins: at a word. */
  private overlapStart(sectionStart: number, start: number): number {
    const { text } = this;
    const earliest = Math.max(0, sectionStart);
    const reached = this.measure.reachBack(text, earliest, start, this.overlap);
    if (reached === start) return start;
    const wordStart = reached === sectionStart ? 0 : /\s/.exec(text.slice(reached, start))?.index;
    // Languages without blanks between words have no word start to look for.
    return skipBlanks(text, reached + (wordStart ?? 0), start);
  }

  /** The best place for a cut between `start` and `reach`. */
  private breakWithin({ blocks }: Section, start: number, reach: number): number {
    const across = blocks.find(block => block.end > reach);
    if (across && across.start < reach) {
      if (across.start > start && this.fits(across)) return across.start;
      if (across.table) {
        const rowEnd = this.text.lastIndexOf('\n', reach - 1) + 1;
        if (rowEnd > Math.max(start, across.table.rows)) return rowEnd;
        if (across.start > start) return across.start;
      }
    }
    const least = start + (reach - start) * LEAST_SHARE;
    // A break may stand right behind the text that fits.
    const window = this.text.slice(start, reach + 1);
    for (const separators of BREAKS) {
      let found = start;
      for (const [separator, kept] of separators) {
        const index = window.lastIndexOf(separator, reach - start - kept);
        if (index !== -1) found = Math.max(found, start + index + kept);
      }
      const inside = blocks.find(block => block.end > found);
      if (inside && inside.start < found && inside.end <= reach) found = inside.end;
      if (found > least) return found;
    }
    return characterStart(this.text, reach, least);
  }

  private fits({ start, end }: Block): boolean {
    return start >= 0 && this.measure.reach(this.text, start, end, this.size - this.overlap) >= end;
  }
}

// Also the second half of a pair.
const JOINED = /^(?:\p{M}|\p{Surrogate}|\u200D|\p{Emoji_Modifier})/u;

/** `reach`, or before it, where it would part a character from its accents or an emoji from what it is joined to. */
function characterStart(text: string, reach: number, least: number): number {
  for (let at = reach; at > least; at--) {
    const next = text.slice(at, at + 2);
    if (text[at - 1] !== '\u200D' && !JOINED.test(next)) return at;
  }
  return reach;
}

function trimmedEnd(text: string, start: number, end: number): number {
  while (end > start && isBlank(text, end - 1)) end--;
  return end;
}

function skipBlanks(text: string, start: number, end: number): number {
  while (start < end && isBlank(text, start)) start++;
  return start;
}

/** What String.prototype.trim removes. */
const isBlank = (text: string, offset: number): boolean => {
  const code = text.charCodeAt(offset);
  return code <= 32 ? code === 32 || (code >= 9 && code <= 13) : code > 127 && /\s/.test(text.charAt(offset));
};
