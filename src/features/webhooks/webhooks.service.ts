import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { MailService } from '../../core/mail/mail.service.js';
import { type Actor, TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import {
  TenantVariablesService,
  UnknownVariableError,
} from '../../core/variables/tenant-variables.service.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import type { DisabledReason, Webhook } from './webhook.js';
import { WebhookSecrets } from './webhook-secrets.service.js';
import { newWebhookSecret } from './webhook-signature.js';
import type { CreateWebhook, ListWebhooks, RotateWebhookSecret, UpdateWebhook } from './webhooks.dto.js';
import { WebhooksRepository } from './webhooks.repository.js';

const MOST_WEBHOOKS = 20;
const SYSTEM: Actor = { type: 'system', id: null, name: null, ip: null, requestId: null };

/** Headers that are sent along; names in lower case. */
type Headers = Record<string, string>;

/** Addresses of the tenant that hear of what happens in it. */
@Injectable()
export class WebhooksService {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly webhooks: WebhooksRepository,
    private readonly secrets: WebhookSecrets,
    private readonly variables: TenantVariablesService,
    private readonly outbound: OutboundClient,
    private readonly mail: MailService,
    private readonly audit: AuditService,
  ) {}

  list(query: ListWebhooks): Promise<Page<Webhook>> {
    return this.database.run(tx => this.webhooks.list(tx, query));
  }

  /** @throws Problem 404 */
  get(id: string): Promise<Webhook> {
    return this.database.run(tx => this.find(tx, id));
  }

  /** @throws Problem 403 `variables_refused`, 409 `too_many_webhooks`, 422 for an address that must not be asked */
  async create(input: CreateWebhook): Promise<Webhook & { secret: string }> {
    const headers = lowerCase(input.headers ?? {});
    if (namesVariables(input.url, headers)) await this.requireVariables();
    await this.requireUsable(input.url, headers);
    const id = uuidv7();
    const secret = newWebhookSecret();
    const { url, description, events, is_active: isActive } = input;
    return this.database.run(async tx => {
      await this.webhooks.lockTenant(tx, this.tenantId);
      if ((await this.webhooks.count(tx)) >= MOST_WEBHOOKS) {
        throw Problem.conflict('too_many_webhooks', `A tenant has at most ${MOST_WEBHOOKS} webhooks.`);
      }
      await this.webhooks.insert(tx, {
        id,
        tenantId: this.tenantId,
        url,
        description,
        events,
        secret: this.secrets.sealSecret(id, secret),
        headers: this.secrets.sealHeaders(id, headers),
        headerNames: Object.keys(headers),
        isActive,
        createdBy: this.context.userId,
      });
      await this.webhooks.refreshListening(tx, this.tenantId);
      const webhook = await this.find(tx, id);
      this.record(tx, 'webhook.created', webhook);
      return { ...webhook, secret };
    });
  }

  /**
   * @throws Problem 403 `variables_refused`, 404, 422; `headers_required` where the headers that are sent along would go to
   * another server than they were given for
   */
  async update(id: string, input: UpdateWebhook, ifMatch: IfMatch): Promise<Webhook> {
    const headers = input.headers === undefined ? undefined : lowerCase(input.headers ?? {});
    const mayNameVariables = await this.mayNameVariables();
    if (namesVariables(input.url ?? '', headers ?? {}) && !mayNameVariables) throw variablesRefused();
    await this.requireUsable(input.url, headers ?? {});
    return this.database.run(async tx => {
      await this.webhooks.lockTenant(tx, this.tenantId);
      const before = await this.webhooks.findSealed(tx, id);
      if (!before) throw Problem.notFound('webhook');
      requireMatch(ifMatch, before.updatedAt);
      const url = input.url ?? before.url;
      if (url !== before.url || headers) {
        const sent = headers ?? this.secrets.openHeaders(id, before.headers);
        if (namesVariables(url, sent) && !mayNameVariables) throw variablesRefused();
        const elsewhere = destinationOf(url) !== destinationOf(before.url);
        if (elsewhere && !headers && before.headerNames.length > 0) throw headersRequired();
      }
      const isActive = input.is_active ?? before.isActive;
      const fields = {
        url,
        description: input.description ?? before.description,
        events: input.events ?? before.events,
        isActive,
        ...(headers && {
          headers: { sealed: this.secrets.sealHeaders(id, headers), names: Object.keys(headers) },
        }),
      };
      await this.webhooks.update(tx, id, fields, isActive && !before.isActive);
      await this.webhooks.refreshListening(tx, this.tenantId);
      const webhook = await this.find(tx, id);
      this.record(tx, 'webhook.updated', webhook);
      return webhook;
    });
  }

  /** What waits to be delivered goes with it. @throws Problem 404 */
  async delete(id: string): Promise<void> {
    await this.database.run(async tx => {
      await this.webhooks.lockTenant(tx, this.tenantId);
      const webhook = await this.find(tx, id);
      await this.webhooks.delete(tx, id);
      await this.webhooks.refreshListening(tx, this.tenantId);
      this.record(tx, 'webhook.deleted', webhook);
    });
  }

  /** @throws Problem 404 */
  async rotateSecret(id: string, input: RotateWebhookSecret): Promise<Webhook & { secret: string }> {
    const secret = newWebhookSecret();
    const sealed = this.secrets.sealSecret(id, secret);
    return this.database.run(async tx => {
      await this.webhooks.lockTenant(tx, this.tenantId);
      await this.find(tx, id);
      await this.webhooks.replaceSecret(tx, id, sealed, input.overlap_hours);
      const webhook = await this.find(tx, id);
      this.audit.record(tx, {
        action: 'webhook.secret_rotated',
        resource: { type: 'webhook', id },
        details: { overlap_hours: input.overlap_hours },
      });
      return { ...webhook, secret };
    });
  }

  /** Switches a webhook off for the system, and tells those who can do something about it. */
  async disable(id: string, reason: DisabledReason): Promise<void> {
    const { tenant } = this.context;
    const tenantName = (await this.directory.find(tenant.id))?.displayName ?? tenant.name;
    const disable = () =>
      this.database.run(async tx => {
        await this.webhooks.lockTenant(tx, tenant.id);
        if (!(await this.webhooks.disable(tx, id, reason))) return;
        await this.webhooks.refreshListening(tx, tenant.id);
        const webhook = await this.find(tx, id);
        this.record(tx, 'webhook.disabled', webhook);
        const mails = (await this.webhooks.administrators(tx, tenant.id)).map(to => ({
          template: 'webhook-disabled' as const,
          data: { tenantName, destination: destinationOf(webhook.url), reason },
          to,
          tenantId: tenant.id,
        }));
        await this.mail.sendMany(tx, mails);
      });
    // Whoever asked for the delivery that failed has not asked for this.
    await this.context.runAsSystem(tenant, disable, SYSTEM);
  }

  private get tenantId(): string {
    return this.context.tenant.id;
  }

  private async find(tx: Tx, id: string): Promise<Webhook> {
    const webhook = await this.webhooks.find(tx, id);
    if (!webhook) throw Problem.notFound('webhook');
    return webhook;
  }

  /** Where a variable is named, its value goes out: to whoever may not set it, that would show it. */
  private async mayNameVariables(): Promise<boolean> {
    return this.authorization.can(this.context.subject, tenantDomain(this.tenantId), 'tenant:manage');
  }

  private async requireVariables(): Promise<void> {
    if (!(await this.mayNameVariables())) throw variablesRefused();
  }

  /** @throws Problem 422 */
  private async requireUsable(url: string | undefined, headers: Headers): Promise<void> {
    if (url !== undefined) {
      const resolved = await this.resolve(url, 'url');
      try {
        this.outbound.check(resolved, { httpsOnly: this.env.production });
      } catch (error) {
        if (!(error instanceof OutboundError)) throw error;
        throw Problem.invalid([{ path: 'url', code: error.code, message: error.message }]);
      }
    }
    for (const [name, value] of Object.entries(headers)) await this.resolve(value, `headers.${name}`);
  }

  private async resolve(text: string, path: string): Promise<string> {
    try {
      return await this.variables.resolve(text);
    } catch (error) {
      if (!(error instanceof UnknownVariableError)) throw error;
      throw Problem.invalid([{ path, code: 'unknown_variable', message: error.message }]);
    }
  }

  private record(tx: Tx, action: string, webhook: Webhook): void {
    this.audit.record(tx, {
      action,
      resource: { type: 'webhook', id: webhook.id },
      details: {
        // The rest of an address is often a secret.
        destination: destinationOf(webhook.url),
        events: webhook.events,
        header_names: webhook.headerNames,
        is_active: webhook.isActive,
        ...(webhook.disabledReason && { disabled_reason: webhook.disabledReason }),
      },
    });
  }
}

const namesVariables = (url: string, headers: Headers): boolean =>
  [url, ...Object.values(headers)].some(text => text.includes('${'));

/** The part of an address that says which server it is; names of variables stand for themselves. */
function destinationOf(url: string): string {
  if (!url.includes('${') && URL.canParse(url)) return new URL(url).origin;
  return /^(?:\w+:\/\/)?[^/?#]*/.exec(url)?.[0] ?? '';
}

function lowerCase(headers: Headers): Headers {
  return Object.fromEntries(
    Object.entries(headers)
      .map(([name, value]): [string, string] => [name.toLowerCase(), value])
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

const variablesRefused = (): Problem =>
  Problem.forbidden(
    'To name variables of the tenant here needs the permission tenant:manage.',
    'variables_refused',
  );

const headersRequired = (): Problem =>
  Problem.invalid([
    {
      path: 'headers',
      code: 'headers_required',
      message: 'must be given again, or be null, where the address names another server',
    },
  ]);
