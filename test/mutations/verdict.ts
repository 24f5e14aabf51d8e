import type { FailedTest, SpecRun } from './spec-run.js';

/** What became of a fault. */
export type Verdict =
  | { kind: 'caught'; tests: FailedTest[]; start: string | null }
  /** No test has failed, for nothing starts with it. */
  | { kind: 'refused'; start: string }
  | { kind: 'survived' }
  /** It proves nothing: its text is not there any more, or with it nothing runs. */
  | { kind: 'void'; why: string };

/** Of the start: what it finds wrong with the database. */
const REFUSAL = /IsolationError: (.+?)(?:" instead of resolving|$)/m;
/** A step of a test's preparation, which asks the application for something and says what it was answered. */
const WRONG_ANSWER = /Expected \d{3}, got \d{3}: .+/;

/** @param run of the tests that should have noticed it */
export function verdictOf({ failed, broken, found, passed }: SpecRun): Verdict {
  const refusals = [...failed, ...broken].map(({ message }) => REFUSAL.exec(message)?.[1]);
  const start = found ?? refusals.find(Boolean) ?? null;
  const tests = failed.filter(({ message }) => !REFUSAL.test(message));
  if (tests.length > 0) return { kind: 'caught', tests, start };
  const prepared = broken.flatMap(({ name, message }) => {
    const answer = WRONG_ANSWER.exec(message)?.[0];
    return answer ? [{ name: `${name}: its preparation`, message: answer }] : [];
  });
  if (prepared.length > 0) return { kind: 'caught', tests: prepared, start };
  if (start) return { kind: 'refused', start };
  const [first] = broken;
  if (first) return { kind: 'void', why: `${first.name}: ${firstLine(first.message)}` };
  return passed > 0 ? { kind: 'survived' } : { kind: 'void', why: 'No test ran.' };
}

const firstLine = (text: string): string => text.trim().split('\n', 1).join() || 'it fails without a word';
