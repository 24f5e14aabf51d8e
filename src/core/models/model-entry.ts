import type { ModelError } from './model.js';
import type { ModelSettings, ModelType, Provider } from './model-provider.js';

export const MODEL_STATUSES = ['active', 'disabled'] as const;
export type ModelStatus = (typeof MODEL_STATUSES)[number];

/** A row of `models` or `platform_models`. */
export interface ModelEntry {
  id: string;
  provider: Provider;
  modelType: ModelType;
  modelName: string;
  displayName: string;
  /** Null: the provider's own. */
  apiBase: string | null;
  apiKeyLastFour: string | null;
  apiKeyVariables: string[];
  hasApiKey: boolean;
  maxTokens: number | null;
  dimensions: number | null;
  settings: ModelSettings;
  /** Micro-credits. */
  pricePer1k: number | null;
  usedTokens: number;
  status: ModelStatus;
  createdBy: string | null;
  createdAt: Date;
  updatedAt: Date;
}

/** With its key, to be used. */
export interface SealedModelEntry extends ModelEntry {
  apiKey: Buffer | null;
}

export interface PlatformModelEntry extends ModelEntry {
  sharedWithAll: boolean;
  /** Ids, where it is not shared with all. */
  tenantIds: string[];
  /** Place among the defaults of its type; null: it is none. */
  defaultPosition: number | null;
}

export type SealedPlatformEntry = PlatformModelEntry & SealedModelEntry;

/** What a change leaves in a row. */
export interface ModelFields {
  displayName: string;
  apiBase: string | null;
  maxTokens: number | null;
  dimensions: number | null;
  settings: ModelSettings;
  pricePer1k: number | null;
  status: ModelStatus;
  /** Missing: as it is. */
  key?: SealedKey;
}

/** A key, or that there is none. */
export interface SealedKey {
  sealed: Buffer | null;
  lastFour: string | null;
  variables: string[];
}

export interface NewModel extends ModelFields {
  id: string;
  provider: Provider;
  modelType: ModelType;
  modelName: string;
  createdBy: string | null;
}

/** Where a default comes from. */
export type DefaultSource = 'tenant' | 'platform' | 'installation';

/** What a tenant uses of one type. */
export interface TypeDefaults {
  /** Of the tenant's own order, or of the platform's for it. */
  models: Array<Pick<ModelEntry, 'id' | 'modelName' | 'displayName'> & { owner: 'tenant' | 'platform' }>;
  source: DefaultSource | null;
  /** Name of the model that is used; null: none. */
  effective: string | null;
}

/** How trying a model ended. */
export interface ModelTrial {
  ok: boolean;
  latencyMs: number;
  /** Of an embedding model's vectors. */
  dimensions: number | null;
  error: ModelError | null;
}

/** Of a row, as this code names it. */
export const ENTRY_COLUMNS = `
  m.id, m.provider, m.model_type AS "modelType", m.model_name AS "modelName", m.display_name AS "displayName",
  m.api_base AS "apiBase", m.api_key_last_four AS "apiKeyLastFour", m.api_key_variables AS "apiKeyVariables",
  m.api_key IS NOT NULL AS "hasApiKey", m.max_tokens AS "maxTokens", m.dimensions, m.settings,
  m.price_per_1k::float8 AS "pricePer1k", m.used_tokens::float8 AS "usedTokens", m.status,
  m.created_by AS "createdBy", m.created_at AS "createdAt", m.updated_at AS "updatedAt"`;
