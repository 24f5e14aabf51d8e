import { type ModelConnection, baseOf } from './model-provider.js';

const AZURE_VERSION = '2024-10-21';

/** What langchain’s OpenAI classes have in common, for every server that speaks OpenAI’s dialect. */
export function openAIFields(connection: ModelConnection, fetch: typeof globalThis.fetch) {
  const { provider, modelName, apiKey, settings } = connection;
  const base = baseOf(connection);
  return {
    model: modelName,
    // The client refuses to be made without a key; servers that need none ignore it.
    apiKey: apiKey || 'none',
    maxRetries: 0,
    configuration: {
      baseURL: baseUrlOf(provider, base, modelName),
      // Null keeps the client from reading OPENAI_ORG_ID and OPENAI_PROJECT_ID, `off` from printing bodies.
      organization: null,
      project: null,
      logLevel: 'off' as const,
      maxRetries: 0,
      fetch,
      // Azure takes a bearer for a token of its directory.
      ...(provider === 'azure_openai' && {
        defaultHeaders: { authorization: null, 'api-key': apiKey },
        defaultQuery: { 'api-version': settings.api_version ?? AZURE_VERSION },
      }),
    },
  };
}

function baseUrlOf(provider: ModelConnection['provider'], base: string, modelName: string): string {
  switch (provider) {
    case 'azure_openai':
      return `${base}/openai/deployments/${encodeURIComponent(modelName)}`;
    case 'cohere':
      return `${base}/compatibility/v1`;
    case 'google':
      return `${base}/v1beta/openai`;
    case 'tei':
      return `${base}/v1`;
    default:
      return base;
  }
}
