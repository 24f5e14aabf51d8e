// `npm run test:isolation`: the tests that tenants are kept apart, on the embedded database, then on PostgreSQL and
// Redis where DATABASE_ADMIN_URL and REDIS_URL are set; at the end a table for each. Exit code 1 on any failure, and
// where one of the kinds has tried nothing.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { faultsOf, tableOf } from './isolation-table.mjs';

const given = process.argv.slice(2);
const whole = given.length === 0;
// What follows an option, such as the name after -t, is no file.
const files = given.some(isPath) ? [] : ['test/isolation/', 'test/attacks/'];
const vitest = [
  '--reporter=default',
  `--reporter=${fileURLToPath(new URL('isolation-reporter.mjs', import.meta.url))}`,
];
const { DATABASE_ADMIN_URL: adminUrl, REDIS_URL: redisUrl, ...env } = process.env;
// By itself `npm test` lets who tries what take turns on the embedded database.
env.ISOLATION_EACH_WITH_EACH = 'true';
// Settings of the surroundings would be taken for those of the applications under test.
for (const name of ['DATABASE_URL', 'TEST_DATABASE_ADMIN_URL', 'TEST_REDIS_URL']) delete env[name];

const folder = mkdtempSync(join(tmpdir(), 'enclave-isolation-'));
let child = null;
let stopped = null;
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    stopped = signal;
    child?.kill(signal);
  });
}

const outcomes = [await outcomeOf('embedded database', 'node_modules/vitest/vitest.mjs', ['run'], env)];
if (adminUrl && redisUrl && !stopped) {
  const server = { ...env, DATABASE_ADMIN_URL: adminUrl, REDIS_URL: redisUrl };
  outcomes.push(await outcomeOf('PostgreSQL and Redis', 'scripts/test-server.mjs', [], server));
}
rmSync(folder, { recursive: true, force: true });

for (const { place, seconds, tests, faults } of outcomes) {
  process.stdout.write(`\nIsolation on the ${place} (${seconds} s)\n\n${tableOf(tests)}\n`);
  for (const fault of faults) process.stdout.write(`  ${fault}\n`);
}
if (outcomes.length === 1 && !stopped) {
  process.stdout.write(
    '\nPostgreSQL and Redis: not run. Set DATABASE_ADMIN_URL (a PostgreSQL role that may create databases and roles) and REDIS_URL.\n',
  );
}
const held = !stopped && outcomes.every(({ code, faults }) => code === 0 && faults.length === 0);
process.stdout.write(held ? '\nAll held.\n' : '\nNot all held.\n');
process.exit(held ? 0 : 1);

/** Whether vitest is to be given nothing else to look for. */
function isPath(argument) {
  return !argument.startsWith('-') && (argument.includes('/') || existsSync(argument));
}

/** Runs the tests on one database. */
async function outcomeOf(place, script, command, surroundings) {
  const path = join(folder, `${place.replaceAll(' ', '-')}.json`);
  const began = Date.now();
  child = spawn(process.execPath, [script, ...command, ...vitest, ...given, ...files], {
    stdio: 'inherit',
    env: { ...surroundings, ISOLATION_RESULTS: path },
  });
  const code = await new Promise(done => child.on('exit', (exitCode, signal) => done(signal ? 1 : exitCode)));
  const tests = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : [];
  const faults = faultsOf(tests, whole);
  if (tests.length === 0) faults.push('No test has run.');
  if (code !== 0 && faults.length === 0)
    faults.push('The tests ended with an error outside of any test: see above.');
  return { place, seconds: Math.round((Date.now() - began) / 1000), code, tests, faults };
}
