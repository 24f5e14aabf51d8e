import { z } from 'zod';

/** Every limit there is, with what it limits. Sizes are in MiB. */
export const LIMITS = {
  max_users: 'Members of the tenant',
  max_kbs: 'Knowledge bases',
  max_documents: 'Documents in all knowledge bases',
  max_documents_per_kb: 'Documents in one knowledge base',
  max_storage_mb: 'MiB of original files',
  max_upload_mb: 'MiB of one file, within what the installation accepts',
  max_agents: 'Agents',
  max_api_tokens: 'API tokens',
  max_entities_per_kb: 'Entities of one knowledge graph',
  max_relations_per_kb: 'Relations of one knowledge graph',
  max_concurrent_queries: 'Searches and questions under way at a time',
  max_concurrent_jobs: 'Documents that are ingested at a time',
  max_api_calls_per_minute: 'Requests a minute',
  max_api_calls_per_hour: 'Requests an hour of the clock, in UTC',
  max_api_calls_per_day: 'Requests a day, in UTC',
  max_api_calls_per_month: 'Requests a calendar month, in UTC',
  max_queries_per_hour: 'Searches and questions an hour of the clock, in UTC',
  max_llm_tokens_per_month: 'Tokens of chat models a calendar month, in UTC',
} as const;

export type LimitName = keyof typeof LIMITS;
export const LIMIT_NAMES = Object.keys(LIMITS) as LimitName[];

/** What holds for a tenant: null is no limit. */
export type Limits = Record<LimitName, number | null>;
/** What was set for one tenant: missing is what its plan says, null is no limit. */
export type LimitOverrides = Partial<Limits>;

export const PLAN_TIERS = ['free', 'starter', 'pro', 'enterprise'] as const;
export type PlanTier = (typeof PLAN_TIERS)[number];

/** Nobody means more than that; in MiB it is still a number of bytes that the database holds. */
const MOST = 1_000_000_000_000;

const limitField = (name: LimitName) => z.int().min(0).max(MOST).nullable().describe(LIMITS[name]);

export const limitOverridesSchema = z
  .strictObject(
    Object.fromEntries(LIMIT_NAMES.map(name => [name, limitField(name).optional()])) as unknown as {
      [Name in LimitName]: z.ZodOptional<ReturnType<typeof limitField>>;
    },
  )
  .meta({
    id: 'LimitOverrides',
    description: 'Missing: what the plan says; null: no limit.',
    example: { max_users: 100, max_storage_mb: 10_240, max_api_calls_per_day: 50_000 },
  });

export const limitsSchema = z
  .object(
    Object.fromEntries(LIMIT_NAMES.map(name => [name, limitField(name)])) as unknown as {
      [Name in LimitName]: ReturnType<typeof limitField>;
    },
  )
  .meta({ id: 'Limits' });

/** @param ofPlan what is missing in it is no limit */
export const effectiveLimits = (
  ofPlan: LimitOverrides | null | undefined,
  overrides: LimitOverrides = {},
): Limits =>
  Object.fromEntries(
    LIMIT_NAMES.map(name => {
      const own = overrides[name];
      return [name, own === undefined ? (ofPlan?.[name] ?? null) : own];
    }),
  ) as Limits;
