// What `npm run test:isolation` counts, and how it is shown: a row for each kind of test, from what its specs say of
// themselves (a describe, or a test, whose name begins with `T1` to `T7`).

/** What each row proves, in the order in which they are shown. */
export const ROWS = new Map([
  ['T1', 'foreign ids are answered like ids of nothing'],
  ['T2', 'injected fields are refused, never stored'],
  ['T3', 'each credential opens what it should'],
  ['T4', 'one verdict on every surface'],
  ['T5', 'the database’s catalogue and its connections'],
  ['T6', 'neighbours change no search'],
  ['T7', 'caches keep tenants apart'],
  ['attacks', 'attacks on purpose'],
]);

/** What belongs to no row: a spec that does not say what it proves. */
export const NO_ROW = '?';

/**
 * @param {readonly string[]} names of the file's describes down to the test
 * @param {string} file below the project's folder
 */
export function rowOf(names, file) {
  for (const name of names) {
    const [, row] = /^(T[1-7])\b/.exec(name) ?? [];
    if (row) return row;
  }
  return /(^|\/)test\/attacks\//.test(file) ? 'attacks' : NO_ROW;
}

/** @param {readonly import('./isolation-table.d.mts').TriedTest[]} tests */
export function summaryOf(tests) {
  const rows = new Map([...ROWS.keys()].map(row => [row, { tests: 0, cases: 0, failures: 0 }]));
  for (const { row, cases, failed } of tests) {
    const sums = rows.get(row) ?? { tests: 0, cases: 0, failures: 0 };
    rows.set(row, {
      tests: sums.tests + 1,
      cases: sums.cases + cases,
      failures: sums.failures + (failed ? 1 : 0),
    });
  }
  return rows;
}

/**
 * @param {readonly import('./isolation-table.d.mts').TriedTest[]} tests
 * @param {boolean} whole whether every row has to have a case
 * @returns {string[]} a sentence for each thing that does not hold
 */
export function faultsOf(tests, whole) {
  const faults = tests.filter(({ failed }) => failed).map(({ row, name }) => `${row}: failed: ${name}`);
  for (const { name } of tests.filter(({ row }) => row === NO_ROW))
    faults.push(`${name} does not say which of T1 to T7 it belongs to.`);
  if (whole) {
    for (const [row, { cases }] of summaryOf(tests)) {
      if (cases === 0) faults.push(`${row} has tried no case at all.`);
    }
  }
  return faults;
}

/** @param {readonly import('./isolation-table.d.mts').TriedTest[]} tests */
export function tableOf(tests) {
  const count = number => number.toLocaleString('en-US');
  const sums = [...summaryOf(tests)];
  const total = { tests: 0, cases: 0, failures: 0 };
  for (const [, row] of sums) for (const key of Object.keys(total)) total[key] += row[key];
  const lines = [
    ['', 'what', 'tests', 'cases', 'failures'],
    ...[...sums, ['total', total]].map(([row, { tests: number, cases, failures }]) => [
      row,
      ROWS.get(row) ?? '',
      count(number),
      count(cases),
      count(failures),
    ]),
  ];
  const widths = lines[0].map((_, column) => Math.max(...lines.map(line => line[column].length)));
  const shown = lines.map(line =>
    line
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
      .join('  ')
      .trimEnd(),
  );
  const rule = '-'.repeat(widths.reduce((sum, width) => sum + width + 2, -2));
  return [shown[0], rule, ...shown.slice(1, -1), rule, shown.at(-1)].join('\n');
}
