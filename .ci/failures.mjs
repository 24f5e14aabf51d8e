// Prints what failed in a JSON report of Vitest: its path is the argument.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

const LONGEST_MESSAGE = 600;
const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));

const print = (what, message) =>
  process.stdout.write(`${what}\n  ${(message ?? '').slice(0, LONGEST_MESSAGE)}\n`);

for (const file of report.testResults.filter(({ status }) => status === 'failed')) {
  const name = relative(process.cwd(), file.name);
  const tests = file.assertionResults.filter(({ status }) => status === 'failed');
  if (tests.length === 0) print(name, file.message);
  for (const test of tests) print(`${name}: ${test.fullName}`, test.failureMessages[0]);
}
