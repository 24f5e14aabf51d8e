/** A test that ran, or a file or describe that failed outside of its tests. */
export interface TriedTest {
  /** T1 to T7, `attacks`, or `?`. */
  row: string;
  /** The file and the names down to the test. */
  name: string;
  /** Requests, statements or comparisons. */
  cases: number;
  failed: boolean;
}
export const ROWS: ReadonlyMap<string, string>;
export const NO_ROW: string;
export function rowOf(names: readonly string[], file: string): string;
export function summaryOf(
  tests: readonly TriedTest[],
): Map<string, { tests: number; cases: number; failures: number }>;
export function faultsOf(tests: readonly TriedTest[], whole: boolean): string[];
export function tableOf(tests: readonly TriedTest[]): string;
