import { describe, expect, it } from 'vitest';
import { foundBy, mean, normalisedGainAt, percentile, recallAt, reciprocalRankAt } from './metrics.js';

describe('what a ranking has found', () => {
  it('counts each relevant item where it is shown first', () => {
    expect(foundBy(['x', 'a', 'a', 'y', 'b'], new Set(['a', 'b', 'c']))).toEqual([0, 1, 0, 0, 1]);
    expect(foundBy([], new Set(['a']))).toEqual([]);
  });
});

describe('recall', () => {
  // Two of four relevant items, at the ranks 2 and 5.
  const found = [0, 1, 0, 0, 1];

  it.each([
    [1, 0],
    [2, 0.25],
    [4, 0.25],
    [5, 0.5],
    [10, 0.5],
  ])('at %i is %d', (k, expected) => expect(recallAt(found, 4, k)).toBe(expected));

  it('is that of the whole ranking without a k', () => expect(recallAt(found, 4)).toBe(0.5));
  it('is 0 of nothing', () => expect(recallAt([], 3, 10)).toBe(0));
  it('counts each of several at one rank', () => expect(recallAt([2, 0, 1], 3, 1)).toBeCloseTo(2 / 3));
});

describe('the reciprocal rank', () => {
  it.each([
    [[1], 1],
    [[0, 1, 1], 0.5],
    [[0, 0, 0, 2], 0.25],
    [[0, 0], 0],
    [[], 0],
  ])('of %j is %d', (found, expected) => expect(reciprocalRankAt(found, 10)).toBe(expected));

  it('is 0 where the first one comes later than k', () => {
    expect(reciprocalRankAt([0, 0, 1], 2)).toBe(0);
    expect(reciprocalRankAt([0, 0, 1], 3)).toBeCloseTo(1 / 3);
  });
});

describe('the normalised discounted cumulative gain', () => {
  it('is 1 of the ideal ranking', () => {
    expect(normalisedGainAt([1, 1, 1], 3, 10)).toBeCloseTo(1);
    // Of twelve no ranking shows more than ten among the first ten.
    expect(normalisedGainAt(Array(12).fill(1), 12, 10)).toBeCloseTo(1);
  });

  it('is as worked out by hand', () => {
    // (1/log2(3) + 1/log2(6)) / (1/log2(2) + 1/log2(3) + 1/log2(4)) = (0.63093 + 0.38685) / (1 + 0.63093 + 0.5)
    expect(normalisedGainAt([0, 1, 0, 0, 1], 3, 10)).toBeCloseTo(0.47763, 4);
    // 1/log2(4) / 1
    expect(normalisedGainAt([0, 0, 1], 1, 10)).toBeCloseTo(0.5);
  });

  it('looks at the first k alone', () => {
    expect(normalisedGainAt([0, 0, 1], 1, 2)).toBe(0);
    expect(normalisedGainAt([], 2, 10)).toBe(0);
  });

  it('is 1 at most, also where several stand at one rank', () => {
    expect(normalisedGainAt([2], 2, 10)).toBe(1);
    // 2/log2(3) / (1 + 1/log2(3))
    expect(normalisedGainAt([0, 2], 2, 10)).toBeCloseTo(0.77371, 4);
  });
});

describe('figures of many', () => {
  it('have a mean', () => {
    expect(mean([1, 2, 6])).toBe(3);
    expect(mean([])).toBeNull();
  });

  it.each([
    [0.5, 30],
    [0.95, 50],
    [0.2, 10],
    [0.21, 20],
    [1, 50],
  ])('have a percentile %d, whatever their order: %d', (part, expected) =>
    expect(percentile([50, 10, 40, 20, 30], part)).toBe(expected),
  );

  it('have none of nothing', () => expect(percentile([], 0.5)).toBeNull());
});
