import { Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { SealError } from '../../foundation/crypto/sealed-box.js';
import { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantVariablesService, UnknownVariableError } from '../variables/tenant-variables.service.js';
import { ModelError } from './model.js';
import type { UsableEntry } from './model-catalogue.service.js';
import { ModelClient } from './model-client.js';
import { ModelKeys } from './model-keys.service.js';
import { type ModelConnection, PROVIDER_FACTS } from './model-provider.js';
import { type TransportOptions, guardedDoor, openDoor } from './model-transport.js';
import { ModelUsage } from './model-usage.service.js';

/** Clients that are held, with their connections and with what is known of their servers. */
const MOST_CLIENTS = 2_000;

/** What a header can carry. */
const VISIBLE = /^[\x21-\x7e]*$/;

interface KnownClient {
  fingerprint: string;
  client: ModelClient;
}

/** Makes clients of entries. One whose entry and variables are as they were before is used again. */
@Injectable()
export class ModelClients {
  /** By the entry as it was loaded, which is loaded anew when anything about it changes. */
  private readonly resolved = new WeakMap<UsableEntry, Promise<ModelClient>>();
  private readonly clients = new LRUCache<string, KnownClient>({ max: MOST_CLIENTS });

  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
    private readonly keys: ModelKeys,
    private readonly variables: TenantVariablesService,
    private readonly outbound: OutboundClient,
    private readonly usage: ModelUsage,
  ) {}

  /** In the context of the tenant that may use the entry; not inside of a transaction. @throws ModelError */
  of(entry: UsableEntry): Promise<ModelClient> {
    let client = this.resolved.get(entry);
    if (!client) {
      client = this.resolve(entry);
      this.resolved.set(entry, client);
      client.catch(() => this.resolved.delete(entry));
    }
    return client;
  }

  /** One that nobody else uses, and that knows nothing of what was before. @throws ModelError */
  async fresh(entry: UsableEntry, transport: TransportOptions): Promise<ModelClient> {
    return this.make(entry, await this.connectionOf(entry), transport);
  }

  private async resolve(entry: UsableEntry): Promise<ModelClient> {
    const connection = await this.connectionOf(entry);
    const fingerprint = createHash('sha256')
      .update(JSON.stringify([entry.owner, entry.displayName, connection]))
      .digest('base64');
    const known = this.clients.get(entry.id);
    if (known?.fingerprint === fingerprint) return known.client;
    const client = this.make(entry, connection);
    this.clients.set(entry.id, { fingerprint, client });
    return client;
  }

  private make(entry: UsableEntry, connection: ModelConnection, transport?: TransportOptions): ModelClient {
    return new ModelClient({
      subject: subjectOf(entry),
      connection,
      // Where the platform has it ask is the platform's business.
      door: entry.owner === 'platform' ? openDoor : guardedDoor(this.outbound, this.env.production),
      onTokens: tokens => this.usage.note(entry.id, tokens),
      transport,
    });
  }

  private async connectionOf(entry: UsableEntry): Promise<ModelConnection> {
    try {
      const apiKey = await this.keyOf(entry);
      const { apiBase } = entry;
      const own = PROVIDER_FACTS[entry.provider].apiBase ?? '';
      return {
        provider: entry.provider,
        modelName: entry.modelName,
        apiBase: apiBase === null ? own : await this.variablesIn(entry, apiBase),
        apiKey,
        contextTokens: entry.maxTokens,
        dimensions: entry.dimensions,
        settings: entry.settings,
      };
    } catch (error) {
      if (error instanceof UnknownVariableError)
        throw unusable(
          entry,
          `names a variable that the tenant does not have: ${error.variables.join(', ')}`,
        );
      if (error instanceof SealError) throw unusable(entry, 'has a key that was sealed with another key');
      throw error;
    }
  }

  private async keyOf(entry: UsableEntry): Promise<string> {
    if (entry.apiKey === null) return '';
    const owner = entry.owner === 'platform' ? entry.owner : { tenantId: this.context.tenant.id };
    const key = (await this.variablesIn(entry, this.keys.open(owner, entry.id, entry.apiKey))).trim();
    if (!VISIBLE.test(key)) throw unusable(entry, 'has a key with characters that no header carries');
    return key;
  }

  /** Variables are the tenants': what the platform writes stands for itself. */
  private variablesIn({ owner }: UsableEntry, text: string): Promise<string> | string {
    return owner === 'platform' ? text : this.variables.resolve(text);
  }
}

const subjectOf = ({ displayName }: UsableEntry): string => `The model "${displayName}"`;

const unusable = (entry: UsableEntry, why: string): ModelError =>
  new ModelError('model_rejected', `${subjectOf(entry)} ${why}.`, false);
