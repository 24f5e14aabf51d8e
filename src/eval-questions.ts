import { CsvError, parse } from 'csv-parse/sync';
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { UsageError } from './cli-command.js';
import type { EvaluationQuestion } from './features/evaluation/evaluation.js';
import { MOST_QUESTIONS, evaluationQuestionSchema } from './features/evaluation/evaluations.dto.js';
import { type FieldError, Problem } from './foundation/http/problem.js';

/** A line of the file, from 1, and what stands in it. */
interface Line {
  number: number;
  value: unknown;
}

/** More would only repeat the same mistake. */
const MOST_ERRORS = 20;
/** Between several answers, documents, titles or sources of one question in a CSV file. */
const SEPARATOR = '|';
const COLUMNS = ['question', 'answers', 'answerable', 'document_id', 'title', 'source', 'text'];
const BOOLEANS: Record<string, boolean | null> = { true: true, false: false, '': null };

/**
 * The questions of a file: of JSON lines as the API takes them, or of a CSV file whose header names some of `question`,
 * `answers`, `answerable`, `document_id`, `title`, `source`, `text`.
 *
 * @throws UsageError where it cannot be read; Problem 422 with every line that is no question
 */
export function readQuestions(path: string): EvaluationQuestion[] {
  const text = textOf(path);
  const lines = extname(path).toLowerCase() === '.csv' ? csvLines(text, path) : jsonLines(text, path);
  if (lines.length === 0) throw invalid(`${path} holds no questions.`, []);
  if (lines.length > MOST_QUESTIONS)
    throw invalid(
      `${path} holds ${lines.length} questions; at most ${MOST_QUESTIONS} are asked at once.`,
      [],
    );
  const errors: FieldError[] = [];
  const questions = lines.flatMap(({ number, value }) => {
    const { data, error } = evaluationQuestionSchema.safeParse(value);
    for (const { path: field, code, message } of error?.issues ?? [])
      errors.push({ path: [`line ${number}`, field.join('.')].filter(Boolean).join(', '), code, message });
    if (JSON.stringify(value).includes('\\u0000'))
      errors.push({ path: `line ${number}`, code: 'nul', message: 'holds the character U+0000' });
    return data ?? [];
  });
  if (errors.length > 0) throw invalid(`Some lines of ${path} are no questions:`, errors);
  return questions;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    throw new UsageError(`The file ${path} cannot be read: ${(error as Error).message}`);
  }
}

function jsonLines(text: string, path: string): Line[] {
  const errors: FieldError[] = [];
  const lines = text.split('\n').flatMap((line, index): Line[] => {
    if (line.trim() === '') return [];
    const number = index + 1;
    try {
      return [{ number, value: JSON.parse(line) }];
    } catch (error) {
      errors.push({ path: `line ${number}`, code: 'no_json', message: (error as Error).message });
      return [];
    }
  });
  if (errors.length > 0) throw invalid(`Some lines of ${path} are no JSON:`, errors);
  return lines;
}

function csvLines(text: string, path: string): Line[] {
  try {
    const records: Array<{ record: Record<string, string>; info: { lines: number } }> = parse(text, {
      columns: (header: string[]) => header.map(name => knownColumn(name.trim(), path)),
      info: true,
      skip_empty_lines: true,
      trim: true,
    });
    return records.map(({ record, info }) => ({ number: info.lines, value: questionOf(record) }));
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw invalid(`${path} is no CSV: ${error.message}`, []);
  }
}

function knownColumn(name: string, path: string): string {
  if (COLUMNS.includes(name)) return name;
  throw invalid(`${path} has a column "${name}"; there may be ${COLUMNS.join(', ')}.`, []);
}

function questionOf(record: Record<string, string>): unknown {
  const list = (column: string) =>
    (record[column] ?? '')
      .split(SEPARATOR)
      .map(part => part.trim())
      .filter(part => part !== '');
  const answerable = (record['answerable'] ?? '').toLowerCase();
  return {
    question: record['question'] ?? '',
    answers: list('answers'),
    // What is neither is left to the check of the field.
    answerable: answerable in BOOLEANS ? BOOLEANS[answerable] : answerable,
    relevant: [
      ...list('document_id').map(document_id => ({ document_id })),
      ...list('title').map(title => ({ title })),
      ...list('source').map(source => ({ source })),
      ...(record['text'] ? [{ text: record['text'] }] : []),
    ],
  };
}

const invalid = (detail: string, errors: FieldError[]): Problem =>
  new Problem(422, 'invalid_questions', detail, { errors: errors.slice(0, MOST_ERRORS) });
