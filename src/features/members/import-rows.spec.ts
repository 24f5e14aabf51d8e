import { describe, expect, it } from 'vitest';
import { type RawRow, checkRows } from './import-rows.js';

const raw = (fields: Partial<RawRow>): RawRow => ({
  row: 1,
  line: null,
  email: 'ada@example.com',
  username: '',
  name: '',
  roles: ['viewer'],
  errors: [],
  ...fields,
});

const errorsOf = (fields: Partial<RawRow>) =>
  checkRows([raw(fields)]).flatMap(row => row.errors.map(error => `${error.field} ${error.code}`));

describe('a row of an import', () => {
  it('is taken with blanks around its cells, and an address in small letters', () => {
    expect(
      checkRows([raw({ email: ' Ada+X@Example.com ', username: 'Ada ', name: ' Ada L. ' })]),
    ).toMatchObject([
      { email: 'ada+x@example.com', username: 'Ada', displayName: 'Ada L.', roles: ['viewer'], errors: [] },
    ]);
    expect(checkRows([raw({ roles: ['viewer', ' viewer', 'editor'] })])).toMatchObject([
      { displayName: 'ada', username: null, roles: ['viewer', 'editor'] },
    ]);
  });

  it.each(['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', ' =1', '=HYPERLINK("http://example.com")'])(
    'that a spreadsheet would compute is refused: %j',
    text => {
      expect(errorsOf({ name: text })).toEqual(['full_name formula']);
      expect(errorsOf({ username: text })).toEqual(['username formula']);
      expect(errorsOf({ email: `${text}@example.com` })).toEqual(['email formula']);
      expect(errorsOf({ roles: [text] })).toEqual(['role formula']);
    },
  );

  it('is refused with everything that is wrong with it', () => {
    expect(errorsOf({ email: 'nobody', username: 'a b', name: 'x'.repeat(201), roles: [] })).toEqual([
      'email invalid_format',
      'username invalid_format',
      'full_name too_big',
      'role required',
    ]);
    expect(errorsOf({ email: '', roles: [] })).toEqual(['email required', 'role required']);
    expect(errorsOf({ roles: [] })).toEqual(['role required']);
    expect(errorsOf({ name: 'A\u0000b' })).toEqual(['full_name control_character']);
    expect(errorsOf({ email: 'ad\u0430@example.com' })).toEqual(['email invalid_format']);
    expect(errorsOf({ email: '', errors: [{ field: 'row', code: 'column_count', message: '' }] })).toEqual([
      'row column_count',
    ]);
  });

  it('stands in the list once, whatever the case', () => {
    const rows = checkRows([
      raw({ row: 1, username: 'ada' }),
      raw({ row: 2, email: 'ADA@example.com' }),
      raw({ row: 3, email: 'other@example.com', username: 'ADA' }),
      raw({ row: 4, email: 'ada+1@example.com' }),
    ]);
    expect(rows.map(row => row.outcome)).toEqual(['created', 'invalid', 'invalid', 'created']);
    expect(rows[1]?.errors).toMatchObject([{ field: 'email', code: 'repeated' }]);
    expect(rows[2]?.errors).toMatchObject([{ field: 'username', code: 'repeated' }]);
  });
});
