const MAX_HEADING_LENGTH = 200;
/** What marks a line stands at its start; a line of megabytes is not worth a copy. */
const LINE_START_LENGTH = 1000;
/** A line of more is taken for text before its end has come. */
const LONG_LINE_LENGTH = 65_536;
/** UTF-16 code units of a table's header that are remembered. */
const MAX_HEADER_LENGTH = 32_768;

/** A stretch of text that had better not be cut: a fenced code block or a table. */
export interface Block {
  start: number;
  /** After its last line end; of a table that goes on, after the last row that has been seen. */
  end: number;
  /** Of a table. */
  table: {
    /** Where the first row begins, after the header and its line of dashes. */
    rows: number;
    /** Header and dashes with their line ends; null where they are too long to be repeated. */
    header: string | null;
  } | null;
}

/** Text under one heading. */
export interface Section {
  start: number;
  heading: string | null;
  /** In their order. */
  blocks: Block[];
}

export interface ClosedSection extends Section {
  end: number;
}

/** The headings above a text, outermost first. */
export class HeadingPath {
  private readonly levels: { level: number; title: string }[] = [];

  /** @param outer headings above all of the text */
  constructor(readonly outer: readonly string[] = []) {}

  enter(level: number, title: string): void {
    while ((this.levels.at(-1)?.level ?? 0) >= level) this.levels.pop();
    if (title !== '') this.levels.push({ level, title });
  }

  toString(): string | null {
    const titles = [...this.outer.map(plainTitle), ...this.levels.map(({ title }) => title)];
    return titles.filter(title => title !== '').join(' > ') || null;
  }
}

/**
 * Finds headings, code blocks and tables in Markdown (CommonMark 0.31, GitHub's tables) line by line, in a text
 * that may still grow at its end. Positions count from the start of the text as it is at the moment; see
 * {@link MarkdownScanner.shift}.
 */
export class MarkdownScanner {
  /** The section that goes on. */
  open: Section;
  /** How far the text has been looked at. */
  position: number;
  private fence: { start: number; marker: string } | null = null;
  private table: Block | null = null;
  private bodyLines = 0;
  /** Whether the line that was looked at last goes on. */
  private withinLine = false;
  private previous: { start: number; line: string };

  constructor(
    private readonly headings: HeadingPath,
    start: number,
  ) {
    this.position = start;
    this.previous = { start, line: '' };
    this.open = { start, heading: headings.toString(), blocks: [] };
  }

  /** From where on the text is still needed to tell what its next lines mean. */
  get neededFrom(): number {
    return this.previous.start;
  }

  /** The text has lost characters at its start. */
  shift(by: number): void {
    this.position -= by;
    this.previous.start -= by;
    this.open.start -= by;
    if (this.fence) this.fence.start -= by;
    for (const block of this.open.blocks) {
      block.start -= by;
      block.end -= by;
      if (block.table) block.table.rows -= by;
    }
  }

  /**
   * Looks at the lines that are new.
   *
   * @param ended whether the text is complete, so that its last line is too
   * @returns the sections that have ended; the last one of a complete text stays open
   */
  scan(text: string, ended: boolean): ClosedSection[] {
    const closed: ClosedSection[] = [];
    while (this.position < text.length) {
      const newline = text.indexOf('\n', this.position);
      const end = newline === -1 ? text.length : newline + 1;
      if (newline === -1 && !ended && end - this.position < LONG_LINE_LENGTH) break;
      if (!this.withinLine) this.line(text, this.position, end, closed);
      else if (this.table) this.table.end = end;
      this.withinLine = newline === -1;
      this.position = end;
    }
    return closed;
  }

  private line(text: string, start: number, end: number, closed: ClosedSection[]): void {
    let line = text.slice(start, Math.min(end, start + LINE_START_LENGTH)).trimEnd();
    const marker = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    const heading = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/.exec(line);
    const underline = /^ {0,3}(=+|-+)$/.exec(line)?.[1];
    const { table } = this;
    this.table = null;
    if (this.fence) {
      if (marker?.startsWith(this.fence.marker) && line.trim() === marker) {
        this.open.blocks.push({ start: this.fence.start, end, table: null });
        this.fence = null;
      }
      line = '';
    } else if (marker) {
      this.fence = { start, marker };
      this.bodyLines++;
      line = '';
    } else if (heading) {
      this.enter(start, heading[1]!.length, heading[2] ?? '', closed);
      line = '';
    } else if (table && line.includes('|')) {
      table.end = end;
      this.table = table;
    } else if (this.previous.line.includes('|') && isTableRule(line)) {
      const header = { start: this.previous.start, end };
      this.table = {
        ...header,
        table: {
          rows: end,
          header: end - header.start <= MAX_HEADER_LENGTH ? endedLine(text.slice(header.start, end)) : null,
        },
      };
      this.open.blocks.push(this.table);
    } else if (underline && /^ {0,3}[^\s>|*+-]/.test(this.previous.line)) {
      // The title was taken for a line of text when it was read.
      this.bodyLines--;
      this.enter(this.previous.start, underline.startsWith('=') ? 1 : 2, this.previous.line, closed);
      line = '';
    } else if (line !== '') {
      this.bodyLines++;
    }
    this.previous = { start, line };
  }

  /** Headings without text of their own stay with the text below them. */
  private enter(start: number, level: number, title: string, closed: ClosedSection[]): void {
    if (this.bodyLines > 0) {
      closed.push(Object.assign(this.open, { end: start }));
      this.open = { start, heading: null, blocks: [] };
    }
    this.headings.enter(level, plainTitle(title));
    this.open.heading = this.headings.toString();
    this.bodyLines = 0;
  }
}

const isTableRule = (line: string): boolean =>
  line.includes('|') &&
  line.includes('-') &&
  /^[ \t]*(?:\|[ \t]*)?(?::?-+:?[ \t]*(?:\|[ \t]*|$))+:?$/.test(line);

const endedLine = (lines: string): string => (lines.endsWith('\n') ? lines : `${lines}\n`);

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
