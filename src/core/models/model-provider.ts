/** Who serves models, or which dialect their servers speak. */
export const PROVIDERS = [
  'openai',
  'openai_compatible',
  'azure_openai',
  'anthropic',
  'ollama',
  'google',
  'cohere',
  'jina',
  'tei',
  'bundled',
] as const;
export type Provider = (typeof PROVIDERS)[number];

export const MODEL_TYPES = ['chat', 'embedding', 'rerank', 'asr', 'image2text', 'tts'] as const;
export type ModelType = (typeof MODEL_TYPES)[number];

interface ProviderFacts {
  types: readonly ModelType[];
  /** Its own server; null: the entry has to name one. */
  apiBase: string | null;
  needsKey: boolean;
}

const ALL: readonly ModelType[] = MODEL_TYPES;

export const PROVIDER_FACTS: Record<Provider, ProviderFacts> = {
  openai: { types: ALL, apiBase: 'https://api.openai.com/v1', needsKey: true },
  openai_compatible: { types: ALL, apiBase: null, needsKey: false },
  azure_openai: { types: ['chat', 'embedding', 'rerank', 'image2text'], apiBase: null, needsKey: true },
  anthropic: {
    types: ['chat', 'rerank', 'image2text'],
    apiBase: 'https://api.anthropic.com',
    needsKey: true,
  },
  ollama: { types: ['chat', 'embedding', 'rerank', 'image2text'], apiBase: null, needsKey: false },
  google: {
    types: ['chat', 'embedding', 'rerank', 'image2text'],
    apiBase: 'https://generativelanguage.googleapis.com',
    needsKey: true,
  },
  cohere: { types: ['chat', 'embedding', 'rerank'], apiBase: 'https://api.cohere.com', needsKey: true },
  jina: { types: ['embedding', 'rerank'], apiBase: 'https://api.jina.ai/v1', needsKey: true },
  tei: { types: ['embedding', 'rerank'], apiBase: null, needsKey: false },
  bundled: { types: ['embedding'], apiBase: null, needsKey: false },
};

/** What an entry says beyond the rest; each where its provider and type know it. */
export interface ModelSettings {
  /** Of Azure’s API. */
  api_version?: string;
  /** Whether a rerank model has an endpoint for it, or is a chat model that is asked to grade. */
  rerank_with?: 'endpoint' | 'chat';
  /** Share of the vector leg in the fused score, 0-1. */
  fusion_weight?: number;
  /** Texts that are embedded with one request. */
  batch_size?: number;
  /** Whether `dimensions` are asked for, and not only expected. */
  send_dimensions?: boolean;
  /** Seconds until the whole answer is there. */
  timeout_seconds?: number;
  /** Seconds until its beginning is. */
  first_token_timeout_seconds?: number;
  /** Attempts after the first that failed for a passing reason. */
  max_retries?: number;
  /** How long Ollama keeps the model loaded, such as `5m`. */
  keep_alive?: string;
}

/** One model, and how to get at it. */
export interface ModelConnection {
  provider: Provider;
  /** As the provider knows it; Azure’s name of the deployment. */
  modelName: string;
  apiBase: string;
  /** Empty where there is none. */
  apiKey: string;
  /** Tokens that prompt and answer have together at most; null: not known. */
  contextTokens: number | null;
  /** Of the vectors; null: whatever comes. */
  dimensions: number | null;
  settings: ModelSettings;
}

/** Without the slash at the end that people write. */
export const baseOf = ({ apiBase }: Pick<ModelConnection, 'apiBase'>): string => apiBase.replace(/\/+$/, '');
