import { z } from 'zod';

/** A field of the configuration: its values, and what it is where no level sets it. */
interface FieldDeclaration<Schema extends z.ZodType> {
  schema: Schema;
  default: z.infer<Schema>;
}

const field = <Schema extends z.ZodType>(schema: Schema, fallback: z.infer<Schema>, description: string) =>
  ({ schema: schema.describe(description), default: fallback }) as FieldDeclaration<Schema>;

const modelName = z.string().trim().min(1).max(200).nullable();

/**
 * Every field that a tenant configures, and a knowledge base overrides. Lengths are in characters of text, lengths of
 * answers in tokens. Null: the installation's own.
 */
export const CONFIG_FIELDS = {
  llm_model: field(
    modelName,
    null,
    'Model that writes answers: id or name of one of the tenant’s models, or the name of the installation’s own',
  ),
  embedding_model: field(
    modelName,
    null,
    'Model that makes vectors: id or name of one of the tenant’s models',
  ),
  rerank_model: field(
    modelName,
    null,
    'Model that orders passages anew: id or name of one of the tenant’s models',
  ),
  llm_temperature: field(z.number().min(0).max(2), 1, '[1.0]'),
  llm_max_tokens: field(z.int().min(1).max(100_000), 4096, 'Tokens of an answer at most [4096]'),
  embedding_dim: field(z.int().min(1).max(16_000).nullable(), null, 'Dimensions of vectors'),
  embedding_batch_num: field(z.int().min(1).max(1000), 10, 'Texts that are embedded at once [10]'),
  top_k: field(z.int().min(1).max(100), 10, 'Passages of a search [10]'),
  chunk_top_k: field(z.int().min(1).max(100), 20, 'Passages that are kept after reranking [20]'),
  cosine_threshold: field(z.number().min(0).max(1), 0.2, 'Least cosine of what is found by vector [0.2]'),
  enable_llm_cache: field(z.boolean(), true, '[true]'),
  enable_rerank: field(z.boolean(), true, '[true]'),
  chunk_unit: field(
    z.enum(['characters', 'tokens']),
    'characters',
    'What chunk_size and chunk_overlap count',
  ),
  chunk_size: field(z.int().min(100).max(8000), 1200, 'Size of a chunk at most [1200]'),
  chunk_overlap: field(z.int().min(0).max(2000), 100, 'What neighbouring chunks share at most [100]'),
  graph: field(
    z.enum(['off', 'names', 'model']),
    'off',
    'What the knowledge graph is made by: nothing, the names that stand together in texts, or a chat model (by names ' +
      'where there is none) [off]. A change holds for what is ingested from then on.',
  ),
  graph_model: field(
    modelName,
    null,
    'Chat model that makes the knowledge graph: id or name of one of the tenant’s models, or the name of the ' +
      'installation’s own; null: llm_model',
  ),
  system_prompt: field(z.string().max(20_000).nullable(), null, 'Comes before the rules for answers'),
} as const;

export type ConfigName = keyof typeof CONFIG_FIELDS;
export type EffectiveConfig = {
  -readonly [Name in ConfigName]: z.infer<(typeof CONFIG_FIELDS)[Name]['schema']>;
};
/** What one level sets. */
export type ConfigOverrides = Partial<EffectiveConfig>;
/** From the most general to the most special; each overrides single fields of those before it. */
export const CONFIG_LEVELS = ['default', 'tenant', 'kb'] as const;
export type ConfigLevel = (typeof CONFIG_LEVELS)[number];

export const CONFIG_NAMES = Object.keys(CONFIG_FIELDS) as ConfigName[];

type Schemas = { -readonly [Name in ConfigName]: (typeof CONFIG_FIELDS)[Name]['schema'] };
type OptionalSchemas = { [Name in ConfigName]: z.ZodOptional<Schemas[Name]> };

const schemas = Object.fromEntries(
  CONFIG_NAMES.map(name => [name, CONFIG_FIELDS[name].schema]),
) as unknown as Schemas;

/** The fields that one level sets. */
export const configOverridesSchema = z
  .strictObject(
    Object.fromEntries(CONFIG_NAMES.map(name => [name, schemas[name].optional()])) as OptionalSchemas,
  )
  .refine(
    config =>
      (config.chunk_overlap ?? CONFIG_FIELDS.chunk_overlap.default) <
      (config.chunk_size ?? CONFIG_FIELDS.chunk_size.default) / 2,
    { path: ['chunk_overlap'], message: 'must be less than half of chunk_size' },
  );

/** Each field with the level that set it. */
export type ResolvedConfig = {
  [Name in ConfigName]: { value: EffectiveConfig[Name]; level: ConfigLevel };
};

/** @param levels what each sets, the most general first */
export function resolveConfig(
  ...levels: ReadonlyArray<readonly [Exclude<ConfigLevel, 'default'>, ConfigOverrides]>
): ResolvedConfig {
  return Object.fromEntries(
    CONFIG_NAMES.map(name => {
      const setting = levels.findLast(([, overrides]) => overrides[name] !== undefined);
      return [
        name,
        setting
          ? { value: setting[1][name], level: setting[0] }
          : { value: CONFIG_FIELDS[name].default, level: 'default' },
      ];
    }),
  ) as ResolvedConfig;
}

/**
 * What holds after all levels. Two of them may each be sensible and not fit together: an overlap is then cut to what
 * the size of a chunk leaves for it.
 */
export function effectiveConfig(...levels: readonly ConfigOverrides[]): EffectiveConfig {
  const config = Object.fromEntries(
    CONFIG_NAMES.map(name => [
      name,
      levels.findLast(overrides => overrides[name] !== undefined)?.[name] ?? CONFIG_FIELDS[name].default,
    ]),
  ) as EffectiveConfig;
  const mostOverlap = Math.ceil(config.chunk_size / 2) - 1;
  return { ...config, chunk_overlap: Math.min(config.chunk_overlap, mostOverlap) };
}
