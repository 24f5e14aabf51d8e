import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { durationBucket, durationQuantile } from './duration-histogram.js';

const durations = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 3_600_000_000 }), fc.integer({ min: 1, max: 50 })),
  {
    minLength: 1,
    maxLength: 400,
  },
);

const histogramOf = (values: readonly number[]): Map<number, number> => {
  const counts = new Map<number, number>();
  for (const value of values) {
    const bucket = durationBucket(value);
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  }
  return counts;
};

describe('the histogram of durations', () => {
  it('estimates every quantile within 5 % of the exact one', () => {
    fc.assert(
      fc.property(durations, fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
        const sorted = values.toSorted((a, b) => a - b);
        const exact = sorted[Math.max(1, Math.ceil(share * sorted.length)) - 1] as number;
        const estimate = durationQuantile(histogramOf(values), share) as number;
        expect(Math.abs(estimate - exact)).toBeLessThanOrEqual(0.05 * exact);
      }),
      { numRuns: 2_000 },
    );
  });

  it('says the same of two histograms that are added as of one over all values', () => {
    fc.assert(
      fc.property(durations, durations, (some, others) => {
        const added = histogramOf(some);
        for (const [bucket, count] of histogramOf(others))
          added.set(bucket, (added.get(bucket) ?? 0) + count);
        expect(durationQuantile(added, 0.95)).toBe(durationQuantile(histogramOf([...some, ...others]), 0.95));
      }),
    );
  });

  it('fits every duration there can be into a smallint', () => {
    expect(durationBucket(1)).toBe(0);
    expect(durationBucket(Number.MAX_SAFE_INTEGER)).toBeLessThan(1_000);
  });

  it('knows nothing of nothing', () => {
    expect(durationQuantile(new Map(), 0.95)).toBeNull();
  });
});
