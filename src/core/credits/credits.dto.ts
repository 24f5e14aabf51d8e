import { z } from 'zod';
import { pageQuery, pageSchema } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import {
  type CreditAccount,
  ENTRY_TYPES,
  type LedgerEntry,
  type LedgerFilter,
} from './credit-accounts.repository.js';
import { dayOrMomentField, momentField } from './moment-fields.js';
import { MOST_CREDITS, PRICED_OPERATIONS } from './price-list.js';

const DAY = 24 * 60 * 60 * 1000;
/** Beginnings of the keys that movements have of their own accord. */
const OWN_KEYS = /^(reserve|commit|release|expire|storage|add):/;

const amountField = z.int().meta({ example: 5_000_000 });

export const creditAccountSchema = z
  .object({
    balance: amountField.describe(
      'Micro-credits that are available; below 0 only where limits are not enforced',
    ),
    held: z.int().describe('Micro-credits that open reservations hold').meta({ example: 1200 }),
    granted: amountField.describe('All that was ever granted'),
    spent_this_month: z.int().describe('In this calendar month (UTC)').meta({ example: 48_000 }),
    low_threshold: z
      .int()
      .nullable()
      .describe('Below it the event `credits.low` is sent; a tenth of the last grant where none is set')
      .meta({ example: 500_000 }),
    low_threshold_set: z.boolean().describe('Whether somebody has set it'),
    next_expiry: z
      .object({ expires_at: z.iso.datetime(), amount: amountField })
      .nullable()
      .describe('When granted credits expire next, and how many'),
    enforced: z.boolean().describe('Where false, what goes past the balance is let through'),
  })
  .meta({ id: 'CreditAccount' });

const lineSchema = z
  .object({
    operation: z.enum(PRICED_OPERATIONS),
    model: z.string().nullable(),
    quantity: z.int().meta({ example: 812 }),
    micro_credits: z.int().describe('The price for `per` of it').meta({ example: 1600 }),
    per: z.int().meta({ example: 1000 }),
    cost: z.int().describe('Micro-credits, rounded up').meta({ example: 1300 }),
  })
  .meta({ id: 'CreditLine' });

export const ledgerEntrySchema = z
  .object({
    id: z.uuid(),
    sequence: z.int().describe('From 1, without a gap').meta({ example: 42 }),
    type: z.enum(ENTRY_TYPES),
    delta: z
      .int()
      .describe('What the balance was changed by; the sum of all is the balance')
      .meta({ example: -1300 }),
    amount: z.int().meta({ example: 1300 }),
    balance_after: amountField,
    reservation_id: z.uuid().nullable(),
    grant_id: z.uuid().nullable(),
    operation: z.string().nullable().describe('What was done').meta({ example: 'query' }),
    lines: z.array(lineSchema).describe('What it used, or could use, at the prices that counted'),
    idempotency_key: z.string(),
    token_id: z.uuid().nullable(),
    user_id: z.uuid().nullable(),
    note: z.string().nullable(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: 'CreditLedgerEntry' });

export const ledgerPageSchema = pageSchema(ledgerEntrySchema, 'CreditLedgerPage');

const filterFields = {
  type: z.enum(ENTRY_TYPES).optional(),
  operation: z.string().max(100).optional().meta({ example: 'query' }),
  token_id: z.uuid().optional(),
  start_date: dayOrMomentField
    .optional()
    .describe('From this day (UTC) or moment on')
    .meta({ example: '2026-01-01' }),
  end_date: dayOrMomentField
    .optional()
    .describe('To this moment, or to the end of this day (UTC)')
    .meta({ example: '2026-01-31' }),
};

export const listLedgerQuery = pageQuery.extend(filterFields);

export const exportLedgerQuery = z.strictObject({
  format: z.enum(['jsonl', 'csv']).default('jsonl'),
  tenant: z.string().max(63).optional().describe('Only selects the tenant; must agree with the path.'),
  ...filterFields,
});

export const addCreditsSchema = z
  .strictObject({
    type: z.enum(['grant', 'adjust']).describe('`adjust` corrects, also downwards'),
    amount: z
      .int()
      .min(-MOST_CREDITS)
      .max(MOST_CREDITS)
      .describe('Micro-credits; positive where they are granted')
      .meta({ example: 5_000_000 }),
    expires_at: momentField
      .nullable()
      .optional()
      .describe('What is left of a grant then is gone; never where it is missing'),
    note: z.string().trim().min(1).max(500).nullable().optional().meta({ example: 'Invoice 2026-0042' }),
    idempotency_key: z
      .string()
      .regex(/^[\x21-\x7e]{1,255}$/, 'must have 1 to 255 visible ASCII characters')
      .optional()
      .describe('The same key again changes nothing, for ever; the header Idempotency-Key does the same'),
    tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
  })
  .refine(({ type, amount }) => (type === 'grant' ? amount > 0 : amount !== 0), {
    path: ['amount'],
    error: 'Invalid input: a grant is positive, and an adjustment not 0',
  })
  .refine(({ type, expires_at: expiry }) => type === 'grant' || !expiry, {
    path: ['expires_at'],
    error: 'Invalid input: only grants expire',
  })
  .meta({
    id: 'AddCredits',
    example: { type: 'grant', amount: 5_000_000, note: 'Invoice 2026-0042' },
  });

export const updateCreditsSchema = z
  .strictObject({
    low_threshold: z.int().min(0).max(MOST_CREDITS).nullable().describe('Null: a tenth of the last grant'),
    tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
  })
  .meta({ id: 'UpdateCredits', example: { low_threshold: 500_000 } });

export type ListLedger = z.infer<typeof listLedgerQuery>;
export type ExportLedger = z.infer<typeof exportLedgerQuery>;
export type AddCredits = z.infer<typeof addCreditsSchema>;
export type UpdateCredits = z.infer<typeof updateCreditsSchema>;

/** @throws Problem 422 where the time ends before it begins */
export function toLedgerFilter(query: Pick<ListLedger, keyof typeof filterFields>): LedgerFilter {
  const from = query.start_date === undefined ? undefined : new Date(query.start_date);
  const until = query.end_date === undefined ? undefined : endOf(query.end_date);
  if (from && until && from >= until) {
    throw Problem.invalid([
      { path: 'end_date', code: 'too_small', message: 'Invalid input: must not be before start_date' },
    ]);
  }
  return { type: query.type, operation: query.operation, tokenId: query.token_id, from, until };
}

/** Exclusive: of a day its end, of a moment the millisecond after. */
const endOf = (text: string): Date =>
  new Date(new Date(text).getTime() + (/^[\d-]{10}$/.test(text) ? DAY : 1));

/** @throws Problem 422 where the key is one that movements have of their own accord */
export function toMovementKey(given: string | null, fallback: string): string {
  if (given !== null && OWN_KEYS.test(given)) {
    throw Problem.invalid([
      {
        path: 'idempotency_key',
        code: 'invalid_format',
        message: `Invalid input: keys that begin with ${OWN_KEYS.exec(given)?.[0]} are the ledger’s own`,
      },
    ]);
  }
  return given ?? `add:${fallback}`;
}

export const toCreditAccount = (account: CreditAccount & { enforced: boolean }) => ({
  balance: account.balance,
  held: account.held,
  granted: account.granted,
  spent_this_month: account.spentThisMonth,
  low_threshold: account.lowThreshold,
  low_threshold_set: account.lowThresholdSet,
  next_expiry: account.nextExpiry && {
    expires_at: account.nextExpiry.expiresAt.toISOString(),
    amount: account.nextExpiry.amount,
  },
  enforced: account.enforced,
});

export const toLedgerEntry = (entry: LedgerEntry) => ({
  id: entry.id,
  sequence: entry.sequence,
  type: entry.type,
  delta: entry.delta,
  amount: entry.amount,
  balance_after: entry.balanceAfter,
  reservation_id: entry.reservationId,
  grant_id: entry.grantId,
  operation: entry.operation,
  lines: entry.lines,
  idempotency_key: entry.idempotencyKey,
  token_id: entry.tokenId,
  user_id: entry.userId,
  note: entry.note,
  created_at: entry.createdAt.toISOString(),
});
