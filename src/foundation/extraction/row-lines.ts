import { oneLine } from './markdown-blocks.js';

/** Rows of one cell that may stand above the header: the caption of a sheet. */
const MAX_CAPTION_ROWS = 5;
/** UTF-16 code units; a longer row takes a line for every cell. */
const MAX_LINE_LENGTH = 500;

/**
 * Rows as lines that say what they mean wherever they are cut: `Name: Saw; Price: 12`. The first row is the
 * header. Where it has one cell only and wider rows follow, it is a caption, and the header comes after it.
 */
export class RowLines {
  private header: string[] | null = null;
  private captions: string[] = [];
  private rows = 0;

  /** @returns what is to be added to the text, '' where nothing is yet */
  add(row: readonly string[]): string {
    const cells = Array.from(row, cell => oneLine(cell ?? ''));
    const filled = cells.filter(cell => cell !== '').length;
    if (filled === 0) return '';
    if (this.header) return this.line(cells);
    if (filled === 1 && this.captions.length < MAX_CAPTION_ROWS) {
      this.captions.push(cells.find(cell => cell !== '')!);
      return '';
    }
    if (filled === 1) return this.beginColumn(cells.findIndex(cell => cell !== '')) + this.line(cells);
    const above = this.captions.map(caption => `${caption}\n`).join('');
    this.captions = [];
    this.header = cells;
    return above;
  }

  /** Whether the next row that is wide enough would be the header. */
  get awaitsHeader(): boolean {
    return this.header === null;
  }

  /** @returns what was held back */
  end(): string {
    if (!this.header && this.captions.length > 1) return this.beginColumn(0);
    if (this.rows > 0) return '';
    return [
      ...this.captions,
      ...(this.header ? [this.header.filter(cell => cell !== '').join('; ')] : []),
    ].join('\n');
  }

  /** The rows so far had one cell each: a table of one column, not captions. */
  private beginColumn(column: number): string {
    const [name, ...values] = this.captions;
    const place = (cell: string) =>
      Object.assign(
        Array.from({ length: column }, () => ''),
        { [column]: cell },
      );
    this.captions = [];
    this.header = place(name ?? '');
    return values.map(value => this.line(place(value))).join('');
  }

  private line(cells: readonly string[]): string {
    this.rows++;
    const fields = cells
      .map((cell, at) => (cell === '' ? '' : `${this.header?.[at] || `Column ${columnName(at)}`}: ${cell}`))
      .filter(field => field !== '');
    const line = fields.join('; ');
    return line.length <= MAX_LINE_LENGTH ? `${line}\n` : `\n${fields.join('\n')}\n\n`;
  }
}

/** The letters by which a spreadsheet calls a column: 0 is A, 26 is AA. */
export function columnName(column: number): string {
  let name = '';
  for (let rest = column + 1; rest > 0; rest = Math.floor((rest - 1) / 26)) {
    name = String.fromCharCode(65 + ((rest - 1) % 26)) + name;
  }
  return name;
}
