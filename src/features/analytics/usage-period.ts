import { z } from 'zod';
import { type UsageWindow, usageWindow } from '../../core/usage/usage-window.js';

const HOUR_MS = 3_600_000;

export const PERIODS = ['24h', '7d', '30d', '90d'] as const;
export type Period = (typeof PERIODS)[number];

const HOURS: Record<Period, number> = { '24h': 24, '7d': 7 * 24, '30d': 30 * 24, '90d': 90 * 24 };

export const periodField = z
  .enum(PERIODS)
  .describe('Whole hours of UTC; the last is the one that has begun.')
  .meta({ example: '30d' });

/** As many whole hours as the period has, with the current one as the last. */
export function periodWindow(period: Period, now: Date, options?: { days: boolean }): UsageWindow {
  const until = Math.ceil((now.getTime() + 1) / HOUR_MS) * HOUR_MS;
  return usageWindow(new Date(until - HOURS[period] * HOUR_MS), new Date(until), options);
}

/**
 * By how much something has changed.
 *
 * @returns per cent with one decimal; null where there was nothing before
 */
export const changePct = (now: number, before: number | null): number | null =>
  before ? Math.round(((now - before) / before) * 1000) / 10 : null;

/** Microseconds as milliseconds with three decimals. */
export const toMilliseconds = (microseconds: number): number => Math.round(microseconds) / 1000;
