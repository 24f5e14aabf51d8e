// `npm run test:mutations`: builds faults into copies of the project, one at a time, and shows which tests notice them.
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import pc from 'picocolors';
import { templateName } from '../setup/template-name.js';
import { EditError, type Fault, seedOf } from './fault.js';
import { FAULTS } from './faults.js';
import { type RunTest, type SpecRun, runSpecs } from './spec-run.js';
import { type Verdict, sentenceOf, verdictOf } from './verdict.js';
import { WorkingCopy } from './working-copy.js';

/** Seconds. */
const LONGEST_RUN = 300;
const LONGEST_BASELINE = 1_800;
/** Of the tests that have failed by the time the run ends, which the first failure brings about. */
const NAMES_SHOWN = 2;
/** Tests of the check at the start itself: it is a fault in the database that they begin without. */
const OF_THE_START = 'the check at the start|a start is refused';
/** Of regular expressions. */
const SPECIAL = /[.*+?^${}()|[\]\\]/g;

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    database: { type: 'string', default: 'embedded' },
    jobs: { type: 'string' },
    list: { type: 'boolean', default: false },
    'skip-baseline': { type: 'boolean', default: false },
  },
});
const interrupted = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => interrupted.abort(new Error(`Ended by ${name}.`)));
}
const print = (line = '') => process.stdout.write(`${line}\n`);

const server = serverOf(values.database);
const faults = chosen(values.only ?? []);

interface Proof {
  fault: Fault;
  verdict: Verdict;
  /** Of its list, the one that has noticed it; null: none has. */
  spec: string | null;
  seconds: number;
}

async function prove(): Promise<number> {
  const started = performance.now();
  // On a server the copies would empty each other's Redis.
  const jobs = server ? 1 : Number(values.jobs ?? Math.min(2, availableParallelism()));
  const copies = await Promise.all(Array.from({ length: jobs }, () => WorkingCopy.make()));
  try {
    if (!values['skip-baseline'] && !(await isGreen(copies[0] as WorkingCopy))) return 1;
    const waiting = [...faults];
    const proofs: Proof[] = [];
    await Promise.all(
      copies.map(async copy => {
        for (let fault = waiting.shift(); fault; fault = waiting.shift()) {
          const proof = await tryFault(copy, fault);
          proofs.push(proof);
          print(lineOf(proof));
        }
      }),
    );
    const sure = await withoutChance(copies[0] as WorkingCopy, proofs);
    return summary(sure, (performance.now() - started) / 1000);
  } finally {
    await Promise.all(copies.map(copy => copy.remove()));
  }
}

/** A test that fails anyway notices nothing. */
async function isGreen(copy: WorkingCopy): Promise<boolean> {
  const specs = [...new Set(faults.flatMap(fault => fault.specs.map(fileOf)))];
  print(`Without any fault: ${specs.length} files of tests …`);
  const run = await runIn(copy, specs, { bail: 0, limit: LONGEST_BASELINE });
  const wrong = [...run.failed, ...run.broken];
  for (const test of wrong) print(`${pc.red('FAILED')} ${titleOf(test)}\n  ${sentenceOf(test)}`);
  print(`${run.passed.length} passed, ${wrong.length} failed in ${run.seconds.toFixed(0)} s`);
  print();
  return wrong.length === 0;
}

async function tryFault(copy: WorkingCopy, fault: Fault): Promise<Proof> {
  try {
    await copy.seed(seedOf(fault));
  } catch (error) {
    if (!(error instanceof EditError)) throw error;
    return { fault, verdict: { kind: 'void', why: error.message }, spec: null, seconds: 0 };
  }
  const started = performance.now();
  const proof = (verdict: Verdict, spec: string | null) => ({
    fault,
    verdict,
    spec,
    seconds: (performance.now() - started) / 1000,
  });
  try {
    let best: Verdict = { kind: 'survived' };
    for (const spec of fault.specs) {
      const tests = await testsOf(copy.root, fault, spec);
      const run = await runIn(copy, [fileOf(spec)], { bail: 1, limit: LONGEST_RUN, tests });
      const verdict = verdictOf(run);
      if (verdict.kind === 'caught' || verdict.kind === 'void') return proof(verdict, spec);
      // Perhaps a test of the next file notices it.
      if (verdict.kind === 'refused' || best.kind === 'survived') best = verdict;
    }
    return proof(best, null);
  } finally {
    await dropTemplate(copy, fault);
    await copy.restore();
  }
}

/**
 * What has failed by chance would have noticed anything. So each test that has caught a fault runs once more, in a copy without
 * one: first all of them at once, each alone in its file, and where that fails, those that it is used to be run with.
 */
async function withoutChance(copy: WorkingCopy, proofs: readonly Proof[]): Promise<Proof[]> {
  const catchers = proofs.flatMap(({ verdict }) => (verdict.kind === 'caught' ? [verdict.tests[0]!] : []));
  if (catchers.length === 0) return [...proofs];
  const specs = [...new Set(catchers.map(({ spec }) => spec))];
  print();
  print(`Without any fault once more: ${catchers.length} tests that caught one …`);
  const names = [...new Set(catchers.map(({ name }) => name.replace(SPECIAL, '\\$&')))];
  const limits = { bail: 0, limit: LONGEST_BASELINE };
  const run = await runIn(copy, specs, { ...limits, tests: `(?:^| )(?:${names.join('|')})$` });
  const passed = new Set(run.passed.map(titleOf));
  const sure: Proof[] = [];
  for (const proof of proofs) {
    const { fault, verdict, spec } = proof;
    if (verdict.kind !== 'caught' || passed.has(titleOf(verdict.tests[0]!))) {
      sure.push(proof);
      continue;
    }
    const tests = await testsOf(copy.root, fault, spec as string);
    const again = await runIn(copy, [fileOf(spec as string)], { ...limits, limit: LONGEST_RUN, tests });
    const title = titleOf(verdict.tests[0]!);
    const why = `Without the fault this does not pass either: ${title}`;
    const passes = again.passed.some(test => titleOf(test) === title);
    sure.push(passes ? proof : { ...proof, verdict: { kind: 'void', why } });
  }
  return sure;
}

function runIn(
  { root, temporary }: WorkingCopy,
  specs: readonly string[],
  { bail, limit, tests }: { bail: number; limit: number; tests?: string | undefined },
): Promise<SpecRun> {
  const options = { root, temporary, bail, limit, env: environment(), signal: interrupted.signal };
  return runSpecs({ ...options, specs, tests });
}

/**
 * Of a file the tests that a fault's list names; all of them where none is called so any more, but for those of the check at the
 * start, which find nothing as it should be.
 */
async function testsOf(root: string, fault: Fault, spec: string): Promise<string | undefined> {
  const [file = '', name] = spec.split('#', 2);
  if (name !== undefined && (await readFile(join(root, file), 'utf8')).includes(name))
    return name.replace(SPECIAL, '\\$&');
  return fault.sql === undefined ? undefined : `^(?!.*(${OF_THE_START}))`;
}

const fileOf = (spec: string): string => spec.split('#', 1).join();
const titleOf = ({ spec, name }: RunTest): string => `${spec}: ${name}`;

/** Settings of the surroundings would be taken for those of the applications under test. */
function environment(): NodeJS.ProcessEnv {
  const { DATABASE_ADMIN_URL: _admin, DATABASE_URL: _database, REDIS_URL: _redis, ...env } = process.env;
  if (server) return { ...env, TEST_DATABASE_ADMIN_URL: server.adminUrl, TEST_REDIS_URL: server.redisUrl };
  const { TEST_DATABASE_ADMIN_URL: _testAdmin, TEST_REDIS_URL: _testRedis, ...embedded } = env;
  return embedded;
}

/** On a server, a migrated database with a fault in it would stay for ever. */
async function dropTemplate({ root }: WorkingCopy, { sql }: Fault): Promise<void> {
  if (!server || sql === undefined) return;
  const admin = new pg.Client({ connectionString: server.adminUrl });
  await admin.connect();
  try {
    await admin.query(`DROP DATABASE IF EXISTS ${templateName(root)} WITH (FORCE)`);
  } finally {
    await admin.end();
  }
}

function serverOf(database: string): { adminUrl: string; redisUrl: string } | null {
  if (database === 'embedded') return null;
  const { DATABASE_ADMIN_URL: adminUrl, REDIS_URL: redisUrl } = process.env;
  if (database === 'server' && adminUrl && redisUrl) return { adminUrl, redisUrl };
  const wanted =
    database === 'server'
      ? 'Set DATABASE_ADMIN_URL (a PostgreSQL role that may create databases and roles) and REDIS_URL (databases 1 to 15 of it are emptied).'
      : '--database is embedded or server.';
  process.stderr.write(`${wanted}\n`);
  process.exit(2);
}

/** @param only names or parts of names, also with commas between them; none: all */
function chosen(only: readonly string[]): Fault[] {
  const parts = only.flatMap(part => part.split(',')).filter(part => part !== '');
  const found = FAULTS.filter(
    ({ name }) => parts.length === 0 || parts.some(part => name.includes(part)),
  ).filter(({ embeddedOnly }) => !server || !embeddedOnly);
  if (found.length > 0) return found;
  process.stderr.write('There is no such fault. Those that there are: --list.\n');
  process.exit(2);
}

function lineOf({ fault, verdict, seconds }: Proof): string {
  const time = pc.dim(`${seconds.toFixed(0)} s`);
  const mark = isCaught({ fault, verdict }) ? MARKS.caught : MARKS[verdict.kind];
  return [
    `${verdict.kind === 'refused' ? MARKS.refused : mark} ${pc.bold(fault.name)} ${time}`,
    `    ${fault.breaks}`,
    ...told(verdict, fault),
  ].join('\n');
}

const MARKS: Record<Verdict['kind'], string> = {
  caught: pc.green('caught  '),
  refused: pc.yellow('refused '),
  crashed: pc.red('CRASHED '),
  survived: pc.red('SURVIVED'),
  void: pc.red('VOID    '),
};

/** Whether somebody would hear of it: by a test, by the start, or by what falls over, where it cannot but fall over. */
const isCaught = ({ fault, verdict }: Pick<Proof, 'fault' | 'verdict'>): boolean =>
  verdict.kind === 'caught' ||
  verdict.kind === 'refused' ||
  (verdict.kind === 'crashed' && fault.crashes !== undefined);

function told(verdict: Verdict, { crashes }: Fault): string[] {
  switch (verdict.kind) {
    case 'caught':
      return [
        ...verdict.tests
          .slice(0, NAMES_SHOWN)
          .flatMap(test => [`    by ${titleOf(test)}`, `      ${sentenceOf(test)}`]),
        ...(verdict.start ? [`    and it would not start: ${verdict.start}`] : []),
      ];
    case 'refused':
      return [`    refuses to start: ${verdict.start}`];
    case 'crashed':
      return [
        `    ${crashes ?? 'nothing was expected otherwise; what falls over proves nothing'}`,
        ...verdict.tests
          .slice(0, NAMES_SHOWN)
          .flatMap(test => [`    in ${titleOf(test)}`, `      ${sentenceOf(test)}`]),
      ];
    case 'survived':
      return ['    no test has failed'];
    case 'void':
      return [`    ${verdict.why}`];
  }
}

function summary(proofs: readonly Proof[], seconds: number): number {
  const count = (kind: Verdict['kind']) => proofs.filter(({ verdict }) => verdict.kind === kind).length;
  const width = Math.max(...proofs.map(({ fault }) => fault.name.length));
  print();
  print(`${'fault'.padEnd(width)}  seconds  caught by`);
  for (const { fault, verdict, seconds: taken } of inOrder(proofs)) {
    const [first = '', second = ''] = told(verdict, fault);
    const where = verdict.kind === 'caught' ? ` (${second.trim()})` : '';
    const by = first.trim().replace(/^by /, '');
    print(`${fault.name.padEnd(width)}  ${taken.toFixed(0).padStart(7)}  ${by}${where}`);
  }
  const caught = proofs.filter(isCaught).length;
  const crashed = proofs.filter(proof => proof.verdict.kind === 'crashed');
  const explained = crashed.filter(isCaught).length;
  const parts = [
    `${proofs.length} faults`,
    `${caught} caught`,
    `${count('refused')} of them by the start alone`,
    `${explained} by what falls over`,
    `${crashed.length - explained} crashed`,
    `${count('survived')} survived`,
    `${count('void')} could not be tried`,
  ];
  const where = values.database === 'server' ? 'PostgreSQL and Redis' : 'the embedded database';
  print();
  print(
    `On ${where}: ${parts.filter((part, at) => at < 2 || !part.startsWith('0 ')).join(', ')}; ${seconds.toFixed(0)} s`,
  );
  return caught === proofs.length ? 0 : 1;
}

const inOrder = (proofs: readonly Proof[]): Proof[] =>
  proofs.toSorted((a, b) => faults.indexOf(a.fault) - faults.indexOf(b.fault));

function stopped(error: unknown): number {
  if (!interrupted.signal.aborted) throw error;
  process.stderr.write(`${(error as Error).message}\n`);
  return 130;
}

if (values.list) for (const { name, breaks } of faults) print(`${name.padEnd(40)} ${breaks}`);
else process.exitCode = await prove().catch(stopped);
