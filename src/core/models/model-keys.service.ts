import { Injectable } from '@nestjs/common';
import { SealedBox } from '../../foundation/crypto/sealed-box.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { PlatformDatabase } from '../tenancy/platform-database.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDatabase } from '../tenancy/tenant-database.js';
import { variablesIn } from '../variables/tenant-variables.service.js';
import type { SealedKey } from './model-entry.js';
import { ModelsRepository } from './models.repository.js';
import { PlatformModelsRepository } from './platform-models.repository.js';

/** Of a shorter key too little would be left to guess. */
const SHORTEST_SHOWN = 12;

interface StoredKey {
  id: string;
  displayName: string;
  apiKey: Buffer;
}

interface Store {
  allSealed(tx: Tx): Promise<StoredKey[]>;
  reseal(tx: Tx, id: string, sealed: Buffer, before: Buffer): Promise<boolean>;
}

/** Whose an entry is: a tenant’s, by its id, or the platform’s. */
export type KeyOwner = { tenantId: string } | 'platform';

/** Seals the API keys of models, and opens them for nobody but whoever asks the model. */
@Injectable()
export class ModelKeys {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly platform: PlatformDatabase,
    private readonly models: ModelsRepository,
    private readonly platformModels: PlatformModelsRepository,
    private readonly box: SealedBox,
  ) {}

  /** @param key null: none */
  seal(owner: KeyOwner, id: string, key: string | null): SealedKey {
    if (key === null) return { sealed: null, lastFour: null, variables: [] };
    const variables = variablesIn(key);
    const shown = variables.length === 0 && key.length >= SHORTEST_SHOWN;
    return {
      sealed: this.box.seal(key, contextOf(owner, id)),
      lastFour: shown ? key.slice(-4) : null,
      variables,
    };
  }

  /** @throws SealError */
  open(owner: KeyOwner, id: string, sealed: Buffer): string {
    return this.box.open(sealed, contextOf(owner, id));
  }

  /**
   * Seals the keys of the context's tenant anew that are sealed with a key of before.
   *
   * @returns how many, and what no key of the settings opens
   */
  reseal(): Promise<{ count: number; lost: string[] }> {
    const owner = { tenantId: this.context.tenant.id };
    return this.database.run(tx => this.resealAll(tx, owner, this.models));
  }

  /** The same for the platform’s. */
  resealPlatform(): Promise<{ count: number; lost: string[] }> {
    return this.platform.run(tx => this.resealAll(tx, 'platform', this.platformModels));
  }

  private async resealAll(tx: Tx, owner: KeyOwner, store: Store): Promise<{ count: number; lost: string[] }> {
    let count = 0;
    const lost: string[] = [];
    for (const { id, displayName, apiKey } of await store.allSealed(tx)) {
      if (this.box.isCurrent(apiKey)) continue;
      const renewed = this.box.renew(apiKey, contextOf(owner, id));
      if (!renewed) lost.push(`the key of the model ${displayName}`);
      else if (await store.reseal(tx, id, renewed, apiKey)) count++;
    }
    return { count, lost };
  }
}

/** A key that is put into another entry, or into another tenant, does not open. */
const contextOf = (owner: KeyOwner, id: string): string =>
  `${owner === 'platform' ? 'platform' : owner.tenantId}/model/${id}/api-key`;
