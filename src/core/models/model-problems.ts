import { type FieldError, Problem } from '../../foundation/http/problem.js';
import { BUNDLED_MODEL } from './bundled-embedding.js';
import { type ModelSettings, type ModelType, PROVIDER_FACTS, type Provider } from './model-provider.js';

/** What somebody says of a model, as far as it has to fit together. */
export interface ModelDescription {
  provider: Provider;
  modelType: ModelType;
  modelName: string;
  apiBase: string | null;
  hasKey: boolean;
  settings: ModelSettings;
}

/** @throws Problem 422 for what does not fit together, each field named */
export function requireSensible(model: ModelDescription): void {
  const { provider, modelType, modelName, apiBase, hasKey, settings } = model;
  const facts = PROVIDER_FACTS[provider];
  const errors: FieldError[] = [];
  const fault = (path: string, code: string, message: string) => errors.push({ path, code, message });
  if (!facts.types.includes(modelType))
    fault('model_type', 'not_offered', `${provider} has no models of the type ${modelType}`);
  if (provider === 'bundled') {
    if (modelName !== BUNDLED_MODEL)
      fault('model_name', 'not_offered', `the bundled embedding model is called ${BUNDLED_MODEL}`);
    if (apiBase !== null) fault('api_base', 'not_taken', 'the bundled model has no server');
    if (hasKey) fault('api_key', 'not_taken', 'the bundled model needs no key');
  } else if (facts.apiBase === null && apiBase === null) {
    fault('api_base', 'required', `must be given: ${provider} is a dialect that many servers speak`);
  }
  if (facts.needsKey && !hasKey) fault('api_key', 'required', `must be given: ${provider} asks for one`);
  if (
    settings.rerank_with === 'endpoint' &&
    !['cohere', 'jina', 'tei', 'openai_compatible'].includes(provider)
  )
    fault('settings.rerank_with', 'not_offered', `${provider} has no endpoint for it`);
  if (settings.rerank_with === 'chat' && !PROVIDER_FACTS[provider].types.includes('chat'))
    fault('settings.rerank_with', 'not_offered', `${provider} has no chat models`);
  if (errors.length > 0) throw Problem.invalid(errors);
}

export const nameTaken = (): Problem =>
  Problem.conflict('name_taken', 'Another model of this type has that display name.');

/** A key goes to nobody but the server that it was given for. */
export const keyRequired = (): Problem =>
  Problem.invalid([
    {
      path: 'api_key',
      code: 'api_key_required',
      message: 'must be given again, or be null, where the address names another server',
    },
  ]);

export const unknownModelOf = (type: ModelType, index: number): Problem =>
  Problem.invalid([
    {
      path: `${type}.${index}`,
      code: 'unknown_model',
      message: `must be an active model of the type ${type}`,
    },
  ]);
