import { isDeepStrictEqual } from 'node:util';

/** Characters of JSON beyond which a value is not copied into the audit. */
const LONGEST_VALUE = 500;

type Fields = Record<string, unknown>;

/**
 * What a change changes, for the audit: each field before and after. Of free JSON it names single keys
 * (`settings.timezone`), and of what is long only how long it is.
 *
 * @returns null where nothing changes
 */
export function changesBetween(before: Fields, after: Fields): Record<string, object> | null {
  const changes = new Map<string, { before: unknown; after: unknown }>();
  for (const [field, value] of Object.entries(after)) {
    const old = before[field];
    if (isDeepStrictEqual(old, value)) continue;
    if (!isObject(old) || !isObject(value)) {
      changes.set(field, { before: shown(old), after: shown(value) });
      continue;
    }
    for (const key of new Set([...Object.keys(old), ...Object.keys(value)])) {
      if (isDeepStrictEqual(old[key], value[key])) continue;
      changes.set(`${field}.${key}`, { before: shown(old[key]), after: shown(value[key]) });
    }
  }
  return changes.size === 0 ? null : Object.fromEntries(changes);
}

function shown(value: unknown): unknown {
  const length = JSON.stringify(value)?.length ?? 0;
  return length > LONGEST_VALUE ? `(${length} characters)` : (value ?? null);
}

const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
