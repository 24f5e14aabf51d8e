import { z } from 'zod';

const pageFields = {
  page: z.coerce.number().int().min(1).max(1_000_000).default(1).describe('From 1.'),
  page_size: z.coerce.number().int().min(1).max(100).default(20).describe('At most 100.'),
  tenant: z.string().max(63).optional().describe('Only selects the tenant; must agree with the path.'),
};

/**
 * The query of a list: `page`, `page_size`, `search`, and `sort` by one of `sortable`, descending with a leading `-`.
 *
 * @param sortable field names on the wire; the first is the default
 */
export function listQuery<const Field extends string, Filters extends z.ZodRawShape>(
  sortable: readonly [Field, ...Field[]],
  filters: Filters,
) {
  const sorts = sortable.flatMap((field): Array<Field | `-${Field}`> => [field, `-${field}`]);
  return z.strictObject({
    ...pageFields,
    sort: z.enum(sorts).default(sortable[0] as never),
    search: z.string().max(200).optional(),
    ...filters,
  });
}

/** Only pages, for lists that cannot be sorted or searched. */
export const pageQuery = z.strictObject(pageFields);

export interface Page<T> {
  items: T[];
  /** Of all pages. */
  total: number;
}

/** The answer of a list on the wire. */
export function pageSchema<Item extends z.ZodType>(item: Item, id: string) {
  return z.object({ items: z.array(item), total: z.int(), page: z.int(), page_size: z.int() }).meta({ id });
}

export function toPage<T, Wire>(
  page: Page<T>,
  query: { page: number; page_size: number },
  map: (item: T) => Wire,
) {
  return { items: page.items.map(map), total: page.total, page: query.page, page_size: query.page_size };
}

/** `-created_at` as a column and a direction; the column comes from `columns`, never from the request. */
export function orderBy(sort: string, columns: Record<string, string>): string {
  const field = sort.replace(/^-/, '');
  const column = Object.hasOwn(columns, field) ? columns[field] : undefined;
  if (!column) throw new Error(`There is no column to sort by ${field}.`);
  return `${column} ${sort.startsWith('-') ? 'DESC' : 'ASC'}`;
}

/** A search text as a pattern for ILIKE, with its wildcards taken literally. */
export const likePattern = (search: string): string => `%${search.replace(/[\\%_]/g, '\\$&')}%`;

/** Sizes on the wire: mebibytes with two decimals. */
export const toMegabytes = (bytes: number): number => Math.round((bytes / 1024 / 1024) * 100) / 100;
