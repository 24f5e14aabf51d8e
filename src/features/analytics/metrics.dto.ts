import { z } from 'zod';
import { toMegabytes } from '../../foundation/http/pagination.js';
import type { Metrics } from './metrics.service.js';
import { PERIODS, changePct, periodField, toMilliseconds } from './usage-period.js';

export const metricsQuery = z.strictObject({
  period: periodField.default('7d'),
  tenant: z.string().max(63).optional().describe('Only selects the tenant; must agree with the path.'),
});

const count = (description: string, example: number) => z.int().describe(description).meta({ example });
const change = (description: string) =>
  z.number().nullable().describe(`${description}; null: nothing before`).meta({ example: 12.5 });

export const metricsSchema = z
  .object({
    period: z.enum(PERIODS),
    from: z.iso.datetime().describe('The beginning of an hour').meta({ example: '2026-01-08T10:00:00.000Z' }),
    to: z.iso.datetime().describe('Now').meta({ example: '2026-01-15T09:30:00.000Z' }),
    metrics: z.object({
      queries: count('Searches and questions', 1250),
      successful_queries: z.int().meta({ example: 1185 }),
      failed_queries: count('Those that were answered with an error', 65),
      average_duration_ms: z.number().nullable().describe('Of a query').meta({ example: 234 }),
      p95_duration_ms: z
        .number()
        .nullable()
        .describe('19 of 20 queries took no longer; estimated, off by 5 % at most')
        .meta({ example: 512.4 }),
      total_compute_time_ms: z.number().describe('Of all queries').meta({ example: 292_500 }),
      active_users: count('Members who made requests themselves, not through API tokens', 28),
      api_calls: count('Requests, queries among them', 15_600),
      failed_api_calls: z.int().meta({ example: 120 }),
      members: count('Now', 31),
      storage_used_mb: z.number().describe('Now, in MiB').meta({ example: 5120 }),
      documents: count('Now', 840),
      input_tokens: count('That chat models have read', 910_000),
      output_tokens: count('That chat models have written', 120_000),
      embedding_tokens: count('That were embedded, in questions and documents', 2_400_000),
      credits: count('Micro-credits', 4_200_000),
    }),
    trends: z
      .object({
        queries_change_pct: change('Per cent'),
        api_calls_change_pct: change('Per cent'),
        users_change_pct: change('Of active users'),
        members_change_pct: change('Per cent'),
        storage_change_pct: change('Per cent'),
        documents_change_pct: change('Per cent'),
        credits_change_pct: change('Per cent'),
      })
      .describe(
        'Against as many hours before; of members, storage and documents against the day before `from`',
      ),
  })
  .meta({ id: 'TenantMetrics' });

export type MetricsQuery = z.infer<typeof metricsQuery>;

export function toMetrics(found: Metrics): z.infer<typeof metricsSchema> {
  const { activity, activityBefore: before, levels } = found;
  return {
    period: found.period,
    from: found.from.toISOString(),
    to: found.to.toISOString(),
    metrics: {
      queries: activity.queries,
      successful_queries: activity.queries - activity.failedQueries,
      failed_queries: activity.failedQueries,
      average_duration_ms: activity.queries
        ? toMilliseconds(activity.queryDurationUs / activity.queries)
        : null,
      p95_duration_ms: found.p95DurationUs === null ? null : toMilliseconds(found.p95DurationUs),
      total_compute_time_ms: toMilliseconds(activity.queryDurationUs),
      active_users: activity.activeUsers,
      api_calls: activity.apiCalls,
      failed_api_calls: activity.failedApiCalls,
      members: levels.now.users,
      storage_used_mb: toMegabytes(levels.now.storageBytes),
      documents: levels.now.documents,
      input_tokens: activity.inputTokens,
      output_tokens: activity.outputTokens,
      embedding_tokens: activity.embeddingTokens,
      credits: activity.credits,
    },
    trends: {
      queries_change_pct: changePct(activity.queries, before.queries),
      api_calls_change_pct: changePct(activity.apiCalls, before.apiCalls),
      users_change_pct: changePct(activity.activeUsers, before.activeUsers),
      members_change_pct: changePct(levels.now.users, levels.before?.users ?? null),
      storage_change_pct: changePct(levels.now.storageBytes, levels.before?.storageBytes ?? null),
      documents_change_pct: changePct(levels.now.documents, levels.before?.documents ?? null),
      credits_change_pct: changePct(activity.credits, before.credits),
    },
  };
}
