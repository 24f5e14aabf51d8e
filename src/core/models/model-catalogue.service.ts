import { Injectable, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { VARIABLES_TOPIC } from '../variables/tenant-variables.service.js';
import type { SealedModelEntry, SealedPlatformEntry } from './model-entry.js';
import type { ModelType } from './model-provider.js';
import { type DefaultRow, ModelsRepository } from './models.repository.js';
import { PlatformModelsRepository } from './platform-models.repository.js';

/** Of the change feed: models of a tenant changed, keyed by its id; the platform’s, keyed by nothing. */
const MODELS_TOPIC = 'models';
const PLATFORM_MODELS_TOPIC = 'platform-models';

/** An entry that a tenant may use. */
export type UsableEntry = SealedModelEntry & { owner: 'tenant' | 'platform' };

/** What a tenant may use, and what it uses where nobody says anything else. */
export class Catalogue {
  /** Says what may write answers and order passages, and in which order: another after every change of it. */
  readonly version: string;

  constructor(
    readonly tenantId: string,
    private readonly entries: readonly UsableEntry[],
    private readonly chosen: ReadonlyMap<ModelType, readonly string[]>,
    private readonly given: ReadonlyMap<ModelType, readonly string[]>,
  ) {
    const orders = (['chat', 'rerank'] as const).map(type => [
      entries.filter(({ modelType }) => modelType === type).map(({ id, updatedAt }) => [id, updatedAt]),
      this.defaults(type).map(({ id }) => id),
    ]);
    this.version = JSON.stringify(orders);
  }

  /** The tenant's own order of models, else the platform's for it; the first is the default. */
  defaults(type: ModelType): UsableEntry[] {
    const own = this.inOrder(type, this.chosen.get(type));
    return own.length > 0 ? own : this.inOrder(type, this.given.get(type));
  }

  /**
   * The tenant's own before the platform's.
   *
   * @param choice id, display name or the provider's name
   */
  find(type: ModelType, choice: string): UsableEntry | null {
    const ofType = this.entries.filter(entry => entry.modelType === type);
    const wanted = choice.toLowerCase();
    return (
      ofType.find(({ id }) => id === choice) ??
      ofType.find(({ displayName }) => displayName.toLowerCase() === wanted) ??
      ofType.find(({ modelName }) => modelName === choice) ??
      null
    );
  }

  /** An embedding model by the name of its vectors, before any other name. */
  findByVectors(choice: string): UsableEntry | null {
    return (
      this.entries.find(({ modelType, modelName }) => modelType === 'embedding' && modelName === choice) ??
      this.find('embedding', choice)
    );
  }

  has(type: ModelType): boolean {
    return this.entries.some(({ modelType }) => modelType === type);
  }

  private inOrder(type: ModelType, ids: readonly string[] = []): UsableEntry[] {
    return ids.flatMap(id => this.entries.find(entry => entry.id === id && entry.modelType === type) ?? []);
  }
}

/** Knows what the tenants may use, and forgets it when it changes. Their requests ask the database nothing. */
@Injectable()
export class ModelCatalogue implements OnModuleInit {
  private readonly catalogues = new LRUCache<string, Catalogue>({ max: 5_000 });
  private platformEntries: readonly SealedPlatformEntry[] | null = null;
  private changed = 0;

  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly platform: PlatformDatabase,
    private readonly models: ModelsRepository,
    private readonly platformModels: PlatformModelsRepository,
    private readonly changes: ChangeFeed,
  ) {}

  onModuleInit(): void {
    const forget = (tenantId: string) => {
      this.changed++;
      this.catalogues.delete(tenantId);
    };
    const forgetAll = () => {
      this.changed++;
      this.platformEntries = null;
      this.catalogues.clear();
    };
    this.changes.subscribe(MODELS_TOPIC, forget, forgetAll);
    // Keys and addresses name them.
    this.changes.subscribe(VARIABLES_TOPIC, forget, forgetAll);
    this.changes.subscribe(PLATFORM_MODELS_TOPIC, forgetAll, forgetAll);
  }

  /** Of the context's tenant. Remembered; not inside of a transaction. */
  current(): Catalogue | Promise<Catalogue> {
    const { id } = this.context.tenant;
    return this.catalogues.get(id) ?? this.load(id);
  }

  /** The platform's entries that a tenant may use. Not inside of a transaction. */
  async shared(tenantId: string): Promise<SealedPlatformEntry[]> {
    const entries = this.platformEntries ?? (await this.loadPlatform());
    return entries.filter(
      ({ status, sharedWithAll, tenantIds }) =>
        status === 'active' && (sharedWithAll || tenantIds.includes(tenantId)),
    );
  }

  /** Announces that models of a tenant changed in this transaction. */
  tenantChanged(tx: Tx, tenantId: string): Promise<void> {
    return this.changes.publish(tx, MODELS_TOPIC, tenantId);
  }

  platformChanged(tx: Tx): Promise<void> {
    return this.changes.publish(tx, PLATFORM_MODELS_TOPIC, '');
  }

  private async load(tenantId: string): Promise<Catalogue> {
    const changedBefore = this.changed;
    const shared = await this.shared(tenantId);
    const { own, chosen } = await this.database.run(async tx => ({
      own: await this.models.listUsable(tx),
      chosen: await this.models.defaults(tx),
    }));
    const entries: UsableEntry[] = [
      ...own.map(entry => ({ ...entry, owner: 'tenant' as const })),
      ...shared.map(entry => ({ ...entry, owner: 'platform' as const })),
    ];
    const given = shared
      .filter(({ defaultPosition }) => defaultPosition !== null)
      .toSorted((a, b) => (a.defaultPosition as number) - (b.defaultPosition as number));
    const catalogue = new Catalogue(tenantId, entries, byType(chosen), byType(given));
    if (changedBefore === this.changed) this.catalogues.set(tenantId, catalogue);
    return catalogue;
  }

  private async loadPlatform(): Promise<readonly SealedPlatformEntry[]> {
    const changedBefore = this.changed;
    const entries = await this.platform.run(tx => this.platformModels.list(tx));
    if (changedBefore === this.changed) this.platformEntries = entries;
    return entries;
  }
}

function byType(rows: readonly DefaultRow[]): Map<ModelType, string[]> {
  const ids = new Map<ModelType, string[]>();
  for (const { modelType, id } of rows) ids.set(modelType, [...(ids.get(modelType) ?? []), id]);
  return ids;
}
