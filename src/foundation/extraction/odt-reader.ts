import { DocumentError } from './document-error.js';
import type { ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { markdownHeading, markdownTable, oneLine } from './markdown-blocks.js';
import { TextPieces } from './text-pieces.js';
import { readXml, type XmlHandler, xmlEvents } from './xml-events.js';
import { ZipContainer } from './zip-container.js';

/** Cells that stand for many equal ones: people fill sheets to the right that way. */
const MAX_REPEATED = 100;
/** What is in the file but not in the text: deleted passages, comments, the scripts of forms. */
const NOT_CONTENT = new Set([
  'text:tracked-changes',
  'office:annotation',
  'office:forms',
  'office:scripts',
  'office:event-listeners',
  'svg:desc',
]);

/** A text of OpenDocument (OASIS ODF 1.3, part 3): headings, lists and tables as Markdown. */
export async function* readOdt(file: SourceFile): AsyncGenerator<TextPart, ReadSummary> {
  const what = 'OpenDocument text';
  const zip = await ZipContainer.open(file.path, what);
  try {
    await refuseEncrypted(zip);
    const content = zip.find('content.xml');
    if (!content) throw new DocumentError('damaged', `The ${what} is damaged and cannot be opened.`);
    const pieces = new TextPieces('markdown');
    const body = new OdtBody(block => pieces.add(`${block}\n\n`));
    for await (const _ of xmlEvents(zip.read(content), body, { prefixed: true })) {
      if (pieces.ready) yield* pieces.take();
    }
    yield* pieces.take();
    return { title: (await readTitle(zip)) ?? body.firstHeading };
  } finally {
    zip.close();
  }
}

async function refuseEncrypted(zip: ZipContainer): Promise<void> {
  const manifest = zip.find('META-INF/manifest.xml');
  if (!manifest) return;
  await readXml(zip.read(manifest), {
    open: name => {
      if (name === 'encryption-data') throw zip.encrypted();
    },
  });
}

async function readTitle(zip: ZipContainer): Promise<string | null> {
  const meta = zip.find('meta.xml');
  if (!meta) return null;
  let title = '';
  let within = false;
  const handler = {
    open: (name: string) => (within = name === 'dc:title'),
    close: () => (within = false),
    text: (text: string) => {
      if (within) title += text;
    },
  };
  await readXml(zip.read(meta), handler, { prefixed: true });
  return title.trim() || null;
}

class OdtBody implements XmlHandler {
  firstHeading: string | null = null;
  private readonly lists: { numbered: boolean; items: number }[] = [];
  private readonly numberedStyles = new Set<string>();
  private readonly tables: { rows: string[][]; repeated: number; text: string[] }[] = [];
  /** The paragraphs and headings that are open: a note or a frame stands within one. */
  private readonly paragraphs: { text: string; level: number }[] = [];
  private style = '';
  private skipped = 0;
  /** Blocks of a list, which belong together. */
  private items: string[] = [];

  constructor(private readonly emit: (block: string) => void) {}

  open(name: string, attributes: Record<string, string>): void {
    if (this.skipped > 0 || NOT_CONTENT.has(name)) {
      this.skipped++;
      return;
    }
    const paragraph = this.paragraphs.at(-1);
    const list = this.lists.at(-1);
    switch (name) {
      case 'text:list-style':
        this.style = attributes['style:name'] ?? '';
        break;
      case 'text:list-level-style-number':
        if (attributes['text:level'] === '1' && attributes['style:num-format'])
          this.numberedStyles.add(this.style);
        break;
      case 'text:h':
        this.paragraphs.push({ text: '', level: Number(attributes['text:outline-level'] ?? 1) || 1 });
        break;
      case 'text:p':
        this.paragraphs.push({ text: '', level: attributes['text:style-name'] === 'Title' ? 1 : 0 });
        break;
      case 'text:list':
        this.lists.push({ numbered: this.isNumbered(attributes['text:style-name']), items: 0 });
        break;
      case 'text:list-item':
        if (list) list.items++;
        break;
      case 'table:table':
        this.tables.push({ rows: [], repeated: 1, text: [] });
        break;
      case 'table:table-row':
        this.tables.at(-1)?.rows.push([]);
        break;
      case 'table:table-cell':
      case 'table:covered-table-cell':
        this.beginCell(Number(attributes['table:number-columns-repeated'] ?? 1));
        break;
      case 'text:s':
      case 'text:tab':
        if (paragraph) paragraph.text += ' ';
        break;
      case 'text:line-break':
        if (paragraph) paragraph.text += '\n';
        break;
    }
  }

  close(name: string): void {
    if (this.skipped > 0) {
      this.skipped--;
      return;
    }
    switch (name) {
      case 'text:p':
      case 'text:h':
        this.endParagraph();
        break;
      case 'text:list':
        this.lists.pop();
        if (this.lists.length === 0) this.endList();
        break;
      case 'table:table':
        this.endTable();
        break;
      case 'table:table-cell':
      case 'table:covered-table-cell':
        this.endCell();
        break;
    }
  }

  text(text: string): void {
    const paragraph = this.paragraphs.at(-1);
    // Line ends and indents of the XML are single blanks (19.2.1 of the standard).
    if (paragraph && this.skipped === 0) paragraph.text += text.replaceAll(/\s+/g, ' ');
  }

  private isNumbered(style: string | undefined): boolean {
    return style === undefined ? (this.lists.at(-1)?.numbered ?? false) : this.numberedStyles.has(style);
  }

  private endParagraph(): void {
    const { text: raw, level } = this.paragraphs.pop()!;
    const text = raw.trim();
    if (text === '') return;
    const outer = this.paragraphs.at(-1);
    const table = this.tables.at(-1);
    if (outer) outer.text += ` [${oneLine(text)}] `;
    else if (table) table.text.push(text);
    else if (this.lists.length > 0) this.items.push(this.itemLine(text));
    else if (level > 0) {
      this.firstHeading ??= oneLine(text);
      this.emit(markdownHeading(level, text));
    } else this.emit(text);
  }

  private itemLine(text: string): string {
    const { numbered, items } = this.lists.at(-1)!;
    return `${'  '.repeat(Math.min(this.lists.length, 8) - 1)}${numbered ? `${items}.` : '-'} ${oneLine(text)}`;
  }

  private endList(): void {
    if (this.items.length > 0) this.emit(this.items.join('\n'));
    this.items = [];
  }

  private beginCell(repeated: number): void {
    const table = this.tables.at(-1);
    if (table) Object.assign(table, { repeated, text: [] });
  }

  private endCell(): void {
    const table = this.tables.at(-1);
    if (!table) return;
    const text = oneLine(table.text.join(' '));
    // Empty ones only keep their place, and a table is not wider than a page.
    const times = Math.min(Number.isInteger(table.repeated) ? table.repeated : 1, MAX_REPEATED);
    for (let time = 0; time < times; time++) table.rows.at(-1)?.push(text);
    table.text = [];
  }

  private endTable(): void {
    const table = this.tables.pop();
    if (!table) return;
    const outer = this.tables.at(-1);
    if (outer) outer.text.push(...table.rows.map(row => row.filter(cell => cell !== '').join(' ')));
    else {
      const block = markdownTable(table.rows.map(trimEnd));
      if (block !== '') this.emit(block);
    }
  }
}

const trimEnd = (row: string[]): string[] => row.slice(0, row.findLastIndex(cell => cell !== '') + 1);
