import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import {
  MODEL_STATUSES,
  type ModelEntry,
  type ModelTrial,
  type PlatformModelEntry,
  type TypeDefaults,
} from './model-entry.js';
import { MODEL_TYPES, type ModelType, PROVIDERS } from './model-provider.js';

const MOST_DEFAULTS = 10;
const MOST_TENANTS = 1_000;

const nameField = z.string().trim().min(1).max(200);
const providerField = z
  .enum(PROVIDERS)
  .describe('Who serves the model, or which dialect its server speaks')
  .meta({ example: 'openai_compatible' });
const typeField = z.enum(MODEL_TYPES).meta({ example: 'chat' });
const modelNameField = nameField
  .describe('As the provider knows it; of Azure the deployment. Vectors are called by it.')
  .meta({ example: 'gpt-4.1-mini' });
const displayNameField = nameField
  .describe('As people call it, once for each type [the model’s name]')
  .meta({ example: 'GPT-4.1 mini' });
const apiBaseField = z
  .string()
  .trim()
  .min(1)
  .max(2000)
  .nullable()
  .describe('Base URL of its server [the provider’s own]. `${NAME}` stands for a variable of the tenant.')
  .meta({ example: 'https://models.example.com/v1' });
const apiKeyField = z
  .string()
  .min(1)
  .max(4096)
  .regex(/^[\x21-\x7e]+$/, 'must be visible ASCII characters without spaces')
  .nullable()
  .describe('Sealed, and never shown again. `${NAME}` stands for a variable of the tenant.')
  .meta({ example: '${OPENAI_KEY}' });
const maxTokensField = z
  .int()
  .min(256)
  .max(100_000_000)
  .nullable()
  .describe('Tokens that prompt and answer may have together: the size of the context [8192]');
const dimensionsField = z
  .int()
  .min(1)
  .max(16_000)
  .nullable()
  .describe('Of its vectors; those that have others are refused [whatever comes first]');
const priceField = z
  .int()
  .min(0)
  .max(1e12)
  .nullable()
  .describe(
    'What you reckon a thousand tokens to cost, in micro-credits. What is charged stands in GET /prices.',
  );
const statusField = z.enum(MODEL_STATUSES).describe('Nobody is given one that is disabled [active]');

export const settingsSchema = z
  .strictObject({
    api_version: z
      .string()
      .regex(/^[\w.-]{1,40}$/, 'must be a version')
      .optional()
      .describe('Of Azure’s API [2024-10-21]'),
    rerank_with: z
      .enum(['endpoint', 'chat'])
      .optional()
      .describe(
        'Whether a rerank model has an endpoint for it, or is a chat model that grades passages [endpoint for cohere, jina, tei and openai_compatible, else chat]',
      ),
    fusion_weight: z
      .number()
      .min(0)
      .max(1)
      .optional()
      .describe('Share of the vectors in the score of a hybrid search [0.5]'),
    batch_size: z.int().min(1).max(512).optional().describe('Texts that are embedded with one request [10]'),
    send_dimensions: z
      .boolean()
      .optional()
      .describe('Whether `dimensions` are asked for, and not only expected [false]'),
    timeout_seconds: z.int().min(1).max(600).optional().describe('Until the whole answer is there'),
    first_token_timeout_seconds: z
      .int()
      .min(1)
      .max(600)
      .optional()
      .describe('Until the beginning of a streamed answer is there [60]'),
    max_retries: z
      .int()
      .min(0)
      .max(5)
      .optional()
      .describe('Attempts after the first that failed for a passing reason [2]'),
    keep_alive: z
      .string()
      .regex(/^-?\d{1,6}(ms|s|m|h)?$/, 'must be a time such as 5m')
      .optional()
      .describe('How long Ollama keeps the model loaded'),
  })
  .meta({ id: 'ModelSettings', example: { timeout_seconds: 120 } });

const createFields = {
  provider: providerField,
  model_type: typeField,
  model_name: modelNameField,
  display_name: displayNameField.optional(),
  api_base: apiBaseField.optional(),
  api_key: apiKeyField.optional(),
  max_tokens: maxTokensField.optional(),
  dimensions: dimensionsField.optional(),
  settings: settingsSchema.default({}),
  price_per_1k: priceField.optional(),
  status: statusField.default('active'),
};

const updateFields = {
  display_name: displayNameField.optional(),
  api_base: apiBaseField.optional(),
  api_key: apiKeyField.optional(),
  max_tokens: maxTokensField.optional(),
  dimensions: dimensionsField.optional(),
  settings: settingsSchema.optional().describe('Replaces all of them'),
  price_per_1k: priceField.optional(),
  status: statusField.optional(),
};

const example = {
  provider: 'openai_compatible',
  model_type: 'chat',
  model_name: 'llama3.1:70b',
  display_name: 'Llama',
  api_base: 'https://models.example.com/v1',
  api_key: '${MODELS_KEY}',
  max_tokens: 131_072,
} as const;

export const createModelSchema = z.strictObject(createFields).meta({ id: 'CreateModel', example });
export const updateModelSchema = z
  .strictObject(updateFields)
  .meta({ id: 'UpdateModel', example: { display_name: 'Llama 3.1', status: 'active' } });

const sharedWithField = z
  .union([z.literal('all'), z.array(z.string().min(1).max(63)).max(MOST_TENANTS)])
  .describe('`all`, or ids or names of tenants');

export const createPlatformModelSchema = z
  .strictObject({ ...createFields, shared_with: sharedWithField.default([]) })
  .meta({ id: 'CreatePlatformModel', example: { ...example, api_key: 'a key', shared_with: 'all' } });
export const updatePlatformModelSchema = z
  .strictObject({ ...updateFields, shared_with: sharedWithField.optional() })
  .meta({ id: 'UpdatePlatformModel', example: { shared_with: ['acme'] } });

export const listModelsQuery = listQuery(['created_at', 'display_name', 'used_tokens'], {
  model_type: typeField.optional(),
  provider: providerField.optional(),
  status: statusField.optional(),
});

const orderField = z
  .array(z.uuid())
  .max(MOST_DEFAULTS)
  .refine(ids => new Set(ids).size === ids.length, 'must not name a model twice')
  .optional();

/** The types of which only one is used at a time. */
const singleField = orderField.refine(
  ids => (ids?.length ?? 0) <= 1,
  'must be one model at most: no other can take its place',
);

export const setDefaultsSchema = z
  .strictObject({
    chat: orderField.describe('The default, and what takes its place where it fails, in this order'),
    embedding: singleField,
    rerank: singleField,
    asr: singleField,
    image2text: singleField,
    tts: singleField,
  })
  .meta({ id: 'SetModelDefaults', example: { chat: ['0199f6a5-8d1c-7c3a-9d0e-3a2f5d2b7c11'] } });

const modelFields = {
  id: z.uuid(),
  provider: providerField,
  model_type: typeField,
  model_name: z.string().meta({ example: 'gpt-4.1-mini' }),
  display_name: z.string(),
  api_base: z.string().nullable().describe('Null: the provider’s own, or the platform’s business'),
  has_api_key: z.boolean(),
  api_key_last_four: z
    .string()
    .nullable()
    .describe('Of a key of some length; the rest is never shown again')
    .meta({ example: 'x9Kd' }),
  api_key_variables: z.array(z.string()).describe('Variables of the tenant that the key names'),
  max_tokens: z.int().nullable(),
  dimensions: z.int().nullable(),
  settings: settingsSchema,
  price_per_1k: z.int().nullable(),
  used_tokens: z.int().nullable().describe('Counted, with a delay of some seconds'),
  status: statusField,
  created_by: z.uuid().nullable(),
  created_at: z.iso.datetime(),
  updated_at: z.iso.datetime(),
};

export const modelSchema = z
  .object({ owner: z.enum(['tenant', 'platform']), ...modelFields })
  .meta({ id: 'Model' });
export const modelPageSchema = pageSchema(modelSchema, 'ModelPage');

export const platformModelSchema = z
  .object({
    ...modelFields,
    shared_with: z.union([z.literal('all'), z.array(z.uuid())]),
    default_position: z.int().nullable().describe('Place among the defaults of its type, from 0'),
  })
  .meta({ id: 'PlatformModel' });
export const platformModelPageSchema = pageSchema(platformModelSchema, 'PlatformModelPage');

const typeDefaultsSchema = z.object({
  models: z.array(
    z.object({
      id: z.uuid(),
      owner: z.enum(['tenant', 'platform']),
      model_name: z.string(),
      display_name: z.string(),
    }),
  ),
  source: z
    .enum(['tenant', 'platform', 'installation'])
    .nullable()
    .describe('Who has chosen it: the tenant, the platform for it, or the installation’s settings'),
  effective: z.string().nullable().describe('Name of the model that is used; null: none'),
});

export const modelDefaultsSchema = z
  .object(
    Object.fromEntries(MODEL_TYPES.map(type => [type, typeDefaultsSchema])) as Record<
      ModelType,
      typeof typeDefaultsSchema
    >,
  )
  .meta({ id: 'ModelDefaults' });

export const platformDefaultsSchema = z
  .object(
    Object.fromEntries(MODEL_TYPES.map(type => [type, z.array(z.uuid())])) as Record<
      ModelType,
      z.ZodArray<z.ZodUUID>
    >,
  )
  .meta({ id: 'PlatformModelDefaults' });

export const modelTrialSchema = z
  .object({
    ok: z.boolean(),
    latency_ms: z.int(),
    dimensions: z.int().nullable().describe('Of the vectors of an embedding model'),
    error: z
      .object({
        code: z.enum(['model_unavailable', 'model_rejected', 'model_timeout']),
        message: z.string(),
        retryable: z.boolean(),
      })
      .nullable(),
  })
  .meta({
    id: 'ModelTrial',
    example: {
      ok: false,
      latency_ms: 213,
      dimensions: null,
      error: {
        code: 'model_rejected',
        message: 'The model "Llama" answered 401: its API key is missing or wrong.',
        retryable: false,
      },
    },
  });

export type CreateModel = z.infer<typeof createModelSchema>;
export type UpdateModel = z.infer<typeof updateModelSchema>;
export type CreatePlatformModel = z.infer<typeof createPlatformModelSchema>;
export type UpdatePlatformModel = z.infer<typeof updatePlatformModelSchema>;
export type SharedWith = z.infer<typeof sharedWithField>;
export type ListModels = z.infer<typeof listModelsQuery>;
export type SetModelDefaults = z.infer<typeof setDefaultsSchema>;

const toFields = (entry: ModelEntry) => ({
  id: entry.id,
  provider: entry.provider,
  model_type: entry.modelType,
  model_name: entry.modelName,
  display_name: entry.displayName,
  api_base: entry.apiBase,
  has_api_key: entry.hasApiKey,
  api_key_last_four: entry.apiKeyLastFour,
  api_key_variables: entry.apiKeyVariables,
  max_tokens: entry.maxTokens,
  dimensions: entry.dimensions,
  settings: entry.settings,
  price_per_1k: entry.pricePer1k,
  used_tokens: entry.usedTokens as number | null,
  status: entry.status,
  created_by: entry.createdBy,
  created_at: entry.createdAt.toISOString(),
  updated_at: entry.updatedAt.toISOString(),
});

export const toModel = (entry: ModelEntry): z.infer<typeof modelSchema> => ({
  owner: 'tenant',
  ...toFields(entry),
});

/** As a tenant sees what is the platform's: where it is, and what others use of it, is not told. */
export const toSharedModel = (entry: ModelEntry): z.infer<typeof modelSchema> => ({
  owner: 'platform',
  ...toFields(entry),
  api_base: null,
  api_key_last_four: null,
  used_tokens: null,
  created_by: null,
});

export const toPlatformModel = (entry: PlatformModelEntry): z.infer<typeof platformModelSchema> => ({
  ...toFields(entry),
  shared_with: entry.sharedWithAll ? 'all' : entry.tenantIds,
  default_position: entry.defaultPosition,
});

export function toDefaults(defaults: Record<ModelType, TypeDefaults>): z.infer<typeof modelDefaultsSchema> {
  return Object.fromEntries(
    MODEL_TYPES.map(type => {
      const { models, source, effective } = defaults[type];
      const shown = models.map(({ id, owner, modelName, displayName }) => ({
        id,
        owner,
        model_name: modelName,
        display_name: displayName,
      }));
      return [type, { models: shown, source, effective }];
    }),
  ) as z.infer<typeof modelDefaultsSchema>;
}

export const toTrial = ({
  ok,
  latencyMs,
  dimensions,
  error,
}: ModelTrial): z.infer<typeof modelTrialSchema> => ({
  ok,
  latency_ms: latencyMs,
  dimensions,
  error: error && { code: error.code, message: error.message, retryable: error.retryable },
});
