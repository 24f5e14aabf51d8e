import { z } from 'zod';
import { PLAN_TIERS, limitOverridesSchema, limitsSchema } from '../tenancy/tenant-limits.js';
import { type CurrentUsage, usagePercentages } from './quota-usage.service.js';
import type { QuotasView } from './quotas.service.js';

export const enforceQuotasField = z
  .boolean()
  .describe('Where false, what goes past a limit is told, and let through [true]');

export const replaceQuotasSchema = z
  .strictObject({
    quotas: limitOverridesSchema.describe('What is missing is what the plan says, null is no limit'),
    enforce_quotas: enforceQuotasField.default(true),
  })
  .meta({
    id: 'ReplaceQuotas',
    example: {
      quotas: { max_users: 100, max_storage_mb: 10_240, max_api_calls_per_day: 50_000 },
      enforce_quotas: true,
    },
  });
export type ReplaceQuotas = z.infer<typeof replaceQuotasSchema>;

export const quotasSchema = z
  .object({
    plan_tier: z.enum(PLAN_TIERS),
    enforce_quotas: enforceQuotasField,
    throttled_to: z.int().nullable().describe('Requests a minute, while an alert slows the tenant down'),
    quotas: limitsSchema.describe('What holds; null is no limit'),
    overrides: limitOverridesSchema.describe('What was set for this tenant'),
  })
  .meta({ id: 'Quotas' });

const counted = (what: string) => z.int().min(0).describe(what);

export const quotaUsageSchema = z
  .object({
    current_usage: z.object({
      users: counted('Members'),
      kbs: counted('Knowledge bases'),
      documents: counted('Documents'),
      storage_mb: z.number().min(0).describe('MiB of original files'),
      agents: counted('Agents'),
      api_tokens: counted('API tokens'),
      api_calls_this_minute: counted('Only where a limit counts them').optional(),
      api_calls_this_hour: counted('Of the clock, in UTC'),
      api_calls_today: counted('In UTC'),
      api_calls_this_month: counted('In UTC'),
      queries_this_hour: counted('Of the clock, in UTC'),
      concurrent_queries: counted('Under way at the moment'),
      llm_tokens_this_month: counted('Read and written, in UTC'),
    }),
    quotas: limitsSchema,
    usage_percentages: z
      .record(z.string(), z.number())
      .describe('Of what has a limit; of API calls the one that is nearest to its end')
      .meta({ example: { users: 45, storage: 50, api_calls: 24 } }),
    plan_tier: z.enum(PLAN_TIERS),
    enforce_quotas: enforceQuotasField,
  })
  .meta({ id: 'QuotaUsage' });

export const plansSchema = z
  .object({ items: z.array(z.object({ name: z.enum(PLAN_TIERS), limits: limitsSchema })) })
  .meta({ id: 'Plans' });

export const toQuotas = (view: QuotasView): z.infer<typeof quotasSchema> => ({
  plan_tier: view.planTier,
  enforce_quotas: view.enforceQuotas,
  throttled_to: view.throttledTo,
  quotas: view.limits,
  overrides: view.quotas,
});

export function toQuotaUsage(quotas: QuotasView, usage: CurrentUsage): z.infer<typeof quotaUsageSchema> {
  return {
    current_usage: {
      users: usage.users,
      kbs: usage.kbs,
      documents: usage.documents,
      storage_mb: usage.storageMb,
      agents: usage.agents,
      api_tokens: usage.apiTokens,
      ...(usage.callsThisMinute !== null && { api_calls_this_minute: usage.callsThisMinute }),
      api_calls_this_hour: usage.callsThisHour,
      api_calls_today: usage.callsToday,
      api_calls_this_month: usage.callsThisMonth,
      queries_this_hour: usage.queriesThisHour,
      concurrent_queries: usage.concurrentQueries,
      llm_tokens_this_month: usage.llmTokensThisMonth,
    },
    quotas: quotas.limits,
    usage_percentages: usagePercentages(usage, quotas.limits),
    plan_tier: quotas.planTier,
    enforce_quotas: quotas.enforceQuotas,
  };
}
