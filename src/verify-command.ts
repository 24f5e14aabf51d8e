import { Presets, SingleBar } from 'cli-progress';
import { accessSync, constants, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  type Command,
  INTERRUPTED,
  type Output,
  UsageError,
  interruption,
  printable,
} from './cli-command.js';
import { fileText, serverAddress } from './cli-server.js';
import type { WireIsolation } from './entry/isolation/isolation.dto.js';
import { VERSION } from './entry/health/version.js';
import type { Env } from './foundation/config/env.js';
import { existingEncryptionKey } from './foundation/crypto/secrets.js';
import { SigningKey } from './foundation/crypto/signing-key.js';
import { Problem } from './foundation/http/problem.js';
import { Account, Caller, VerifyServer } from './verify-api.js';
import { reportPage } from './verify-html.js';
import { TESTS, TEST_NAMES, type TestName, type TestResult, type VerifyProgress } from './verify-record.js';
import {
  type IsolationReport,
  type ReportContent,
  contentOf,
  faultInSignature,
  readReport,
  signReport,
} from './verify-report.js';
import { readRoutes } from './verify-routes.js';
import { type RunParts, databaseAlone, runTests } from './verify-run.js';
import { ThrowAway, removeLeftOvers } from './verify-tenants.js';

export const VERIFY_USAGE = `  verify-isolation    Tries to get at what belongs to somebody else on the running server, between two tenants that it makes
                      and removes. Prints a table, and writes a signed report. Ends with 0 where everything held, with 1
                      where something did not, and with 2 where it could not be tried. Takes one to five minutes; where chat
                      models are set it asks them some dozens of short questions. Refusals stand in the platform's audit.
    --url URL                 the server [http://127.0.0.1 and PORT]
    --email EMAIL             of a platform admin [PLATFORM_ADMIN_EMAIL]
    --password-file FILE      holds the password [PLATFORM_ADMIN_PASSWORD]
    --only TEST,…             some of T1 to T7 [all of them, which alone is the proof]
    --report FOLDER           where the report is written [.]
    --json                    prints the report as JSON
    --check FILE              checks the signature of a report instead: 0 where it is good, 1 where it is not
    --key FINGERPRINT         of the key that must have signed it [that of the settings]
`;

/** Could not be tried. */
const NOT_RUN = 2;

interface VerifySettings {
  url: string | undefined;
  email: string | undefined;
  passwordFile: string | undefined;
  only: readonly TestName[];
  folder: string;
  json: boolean;
}

/** @throws UsageError */
export function verifyIsolation(args: string[]): Command {
  const values = parse(args);
  const { check, key, url, email } = values;
  if (check !== undefined) return checkReport(check, key);
  if (key !== undefined) throw new UsageError('--key is for --check.');
  const settings = {
    url: url && serverAddress(url),
    email,
    passwordFile: values['password-file'],
    only: testsOf(values.only),
    folder: values.report ?? '.',
    json: values.json ?? false,
  };
  return async (env, output) => {
    const interrupted = interruption(output);
    try {
      return await run(env, settings, output, interrupted.signal);
    } catch (error) {
      if (interrupted.signal.aborted) return INTERRUPTED;
      if (!(error instanceof Problem)) throw error;
      output.note(printable(error.detail));
      return NOT_RUN;
    } finally {
      interrupted.end();
    }
  };
}

async function run(env: Env, settings: VerifySettings, output: Output, signal: AbortSignal): Promise<number> {
  const server = new VerifyServer(settings.url || `http://127.0.0.1:${env.port}`, signal);
  const signIn = signInOf(env, settings);
  const admin = signIn(server);
  makeWritable(settings.folder);
  const { version, routes } = await readRoutes(server);
  const isolation = (await admin.must('GET', '/platform/isolation')) as unknown as WireIsolation;
  const key = keyOf(env, isolation, server.url);
  const started = new Date();
  const notes: string[] = [];
  const progress = progressOn(output);
  let results: TestResult[];
  try {
    results = isolation.ok
      ? await between({ server, admin, routes }, signIn, settings, progress, notes)
      : // What is made and removed could touch others: the database itself would not stop it.
        await databaseAlone(admin, settings.only, progress, signal);
  } finally {
    progress.end();
    for (const sentence of notes) output.note(printable(sentence));
  }
  const content = contentOf(
    {
      address: server.url,
      database: isolation.database,
      server_version: version,
      command_version: VERSION,
      started_at: started.toISOString(),
      ended_at: new Date().toISOString(),
      routes: routes.length,
      notes,
    },
    results,
  );
  tell(signReport(content, key), settings, output);
  return content.held ? 0 : 1;
}

/** The tests that were asked for, between two tenants that are there as long. */
async function between(
  parts: Omit<RunParts, 'world'>,
  signIn: SignIn,
  settings: VerifySettings,
  progress: VerifyProgress,
  notes: string[],
): Promise<TestResult[]> {
  const { server, admin } = parts;
  const leftOvers = await removeLeftOvers(admin);
  if (leftOvers.removed > 0)
    notes.push(`Removed ${leftOvers.removed} tenant(s) and account(s) of an earlier run that was killed.`);
  notes.push(...leftOvers.problems);
  if (settings.only.every(test => test === 'T5'))
    return databaseAlone(admin, settings.only, progress, server.signal);
  const world = new ThrowAway(server, admin);
  try {
    await world.make();
    return await runTests({ ...parts, world }, settings.only, progress, server.signal);
  } finally {
    // Also after Ctrl-C.
    notes.push(...(await removed(world, signIn(server.unstoppable()))));
  }
}

/** @returns what is left, each a sentence */
async function removed(world: ThrowAway, admin: Caller): Promise<string[]> {
  try {
    const { ok } = (await admin.must('GET', '/platform/isolation')) as unknown as WireIsolation;
    if (ok) return await world.remove(admin);
    return [
      'The two tenants were not removed: meanwhile the database does not keep tenants apart any more. Mend that first; a ' +
        'later run removes them.',
    ];
  } catch (error) {
    return [`Something of this run could not be removed, and a later run will: ${(error as Error).message}`];
  }
}

/** The platform's admin at a server. */
type SignIn = (server: VerifyServer) => Caller;

/** Reads the password once: what it is read from may be a pipe. @throws Problem where there is none */
function signInOf(env: Env, { email, passwordFile }: VerifySettings): SignIn {
  const password =
    passwordFile === undefined ? env.platformAdmin.password : fileText(passwordFile).replace(/\r?\n$/, '');
  if (!password) {
    throw new Problem(
      401,
      'no_password',
      'The password of a platform admin is needed: PLATFORM_ADMIN_PASSWORD, or --password-file.',
    );
  }
  return server => new Account(server, 'platform admin', email ?? env.platformAdmin.email, password).caller;
}

/** @throws Problem where the settings here are another installation's */
function keyOf(env: Env, { signing_key: theirs }: WireIsolation, url: string): SigningKey {
  const secret = existingEncryptionKey(env);
  const key = secret === null ? null : SigningKey.of(secret);
  if (key?.fingerprint === theirs.fingerprint) return key;
  const why =
    key === null
      ? `There is no ENCRYPTION_KEY in the settings, and none in ${env.dataDir}`
      : `The ENCRYPTION_KEY here (fingerprint ${key.fingerprint}) is not the server's (${theirs.fingerprint})`;
  throw new Problem(
    409,
    'other_key',
    `${why}. The report is signed in the name of the installation: run this with the settings of ${url}.`,
  );
}

/** Before anything is tried: what was found would have nowhere to go. @throws Problem */
function makeWritable(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new Problem(
      500,
      'no_folder',
      `The report cannot be written to ${folder}: ${(error as Error).message}`,
    );
  }
}

/** The table and what failed, then the files. */
function tell(report: IsolationReport, { folder, json }: VerifySettings, output: Output): void {
  const { content } = report;
  const name = `isolation-report-${content.started_at.replace(/[:.]/g, '-')}`;
  const text = `${JSON.stringify(report, null, 2)}\n`;
  if (json) output.result(text.trimEnd());
  else for (const line of tableOf(content)) output.result(printable(line));
  const paths = [join(folder, `${name}.json`), join(folder, `${name}.html`)] as const;
  writeFileSync(paths[0], text);
  writeFileSync(paths[1], reportPage(report, `${name}.json`));
  output.note(`Report: ${paths.join(' and ')}`);
}

/** Of each test and place so many are printed; the report holds all. */
const MOST_PRINTED = 20;

export function tableOf(content: ReportContent): string[] {
  const rows = [
    ['', '', 'cases', 'failures'],
    ...content.tests.map(({ test, cases, failure_count: failed }) => [
      test,
      TESTS[test].title,
      String(cases),
      String(failed),
    ]),
    ['', 'all', String(content.cases), String(content.failure_count)],
  ];
  const widths = [0, 1, 2, 3].map(column => Math.max(...rows.map(row => row[column]?.length ?? 0)));
  const lines = rows.map(row =>
    row
      .map((cell, column) =>
        column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
  const failures = content.tests.flatMap(({ test, failures: failed }) => [
    ...failed
      .slice(0, MOST_PRINTED)
      .map(({ where, who, expected, got }) => `${test} ${where}: ${who}. Expected ${expected}; got ${got}`),
    ...(failed.length > MOST_PRINTED
      ? [`${test} … and ${failed.length - MOST_PRINTED} more, in the report`]
      : []),
  ]);
  const untried = content.tests
    .filter(({ cases }) => cases === 0)
    .map(({ test }) => `${test} has tried nothing.`);
  const leftOut = content.tests.flatMap(({ test, left_out: sentences }) =>
    sentences.map(sentence => `${test} left out: ${sentence}`),
  );
  const more = [...failures, ...untried, ...leftOut];
  return [...lines, ...(more.length > 0 ? ['', ...more] : [])];
}

function checkReport(path: string, fingerprint: string | undefined): Command {
  return (env, output) => {
    const read = readReport(path);
    const secret = existingEncryptionKey(env);
    const expected = fingerprint ?? (secret === null ? null : SigningKey.of(secret).fingerprint);
    if (expected === null) {
      output.note('There is no ENCRYPTION_KEY here to check it with: name the fingerprint with --key.');
      return Promise.resolve(NOT_RUN);
    }
    const fault = faultInSignature(read, expected);
    if (fault !== null) {
      output.result(fault);
      return Promise.resolve(1);
    }
    const { content } = read.report;
    output.result(
      printable(
        `Signed by ${expected}: ${content.address}, ${content.started_at}, ${content.cases} cases, ${saidBy(content)}.`,
      ),
    );
    return Promise.resolve(0);
  };
}

/** What a report says, in a few words: no more than it says. */
export function saidBy({ held, partial, failure_count: failed, tests }: ReportContent): string {
  const tried = tests
    .filter(({ cases }) => cases > 0)
    .map(({ test }) => test)
    .join(', ');
  const only = partial ? `; of the seven tests only ${tried} tried` : '';
  const leftOut = tests.flatMap(({ left_out: sentences }) => sentences).length;
  const besides = leftOut > 0 ? `; ${leftOut} thing(s) left out, as it says` : '';
  if (failed > 0) return `${failed} case(s) failed${only}${besides}`;
  if (!held) return `nothing failed, but not everything could be tried${only}${besides}`;
  return `${partial ? 'what was tried held' : 'everything held'}${only}${besides}`;
}

function progressOn(output: Output): VerifyProgress & { end(): void } {
  const { terminal } = output;
  if (!terminal) {
    return {
      begin: test => output.note(`${test} ${TESTS[test].title} …`),
      plan: () => undefined,
      step: () => undefined,
      end: () => undefined,
    };
  }
  const drawn = new SingleBar(
    {
      stream: terminal,
      format: '{test} {bar} {value}/{total}',
      hideCursor: true,
      clearOnComplete: true,
      // Ctrl-C is for the command, which ends cleanly.
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  let [planned, done] = [0, 0];
  drawn.start(1, 0, { test: 'making two tenants' });
  return {
    begin: test => drawn.update(done, { test: `${test} ${TESTS[test].title}` }),
    plan: steps => drawn.setTotal((planned += steps)),
    step: () => drawn.update(++done),
    end: () => drawn.stop(),
  };
}

function testsOf(text: string = TEST_NAMES.join()): TestName[] {
  const names = text.split(',').map(name => name.trim().toUpperCase());
  if (names.every(name => (TEST_NAMES as readonly string[]).includes(name))) return names as TestName[];
  throw new UsageError('--only is one of T1 to T7, or several with commas between them.');
}

const text = { type: 'string' } as const;

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        url: text,
        email: text,
        only: text,
        'password-file': text,
        report: text,
        json: { type: 'boolean' },
        check: text,
        key: text,
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
