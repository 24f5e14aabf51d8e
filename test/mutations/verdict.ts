import type { FailedTest, Failure, SpecRun } from './spec-run.js';

/** What became of a fault. */
export type Verdict =
  /** By assertions that do not hold with it. */
  | { kind: 'caught'; tests: FailedTest[]; start: string | null }
  /** No test has failed, for nothing starts with it. */
  | { kind: 'refused'; start: string }
  /** Something fell over before any test could tell: who would leak with it, and who would not, nobody has asked. */
  | { kind: 'crashed'; tests: FailedTest[] }
  | { kind: 'survived' }
  /** It proves nothing: its text is not there any more, or with it nothing runs. */
  | { kind: 'void'; why: string };

/** Of the start: what it finds wrong with the database. */
const REFUSAL = /IsolationError: (.+?)(?:" instead of resolving|$)/m;
/** Of `expectStatus`, which expects as much as `expect` does. */
const WRONG_ANSWER = /^Expected \d{3}, got [1-4]\d{2}: /;
const WRONG_SNAPSHOT = /^Snapshot `.*` mismatched$/m;
/** What nobody has looked for, and goes wrong by itself. */
const CRASH =
  /\b(?:Type|Reference|Syntax|Range|ContextMissing|QueryFailed)Error\b|\binternal_error\b|\bgot 5\d\d\b|^expected 5\d\d to /m;
/** A status among what was received. */
const SERVER_ERROR = /\b50[0-4]\b|\binternal_error\b/;

/** @param run of the tests that should have noticed it */
export function verdictOf({ failed, broken, found, passed }: SpecRun): Verdict {
  const all = [...failed, ...broken].flatMap(({ failures }) => failures);
  const start = found ?? all.map(refusalIn).find(Boolean) ?? null;
  const tests = failed.flatMap(test => {
    const told = test.failures.filter(failure => isAssertion(failure) && !isCrash(failure));
    return told.length > 0 ? [{ ...test, failures: told }] : [];
  });
  if (tests.length > 0) return { kind: 'caught', tests, start };
  if (start) return { kind: 'refused', start };
  const unprepared = broken.filter(({ failures }) => failures.some(one => isAssertion(one) || isCrash(one)));
  const crashed = [...failed, ...unprepared];
  if (crashed.length > 0) return { kind: 'crashed', tests: crashed };
  const [first] = broken;
  if (first) return { kind: 'void', why: `${first.spec}: ${sentenceOf(first)}` };
  return passed.length > 0 ? { kind: 'survived' } : { kind: 'void', why: 'No test ran.' };
}

/** Where a test has failed first, and what it says. */
export function sentenceOf({ failures: [first] }: FailedTest): string {
  if (!first) return 'it fails without a word';
  const what = `${first.error === 'AssertionError' ? '' : `${first.error}: `}${first.message}`;
  return `${first.at ? `${first.at}: ` : ''}${what.trim().split('\n', 1).join().slice(0, 200)}`;
}

const refusalIn = ({ error, message }: Failure): string | undefined =>
  REFUSAL.exec(`${error}: ${message}`)?.[1];

function isAssertion(failure: Failure): boolean {
  const { error, message } = failure;
  if (refusalIn(failure)) return false;
  return error === 'AssertionError' || WRONG_ANSWER.test(message) || WRONG_SNAPSHOT.test(message);
}

function isCrash({ error, message, received }: Failure): boolean {
  if (CRASH.test(`${error}: ${message}`) || CRASH.test(message)) return true;
  const texts = received.filter(line => /^\+\s*"/.test(line));
  // A list of findings: it is about something if one of them is.
  if (message.endsWith('to deeply equal []') && texts.length > 0)
    return texts.every(line => SERVER_ERROR.test(line));
  return received.some(line => SERVER_ERROR.test(line));
}
