import { z } from 'zod';
import { type UsageTotals, type UsageWindow, usageWindow } from '../../core/usage/usage-window.js';
import { listQuery } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { type GroupUsage, USAGE_GROUPS, type UsageGroup } from './usage-report.repository.js';
import type { UsageReport } from './usage-report.service.js';
import { periodField, periodWindow, toMilliseconds } from './usage-period.js';

const DAY_MS = 24 * 3_600_000;
const LONGEST_DAYS = 366;
const SORTABLE = [
  'key',
  'name',
  'calls',
  'api_calls',
  'queries',
  'failures',
  'tokens',
  'credits',
  'duration',
] as const;

/** A day, or a moment with its offset from UTC. */
const momentField = z
  .union(
    [z.iso.date(), z.iso.datetime({ offset: true })],
    'must be a date or a time of ISO 8601, with Z or an offset',
  )
  .refine(text => {
    const year = new Date(text).getUTCFullYear();
    return year >= 1970 && year < 9998;
  }, 'must lie in the years 1970 to 9997');

export const usageReportQuery = listQuery(SORTABLE, {
  group_by: z.enum(USAGE_GROUPS).default('day').describe('What the usage is taken apart by'),
  period: periodField.optional().describe('Whole hours up to now; 30d where neither it nor `from` is given'),
  from: momentField
    .optional()
    .describe('From this day (UTC) or from the hour of this moment on, instead of `period`')
    .meta({ example: '2026-01-01' }),
  until: momentField
    .optional()
    .describe('To the end of this day (UTC) or of the hour of this moment [now]')
    .meta({ example: '2026-01-31' }),
  format: z.enum(['json', 'csv']).default('json').describe('`csv`: all groups in one file, without pages'),
})
  .omit({ search: true, sort: true })
  .extend({
    sort: z
      .enum(
        SORTABLE.flatMap((field): Array<(typeof SORTABLE)[number] | `-${(typeof SORTABLE)[number]}`> => [
          field,
          `-${field}`,
        ]),
      )
      .optional()
      .describe('[`key` by day and hour, else `-calls`]'),
  });

const count = (description: string, example: number) => z.int().describe(description).meta({ example });

const sumsSchema = {
  api_calls: count('Requests, queries among them', 960),
  failed_api_calls: z.int().meta({ example: 9 }),
  queries: count('Searches and questions', 210),
  failed_queries: z.int().meta({ example: 2 }),
  jobs: count('Documents that were ingested, or failed', 40),
  failed_jobs: z.int().meta({ example: 1 }),
  input_tokens: count('That chat models have read', 91_000),
  output_tokens: count('That chat models have written', 12_000),
  embedding_tokens: count('That were embedded', 240_000),
  credits: count('Micro-credits', 420_000),
};

export const usageReportSchema = z
  .object({
    group_by: z.enum(USAGE_GROUPS),
    from: z.iso.datetime().meta({ example: '2026-01-01T00:00:00.000Z' }),
    until: z.iso.datetime().describe('Exclusive').meta({ example: '2026-02-01T00:00:00.000Z' }),
    totals: z.object(sumsSchema).describe('Of all groups'),
    items: z.array(
      z.object({
        key: z
          .string()
          .nullable()
          .describe('An id, a name, a day or an hour; null: what belongs to none')
          .meta({ example: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11' }),
        name: z
          .string()
          .nullable()
          .describe('Of a knowledge base or token, a member’s e-mail; null where it is gone or hidden')
          .meta({ example: 'Handbook' }),
        calls: count('Requests and jobs', 1000),
        failures: z.int().meta({ example: 10 }),
        duration_ms: z.number().describe('Of all of them').meta({ example: 92_000 }),
        average_duration_ms: z.number().meta({ example: 92 }),
        ...sumsSchema,
      }),
    ),
    total: z.int(),
    page: z.int(),
    page_size: z.int(),
  })
  .meta({ id: 'UsageReport' });

export type UsageReportQuery = z.infer<typeof usageReportQuery>;

/** @throws Problem 422 where the time is given twice, ends before it begins, or is longer than a year */
export function toWindow(query: UsageReportQuery, now = new Date()): UsageWindow {
  const { group_by: group, period, from, until } = query;
  const options = { days: group !== 'hour' };
  if (period !== undefined && (from !== undefined || until !== undefined))
    throw invalid('period', 'give period or from and until, not both');
  if (until !== undefined && from === undefined) throw invalid('from', 'must be given with until');
  if (from === undefined) return periodWindow(period ?? '30d', now, options);
  const window = usageWindow(new Date(from), until === undefined ? now : endOf(until), options);
  if (window.from >= window.until) throw invalid('until', 'must not be before from');
  if (window.until.getTime() - window.from.getTime() > LONGEST_DAYS * DAY_MS)
    throw invalid('from', `must be at most ${LONGEST_DAYS} days before until`);
  return window;
}

/** Of a day its end, of a moment itself: the window ends with its hour. */
const endOf = (text: string): Date =>
  /^[\d-]{10}$/.test(text) ? new Date(new Date(text).getTime() + DAY_MS) : new Date(text);

const invalid = (path: string, message: string): Problem =>
  Problem.invalid([{ path, code: 'custom', message: `Invalid input: ${message}` }]);

export const toSort = (query: UsageReportQuery): string =>
  query.sort ?? (isTime(query.group_by) ? 'key' : '-calls');

const isTime = (group: UsageGroup): boolean => group === 'day' || group === 'hour';

const toSums = (totals: UsageTotals) => ({
  api_calls: totals.apiCalls,
  failed_api_calls: totals.failedApiCalls,
  queries: totals.queries,
  failed_queries: totals.failedQueries,
  jobs: totals.jobs,
  failed_jobs: totals.failedJobs,
  input_tokens: totals.inputTokens,
  output_tokens: totals.outputTokens,
  embedding_tokens: totals.embeddingTokens,
  credits: totals.credits,
});

const toGroup = (group: GroupUsage) => ({
  key: group.key,
  name: group.name,
  calls: group.calls,
  failures: group.failures,
  duration_ms: toMilliseconds(group.durationUs),
  average_duration_ms: toMilliseconds(group.durationUs / group.calls),
  ...toSums(group),
});

export function toUsageReport(
  { items, total, window, totals }: UsageReport,
  query: UsageReportQuery,
): z.infer<typeof usageReportSchema> {
  return {
    group_by: query.group_by,
    from: window.from.toISOString(),
    until: window.until.toISOString(),
    totals: toSums(totals),
    items: items.map(toGroup),
    total,
    page: query.page,
    page_size: query.page_size,
  };
}

/** The same as columns and rows. */
export function toUsageTable(report: UsageReport, query: UsageReportQuery) {
  const groups = report.items.map(toGroup);
  const columns = ['key', 'name', 'calls', 'failures', 'duration_ms', 'average_duration_ms'] as const;
  const sums = Object.keys(sumsSchema) as Array<keyof typeof sumsSchema>;
  return {
    columns: [query.group_by, ...columns.slice(1), ...sums],
    rows: groups.map(group => [...columns, ...sums].map(column => group[column])),
  };
}
