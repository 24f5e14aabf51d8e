import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import { AuditService } from '../audit/audit.service.js';
import { AuthorizationService } from '../authorization/authorization.service.js';
import { tenantDomain } from '../authorization/permissions.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { TenantVariablesService, UnknownVariableError } from '../variables/tenant-variables.service.js';
import { ModelCatalogue } from './model-catalogue.service.js';
import { detailsOf, fieldsOf, serverOf } from './model-changes.js';
import type { ModelEntry, ModelTrial, SealedKey, SealedModelEntry, TypeDefaults } from './model-entry.js';
import { ModelKeys } from './model-keys.service.js';
import { keyRequired, nameTaken, requireSensible, unknownModelOf } from './model-problems.js';
import { MODEL_TYPES, type ModelType } from './model-provider.js';
import { ModelTrials } from './model-trials.service.js';
import type { CreateModel, SetModelDefaults, UpdateModel } from './models.dto.js';
import { ModelsRepository } from './models.repository.js';
import { ModelsService } from './models.service.js';

const MOST_MODELS = 200;

/** The models that a tenant brings, and which it uses. */
@Injectable()
export class TenantModelsService {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly repository: ModelsRepository,
    private readonly catalogue: ModelCatalogue,
    private readonly models: ModelsService,
    private readonly keys: ModelKeys,
    private readonly trials: ModelTrials,
    private readonly variables: TenantVariablesService,
    private readonly outbound: OutboundClient,
    private readonly audit: AuditService,
  ) {}

  /** The tenant's own, and those of the platform that it may use. */
  async list(): Promise<{ own: ModelEntry[]; shared: ModelEntry[] }> {
    const shared = await this.catalogue.shared(this.tenantId);
    return { own: await this.database.run(tx => this.repository.list(tx)), shared };
  }

  /** @throws Problem 404 */
  async get(id: string): Promise<{ entry: ModelEntry; owner: 'tenant' | 'platform' }> {
    const shared = (await this.catalogue.shared(this.tenantId)).find(entry => entry.id === id);
    if (shared) return { entry: shared, owner: 'platform' };
    return { entry: await this.database.run(tx => this.find(tx, id)), owner: 'tenant' };
  }

  /** @throws Problem 403 `variables_refused`, 409 `name_taken`, `too_many_models`, 422 */
  async create(input: CreateModel): Promise<ModelEntry> {
    const { provider, model_type: modelType, model_name: modelName, settings } = input;
    const apiBase = input.api_base ?? null;
    const apiKey = input.api_key ?? null;
    requireSensible({ provider, modelType, modelName, apiBase, hasKey: apiKey !== null, settings });
    if (namesVariables(apiBase, apiKey)) await this.requireVariables();
    await this.requireUsable(apiBase, apiKey);
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
      key: this.keys.seal({ tenantId: this.tenantId }, id, apiKey),
      createdBy: this.context.userId,
    };
    return this.database.run(async tx => {
      await this.repository.lockTenant(tx, this.tenantId);
      if ((await this.repository.count(tx)) >= MOST_MODELS) {
        throw Problem.conflict('too_many_models', `A tenant has at most ${MOST_MODELS} models.`);
      }
      if (!(await this.repository.insert(tx, this.tenantId, model))) throw nameTaken();
      const entry = await this.find(tx, id);
      await this.changed(tx, 'model.created', entry);
      return entry;
    });
  }

  /**
   * @throws Problem 403 `variables_refused`, 404, 409 `name_taken`, `model_in_use`, 412, 422; `api_key_required` where the key
   * would go to another server than it was given for
   */
  async update(id: string, input: UpdateModel, ifMatch: IfMatch): Promise<ModelEntry> {
    const mayNameVariables = await this.mayNameVariables();
    if (namesVariables(input.api_base, input.api_key) && !mayNameVariables) throw variablesRefused();
    await this.requireUsable(input.api_base, input.api_key);
    return this.database.run(async tx => {
      await this.repository.lockTenant(tx, this.tenantId);
      const before = await this.find(tx, id);
      requireMatch(ifMatch, before.updatedAt);
      const key = this.keyOf(id, input.api_key);
      const fields = fieldsOf(before, input, key);
      const hasKey = key ? key.sealed !== null : before.hasApiKey;
      requireSensible({ ...before, ...fields, hasKey });
      if (fields.apiBase !== before.apiBase) {
        // Who moves a key that names variables sends their values somewhere else.
        if (!key && before.apiKeyVariables.length > 0 && !mayNameVariables) throw variablesRefused();
        if (!key && before.hasApiKey && serverOf(fields.apiBase) !== serverOf(before.apiBase))
          throw keyRequired();
      }
      if (await this.repository.isNameTaken(tx, id, before.modelType, fields.displayName)) throw nameTaken();
      if (before.status === 'active' && fields.status === 'disabled') await this.requireUnused(tx, before);
      await this.repository.update(tx, id, fields);
      const entry = await this.find(tx, id);
      await this.changed(tx, 'model.updated', entry);
      return entry;
    });
  }

  /** It goes from the defaults, too. @throws Problem 404, 409 `model_in_use` */
  async delete(id: string): Promise<void> {
    await this.database.run(async tx => {
      await this.repository.lockTenant(tx, this.tenantId);
      const entry = await this.find(tx, id);
      if (entry.status === 'active') await this.requireUnused(tx, entry);
      await this.repository.delete(tx, id);
      await this.changed(tx, 'model.deleted', entry);
    });
  }

  /** @throws Problem 404 */
  async test(id: string, signal: AbortSignal): Promise<ModelTrial> {
    const entry = await this.database.run(tx => this.find(tx, id));
    return this.trials.try({ ...entry, owner: 'tenant' }, signal);
  }

  /** What the tenant uses of each type. */
  async defaults(): Promise<Record<ModelType, TypeDefaults>> {
    const catalogue = await this.catalogue.current();
    const chosen = await this.database.run(tx => this.repository.defaults(tx));
    return Object.fromEntries(
      MODEL_TYPES.map((type): [ModelType, TypeDefaults] => {
        const models = catalogue.defaults(type);
        const own = models.some(({ id }) => chosen.some(row => row.modelType === type && row.id === id));
        const installed = this.models.ofInstallation(type);
        const effective = models[0]?.modelName ?? installed;
        const source = models.length > 0 ? (own ? 'tenant' : 'platform') : installed ? 'installation' : null;
        return [type, { models, source, effective }];
      }),
    ) as Record<ModelType, TypeDefaults>;
  }

  /** Types that are not named stay as they are; an empty list leaves the choice to the platform. @throws Problem 422 */
  async setDefaults(input: SetModelDefaults): Promise<Record<ModelType, TypeDefaults>> {
    const types = MODEL_TYPES.filter(type => input[type] !== undefined);
    const shared = await this.catalogue.shared(this.tenantId);
    await this.database.run(async tx => {
      await this.repository.lockTenant(tx, this.tenantId);
      const usable = await this.repository.listUsable(tx);
      for (const type of types) {
        const ids = (input[type] ?? []).map((id, index) => {
          const isIt = (entry: ModelEntry) => entry.id === id && entry.modelType === type;
          const own = usable.some(isIt);
          if (!own && !shared.some(isIt)) throw unknownModelOf(type, index);
          return { id, own };
        });
        const gone = await this.repository.setDefaults(tx, this.tenantId, type, ids);
        // One of the platform's: what is shared was read before.
        if (gone !== null) throw unknownModelOf(type, gone);
      }
      if (types.length === 0) return;
      await this.catalogue.tenantChanged(tx, this.tenantId);
      this.audit.record(tx, {
        action: 'model.defaults_changed',
        resource: { type: 'model', id: null },
        details: Object.fromEntries(types.map(type => [type, input[type]])),
      });
    });
    return this.defaults();
  }

  private get tenantId(): string {
    return this.context.tenant.id;
  }

  private async find(tx: Tx, id: string): Promise<SealedModelEntry> {
    const entry = await this.repository.find(tx, id);
    if (!entry) throw Problem.notFound('model');
    return entry;
  }

  /** @param key missing: as it is */
  private keyOf(id: string, key: string | null | undefined): SealedKey | undefined {
    return key === undefined ? undefined : this.keys.seal({ tenantId: this.tenantId }, id, key);
  }

  /** Vectors are worth nothing without the model that made them. */
  private async requireUnused(tx: Tx, entry: ModelEntry): Promise<void> {
    const { id, modelType, modelName } = entry;
    if (modelType !== 'embedding') return;
    const usable = await this.repository.listUsable(tx);
    const another = usable.some(
      other => other.id !== id && other.modelType === modelType && other.modelName === modelName,
    );
    if (another || this.models.ofInstallation('embedding') === modelName) return;
    const kbs = await this.repository.countKbsWithVectors(tx, modelName);
    if (kbs === 0) return;
    throw Problem.conflict(
      'model_in_use',
      `The vectors of ${kbs} knowledge base(s) are of this model. Re-index them for another one first.`,
    );
  }

  /** Where a variable is named, its value goes out: to whoever may not set it, that would show it. */
  private async mayNameVariables(): Promise<boolean> {
    return this.authorization.can(this.context.subject, tenantDomain(this.tenantId), 'tenant:manage');
  }

  private async requireVariables(): Promise<void> {
    if (!(await this.mayNameVariables())) throw variablesRefused();
  }

  /** @throws Problem 422 */
  private async requireUsable(
    apiBase: string | null | undefined,
    apiKey: string | null | undefined,
  ): Promise<void> {
    if (apiKey) await this.resolve(apiKey, 'api_key');
    if (!apiBase) return;
    const resolved = await this.resolve(apiBase, 'api_base');
    try {
      const url = this.outbound.check(resolved, { httpsOnly: this.env.production });
      if (url.search !== '' || url.hash !== '') {
        const message = 'must be a base URL, without a query';
        throw Problem.invalid([{ path: 'api_base', code: 'invalid_url', message }]);
      }
    } catch (error) {
      if (!(error instanceof OutboundError)) throw error;
      throw Problem.invalid([{ path: 'api_base', code: error.code, message: error.message }]);
    }
  }

  private async resolve(text: string, path: string): Promise<string> {
    try {
      return await this.variables.resolve(text);
    } catch (error) {
      if (!(error instanceof UnknownVariableError)) throw error;
      throw Problem.invalid([{ path, code: 'unknown_variable', message: error.message }]);
    }
  }

  private async changed(tx: Tx, action: string, entry: ModelEntry): Promise<void> {
    await this.catalogue.tenantChanged(tx, this.tenantId);
    this.audit.record(tx, { action, resource: { type: 'model', id: entry.id }, details: detailsOf(entry) });
  }
}

const namesVariables = (...texts: ReadonlyArray<string | null | undefined>): boolean =>
  texts.some(text => text?.includes('${'));

const variablesRefused = (): Problem =>
  Problem.forbidden(
    'To name variables of the tenant here needs the permission tenant:manage.',
    'variables_refused',
  );
