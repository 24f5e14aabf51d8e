import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Tx } from '../../foundation/database/transaction.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import { AuditService } from '../audit/audit.service.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { ModelCatalogue } from './model-catalogue.service.js';
import { detailsOf, fieldsOf, serverOf } from './model-changes.js';
import type { ModelTrial, PlatformModelEntry, SealedPlatformEntry } from './model-entry.js';
import { ModelKeys } from './model-keys.service.js';
import { keyRequired, nameTaken, requireSensible, unknownModelOf } from './model-problems.js';
import { MODEL_TYPES, type ModelType } from './model-provider.js';
import { ModelTrials } from './model-trials.service.js';
import type { CreatePlatformModel, SetModelDefaults, SharedWith, UpdatePlatformModel } from './models.dto.js';
import { PlatformModelsRepository } from './platform-models.repository.js';

const MOST_MODELS = 1_000;

/** The models that the platform gives its tenants. */
@Injectable()
export class PlatformModelsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly repository: PlatformModelsRepository,
    private readonly catalogue: ModelCatalogue,
    private readonly keys: ModelKeys,
    private readonly trials: ModelTrials,
    private readonly audit: AuditService,
  ) {}

  list(): Promise<PlatformModelEntry[]> {
    return this.database.run(tx => this.repository.list(tx));
  }

  /** @throws Problem 404 */
  get(id: string): Promise<SealedPlatformEntry> {
    return this.database.run(tx => this.find(tx, id));
  }

  /** @throws Problem 409 `name_taken`, `too_many_models`, 422 */
  create(input: CreatePlatformModel): Promise<PlatformModelEntry> {
    const { provider, model_type: modelType, model_name: modelName, settings } = input;
    const apiBase = input.api_base ?? null;
    const apiKey = input.api_key ?? null;
    requireSensible({ provider, modelType, modelName, apiBase, hasKey: apiKey !== null, settings });
    requirePlain(apiBase, apiKey);
    const id = uuidv7();
    const model = {
      id,
      provider,
      modelType,
      modelName,
      displayName: input.display_name ?? modelName,
      apiBase,
      maxTokens: input.max_tokens ?? null,
      dimensions: input.dimensions ?? null,
      settings,
      pricePer1k: input.price_per_1k ?? null,
      status: input.status,
      key: this.keys.seal('platform', id, apiKey),
      createdBy: this.context.ownAccount,
      sharedWithAll: input.shared_with === 'all',
    };
    return this.database.run(async tx => {
      await this.repository.lock(tx);
      if ((await this.repository.list(tx)).length >= MOST_MODELS)
        throw Problem.conflict('too_many_models', `The platform has at most ${MOST_MODELS} models.`);
      const tenantIds = await this.tenantIds(tx, input.shared_with);
      if (!(await this.repository.insert(tx, model))) throw nameTaken();
      await this.repository.shareWith(tx, id, tenantIds);
      const entry = await this.find(tx, id);
      await this.changed(tx, 'platform_model.created', entry);
      return entry;
    });
  }

  /** @throws Problem 404, 409 `name_taken`, 412, 422 */
  update(id: string, input: UpdatePlatformModel, ifMatch: IfMatch): Promise<PlatformModelEntry> {
    requirePlain(input.api_base, input.api_key);
    return this.database.run(async tx => {
      await this.repository.lock(tx);
      const before = await this.find(tx, id);
      requireMatch(ifMatch, before.updatedAt);
      const key = input.api_key === undefined ? undefined : this.keys.seal('platform', id, input.api_key);
      const fields = fieldsOf(before, input, key);
      requireSensible({ ...before, ...fields, hasKey: key ? key.sealed !== null : before.hasApiKey });
      if (!key && before.hasApiKey && serverOf(fields.apiBase) !== serverOf(before.apiBase))
        throw keyRequired();
      if (await this.repository.isNameTaken(tx, id, before.modelType, fields.displayName)) throw nameTaken();
      const { shared_with: sharedWith } = input;
      const sharedWithAll = sharedWith === undefined ? before.sharedWithAll : sharedWith === 'all';
      await this.repository.update(tx, id, { ...fields, sharedWithAll });
      if (sharedWith !== undefined)
        await this.repository.shareWith(tx, id, await this.tenantIds(tx, sharedWith));
      const entry = await this.find(tx, id);
      await this.changed(tx, 'platform_model.updated', entry);
      return entry;
    });
  }

  /** It goes from the defaults of all tenants, too. @throws Problem 404 */
  delete(id: string): Promise<void> {
    return this.database.run(async tx => {
      await this.repository.lock(tx);
      const entry = await this.find(tx, id);
      await this.repository.delete(tx, id);
      await this.changed(tx, 'platform_model.deleted', entry);
    });
  }

  /** @throws Problem 404 */
  async test(id: string, signal: AbortSignal): Promise<ModelTrial> {
    return this.trials.try({ ...(await this.get(id)), owner: 'platform' }, signal);
  }

  async defaults(): Promise<Record<ModelType, string[]>> {
    return defaultsOf(await this.list());
  }

  /** For tenants that have chosen nothing, of what is shared with them. Types that are not named stay. @throws Problem 422 */
  setDefaults(input: SetModelDefaults): Promise<Record<ModelType, string[]>> {
    const types = MODEL_TYPES.filter(type => input[type] !== undefined);
    return this.database.run(async tx => {
      await this.repository.lock(tx);
      const entries = await this.repository.list(tx);
      for (const type of types) {
        const ids = input[type] ?? [];
        for (const [index, id] of ids.entries()) {
          const known = entries.some(
            entry => entry.id === id && entry.modelType === type && entry.status === 'active',
          );
          if (!known) throw unknownModelOf(type, index);
        }
        await this.repository.setDefaults(tx, type, ids);
      }
      if (types.length > 0) {
        await this.catalogue.platformChanged(tx);
        this.audit.recordForPlatform(tx, {
          action: 'platform_model.defaults_changed',
          resource: { type: 'platform_model', id: null },
          details: Object.fromEntries(types.map(type => [type, input[type]])),
        });
      }
      return defaultsOf(await this.repository.list(tx));
    });
  }

  private async find(tx: Tx, id: string): Promise<SealedPlatformEntry> {
    const entry = await this.repository.find(tx, id);
    if (!entry) throw Problem.notFound('model');
    return entry;
  }

  /** @throws Problem 422 for tenants that there are not */
  private async tenantIds(tx: Tx, sharedWith: SharedWith): Promise<string[]> {
    if (sharedWith === 'all') return [];
    const found = await this.repository.tenantIds(tx, sharedWith);
    const unknown = sharedWith.findIndex(
      reference => !found.some(({ id, name }) => reference === id || reference === name),
    );
    if (unknown >= 0) {
      const message = 'must be a tenant';
      throw Problem.invalid([{ path: `shared_with.${unknown}`, code: 'unknown_tenant', message }]);
    }
    return found.map(({ id }) => id);
  }

  private async changed(tx: Tx, action: string, entry: PlatformModelEntry): Promise<void> {
    await this.catalogue.platformChanged(tx);
    this.audit.recordForPlatform(tx, {
      action,
      resource: { type: 'platform_model', id: entry.id },
      details: { ...detailsOf(entry), shared_with: entry.sharedWithAll ? 'all' : entry.tenantIds },
    });
  }
}

function defaultsOf(entries: readonly PlatformModelEntry[]): Record<ModelType, string[]> {
  const placed = entries
    .filter(({ defaultPosition }) => defaultPosition !== null)
    .toSorted((a, b) => (a.defaultPosition as number) - (b.defaultPosition as number));
  return Object.fromEntries(
    MODEL_TYPES.map(type => [type, placed.filter(({ modelType }) => modelType === type).map(({ id }) => id)]),
  ) as Record<ModelType, string[]>;
}

/** Variables are the tenants'. @throws Problem 422 */
function requirePlain(apiBase: string | null | undefined, apiKey: string | null | undefined): void {
  const fields = { api_base: apiBase, api_key: apiKey };
  const errors = Object.entries(fields)
    .filter(([, text]) => text?.includes('${'))
    .map(([path]) => ({
      path,
      code: 'variables_refused',
      message: 'must name no variables: they are the tenants’',
    }));
  if (apiBase && !errors.some(({ path }) => path === 'api_base') && !isWebAddress(apiBase))
    errors.push({ path: 'api_base', code: 'invalid_url', message: 'must start with https:// or http://' });
  if (errors.length > 0) throw Problem.invalid(errors);
}

const isWebAddress = (text: string): boolean =>
  URL.canParse(text) && ['http:', 'https:'].includes(new URL(text).protocol);
