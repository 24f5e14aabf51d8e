import { Injectable, type OnModuleInit } from '@nestjs/common';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { SealedBox } from '../../foundation/crypto/sealed-box.js';
import { KeyRotationService } from '../tenants/key-rotation.service.js';
import type { SealedParts } from './webhook.js';
import { WebhooksRepository } from './webhooks.repository.js';

/** Seals what a webhook must keep to itself: its secrets, and the headers that it sends along. */
@Injectable()
export class WebhookSecrets implements OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly webhooks: WebhooksRepository,
    private readonly box: SealedBox,
    private readonly rotation: KeyRotationService,
  ) {}

  onModuleInit(): void {
    this.rotation.include('secrets of webhooks', () => this.reseal());
  }

  sealSecret(id: string, secret: string): Buffer {
    return this.box.seal(secret, this.ofSecret(id));
  }

  openSecret(id: string, sealed: Buffer): string {
    return this.box.open(sealed, this.ofSecret(id));
  }

  /** @returns null where there are none */
  sealHeaders(id: string, headers: Record<string, string>): Buffer | null {
    if (Object.keys(headers).length === 0) return null;
    return this.box.seal(JSON.stringify(headers), this.ofHeaders(id));
  }

  openHeaders(id: string, sealed: Buffer | null): Record<string, string> {
    if (!sealed) return {};
    return JSON.parse(this.box.open(sealed, this.ofHeaders(id))) as Record<string, string>;
  }

  /** Of the context's tenant, those that are sealed with a key of before. */
  private async reseal(): Promise<{ count: number; lost: string[] }> {
    return this.database.run(async tx => {
      let count = 0;
      const lost: string[] = [];
      for (const { id, ...before } of await this.webhooks.allSealed(tx)) {
        const after = this.renewed(id, before);
        if (after === null) lost.push(`a secret of the webhook ${id}`);
        else if (after && (await this.webhooks.reseal(tx, id, after, before))) count++;
      }
      return { count, lost };
    });
  }

  /** @returns undefined where there is nothing to renew, null where a part cannot be opened */
  private renewed(id: string, before: SealedParts): SealedParts | null | undefined {
    const { secret, previousSecret, headers } = before;
    const parts = [secret, previousSecret, headers].filter(part => part !== null);
    if (parts.every(part => this.box.isCurrent(part))) return undefined;
    const after = {
      secret: this.box.renew(secret, this.ofSecret(id)),
      previousSecret: previousSecret && this.box.renew(previousSecret, this.ofSecret(id)),
      headers: headers && this.box.renew(headers, this.ofHeaders(id)),
    };
    if (!after.secret || (previousSecret && !after.previousSecret) || (headers && !after.headers))
      return null;
    return { ...after, secret: after.secret };
  }

  /** What is put into another webhook, or into another tenant, does not open. */
  private ofSecret(id: string): string {
    return `${this.context.tenant.id}/webhook/${id}/secret`;
  }

  private ofHeaders(id: string): string {
    return `${this.context.tenant.id}/webhook/${id}/headers`;
  }
}
