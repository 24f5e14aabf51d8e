// What the demo writes: on a terminal with colours and moving bars, elsewhere as plain lines without control codes.
import { MultiBar } from 'cli-progress';
import { isatty } from 'node:tty';
import { stripVTControlCharacters } from 'node:util';
import picocolors from 'picocolors';

const { stdout } = process;
const isTerminal = isatty(1);
// Picocolors also colours where CI is set; a log file wants none.
const colors = picocolors.createColors(isTerminal && picocolors.isColorSupported);
export const { bold, cyan, dim, green, red } = colors;

const INDENT = '  ';
const GAP = '   ';
/** Columns of the terminal that lines may take. */
const width = Math.min(Math.max((isTerminal && stdout.columns) || 100, 40), 120);
/** Below it, two texts side by side are harder to read than one after the other. */
const NARROWEST_PAIR = 64;

export function line(text = '') {
  stdout.write(text === '' ? '\n' : `${INDENT}${text}\n`);
}

export function heading(text) {
  line();
  stdout.write(`${bold(text)}\n`);
}

export function paragraph(text, style = same) {
  for (const part of wrap(text, width - INDENT.length)) line(style(part));
}

/** Rows of cells, each column as wide as its widest cell. @param {string[][]} rows */
export function table(rows, style = cells => cells) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map(row => row[column].length)));
  for (const [index, row] of rows.entries()) {
    line(
      style(
        row.map((cell, column) => cell.padEnd(widths[column])),
        index,
      )
        .join(GAP)
        .trimEnd(),
    );
  }
}

/** Two texts beside each other, or one below the other where the terminal is narrow. */
export function sideBySide(left, right, style = same) {
  if (left === '' && right === '') return;
  if (width < NARROWEST_PAIR) {
    paragraph(left, style);
    paragraph(right, style);
    return;
  }
  const columnWidth = Math.floor((width - INDENT.length - GAP.length) / 2);
  const [a, b] = [wrap(left, columnWidth), wrap(right, columnWidth)];
  for (let row = 0; row < Math.max(a.length, b.length); row++) {
    const [cellA, cellB] = [a.at(row) ?? '', b.at(row) ?? ''];
    const padding = ' '.repeat(columnWidth - cellA.length) + GAP;
    line(cellB === '' ? style(cellA) : style(cellA) + padding + style(cellB));
  }
}

/** Shows that something takes a while, until the returned function says how it went. */
export function waiting(text) {
  if (!isTerminal) return line;
  stdout.write(INDENT + dim(text));
  return result => {
    stdout.clearLine(0);
    stdout.cursorTo(0);
    line(result);
  };
}

/**
 * A bar for every name; elsewhere than on a terminal, a line for every quarter.
 *
 * @param {string[]} names
 * @returns {{ update(name: string, share: number, note: string): void, stop(): void }} share from 0 to 1
 */
export function progress(names) {
  const nameWidth = Math.max(...names.map(name => name.length));
  if (!isTerminal) return plainProgress(nameWidth);
  const barsize = Math.max(10, Math.min(40, width - nameWidth - 50));
  const bars = new MultiBar({
    stream: stdout,
    format: `${INDENT}{name}   ${cyan('{bar}')} {percentage} %   {note}`,
    barCompleteChar: '━',
    barIncompleteChar: '─',
    barsize,
    hideCursor: true,
    autopadding: true,
    fps: 20,
  });
  const rows = new Map(
    names.map(name => [name, bars.create(100, 0, { name: name.padEnd(nameWidth), note: '' })]),
  );
  return {
    update: (name, share, note) => rows.get(name).update(Math.floor(share * 100), { note }),
    stop: () => bars.stop(),
  };
}

function plainProgress(nameWidth) {
  const quarters = new Map();
  return {
    update(name, share, note) {
      const quarter = Math.floor(share * 4);
      if (quarter <= (quarters.get(name) ?? 0)) return;
      quarters.set(name, quarter);
      line(`${name.padEnd(nameWidth)}   ${String(quarter * 25).padStart(3)} %   ${note}`);
    },
    stop() {},
  };
}

/** Numbers of citations stand out. */
export const markers = text => text.replace(/\[\d+\]/g, marker => cyan(marker));

const same = text => text;

/** Lines of at most `columns` characters, broken between words; a longer word is cut. */
function wrap(text, columns) {
  return stripVTControlCharacters(text)
    .split('\n')
    .flatMap(paragraphText => {
      const indent = /^ */.exec(paragraphText)[0];
      const lines = [''];
      for (const word of paragraphText
        .trimStart()
        .split(' ')
        .flatMap(part => cut(part, columns))) {
        const last = lines.at(-1);
        if (last === '') lines[lines.length - 1] = indent + word;
        else if (last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
        else lines.push(word);
      }
      return lines;
    });
}

function cut(word, columns) {
  return word.length <= columns ? [word] : [word.slice(0, columns), ...cut(word.slice(columns), columns)];
}
