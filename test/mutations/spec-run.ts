import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FOUND_AT_START } from './fault.js';

/** A test, or what was to prepare some. */
export interface RunTest {
  /** The file, from the root of the project. */
  spec: string;
  /** The names of all that it stands in, and its own. */
  name: string;
}

/** Why a test failed. */
export interface Failure {
  /** The error's name: `AssertionError` where something was expected otherwise. */
  error: string;
  message: string;
  /** Of the difference the lines that were not expected, each after a plus. */
  received: string[];
  /** File and line of the expectation. */
  at: string | null;
}

export interface FailedTest extends RunTest {
  failures: Failure[];
}

/** What the reporter of a run writes. */
export interface Report {
  passed: RunTest[];
  failed: FailedTest[];
  /** What went wrong outside of tests: a file that does not load, a preparation that failed, a run without an end. */
  broken: FailedTest[];
}

/** What a run of tests came to. */
export interface SpecRun extends Report {
  /** The first thing that a start has found wrong with the database; null: nothing. */
  found: string | null;
  seconds: number;
}

/** Below the root of a run. */
export const REPORT = 'report.json';

export interface SpecRunOptions {
  /** The project, or a copy of it. */
  root: string;
  specs: readonly string[];
  /** A regular expression that the names of the tests match [all]. */
  tests?: string | undefined;
  /** For files that do not outlive the run. */
  temporary: string;
  env: NodeJS.ProcessEnv;
  /** Failed tests after which the rest is left out; 0: none is. */
  bail: number;
  /** Seconds until the run is ended. */
  limit: number;
  signal: AbortSignal;
}

const VITEST = 'node_modules/vitest/vitest.mjs';
const REPORTER = './test/mutations/spec-reporter.ts';
/** Characters that are kept of what a run says, the last ones. */
const LONGEST_OUTPUT = 2_000;

/** Runs tests in a process of their own. */
export async function runSpecs(options: SpecRunOptions): Promise<SpecRun> {
  const { root, specs, tests, temporary, bail, limit, signal } = options;
  const started = performance.now();
  const file = join(root, REPORT);
  const findings = join(root, FOUND_AT_START);
  for (const left of [file, findings]) await rm(left, { force: true });
  const chosen = tests === undefined ? [] : [`--testNamePattern=${tests}`];
  const reported = [`--reporter=${REPORTER}`, `--bail=${bail}`];
  const vitest = spawn(process.execPath, [VITEST, 'run', ...specs, ...chosen, ...reported], {
    cwd: root,
    env: { ...options.env, TMPDIR: temporary, TEST_SKIP_BUILD: 'true', ISOLATION_EACH_WITH_EACH: 'true' },
    // A group of its own, for it starts workers.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const end = () => {
    try {
      process.kill(-(vitest.pid as number), 'SIGKILL');
    } catch {
      // It has ended.
    }
  };
  let said = '';
  for (const output of [vitest.stdout, vitest.stderr])
    output.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-LONGEST_OUTPUT)));
  let tookTooLong = false;
  const timer = setTimeout(() => {
    tookTooLong = true;
    end();
  }, limit * 1000);
  signal.addEventListener('abort', end);
  const code = await new Promise<number | null>(done => vitest.on('close', done));
  clearTimeout(timer);
  signal.removeEventListener('abort', end);
  signal.throwIfAborted();
  const report = await readFile(file, 'utf8').then(
    text => JSON.parse(text) as Report,
    () => null,
  );
  const found = await readFile(findings, 'utf8').then(
    text => text.split('\n', 1).join() || null,
    () => null,
  );
  const nothing: Report = { passed: [], failed: [], broken: [] };
  const run: SpecRun = { ...(report ?? nothing), found, seconds: (performance.now() - started) / 1000 };
  const broken = (message: string) =>
    run.broken.push({
      spec: specs.join(' '),
      name: 'the run',
      failures: [{ error: 'Error', message, received: [], at: null }],
    });
  if (tookTooLong) broken(`It was ended after ${limit} s.`);
  else if (code !== 0 && run.failed.length === 0 && run.broken.length === 0) broken(said.trim().slice(-500));
  return run;
}
