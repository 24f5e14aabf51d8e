/**
 * A histogram with logarithmic buckets, as DDSketch has them (Masson, Rim, Lee: "DDSketch", VLDB 2019): bucket i holds
 * what is greater than γ^(i-1) and at most γ^i microseconds. What is estimated from it is off by at most
 * (γ - 1) / (γ + 1) = 4.8 % of the exact quantile. Histograms of several hours are added bucket by bucket.
 */
const GAMMA = 1.1;
const LN_GAMMA = Math.log(GAMMA);

/** @param microseconds at least 1 */
export const durationBucket = (microseconds: number): number =>
  Math.max(0, Math.ceil(Math.log(microseconds) / LN_GAMMA));

/**
 * The nearest-rank quantile.
 *
 * @param counts bucket → how many
 * @param share 0 to 1
 * @returns microseconds; null of nothing
 */
export function durationQuantile(counts: ReadonlyMap<number, number>, share: number): number | null {
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const rank = Math.max(1, Math.ceil(share * total));
  let seen = 0;
  for (const [bucket, count] of [...counts].toSorted(([a], [b]) => a - b)) {
    seen += count;
    // The point of the bucket that is as far from its lower end as from its upper, in proportion.
    if (seen >= rank) return (2 * GAMMA ** bucket) / (GAMMA + 1);
  }
  return null;
}
