import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AmountTooLargeError, MOST_CREDITS, type Price, PriceList } from './price-list.js';

const price = (operation: Price['operation'], microCredits: number, model: string | null = null): Price => ({
  operation,
  model,
  microCredits,
  validFrom: new Date(),
});

const list = new PriceList([
  price('query', 500),
  price('output_tokens', 1000),
  price('output_tokens', 1600, 'large'),
  price('output_tokens', 0, 'own'),
  price('page_parsed', 0),
  price('storage_mb_month', 300),
]);

describe('a list of prices', () => {
  it('prefers a model’s own price, also where it is 0', () => {
    expect(list.of('output_tokens', 'large')).toBe(1600);
    expect(list.of('output_tokens', 'other')).toBe(1000);
    expect(list.of('output_tokens', 'own')).toBe(0);
    expect(list.of('output_tokens')).toBe(1000);
    expect(list.of('input_tokens', 'large')).toBe(0);
  });

  it('says what lines cost, each rounded up, without those that cost nothing', () => {
    const { lines, total } = list.cost([
      { operation: 'query', quantity: 1 },
      { operation: 'output_tokens', model: 'large', quantity: 1 },
      { operation: 'output_tokens', model: 'large', quantity: 1000 },
      { operation: 'output_tokens', model: 'own', quantity: 1000 },
      { operation: 'page_parsed', quantity: 7 },
      { operation: 'input_tokens', model: 'large', quantity: 100 },
      { operation: 'query', quantity: 0 },
    ]);
    expect(lines.map(({ cost }) => cost)).toEqual([500, 2, 1600]);
    expect(lines[1]).toEqual({
      operation: 'output_tokens',
      model: 'large',
      quantity: 1,
      micro_credits: 1600,
      per: 1000,
      cost: 2,
    });
    expect(total).toBe(2102);
  });

  it('splits the price of a month among its days', () => {
    const mebibytes = (quantity: number, days: number) =>
      list.cost([{ operation: 'storage_mb_month', quantity: quantity * 1024 * 1024 }], days).total;
    expect(mebibytes(10, 30)).toBe(100);
    expect(mebibytes(10, 31)).toBe(97);
    expect(list.cost([{ operation: 'storage_mb_month', quantity: 1 }], 30).total).toBe(1);
  });

  it('is exact to the largest amount, and refuses what lies beyond', () => {
    const dear = new PriceList([price('query', MOST_CREDITS), price('input_tokens', MOST_CREDITS)]);
    expect(dear.cost([{ operation: 'query', quantity: 1 }]).total).toBe(MOST_CREDITS);
    expect(dear.cost([{ operation: 'input_tokens', quantity: 999 }]).total).toBe(
      Number((BigInt(MOST_CREDITS) * 999n + 999n) / 1000n),
    );
    for (const lines of [
      [{ operation: 'query' as const, quantity: 2 }],
      [{ operation: 'input_tokens' as const, quantity: 1001 }],
      [
        { operation: 'query' as const, quantity: 1 },
        { operation: 'input_tokens' as const, quantity: 1 },
      ],
    ])
      expect(() => dear.cost(lines)).toThrow(AmountTooLargeError);
  });

  it('never undercharges, and overcharges by less than one', () => {
    fc.assert(
      fc.property(fc.nat({ max: 1e9 }), fc.nat({ max: 1e9 }), (quantity, microCredits) => {
        const one = new PriceList([price('input_tokens', microCredits)]);
        const { total } = one.cost([{ operation: 'input_tokens', quantity }]);
        const exact = BigInt(quantity) * BigInt(microCredits);
        expect(BigInt(total) * 1000n >= exact).toBe(true);
        expect((BigInt(total) - 1n) * 1000n < exact || total === 0).toBe(true);
      }),
    );
  });
});
