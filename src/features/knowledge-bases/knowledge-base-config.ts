import { z } from 'zod';

/** Lengths are in characters of text. */
export const CONFIG_DEFAULTS = {
  chunk_size: 1200,
  chunk_overlap: 100,
  top_k: 10,
  llm_temperature: 1,
  llm_max_tokens: 4096,
  system_prompt: null as string | null,
};

export const configSchema = z
  .strictObject({
    chunk_size: z.int().min(100).max(8000).optional().describe('Characters of a chunk at most [1200]'),
    chunk_overlap: z
      .int()
      .min(0)
      .max(2000)
      .optional()
      .describe('Characters that neighbouring chunks share [100]'),
    top_k: z.int().min(1).max(100).optional().describe('Passages of a search [10]'),
    llm_temperature: z.number().min(0).max(2).optional().describe('[1.0]'),
    llm_max_tokens: z.int().min(1).max(100_000).optional().describe('[4096]'),
    system_prompt: z.string().max(20_000).nullable().optional(),
  })
  .refine(
    config =>
      (config.chunk_overlap ?? CONFIG_DEFAULTS.chunk_overlap) <
      (config.chunk_size ?? CONFIG_DEFAULTS.chunk_size) / 2,
    { path: ['chunk_overlap'], message: 'must be less than half of chunk_size' },
  )
  .meta({ id: 'KnowledgeBaseConfig' });

export type KnowledgeBaseConfig = z.infer<typeof configSchema>;
export type EffectiveConfig = typeof CONFIG_DEFAULTS;

/** What holds for a knowledge base: its own settings over the defaults. */
export function effectiveConfig(config: KnowledgeBaseConfig): EffectiveConfig {
  return { ...CONFIG_DEFAULTS, ...config };
}
