import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { TENANT_PERMISSIONS, tenantDomain } from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { hashSecret } from '../../foundation/crypto/opaque-token.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type FieldError, Problem } from '../../foundation/http/problem.js';
import {
  type ApiToken,
  PUBLISHABLE_SCOPES,
  type TokenLimits,
  fieldErrors,
  fieldsAbove,
  isExpired,
  newSecret,
  prefixOf,
  widens,
} from './api-token.js';
import type { CreateApiToken, IssuedApiToken, ListApiTokens, UpdateApiToken } from './api-tokens.dto.js';
import { ApiTokensRepository } from './api-tokens.repository.js';

/** Of the change feed: an API token changed, or is gone. */
export const API_TOKEN_TOPIC = 'api_token';

const DEFAULT_RATE_LIMIT = 60;
/** Each rotation leaves one more until its overlap ends. */
const MOST_SECRETS = 10;

/** Who gives a token what it may do: what is compared with it. */
interface Giver {
  /** What the one who acts holds. */
  held: ReadonlySet<string>;
  /** The limits of the token that acts; null where a user does. */
  own: TokenLimits | null;
}

/** API tokens of the context's tenant: nobody gives one what they do not hold themselves. */
@Injectable()
export class ApiTokensService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly audit: AuditService,
    private readonly changes: ChangeFeed,
    private readonly tokens: ApiTokensRepository,
  ) {}

  list(query: ListApiTokens): Promise<Page<ApiToken>> {
    return this.database.run(tx => this.tokens.list(tx, query));
  }

  /** @throws Problem 404 */
  get(id: string): Promise<ApiToken> {
    return this.database.run(tx => this.require(tx, id));
  }

  /** @throws Problem 403 `scope_above_own`, `limit_above_own`; 409 `name_taken`; 422 */
  async create(input: CreateApiToken): Promise<IssuedApiToken> {
    const held = await this.held();
    const { tenant, userId } = this.context;
    const id = uuidv7();
    const secret = newSecret(input.kind);
    return this.database.run(async tx => {
      const giver = { held, own: await this.ownLimits(tx) };
      const fields = { ...withDefaults(input, giver.own), isActive: true };
      requireFitting({ ...fields, kind: input.kind });
      requireHeld(giver, fields.scopes);
      requireWithin(giver, fields);
      await this.requireVisible(tx, fields);
      const row = { ...fields, id, tenantId: tenant.id, kind: input.kind, createdBy: userId };
      if (!(await this.tokens.insert(tx, row))) throw nameTaken();
      await this.addSecret(tx, id, secret);
      const token = await this.require(tx, id);
      this.audit.record(tx, {
        action: 'api_token.created',
        resource: { type: 'api_token', id },
        details: { kind: token.kind, prefix: prefixOf(secret), ...toDetails(token) },
      });
      return { token, secret };
    });
  }

  /**
   * What a change gives must be held by whoever makes it, and by the token's creator, above whom it never is. What it
   * takes need not.
   *
   * @throws Problem 403 `scope_above_own`, `limit_above_own`; 404; 409 `name_taken`; 412; 422
   */
  async update(id: string, input: UpdateApiToken, ifMatch: IfMatch = null): Promise<ApiToken> {
    const held = await this.held();
    const creators = await this.heldByCreator(id);
    return this.database.run(async tx => {
      const before = await this.requireLocked(tx, id);
      requireMatch(ifMatch, before.updatedAt);
      const after = { ...before, ...changesOf(input) };
      requireFitting({ ...after, expiresAt: input.expires_at === undefined ? null : after.expiresAt });
      const gives = input.scopes !== undefined || widens(before, after);
      if (gives) this.requireGiving({ held, own: await this.ownLimits(tx) }, creators, after);
      await this.requireVisible(tx, { kbIds: input.kb_ids ?? null, agentIds: input.agent_ids ?? null });
      if (!(await this.tokens.update(tx, id, after))) throw nameTaken();
      await this.changes.publish(tx, API_TOKEN_TOPIC, id);
      this.audit.record(tx, {
        action: 'api_token.updated',
        resource: { type: 'api_token', id },
        details: { before: toDetails(before), after: toDetails(after) },
      });
      return this.require(tx, id);
    });
  }

  /** Revokes it, in every process at once. @throws Problem 404 */
  async delete(id: string): Promise<void> {
    await this.database.run(async tx => {
      const token = await this.requireLocked(tx, id);
      await this.tokens.delete(tx, id);
      await this.changes.publish(tx, API_TOKEN_TOPIC, id);
      this.audit.record(tx, {
        action: 'api_token.deleted',
        resource: { type: 'api_token', id },
        details: { kind: token.kind, ...toDetails(token) },
      });
    });
  }

  /**
   * Gives the token a new secret. Whoever gets it may do all that the token may, so it must be theirs.
   *
   * @param overlapSeconds for how long the secrets of before stay good, too
   * @throws Problem 403 `scope_above_own`, `limit_above_own`; 404; 409 `token_inactive`, `token_expired`,
   *   `too_many_secrets`
   */
  async rotate(id: string, overlapSeconds: number): Promise<IssuedApiToken> {
    const held = await this.held();
    const creators = await this.heldByCreator(id);
    return this.database.run(async tx => {
      const before = await this.requireLocked(tx, id);
      if (!before.isActive) throw Problem.conflict('token_inactive', 'This token is not active.');
      if (isExpired(before)) throw Problem.conflict('token_expired', 'This token has expired.');
      this.requireGiving({ held, own: await this.ownLimits(tx) }, creators, before);
      const now = new Date();
      await this.tokens.endSecrets(tx, id, new Date(now.getTime() + overlapSeconds * 1000), now);
      const kept = (await this.require(tx, id)).secrets;
      if (kept.length >= MOST_SECRETS) {
        throw Problem.conflict(
          'too_many_secrets',
          `${MOST_SECRETS} secrets of this token are good at present: wait until one has ended, or let none overlap.`,
        );
      }
      const secret = newSecret(before.kind);
      await this.addSecret(tx, id, secret);
      await this.changes.publish(tx, API_TOKEN_TOPIC, id);
      this.audit.record(tx, {
        action: 'api_token.rotated',
        resource: { type: 'api_token', id },
        details: { name: before.name, prefix: prefixOf(secret), overlap_seconds: overlapSeconds },
      });
      return { token: await this.require(tx, id), secret };
    });
  }

  private get domain(): string {
    return tenantDomain(this.context.tenant.id);
  }

  private async require(tx: Tx, id: string): Promise<ApiToken> {
    const token = await this.tokens.find(tx, id);
    if (!token) throw Problem.notFound('API token');
    return token;
  }

  private async requireLocked(tx: Tx, id: string): Promise<ApiToken> {
    if (!(await this.tokens.lock(tx, id))) throw Problem.notFound('API token');
    return this.require(tx, id);
  }

  private async held(): Promise<ReadonlySet<string>> {
    return new Set(await this.authorization.permissionsOf(this.context.subject, this.domain));
  }

  /** What the creator of a token may do at present. Not inside of a transaction. @throws Problem 404 */
  private async heldByCreator(id: string): Promise<ReadonlySet<string>> {
    const { createdBy } = await this.get(id);
    return new Set(createdBy ? await this.authorization.permissionsOf(createdBy, this.domain) : []);
  }

  private async ownLimits(tx: Tx): Promise<TokenLimits | null> {
    const { principal } = this.context;
    return principal.kind === 'api_token' ? this.require(tx, principal.tokenId) : null;
  }

  /** Of a token that is given more, or into somebody's hands. */
  private requireGiving(giver: Giver, creators: ReadonlySet<string>, token: ApiToken): void {
    requireHeld(giver, token.scopes);
    requireHeld({ held: creators }, token.scopes, 'The creator of this token, above whom it never is,');
    requireWithin(giver, token);
    // Through it one sees what its creator sees.
    if (token.createdBy === this.context.userId || this.context.access.all) return;
    throw Problem.forbidden('The creator of this token may see what you do not.', 'limit_above_own');
  }

  /** Somebody else's knowledge bases and agents, and those that one does not see, are the same as none. */
  private async requireVisible(
    tx: Tx,
    { kbIds, agentIds }: Pick<TokenLimits, 'kbIds' | 'agentIds'>,
  ): Promise<void> {
    const kbs = kbIds && (await this.tokens.visibleKbs(tx, kbIds));
    const agents = agentIds && (await this.tokens.visibleAgents(tx, agentIds));
    const errors = [
      ...unknownIds('kb_ids', kbIds, kbs, 'unknown_kb', 'knowledge base'),
      ...unknownIds('agent_ids', agentIds, agents, 'unknown_agent', 'agent'),
    ];
    if (errors.length > 0) throw Problem.invalid(errors);
  }

  private async addSecret(tx: Tx, tokenId: string, secret: string): Promise<void> {
    const { id: tenantId } = this.context.tenant;
    const prefix = prefixOf(secret) as string;
    const hash = hashSecret(secret);
    if (await this.tokens.insertSecret(tx, { prefix, tenantId, tokenId, hash })) return;
    throw Problem.conflict('try_again', 'The secret that was made begins like another one. Try again.');
  }
}

function unknownIds(
  field: string,
  ids: readonly string[] | null,
  known: readonly string[] | null,
  code: string,
  what: string,
): FieldError[] {
  return (ids ?? []).flatMap((id, index) =>
    known?.includes(id) ? [] : [{ path: `${field}.${index}`, code, message: `There is no ${what} ${id}.` }],
  );
}

/** A token that makes another passes on what it says nothing else of. */
function withDefaults(input: CreateApiToken, own: TokenLimits | null) {
  return {
    name: input.name,
    scopes: inOrder(input.scopes ?? PUBLISHABLE_SCOPES),
    kbIds: input.kb_ids === undefined ? (own?.kbIds ?? null) : input.kb_ids,
    agentIds: input.agent_ids === undefined ? (own?.agentIds ?? null) : input.agent_ids,
    allowedOrigins: input.allowed_origins,
    rateLimitPerMinute:
      input.rate_limit_per_minute ??
      Math.min(DEFAULT_RATE_LIMIT, own?.rateLimitPerMinute ?? DEFAULT_RATE_LIMIT),
    monthlyCreditBudget:
      input.monthly_credit_budget === undefined
        ? (own?.monthlyCreditBudget ?? null)
        : input.monthly_credit_budget,
    expiresAt: input.expires_at === undefined ? (own?.expiresAt ?? null) : input.expires_at,
  };
}

/** What a change leaves out stays as it is. */
function changesOf(input: UpdateApiToken): Partial<ApiToken> {
  const changes: Partial<ApiToken> = {
    name: input.name,
    scopes: input.scopes && inOrder(input.scopes),
    kbIds: input.kb_ids,
    agentIds: input.agent_ids,
    allowedOrigins: input.allowed_origins,
    rateLimitPerMinute: input.rate_limit_per_minute,
    monthlyCreditBudget: input.monthly_credit_budget,
    expiresAt: input.expires_at,
    isActive: input.is_active,
  };
  return Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
}

/** As they are declared, each once. */
const inOrder = (scopes: readonly string[]): string[] =>
  TENANT_PERMISSIONS.filter(permission => scopes.includes(permission));

function requireFitting(token: Parameters<typeof fieldErrors>[0]): void {
  const errors = fieldErrors(token);
  if (errors.length > 0) throw Problem.invalid(errors);
}

function requireHeld({ held }: Pick<Giver, 'held'>, scopes: readonly string[], who = 'You'): void {
  const lacking = scopes.filter(scope => !held.has(scope));
  if (lacking.length === 0) return;
  throw Problem.forbidden(
    `${who} may not do what this token is to be for: ${lacking.join(', ')}.`,
    'scope_above_own',
  );
}

function requireWithin({ own }: Giver, token: TokenLimits): void {
  const above = own ? fieldsAbove(token, own) : [];
  if (above.length === 0) return;
  throw Problem.forbidden(
    `An API token gives no more than it has itself: ${above.join(', ')}.`,
    'limit_above_own',
  );
}

const toDetails = (token: Omit<ApiToken, 'id' | 'kind' | 'secrets' | 'createdAt' | 'updatedAt'>) => ({
  name: token.name,
  scopes: token.scopes,
  kb_ids: token.kbIds,
  agent_ids: token.agentIds,
  allowed_origins: token.allowedOrigins,
  rate_limit_per_minute: token.rateLimitPerMinute,
  monthly_credit_budget: token.monthlyCreditBudget,
  expires_at: token.expiresAt?.toISOString() ?? null,
  is_active: token.isActive,
});

const nameTaken = (): Problem =>
  Problem.conflict('name_taken', 'Another API token of this tenant has this name.');
