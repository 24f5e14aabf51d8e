import { Problem } from '../../foundation/http/problem.js';
import type { Refusal } from './credits.repository.js';

/** Micro-credits, as members of the problem document: what is required, available and missing. */
export const insufficientCredits = (refusal: Refusal): Problem =>
  new Problem(
    402,
    'insufficient_credits',
    `This may cost up to ${refusal.required} micro-credits; ${refusal.missing} of them are missing.`,
    { members: { ...refusal } },
  );

export const tokenBudgetExceeded = (refusal: Refusal): Problem =>
  new Problem(
    402,
    'token_budget_exceeded',
    `This may cost up to ${refusal.required} micro-credits; the token’s budget of this month has ${refusal.available} left.`,
    { members: { ...refusal } },
  );

export const keyReused = (): Problem =>
  new Problem(
    422,
    'idempotency_key_reused',
    'This idempotency key was used for another movement of credits.',
  );

export const amountTooLarge = (): Problem =>
  new Problem(
    422,
    'amount_too_large',
    `Amounts of micro-credits, and their sums, go up to ${Number.MAX_SAFE_INTEGER}.`,
  );
