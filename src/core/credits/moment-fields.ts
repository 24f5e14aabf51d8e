import { z } from 'zod';

/** What dates of JavaScript, of PostgreSQL and of ISO 8601 agree on. */
const isCommonYear = (text: string): boolean => {
  const year = new Date(text).getUTCFullYear();
  return year >= 1970 && year < 9999;
};
const YEARS = 'must lie in the years 1970 to 9998';

/** A moment with its offset from UTC. */
export const momentField = z.iso.datetime({ offset: true }).refine(isCommonYear, YEARS);

/** The same, or a day. */
export const dayOrMomentField = z
  .union(
    [z.iso.date(), z.iso.datetime({ offset: true })],
    'must be a date or a time of ISO 8601, with Z or an offset',
  )
  .refine(isCommonYear, YEARS);
