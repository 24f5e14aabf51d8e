/**
 * How good a ranking is. A ranking is given as `found`: for each rank, from the best on, how many of the relevant items are
 * shown there that were not shown before. Relevance is binary.
 */

/**
 * A ranking of ids, each of which is relevant or not.
 *
 * @returns `found`, as the other functions here take it
 */
export function foundBy(ranking: readonly string[], relevant: ReadonlySet<string>): number[] {
  const seen = new Set<string>();
  return ranking.map(id => {
    const isNew = relevant.has(id) && !seen.has(id);
    seen.add(id);
    return isNew ? 1 : 0;
  });
}

/** The share of the `relevant` items that are among the first `k`; of all that were found without a `k`. */
export const recallAt = (found: readonly number[], relevant: number, k = found.length): number =>
  sum(found.slice(0, k)) / relevant;

/** One divided by the rank of the first relevant item, 0 where none is among the first `k`. */
export function reciprocalRankAt(found: readonly number[], k: number): number {
  const first = found.slice(0, k).findIndex(count => count > 0);
  return first < 0 ? 0 : 1 / (first + 1);
}

/**
 * Normalised discounted cumulative gain of the first `k` (Järvelin and Kekäläinen 2002), with the discount 1 / log2(rank + 1).
 * The ideal ranking shows one item a rank; one that shows several at a rank is no better than that.
 */
export function normalisedGainAt(found: readonly number[], relevant: number, k: number): number {
  const gain = sum(found.slice(0, k).map((count, index) => count * discount(index)));
  const ideal = sum(Array.from({ length: Math.min(k, relevant) }, (_, index) => discount(index)));
  return Math.min(1, gain / ideal);
}

/** @param index from 0 */
const discount = (index: number): number => 1 / Math.log2(index + 2);

/** Null where there are none. */
export const mean = (values: readonly number[]): number | null =>
  values.length === 0 ? null : sum(values) / values.length;

/**
 * The smallest of the values that at least the share `part` of them does not exceed (nearest rank); null where there are none.
 *
 * @param part above 0, at most 1
 */
export function percentile(values: readonly number[], part: number): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(part * sorted.length) - 1] ?? null;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
