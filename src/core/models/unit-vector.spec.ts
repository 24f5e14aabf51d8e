import { describe, expect, it } from 'vitest';
import { unitVector } from './unit-vector.js';

describe('unitVector', () => {
  it('keeps the direction and makes the length one', () => {
    expect(unitVector([3, 4])).toEqual([0.6, 0.8]);
    expect(unitVector(Float32Array.of(0, -2))).toEqual([0, -1]);
  });

  it.each([
    [[]],
    [[0, 0]],
    [[1, NaN]],
    [[1, Infinity]],
    [[1e200, 1e200]],
    [JSON.parse('[1, null]') as number[]],
  ])('finds no direction in %j', values => {
    expect(unitVector(values)).toBeNull();
  });
});
