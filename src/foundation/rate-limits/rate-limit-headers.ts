import type { FastifyReply } from 'fastify';
import { Problem } from '../http/problem.js';

/** A limit that a request was counted against. */
export interface Allowance {
  limit: number;
  /** What is left in this window; not below 0. */
  remaining: number;
  /** Seconds until the window ends, rounded up. */
  resetSeconds: number;
  /** Seconds of a whole window. */
  windowSeconds: number;
}

/** For the headers that pages of other origins may read. */
export const RATE_LIMIT_HEADERS = [
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
  'ratelimit-policy',
];

const told = new WeakMap<FastifyReply, Allowance[]>();

/**
 * Says on the answer, whatever it will be, what is left: of the tightest of all limits that the request was counted
 * against (draft-ietf-httpapi-ratelimit-headers-06).
 */
export function tellAllowances(reply: FastifyReply, allowances: readonly Allowance[]): void {
  if (allowances.length === 0) return;
  const all = [...(told.get(reply) ?? []), ...allowances];
  told.set(reply, all);
  let tightest = all[0] as Allowance;
  for (const allowance of all) if (isTighter(allowance, tightest)) tightest = allowance;
  void reply.headers({
    'ratelimit-limit': String(tightest.limit),
    'ratelimit-remaining': String(tightest.remaining),
    'ratelimit-reset': String(tightest.resetSeconds),
    'ratelimit-policy': all.map(({ limit, windowSeconds }) => `${limit};w=${windowSeconds}`).join(', '),
  });
}

/** Of two that are used up, the one that lasts. */
const isTighter = (a: Allowance, b: Allowance): boolean =>
  a.remaining === b.remaining ? a.resetSeconds > b.resetSeconds : a.remaining < b.remaining;

/** @param waitSeconds until another try may succeed */
export function rateLimited(waitSeconds: number, members?: Record<string, unknown>): Problem {
  const seconds = Math.max(1, Math.ceil(waitSeconds));
  return new Problem(429, 'rate_limited', `Too many requests. Try again in ${seconds} seconds.`, {
    headers: { 'retry-after': String(seconds) },
    members,
  });
}
