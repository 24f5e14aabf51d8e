import { Injectable, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import type { ApiTokenPrincipal } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { secretMatches } from '../../foundation/crypto/opaque-token.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import { USER_TOPIC } from '../users/user-sessions.service.js';
import { isExpired, prefixOf } from './api-token.js';
import {
  ApiTokenCredentialsRepository,
  type KnownSecret,
  type KnownToken,
} from './api-token-credentials.repository.js';
import { API_TOKEN_TOPIC } from './api-tokens.service.js';

/** The database's own changes, by hand, are told to nobody. */
const REMEMBER_MS = 30_000;

interface Remembered {
  secret: KnownSecret;
  principal: ApiTokenPrincipal;
}

/** Who holds the secret of an API token: asked on every request of theirs. */
@Injectable()
export class ApiTokenCredentials implements OnModuleInit {
  /** By prefix. Only secrets that exist: whoever guesses fills no memory. */
  private readonly known = new LRUCache<string, Remembered>({ max: 20_000, ttl: REMEMBER_MS });
  private changed = 0;

  constructor(
    private readonly database: PlatformDatabase,
    private readonly repository: ApiTokenCredentialsRepository,
    private readonly changes: ChangeFeed,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
  ) {}

  onModuleInit(): void {
    const forgetAll = () => this.forget(() => true);
    this.changes.subscribe(
      API_TOKEN_TOPIC,
      id => this.forget(({ secret }) => secret.tokenId === id),
      forgetAll,
    );
    this.changes.subscribe(USER_TOPIC, id => this.forget(({ secret }) => secret.userId === id), forgetAll);
  }

  /**
   * The token with this secret, where it is good: not expired, revoked or stopped, of a tenant that is there, made by
   * somebody who still belongs to it and may sign in.
   */
  async principalOf(secret: string): Promise<ApiTokenPrincipal | null> {
    const prefix = prefixOf(secret);
    if (prefix === null) return null;
    const found = this.known.get(prefix) ?? (await this.find(prefix));
    if (!found || !secretMatches(secret, found.secret.hash) || isExpired(found.secret)) return null;
    return this.whereItOpens(found.principal);
  }

  /**
   * The token of this id, where it is good, as in {@link principalOf}: for work that goes on apart from the request which
   * brought its secret. Reads it anew.
   */
  async principalOfId(tokenId: string): Promise<ApiTokenPrincipal | null> {
    const token = await this.database.run(tx => this.repository.findById(tx, tokenId));
    return token && !isExpired(token) ? this.whereItOpens(toPrincipal(token)) : null;
  }

  private async whereItOpens(principal: ApiTokenPrincipal): Promise<ApiTokenPrincipal | null> {
    if (!(await this.directory.find(principal.tenantId))) return null;
    const { member } = await this.authorization.accessOf(principal, principal.tenantId);
    return member ? principal : null;
  }

  private async find(prefix: string): Promise<Remembered | null> {
    const changedBefore = this.changed;
    const secret = await this.database.run(tx => this.repository.find(tx, prefix));
    if (!secret) return null;
    const remembered = { secret, principal: toPrincipal(secret) };
    if (changedBefore === this.changed) this.known.set(prefix, remembered);
    return remembered;
  }

  private forget(concerned: (remembered: Remembered) => boolean): void {
    this.changed++;
    for (const [prefix, remembered] of this.known.entries()) {
      if (concerned(remembered)) this.known.delete(prefix);
    }
  }
}

const toPrincipal = (token: KnownToken): ApiTokenPrincipal => ({
  kind: 'api_token',
  tokenId: token.tokenId,
  name: token.name,
  userId: token.userId,
  tenantId: token.tenantId,
  tokenKind: token.kind,
  scopes: new Set(token.scopes),
  kbIds: token.kbIds,
  agentIds: token.agentIds,
  rateLimitPerMinute: token.rateLimitPerMinute,
  monthlyCreditBudget: token.monthlyCreditBudget,
});
