import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { DocumentError } from './document-error.js';
import type { ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { RowLines } from './row-lines.js';
import { delimiterOf } from './csv-delimiter.js';
import { readText } from './text-encoding.js';
import { TextPieces } from './text-pieces.js';

/** UTF-16 code units of one row. */
const MAX_ROW_LENGTH = 1_000_000;
const MAX_COLUMNS = 16_384;

/** Delimiter-separated values (RFC 4180, and what programs make of it): a line a row, each value with its column's name. */
export async function* readCsv(file: SourceFile): AsyncGenerator<TextPart, ReadSummary> {
  const pieces = new TextPieces('plain');
  const lines = new RowLines();
  for await (const row of readRows(file)) {
    if (row.length > MAX_COLUMNS) {
      throw new DocumentError(
        'too_large',
        `A row has ${row.length} columns; a table may have ${MAX_COLUMNS} at most.`,
      );
    }
    pieces.add(lines.add(row));
    if (pieces.ready) yield* pieces.take();
  }
  pieces.add(lines.end());
  yield* pieces.take();
  return { title: null };
}

async function* readRows(file: SourceFile): AsyncGenerator<string[]> {
  const texts = readText(file.path);
  const first = await texts.next();
  if (first.done) return;
  // Excel writes down which one it took.
  const hint = /^\uFEFF?sep=([^\r\n])\r?\n/i.exec(first.value);
  const head = first.value.slice(hint?.[0].length ?? 0);
  const tabs = file.mimeType === 'text/tab-separated-values';
  const parser = parse({
    delimiter: hint?.[1] ?? delimiterOf(head) ?? (tabs ? '\t' : ','),
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: MAX_ROW_LENGTH,
  });
  const all = async function* () {
    yield head;
    yield* texts;
  };
  const source = Readable.from(all(), { objectMode: false });
  source.on('error', error => parser.destroy(error)).pipe(parser);
  try {
    for await (const row of parser) yield row as string[];
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    throw faultOf(cause);
  } finally {
    source.destroy();
  }
}

function faultOf(cause: CsvError): DocumentError {
  const at = typeof cause['lines'] === 'number' ? ` near line ${cause['lines']}` : '';
  if (cause.code === 'CSV_MAX_RECORD_SIZE') {
    return new DocumentError(
      'too_large',
      `A row${at} has more than ${MAX_ROW_LENGTH / 1e6} million characters. Perhaps a quotation mark is not closed.`,
      { cause },
    );
  }
  return new DocumentError(
    'damaged',
    cause.code === 'CSV_QUOTE_NOT_CLOSED'
      ? `The table is damaged: a quotation mark${at} is not closed.`
      : `The table is damaged${at}.`,
    { cause },
  );
}
