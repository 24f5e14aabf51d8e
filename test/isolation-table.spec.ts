import { describe, expect, it } from 'vitest';
import { ROWS, type TriedTest, faultsOf, rowOf, tableOf } from '../scripts/isolation-table.mjs';

const test = (fields: Partial<TriedTest> = {}): TriedTest => ({
  row: 'T1',
  name: 'a.spec.ts > T1 a > b',
  cases: 1_000,
  failed: false,
  ...fields,
});
const ofEveryRow = [...ROWS.keys()].map(row => test({ row }));

describe('the table of isolation', () => {
  it('puts a test where its outermost describe says it belongs', () => {
    expect(rowOf(['T3 credentials', 'T4 nested', 'a test'], 'test/isolation/a.spec.ts')).toBe('T3');
    expect(rowOf(['an attack'], 'test/attacks/sql.spec.ts')).toBe('attacks');
    expect(rowOf(['T8 unknown', 'T10'], 'test/isolation/a.spec.ts')).toBe('?');
  });

  it('has a row for each kind, and the sum of all', () => {
    const lines = tableOf([...ofEveryRow, test({ failed: true })]).split('\n');
    expect(lines.find(line => line.startsWith('T1'))).toMatch(/ 2 +2,000 +1$/);
    expect(lines.find(line => line.startsWith('attacks'))).toMatch(/ 1 +1,000 +0$/);
    expect(lines.at(-1)).toMatch(/^total +9 +9,000 +1$/);
  });

  it('holds where every kind has tried something and nothing failed', () => {
    expect(faultsOf(ofEveryRow, true)).toEqual([]);
  });

  it('does not where a test failed, a kind tried nothing, or a test says of no kind that it belongs to it', () => {
    expect(faultsOf([...ofEveryRow, test({ failed: true })], true)).toEqual([
      'T1: failed: a.spec.ts > T1 a > b',
    ]);
    const without = ofEveryRow.map(row => (row.row === 'T6' ? { ...row, cases: 0 } : row));
    expect(faultsOf(without, true)).toEqual(['T6 has tried no case at all.']);
    expect(faultsOf(without, false)).toEqual([]);
    expect(faultsOf([...ofEveryRow, test({ row: '?', name: 'x' })], true)).toEqual([
      'x does not say which of T1 to T7 it belongs to.',
    ]);
  });
});
