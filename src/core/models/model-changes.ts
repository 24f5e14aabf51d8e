import type { ModelEntry, ModelFields, SealedKey } from './model-entry.js';
import type { UpdateModel } from './models.dto.js';

/** What a change leaves, where it says something. */
export function fieldsOf(before: ModelEntry, input: UpdateModel, key: SealedKey | undefined): ModelFields {
  return {
    displayName: input.display_name ?? before.displayName,
    apiBase: input.api_base === undefined ? before.apiBase : input.api_base,
    maxTokens: input.max_tokens === undefined ? before.maxTokens : input.max_tokens,
    dimensions: input.dimensions === undefined ? before.dimensions : input.dimensions,
    settings: input.settings ?? before.settings,
    pricePer1k: input.price_per_1k === undefined ? before.pricePer1k : input.price_per_1k,
    status: input.status ?? before.status,
    key,
  };
}

/** Without the key, and without the rest of an address, which is often a secret. */
export const detailsOf = (entry: ModelEntry): Record<string, unknown> => ({
  provider: entry.provider,
  model_type: entry.modelType,
  model_name: entry.modelName,
  display_name: entry.displayName,
  server: serverOf(entry.apiBase),
  has_api_key: entry.hasApiKey,
  status: entry.status,
});

/** The part of an address that says which server it is; names of variables stand for themselves. */
export function serverOf(apiBase: string | null): string {
  if (apiBase === null) return '';
  if (!apiBase.includes('${') && URL.canParse(apiBase)) return new URL(apiBase).origin;
  return /^(?:\w+:\/\/)?[^/?#]*/.exec(apiBase)?.[0] ?? '';
}
