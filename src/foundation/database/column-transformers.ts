import type { ValueTransformer } from 'typeorm';

/** `pg` reads bigint as text; the sizes and counts kept here stay far below 2^53. */
export const bigintAsNumber: ValueTransformer = {
  to: (value: number) => value,
  from: (value: string) => Number(value),
};
