/** What can have a price. Tokens may have one for each model. */
export const PRICED_OPERATIONS = [
  'query',
  'embedding_tokens',
  'input_tokens',
  'output_tokens',
  'page_parsed',
  'storage_mb_month',
] as const;
export type PricedOperation = (typeof PRICED_OPERATIONS)[number];

/** How many of it the price is for. Storage is counted in bytes, and priced for a mebibyte and month. */
export const PRICED_QUANTITIES: Record<PricedOperation, number> = {
  query: 1,
  embedding_tokens: 1000,
  input_tokens: 1000,
  output_tokens: 1000,
  page_parsed: 1,
  storage_mb_month: 1024 * 1024,
};

export const isPricedByModel = (operation: PricedOperation): boolean => operation.endsWith('_tokens');

/** The largest amount on the wire: what JSON readers hold exactly. */
export const MOST_CREDITS = Number.MAX_SAFE_INTEGER;

/** How much of something is used. */
export interface CreditLine {
  operation: PricedOperation;
  model?: string | null;
  /** Whole; of storage bytes. */
  quantity: number;
}

/** The same with the price that counts. */
export interface PricedLine {
  operation: PricedOperation;
  model: string | null;
  quantity: number;
  /** Micro-credits for `per` of it. */
  micro_credits: number;
  per: number;
  /** Micro-credits, rounded up. */
  cost: number;
}

/** A price that holds. */
export interface Price {
  operation: PricedOperation;
  /** Null: every model that has no price of its own. */
  model: string | null;
  microCredits: number;
  validFrom: Date;
}

/** The sum of something goes past what amounts can be. */
export class AmountTooLargeError extends Error {
  override readonly name = 'AmountTooLargeError';
}

/** Prices as they are at one moment. They do not change: whoever holds the list goes on with these. */
export class PriceList {
  private readonly byKey: ReadonlyMap<string, number>;

  constructor(readonly prices: readonly Price[]) {
    this.byKey = new Map(
      prices.map(({ operation, model, microCredits }) => [keyOf(operation, model), microCredits]),
    );
  }

  /** Micro-credits; of a model without a price of its own what every model costs. 0 where there is no price. */
  of(operation: PricedOperation, model: string | null = null): number {
    const own = model === null ? undefined : this.byKey.get(keyOf(operation, model));
    return own ?? this.byKey.get(keyOf(operation, null)) ?? 0;
  }

  /**
   * What the lines cost, without those that cost nothing.
   *
   * @param split in how many parts the price is due: a month of storage in as many as it has days
   * @throws AmountTooLargeError
   */
  cost(lines: readonly CreditLine[], split = 1): { lines: PricedLine[]; total: number } {
    const priced = lines.flatMap(({ operation, model = null, quantity }): PricedLine[] => {
      const price = this.of(operation, model);
      if (price === 0 || quantity <= 0) return [];
      const per = PRICED_QUANTITIES[operation] * split;
      return [{ operation, model, quantity, micro_credits: price, per, cost: costOf(quantity, price, per) }];
    });
    const total = priced.reduce((sum, { cost }) => sum + BigInt(cost), 0n);
    return { lines: priced, total: asAmount(total) };
  }
}

const keyOf = (operation: string, model: string | null): string =>
  model === null ? operation : `${operation}/${model}`;

function costOf(quantity: number, price: number, per: number): number {
  const whole = BigInt(Math.ceil(quantity)) * BigInt(price);
  const divisor = BigInt(per);
  return asAmount((whole + divisor - 1n) / divisor);
}

function asAmount(value: bigint): number {
  if (value > BigInt(MOST_CREDITS)) throw new AmountTooLargeError('The amount is too large to be counted.');
  return Number(value);
}
