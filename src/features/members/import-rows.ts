import { v7 as uuidv7 } from 'uuid';
import type { z } from 'zod';
import { displayNameField, emailField, usernameField } from '../users/users.dto.js';
import { nameOf } from './members.dto.js';
import { roleNameField } from './role-fields.js';

/** Rows of one import. */
export const MOST_ROWS = 10_000;

export const OUTCOMES = ['created', 'added', 'unchanged', 'invalid', 'skipped'] as const;

/** What becomes of a row, or would. */
export type Outcome = (typeof OUTCOMES)[number];

/** One cell that is wrong, or why a row that was right could not be done. */
export interface RowError {
  field: string;
  code: string;
  message: string;
}

/** A row as it came, before anybody has looked at it. */
export interface RawRow {
  /** From 1. */
  row: number;
  /** Of the file, from 1; null where there is none. */
  line: number | null;
  email: string;
  username: string;
  name: string;
  roles: string[];
  /** What is wrong with the row as such. */
  errors: RowError[];
}

/** A row after its fields were looked at, and later after the database was asked. */
export interface CheckedRow {
  row: number;
  line: number | null;
  email: string;
  username: string | null;
  displayName: string;
  roles: string[];
  /** Of the account, if this row makes one: known beforehand, so that a second attempt knows its own work again. */
  id: string;
  outcome: Outcome;
  errors: RowError[];
}

/** How spreadsheets begin what they compute: such a cell would run when the list is exported and opened. */
const FORMULA = /^[=+\-@\t\r]/;
// oxlint-disable-next-line no-control-regex -- it is these that no name has
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** Checks the fields of each row, and that no address or user name stands there twice. */
export function checkRows(rows: readonly RawRow[]): CheckedRow[] {
  const checked = rows.map(checkRow);
  reportRepeated(checked, 'email', row => row.email);
  reportRepeated(checked, 'username', row => row.username?.toLowerCase());
  for (const row of checked) if (row.errors.length > 0) row.outcome = 'invalid';
  return checked;
}

function checkRow(raw: RawRow): CheckedRow {
  const errors = [...raw.errors];
  const check = (field: string, value: string, schema: z.ZodType<string>): string => {
    const error = errorIn(field, value, schema);
    if (!error) return schema.parse(value.trim());
    // A row with cells too few or too many says nothing of any cell.
    if (raw.errors.length === 0) errors.push(error);
    return value.trim().slice(0, 320);
  };
  const email = check('email', raw.email, emailField);
  const username = raw.username.trim() === '' ? null : check('username', raw.username, usernameField);
  const displayName = raw.name.trim() === '' ? nameOf(email) : check('full_name', raw.name, displayNameField);
  const roles = [...new Set(raw.roles.map(role => check('role', role, roleNameField)))];
  if (roles.length === 0 && raw.errors.length === 0) errors.push(required('role'));
  const { row, line } = raw;
  return { row, line, email, username, displayName, roles, id: uuidv7(), outcome: 'created', errors };
}

function errorIn(field: string, value: string, schema: z.ZodType<string>): RowError | null {
  const text = value.trim();
  if (text === '') return required(field);
  if (FORMULA.test(value) || FORMULA.test(text)) {
    return { field, code: 'formula', message: 'must not begin with = + - @, a tab or a line break' };
  }
  if (CONTROL.test(text)) {
    return { field, code: 'control_character', message: 'has a control character in it' };
  }
  const result = schema.safeParse(text);
  if (result.success) return null;
  const [issue] = result.error.issues;
  return { field, code: issue?.code ?? 'invalid', message: issue?.message ?? 'is not valid' };
}

const required = (field: string): RowError => ({ field, code: 'required', message: 'is missing' });

function reportRepeated(
  rows: readonly CheckedRow[],
  field: string,
  keyOf: (row: CheckedRow) => string | undefined,
): void {
  const first = new Map<string, CheckedRow>();
  for (const row of rows) {
    const key = keyOf(row);
    if (!key) continue;
    const before = first.get(key);
    if (!before) first.set(key, row);
    else
      row.errors.push({
        field,
        code: 'repeated',
        message: `stands in ${placeOf(before)} of this list already`,
      });
  }
}

const placeOf = ({ row, line }: CheckedRow): string => (line === null ? `row ${row}` : `line ${line}`);
