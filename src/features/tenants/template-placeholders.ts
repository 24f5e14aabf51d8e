import { z } from 'zod';

/** `${NAME}`; a `$` before it makes it stand for itself. */
const PLACEHOLDER = /\$?\$\{([A-Z][A-Z0-9_]{0,63})\}/g;

/** Values for placeholders, by name. */
export const placeholdersField = z
  .record(
    z.string().regex(/^[A-Z][A-Z0-9_]{0,63}$/, 'must be capital letters, digits and underscores'),
    z.string().max(2000),
  )
  .refine(values => Object.keys(values).length <= 100, 'must not be more than 100')
  .meta({ example: { CUSTOMER_ADMIN_EMAIL: 'admin@customer.example.com' } });

/** Whether a text has a placeholder in it, so that its form is known only once that has its value. */
export function hasPlaceholder(value: unknown): boolean {
  return (
    typeof value === 'string' && [...value.matchAll(PLACEHOLDER)].some(([text]) => !text.startsWith('$$'))
  );
}

/**
 * Puts values in the place of placeholders, in every string of a JSON value. The values themselves are not looked
 * through again.
 *
 * @param missing is given the names that have no value
 */
export function fillPlaceholders<T>(value: T, values: ReadonlyMap<string, string>, missing: Set<string>): T {
  if (typeof value === 'string') {
    return value.replaceAll(PLACEHOLDER, (text, name: string) => {
      if (text.startsWith('$$')) return text.slice(1);
      const found = values.get(name);
      if (found === undefined) missing.add(name);
      return found ?? text;
    }) as T;
  }
  if (Array.isArray(value)) return value.map(item => fillPlaceholders<unknown>(item, values, missing)) as T;
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, fillPlaceholders<unknown>(item, values, missing)]),
    ) as T;
  }
  return value;
}
