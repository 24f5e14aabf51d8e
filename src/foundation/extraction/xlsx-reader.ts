import { DocumentError } from './document-error.js';
import type { ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { OpcPackage, relationshipId } from './opc-package.js';
import { RowLines } from './row-lines.js';
import { TextPieces } from './text-pieces.js';
import { cellPlace, MAX_COLUMNS, type NumberKind, numberKind, numberText } from './xlsx-cells.js';

/** Ranges of merged cells of one sheet. */
const MAX_MERGES = 10_000;

interface Workbook {
  sheets: { name: string; part: string }[];
  strings: string[];
  /** By the number of a cell's style. */
  kinds: NumberKind[];
  from1904: boolean;
}

/** Rows from 0, the last one included. */
interface Merge {
  column: number;
  lastColumn: number;
  row: number;
  lastRow: number;
}

/** A workbook (ECMA-376, part 1, 18): sheet by sheet, a line a row, each cell with the head of its column. */
export async function* readXlsx(file: SourceFile): AsyncGenerator<TextPart, ReadSummary> {
  const book = await OpcPackage.open(file.path, 'Excel workbook');
  try {
    const workbook = await readWorkbook(book);
    for (const { name, part } of workbook.sheets) yield* readSheet(book, workbook, name, part);
    return { title: await book.title() };
  } finally {
    book.close();
  }
}

async function readWorkbook(book: OpcPackage): Promise<Workbook> {
  const main = await book.mainPart();
  const relationships = await book.relationships(main);
  // A sheet of charts has no rows.
  const rows = relationships.filter(({ type }) => type === 'worksheet');
  const parts = new Map(rows.map(({ id, target }) => [id, target]));
  const sheets: Workbook['sheets'] = [];
  let from1904 = false;
  await book.read(main, {
    open: (name, attributes) => {
      if (name === 'workbookPr') from1904 = isTrue(attributes['date1904']);
      if (name !== 'sheet') return;
      const part = parts.get(relationshipId(attributes) ?? '');
      if (part) sheets.push({ name: attributes['name'] ?? '', part });
    },
  });
  const partOf = (type: string) =>
    relationships.find(one => one.type === type && book.has(one.target))?.target;
  return {
    sheets: sheets.filter(({ part }) => book.has(part)),
    strings: await readStrings(book, partOf('sharedStrings')),
    kinds: await readStyles(book, partOf('styles')),
    from1904,
  };
}

async function readStrings(book: OpcPackage, part: string | undefined): Promise<string[]> {
  const strings: string[] = [];
  if (!part) return strings;
  const text = new RichText();
  await book.read(part, {
    open: name => {
      if (name === 'si') text.clear();
      else text.open(name);
    },
    close: name => {
      if (name === 'si') strings.push(text.value);
      else text.close(name);
    },
    text: value => text.add(value),
  });
  return strings;
}

async function readStyles(book: OpcPackage, part: string | undefined): Promise<NumberKind[]> {
  const codes = new Map<number, string>();
  const kinds: NumberKind[] = [];
  if (!part) return kinds;
  let within = false;
  await book.read(part, {
    open: (name, { numFmtId, formatCode }) => {
      if (name === 'numFmt' && formatCode !== undefined) codes.set(Number(numFmtId), formatCode);
      if (name === 'cellXfs') within = true;
      if (name === 'xf' && within) kinds.push(numberKind(Number(numFmtId ?? 0), codes.get(Number(numFmtId))));
    },
    close: name => {
      if (name === 'cellXfs') within = false;
    },
  });
  return kinds;
}

async function* readSheet(
  book: OpcPackage,
  workbook: Workbook,
  name: string,
  part: string,
): AsyncGenerator<TextPart> {
  const merges = new MergedCells(await readMerges(book, part));
  const pieces = new TextPieces('plain', [name]);
  const lines = new RowLines();
  const text = new RichText();
  let cells: string[] = [];
  let [row, column] = [-1, -1];
  let cell: { type: string; style: number; value: string; formula: string } | null = null;
  let field: 'value' | 'formula' | null = null;
  const handler = {
    open: (element: string, attributes: Record<string, string>) => {
      if (element === 'row') {
        row = attributes['r'] ? Number(attributes['r']) - 1 : row + 1;
        [cells, column] = [[], -1];
      } else if (element === 'c') {
        column = cellPlace(attributes['r'] ?? '')?.column ?? column + 1;
        cell = { type: attributes['t'] ?? 'n', style: Number(attributes['s'] ?? 0), value: '', formula: '' };
        text.clear();
      } else if (cell && element === 'v') field = 'value';
      else if (cell && element === 'f') field = 'formula';
      else if (cell) text.open(element);
    },
    close: (element: string) => {
      if (element === 'c' && cell) {
        if (column >= MAX_COLUMNS) throw tooWide();
        const value = cellText(cell, text.value, workbook);
        if (value !== '') cells[column] = value;
        cell = null;
      } else if (element === 'row') {
        pieces.add(lines.add(merges.fill(cells, row, lines.awaitsHeader)));
      } else if (element === 'v' || element === 'f') field = null;
      else text.close(element);
    },
    text: (value: string) => {
      if (cell && field) cell[field] += value;
      else text.add(value);
    },
  };
  for await (const _ of book.events(part, handler)) if (pieces.ready) yield* pieces.take();
  pieces.add(lines.end());
  yield* pieces.take();
}

function cellText(
  { type, style, value, formula }: { type: string; style: number; value: string; formula: string },
  inline: string,
  { strings, kinds, from1904 }: Workbook,
): string {
  if (type === 'inlineStr') return inline;
  // Nobody has computed it yet: programs that write workbooks leave that to Excel.
  if (value === '') return formula === '' ? '' : `=${formula}`;
  if (type === 's') return strings[Number(value)] ?? '';
  if (type === 'b') return isTrue(value) ? 'TRUE' : 'FALSE';
  if (type === 'd') return value.replace('T', ' ').replace(/(?: 00:00:00)?(?:\.0+)?Z?$/, '');
  return type === 'n' ? numberText(value, kinds[style] ?? 'number', from1904) : value;
}

/** They stand after the rows that they are about, so all of the sheet is looked through for them first. */
async function readMerges(book: OpcPackage, part: string): Promise<Merge[]> {
  const merges: Merge[] = [];
  let rest = '';
  for await (const bytes of book.bytes(part)) {
    const text = rest + bytes.toString('latin1');
    for (const [, reference = ''] of text.matchAll(/<(?:\w{1,20}:)?mergeCell\s+ref="([^"]{1,30})"/g)) {
      const [first, last] = reference.split(':').map(cellPlace);
      if (!first || !last || merges.length >= MAX_MERGES) continue;
      merges.push({ column: first.column, lastColumn: last.column, row: first.row, lastRow: last.row });
    }
    // A tag that goes on in the next piece.
    const cut = text.lastIndexOf('<');
    rest = cut === -1 || text.includes('>', cut) ? '' : text.slice(cut, cut + 100);
  }
  return merges.toSorted((a, b) => a.row - b.row);
}

/**
 * Gives the value of merged cells to all rows that they span, and to all columns of a header: only the first
 * cell holds it. Rows are asked for from top to bottom.
 */
class MergedCells {
  private next = 0;
  private open: { merge: Merge; value: string }[] = [];

  constructor(private readonly merges: readonly Merge[]) {}

  fill(cells: string[], row: number, header: boolean): string[] {
    this.open = this.open.filter(({ merge }) => merge.lastRow >= row);
    const filled = cells.some(cell => cell !== '');
    for (const { merge, value } of this.open) {
      if (filled && !cells[merge.column]) cells[merge.column] = value;
    }
    const others = cells.filter(cell => cell !== '').length > 1;
    for (; (this.merges[this.next]?.row ?? Infinity) <= row; this.next++) {
      const merge = this.merges[this.next]!;
      const value = cells[merge.column];
      if (merge.row !== row || !value) continue;
      if (merge.lastRow > row) this.open.push({ merge, value });
      // Not that of a caption, which spans the whole sheet.
      if (!header || !others) continue;
      for (let column = merge.column + 1; column <= merge.lastColumn; column++) cells[column] ??= value;
    }
    return cells;
  }
}

/** Text in runs (`r`) and texts (`t`), without the reading aids of East Asian scripts (`rPh`). */
class RichText {
  value = '';
  private within = false;
  private phonetic = false;

  clear(): void {
    this.value = '';
  }

  open(name: string): void {
    if (name === 't') this.within = true;
    if (name === 'rPh') this.phonetic = true;
  }

  close(name: string): void {
    if (name === 't') this.within = false;
    if (name === 'rPh') this.phonetic = false;
  }

  add(text: string): void {
    // _x000D_ and the like are how XML is made to hold what it cannot (ECMA-376, 22.9.2.19).
    if (this.within && !this.phonetic) {
      this.value += text.replaceAll(/_x([0-9A-F]{4})_/gi, (_, code: string) =>
        String.fromCharCode(Number.parseInt(code, 16)),
      );
    }
  }
}

const isTrue = (value: string | undefined): boolean => value === '1' || value === 'true';

const tooWide = () =>
  new DocumentError('too_large', `The Excel workbook has rows of more than ${MAX_COLUMNS} columns.`);
