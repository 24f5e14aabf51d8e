import { describe, expect, it } from 'vitest';
import { CONFIG_NAMES, configOverridesSchema, effectiveConfig, resolveConfig } from './tenant-config.js';

describe('the configuration', () => {
  it('says of every field which level set it', () => {
    const config = resolveConfig(
      ['tenant', { top_k: 30, chunk_size: 2000, llm_model: 'large' }],
      ['kb', { chunk_size: 500, system_prompt: null }],
    );
    expect(Object.keys(config)).toEqual(CONFIG_NAMES);
    expect(config).toMatchObject({
      top_k: { value: 30, level: 'tenant' },
      llm_model: { value: 'large', level: 'tenant' },
      chunk_size: { value: 500, level: 'kb' },
      system_prompt: { value: null, level: 'kb' },
      chunk_overlap: { value: 100, level: 'default' },
    });
  });

  it('takes the most special level of each field', () => {
    expect(effectiveConfig()).toMatchObject({ top_k: 10, chunk_size: 1200, system_prompt: null });
    const config = effectiveConfig({ system_prompt: 'Be brief.', top_k: 3 }, { system_prompt: null });
    expect(config).toMatchObject({ system_prompt: null, top_k: 3, llm_temperature: 1 });
  });

  it('keeps chunks going on where two levels do not fit together', () => {
    expect(effectiveConfig({ chunk_size: 200, chunk_overlap: 0 }, { chunk_overlap: 500 }).chunk_overlap).toBe(
      99,
    );
    expect(effectiveConfig({ chunk_size: 4000, chunk_overlap: 1500 }).chunk_overlap).toBe(1500);
  });

  it.each([
    { chunk_size: 99 },
    { chunk_overlap: 600 },
    { chunk_size: 200 },
    { top_k: 0 },
    { top_k: '5' },
    { llm_temperature: 2.1 },
    { cosine_threshold: -0.1 },
    { llm_model: '' },
    { embedding_dim: 0 },
    { enable_rerank: 'yes' },
    { unknown: 1 },
    { top_k: null },
  ])('refuses %j', config => {
    expect(configOverridesSchema.safeParse(config).success).toBe(false);
  });
});
