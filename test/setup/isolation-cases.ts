import { TestRunner } from 'vitest';
import { SERVER } from './database.js';

declare module 'vitest' {
  interface TaskMeta {
    /** Requests, statements or comparisons that this test has tried. */
    casesTried?: number;
  }
}

/**
 * Counts cases of the test that is running, for the table of `npm run test:isolation`. A case is a single request,
 * statement or comparison whose outcome is asserted.
 *
 * Outside of a test (in `beforeAll`) nothing is counted: what sets up tries nothing.
 */
export function tried(cases = 1): void {
  const test = TestRunner.getCurrentTest();
  if (test) test.meta.casesTried = (test.meta.casesTried ?? 0) + cases;
}

/**
 * Whether each is tried with each: on a server, and by `npm run test:isolation`. Else `npm test` takes turns on the
 * embedded database, which takes several times as long: what decides is the same code.
 */
export const EACH_WITH_EACH = SERVER || process.env['ISOLATION_EACH_WITH_EACH'] === 'true';

/** All of the items; where they take turns, every third one, others for each turn. */
export function ofTurn<T>(items: Iterable<T>, turn: number): T[] {
  const all = [...items];
  return EACH_WITH_EACH ? all : all.filter((_, index) => index % 3 === turn % 3);
}
