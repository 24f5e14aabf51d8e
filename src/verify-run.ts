import { Caller } from './verify-api.js';
import type { VerifyContext, VerifyTest } from './verify-context.js';
import { credentials, issueToken } from './verify-credentials.js';
import { database } from './verify-database.js';
import { foreignIds } from './verify-foreign-ids.js';
import { injectedFields } from './verify-injected-fields.js';
import { caches, neighbours } from './verify-neighbours.js';
import {
  TEST_NAMES,
  type TestName,
  TestRecord,
  type TestResult,
  type VerifyProgress,
} from './verify-record.js';
import { surfaces } from './verify-surfaces.js';

/** In their order, but for the third: it locks people out, and suspends a tenant. */
const RUNS: ReadonlyArray<readonly [TestName, VerifyTest]> = [
  ['T1', foreignIds],
  ['T2', injectedFields],
  ['T4', surfaces],
  ['T5', database],
  ['T6', neighbours],
  ['T7', caches],
  ['T3', credentials],
];

/** What a run has from the start. */
export type RunParts = Omit<VerifyContext, 'tokenOfB'>;

/** One after the other. @returns in the order of their names */
export async function runTests(
  parts: RunParts,
  only: readonly TestName[],
  progress: VerifyProgress,
  signal: AbortSignal,
): Promise<TestResult[]> {
  const tokens = new Map<string, Promise<Caller>>();
  const context: VerifyContext = {
    ...parts,
    tokenOfB: scopes => {
      const key = scopes?.join() ?? '';
      const issued = tokens.get(key) ?? issue(context, scopes);
      tokens.set(key, issued);
      return issued;
    },
  };
  const results: TestResult[] = [];
  for (const [test, run] of RUNS.filter(([name]) => only.includes(name))) {
    progress.begin(test);
    const record = new TestRecord(test, progress, signal);
    await run(context, record);
    results.push(record.result);
  }
  return results.toSorted((one, other) => (one.test < other.test ? -1 : 1));
}

/** Where the database is found open, nothing is made in it. */
export async function databaseAlone(
  admin: Caller,
  only: readonly TestName[],
  progress: VerifyProgress,
  signal: AbortSignal,
): Promise<TestResult[]> {
  progress.begin('T5');
  const record = new TestRecord('T5', progress, signal);
  await database({ admin }, record);
  return TEST_NAMES.filter(test => test === 'T5' || only.includes(test)).map(test => {
    if (test === 'T5') return record.result;
    const why =
      'Not tried, because the database does not keep tenants apart: what is made and removed could touch others.';
    return { test, cases: 0, failure_count: 0, failures: [], left_out: [why] };
  });
}

async function issue(context: VerifyContext, scopes: readonly string[] | null): Promise<Caller> {
  const { world, server } = context;
  const fields = scopes === null ? {} : { scopes };
  const { secret } = await issueToken(context, 'b', world.people.b.owner, fields);
  return Caller.bearer(server, 'API token of the owner of b', secret);
}
