import { describe, expect, it } from 'vitest';
import { Problem } from '../../foundation/http/problem.js';
import { readCsvRows } from './csv-rows.js';
import { MOST_ROWS, type RawRow } from './import-rows.js';

const HEADER = 'username,email,full_name,role';

/** @param size of the pieces in which it arrives */
async function* bytes(content: string | Uint8Array, size = 7): AsyncGenerator<Buffer> {
  const buffer = Buffer.from(content as string);
  for (let start = 0; start < buffer.length; start += size) yield buffer.subarray(start, start + size);
}

const read = (content: string | Uint8Array, size?: number) => readCsvRows(bytes(content, size), () => false);

async function problemOf(work: Promise<unknown>): Promise<Problem> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Problem);
  return error as Problem;
}
const codeOf = async (work: Promise<unknown>) => (await problemOf(work)).options.errors?.[0]?.code;

const ALICE: RawRow = {
  row: 1,
  line: 2,
  email: 'alice@example.com',
  username: 'alice.smith',
  name: 'Alice Smith',
  roles: ['editor'],
  errors: [],
};

describe('a CSV file of people', () => {
  it.each([
    ['commas', `${HEADER}\nalice.smith,alice@example.com,Alice Smith,editor\n`],
    ['semicolons', `${HEADER.replaceAll(',', ';')}\nalice.smith;alice@example.com;Alice Smith;editor\n`],
    ['tabs', `${HEADER.replaceAll(',', '\t')}\nalice.smith\talice@example.com\tAlice Smith\teditor\n`],
    ['a byte order mark', `\ufeff${HEADER}\r\nalice.smith,alice@example.com,Alice Smith,editor\r\n`],
    ['old line ends', `${HEADER}\ralice.smith,alice@example.com,Alice Smith,editor`],
    [
      'quotes',
      `"username","email","full_name","role"\n"alice.smith",alice@example.com,"Alice Smith","editor"`,
    ],
    [
      'columns in another order',
      `Role , EMAIL,full_name,username\neditor,alice@example.com,Alice Smith,alice.smith`,
    ],
    [
      'rows of nothing at its end',
      `${HEADER}\nalice.smith,alice@example.com,Alice Smith,editor\n\n,,,\n  \n`,
    ],
  ])('is read with %s', async (_, content) => {
    expect(await read(content)).toEqual([ALICE]);
    expect(await read(content, 1)).toEqual([ALICE]);
  });

  it('keeps what stands between quotes, and counts lines of the file', async () => {
    const content = `${HEADER}\n\na,a@example.com,"Doe, ""J"" \nJane",viewer\nb,b@example.com,Zoë 🦊,viewer`;
    expect(await read(content, 3)).toMatchObject([
      { row: 1, name: 'Doe, "J" \nJane' },
      { row: 2, line: 5, name: 'Zoë 🦊' },
    ]);
  });

  it('does without user names and names', async () => {
    expect(await read('email;role\na@example.com;viewer')).toMatchObject([
      { email: 'a@example.com', username: '', name: '', roles: ['viewer'] },
    ]);
  });

  it('says of a row alone that it has cells too many or too few', async () => {
    const rows = await read(
      `${HEADER}\na,a@example.com,A,viewer,more\nb,b@example.com\nc,c@example.com,C,viewer`,
    );
    expect(rows.map(row => row.errors.map(error => error.code))).toEqual([
      ['column_count'],
      ['column_count'],
      [],
    ]);
  });

  it.each([
    ['nothing', '', 'empty_file'],
    ['a mark alone', '\ufeff', 'empty_file'],
    ['a column that nobody knows', `${HEADER},department\n`, 'unknown_column'],
    ['a column whose name only looks right', 'еmail,role\n', 'unknown_column'],
    ['a column twice', 'email,role,Email\n', 'repeated_column'],
    ['no addresses', 'username,role\n', 'missing_column'],
    ['no header', 'alice.smith,alice@example.com,Alice Smith,editor\n', 'unknown_column'],
    ['a quote that nobody closes', `${HEADER}\na,a@example.com,"A,viewer\n`, 'broken_quotes'],
    ['a quote in a wrong place', `${HEADER}\na,a@example.com,A"b"c,viewer\n`, 'broken_quotes'],
    ['text after a quote', `${HEADER}\na,a@example.com,"A"b,viewer\n`, 'broken_quotes'],
    ['a row without an end', `${HEADER}\na,a@example.com,"${'x'.repeat(20_000)}\n`, 'row_too_long'],
    ['a NUL', `${HEADER}\na,a@exa\0mple.com,A,viewer\n`, 'nul'],
  ])('with %s is refused', async (_, content, code) => {
    expect(await codeOf(read(content))).toBe(code);
  });

  it('names the line of a broken quote', async () => {
    const problem = await problemOf(
      read(`${HEADER}\na,a@example.com,A,viewer\nb,b@example.com,B"x",viewer\n`),
    );
    expect(problem.options.errors?.[0]?.message).toMatch(/^Line 3:/);
  });

  it.each([
    ['Latin-1', Buffer.from(`${HEADER}\na,a@example.com,Zo\u00eb,viewer\n`, 'latin1')],
    ['UTF-16', Buffer.from(`\ufeff${HEADER}\na,a@example.com,A,viewer\n`, 'utf16le')],
    ['a character cut in two', Buffer.from(`${HEADER}\na,a@example.com,Zo\u00eb`).subarray(0, -1)],
  ])('in %s is refused', async (_, content) => {
    expect(await codeOf(read(content))).toBe('not_utf8');
  });

  it('is read to the first row too many, and no further', async () => {
    let lines = 0;
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from(`${HEADER}\n`);
      for (; ; lines++) yield Buffer.from(`u${lines},u${lines}@example.com,U,viewer\n`);
    }
    expect(await problemOf(readCsvRows(endless(), () => false))).toMatchObject({
      status: 413,
      code: 'too_many_rows',
    });
    expect(lines).toBeLessThan(MOST_ROWS + 1_000);
  });

  it('that was cut off because of its size is not taken for whole', async () => {
    const content = `${HEADER}\na,a@example.com,A,viewer\n`;
    expect(await problemOf(readCsvRows(bytes(content), () => true))).toMatchObject({
      status: 413,
      code: 'too_large',
    });
  });

  it('whose upload breaks off is no list', async () => {
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.from(`${HEADER}\na,a@exam`);
      throw Problem.malformed('malformed_multipart', 'The body ends too soon.');
    }
    expect(await problemOf(readCsvRows(broken(), () => false))).toMatchObject({
      code: 'malformed_multipart',
    });
  });
});
