import { z } from 'zod';
import { pageQuery, pageSchema } from '../../foundation/http/pagination.js';
import { momentField } from './moment-fields.js';
import {
  MOST_CREDITS,
  PRICED_OPERATIONS,
  PRICED_QUANTITIES,
  type Price,
  isPricedByModel,
} from './price-list.js';
import type { PriceChange } from './prices.service.js';
import type { StoredPrice } from './prices.repository.js';

const MOST_PRICES = 500;

const operationField = z
  .enum(PRICED_OPERATIONS)
  .describe(
    'Tokens are priced by the thousand, storage by the mebibyte and month, everything else one by one',
  )
  .meta({ example: 'output_tokens' });
const modelField = z.string().trim().min(1).max(200);
const tenantField = z.string().max(63).optional().describe('Only selects the tenant whose bills these make');

export const listPricesQuery = z.strictObject({
  at: momentField.optional().describe('The prices of this moment; of now where it is missing'),
  tenant: tenantField,
});

export const priceHistoryQuery = pageQuery.extend({
  operation: operationField.optional(),
  model: modelField.optional(),
});

const changeSchema = z
  .strictObject({
    operation: operationField,
    model: modelField
      .nullable()
      .default(null)
      .describe('Of tokens; null: every model without a price of its own'),
    micro_credits: z
      .int()
      .min(0)
      .max(MOST_CREDITS)
      .nullable()
      .describe('0: free. Null: no such price any more, so that a model costs what every model costs'),
  })
  .refine(({ operation, model }) => model === null || isPricedByModel(operation), {
    path: ['model'],
    error: 'Invalid input: only tokens have prices by model',
  });

export const setPricesSchema = z
  .strictObject({
    prices: z
      .array(changeSchema)
      .min(1)
      .max(MOST_PRICES)
      .refine(
        prices =>
          new Set(prices.map(({ operation, model }) => JSON.stringify([operation, model]))).size ===
          prices.length,
        'Invalid input: names the same price twice',
      ),
  })
  .meta({
    id: 'SetPrices',
    example: {
      prices: [
        { operation: 'query', micro_credits: 500 },
        { operation: 'output_tokens', model: 'gpt-4.1-mini', micro_credits: 1600 },
      ],
    },
  });

const priceFields = {
  operation: operationField,
  model: z.string().nullable().describe('Null: every model without a price of its own'),
  per: z.int().describe('How many of it the price is for; of storage bytes').meta({ example: 1000 }),
  valid_from: z.iso.datetime(),
};

export const priceSchema = z
  .object({ ...priceFields, micro_credits: z.int().meta({ example: 1600 }) })
  .meta({ id: 'Price' });

export const pricesSchema = z.object({ items: z.array(priceSchema) }).meta({ id: 'Prices' });

export const pastPriceSchema = z
  .object({
    ...priceFields,
    micro_credits: z
      .int()
      .nullable()
      .describe('Null: from then on there was no such price')
      .meta({ example: 1600 }),
  })
  .meta({ id: 'PastPrice' });

export const priceHistoryPageSchema = pageSchema(pastPriceSchema, 'PriceHistoryPage');

export type ListPrices = z.infer<typeof listPricesQuery>;
export type PriceHistory = z.infer<typeof priceHistoryQuery>;
export type SetPrices = z.infer<typeof setPricesSchema>;

export const toChanges = ({ prices }: SetPrices): PriceChange[] =>
  prices.map(({ operation, model, micro_credits: microCredits }) => ({ operation, model, microCredits }));

export function toPrice<Stored extends Price | StoredPrice>(price: Stored) {
  return {
    operation: price.operation,
    model: price.model,
    micro_credits: price.microCredits as Stored['microCredits'],
    per: PRICED_QUANTITIES[price.operation],
    valid_from: price.validFrom.toISOString(),
  };
}
