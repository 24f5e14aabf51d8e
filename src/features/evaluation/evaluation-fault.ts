import { ModelError } from '../../core/models/model.js';
import { Problem } from '../../foundation/http/problem.js';

/** Why a question could not be asked. */
export type Fault =
  /** No other question can be asked either. */
  | { kind: 'stays'; code: string; message: string }
  /** It may be asked later. `delay`: seconds; `limited`: the tenant has asked too much for the moment. */
  | { kind: 'passes'; code: string; message: string; delay: number; limited: boolean }
  /** Others may be asked. */
  | { kind: 'question'; code: string; message: string };

/** Seconds, where nothing says it. */
const DELAY = 5;
/** A longer wait is not waited for: a month's questions have been asked. */
const LONGEST_DELAY = 3600;

/** Null for what is no fault that somebody has reckoned with. */
export function faultOf(error: unknown): Fault | null {
  if (error instanceof ModelError) {
    const { code, message, retryable, retryAfter } = error;
    return retryable
      ? { kind: 'passes', code, message, delay: Math.min(retryAfter ?? DELAY, LONGEST_DELAY), limited: false }
      : { kind: 'question', code, message };
  }
  if (!(error instanceof Problem) || error.status === 500) return null;
  const { status, code, detail: message } = error;
  const delay = Number(error.options.headers?.['retry-after'] ?? DELAY);
  if (status === 503) return { kind: 'passes', code, message, delay, limited: false };
  if (status === 429 && delay <= LONGEST_DELAY)
    return { kind: 'passes', code, message, delay, limited: true };
  const stays = status === 402 || status === 403 || status === 404 || status === 429;
  return { kind: stays ? 'stays' : 'question', code, message };
}
