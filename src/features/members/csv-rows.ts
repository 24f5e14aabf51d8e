import { CsvError, type Info, parse } from 'csv-parse';
import { Readable, pipeline } from 'node:stream';
import { Problem } from '../../foundation/http/problem.js';
import { MOST_ROWS, type RawRow } from './import-rows.js';

const COLUMNS = ['username', 'email', 'full_name', 'role'] as const;
type Column = (typeof COLUMNS)[number];
const NEEDED: Column[] = ['email', 'role'];
const DELIMITERS = [',', ';', '\t'];
/** Characters; a quote that nobody closes would otherwise take in the rest of the file. */
const LONGEST_RECORD = 10_000;
const LONGEST_HEADER = 4_096;

/**
 * Reads rows of people from a CSV file (RFC 4180) while it arrives, with a header in any order, separated by commas,
 * semicolons or tabs, in UTF-8 with or without a byte order mark. Stops at the first row too many.
 *
 * @param isTruncated whether the file was larger than is accepted; asked at its end
 * @throws Problem 413 `too_large`, `too_many_rows`, 422 for a file that is no such CSV
 */
export async function readCsvRows(
  content: AsyncIterable<Buffer>,
  isTruncated: () => boolean,
): Promise<RawRow[]> {
  const text = decode(content, isTruncated);
  const beginning = await readBeginning(text);
  const parser = parse({
    delimiter: delimiterOf(beginning),
    record_delimiter: ['\r\n', '\n', '\r'],
    relax_column_count: true,
    skip_empty_lines: true,
    skip_records_with_empty_values: true,
    max_record_size: LONGEST_RECORD,
    info: true,
  });
  // Its errors come out of the loop below.
  pipeline(Readable.from(rejoin(beginning, text)), parser, () => undefined);
  const rows: RawRow[] = [];
  let header: Column[] | null = null;
  try {
    for await (const { record, info } of parser as AsyncIterable<{ record: string[]; info: Info }>) {
      if (!header) {
        header = readHeader(record);
        continue;
      }
      if (rows.length === MOST_ROWS) throw tooManyRows();
      rows.push(toRow(rows.length + 1, info.lines, header, record));
    }
  } catch (error) {
    throw error instanceof CsvError ? toProblem(error) : error;
  }
  if (!header)
    throw invalid('empty_file', 'The file is empty: it begins with a line that names its columns.');
  return rows;
}

export const tooManyRows = (): Problem =>
  new Problem(413, 'too_many_rows', `There are more than ${MOST_ROWS} rows: divide the list.`);

async function* decode(
  content: AsyncIterable<Buffer>,
  isTruncated: () => boolean,
): AsyncGenerator<string, void> {
  // It leaves out a byte order mark.
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const read = (bytes?: Buffer): string => {
    try {
      const text = bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode();
      if (text.includes('\0')) throw invalid('nul', 'The file has a NUL character in it: is it text at all?');
      return text;
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw invalid('not_utf8', 'The file is not encoded in UTF-8. Save it as “CSV UTF-8”.');
    }
  };
  for await (const bytes of content) yield read(bytes);
  if (isTruncated()) throw new Problem(413, 'too_large', 'The file is larger than a list of people may be.');
  yield read();
}

/** The text with the header in it, whole or as far as any header goes. */
async function readBeginning(text: AsyncGenerator<string, void>): Promise<string> {
  let beginning = '';
  while (beginning.length < LONGEST_HEADER && !/[^\r\n][\r\n]/.test(beginning)) {
    const next = await text.next();
    if (next.done) break;
    beginning += next.value;
  }
  return beginning;
}

async function* rejoin(beginning: string, rest: AsyncIterable<string>): AsyncGenerator<string, void> {
  if (beginning !== '') yield beginning;
  for await (const text of rest) if (text !== '') yield text;
}

/** What stands most often in the header: no name of a column has any of them. */
function delimiterOf(beginning: string): string {
  const header = beginning.trimStart().split(/[\r\n]/, 1)[0] ?? '';
  const count = (delimiter: string) => header.split(delimiter).length;
  return DELIMITERS.reduce((best, next) => (count(next) > count(best) ? next : best));
}

function readHeader(record: string[]): Column[] {
  const names = record.map(name => name.trim().toLowerCase());
  const known = `Known are ${COLUMNS.join(', ')}.`;
  for (const [index, name] of names.entries()) {
    const shown = JSON.stringify(name.slice(0, 50));
    if (!(COLUMNS as readonly string[]).includes(name)) {
      throw invalid('unknown_column', `There is no column ${shown}. ${known}`);
    }
    if (names.indexOf(name) !== index)
      throw invalid('repeated_column', `The column ${shown} stands there twice.`);
  }
  const missing = NEEDED.filter(name => !names.includes(name));
  if (missing.length > 0)
    throw invalid('missing_column', `The column ${missing.join(', ')} is missing. ${known}`);
  return names as Column[];
}

function toRow(row: number, line: number, header: readonly Column[], record: readonly string[]): RawRow {
  const cell = (name: Column): string => record[header.indexOf(name)] ?? '';
  const message = `has ${record.length} cells where the header has ${header.length}`;
  const role = cell('role');
  return {
    row,
    line,
    email: cell('email'),
    username: cell('username'),
    name: cell('full_name'),
    roles: role.trim() === '' ? [] : [role],
    errors: record.length === header.length ? [] : [{ field: 'row', code: 'column_count', message }],
  };
}

function toProblem(error: CsvError): Problem {
  const line = Number((error as { lines?: unknown }).lines ?? 0);
  switch (error.code) {
    case 'CSV_QUOTE_NOT_CLOSED':
    case 'CSV_INVALID_CLOSING_QUOTE':
    case 'INVALID_OPENING_QUOTE':
      return invalid(
        'broken_quotes',
        `Line ${line}: a quotation mark is missing or stands in a wrong place.`,
      );
    case 'CSV_MAX_RECORD_SIZE':
      return invalid(
        'row_too_long',
        `Line ${line}: the row is too long. Perhaps a quotation mark is not closed.`,
      );
    default:
      return invalid('malformed_csv', `Line ${line}: the file is not valid CSV.`);
  }
}

const invalid = (code: string, message: string): Problem =>
  Problem.invalid([{ path: 'file', code, message }]);
