import { afterEach, describe, expect, it } from 'vitest';
import { ArrayBudget } from './array-budget.js';

const original = globalThis.Uint8Array;
afterEach(() => {
  globalThis.Uint8Array = original;
});

describe('ArrayBudget', () => {
  it('refuses what goes beyond the limit, until it is refilled', () => {
    const budget = new ArrayBudget(1000);
    expect(new Uint8Array(600)).toHaveLength(600);
    expect(() => new Uint8Array(600)).toThrow(RangeError);
    expect(budget.exhausted).toBe(true);
    budget.refill();
    expect(new Uint8Array(600)).toHaveLength(600);
    budget.release();
    expect(new Uint8Array(6000)).toHaveLength(6000);
  });

  it('leaves arrays what they are', () => {
    const budget = new ArrayBudget(10);
    class Derived extends Uint8Array {}
    expect(new Uint8Array([1, 2])).toBeInstanceOf(original);
    expect(new original(1)).toBeInstanceOf(Uint8Array);
    expect(new Derived(2)).toBeInstanceOf(Derived);
    // A view allocates nothing.
    expect(new Uint8Array(new ArrayBuffer(100))).toHaveLength(100);
    expect(budget.exhausted).toBe(false);
  });
});
