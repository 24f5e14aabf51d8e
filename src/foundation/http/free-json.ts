import { z } from 'zod';

/** Bytes of one free JSON field, as it is stored. */
const MOST_BYTES = 64 * 1024;

export const jsonValue = z.json().meta({ id: 'Json', description: 'Any JSON value' });

/** A JSON object whose fields are the caller's business. */
export const freeJson = z
  .record(z.string().max(200), jsonValue)
  .refine(value => Buffer.byteLength(JSON.stringify(value)) <= MOST_BYTES, 'must not be larger than 64 kB');
