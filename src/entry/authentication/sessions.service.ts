import { Injectable, type OnModuleInit } from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import { LRUCache } from 'lru-cache';
import { validate as isUuid, v7 as uuidv7 } from 'uuid';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { AuditService } from '../../core/audit/audit.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import type { User } from '../../features/users/user.entity.js';
import { SESSION_TOPIC, UserSessionsService } from '../../features/users/user-sessions.service.js';
import { UsersRepository } from '../../features/users/users.repository.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { hashSecret, randomSecret } from '../../foundation/crypto/opaque-token.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import type { AuthSession } from './auth-session.entity.js';
import { type SessionState, SessionsRepository } from './sessions.repository.js';

/** The claims of an access token. Times in seconds since 1970, as RFC 7519 has it. */
export interface AccessTokenClaims {
  sub: string;
  sid: string;
  /** The tenant that was switched to, if any. */
  tid?: string;
  iat: number;
  exp: number;
}

export interface IssuedTokens {
  accessToken: string;
  refreshToken: string;
}

export interface Client {
  ip: string;
  userAgent: string | null;
}

export { SESSION_TOPIC };
/** A session also ends by its clock, of which nobody is told. */
const REMEMBER_MS = 30_000;

/** Sign-ins: a short access token (JWT) and a refresh token that is good once. */
@Injectable()
export class SessionsService implements OnModuleInit {
  private readonly states = new LRUCache<string, SessionState>({ max: 20_000, ttl: REMEMBER_MS });
  private changed = 0;

  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly database: PlatformDatabase,
    private readonly sessions: SessionsRepository,
    private readonly jwt: JwtService,
    private readonly changes: ChangeFeed,
    private readonly context: TenantContext,
    private readonly users: UsersRepository,
    private readonly userSessions: UserSessionsService,
    private readonly audit: AuditService,
  ) {}

  onModuleInit(): void {
    this.changes.subscribe(
      SESSION_TOPIC,
      id => this.forget(id),
      () => this.forget(null),
    );
  }

  /**
   * Signs in.
   *
   * @param passwordHash what the password was found to match
   * @returns null where the account was closed, or its password changed, since that was found
   */
  async open(
    user: User,
    passwordHash: string | null,
    client: Client,
    tenantId: string | null,
  ): Promise<IssuedTokens | null> {
    const id = uuidv7();
    const secret = randomSecret();
    const opened = await this.database.run(async tx => {
      if (!(await this.users.signIn(tx, user.id, passwordHash))) return false;
      await this.sessions.insert(tx, {
        id,
        userId: user.id,
        activeTenantId: tenantId,
        refreshTokenHash: hashSecret(secret),
        userAgent: client.userAgent?.slice(0, 500) ?? null,
        ip: client.ip,
        lastUsedAt: new Date(),
        expiresAt: this.refreshExpiry(),
      });
      // From here on it is somebody who acts.
      const { id: userId, email } = user;
      this.context.setPrincipal({ kind: 'user', userId, email, sessionId: id, tokenTenantId: tenantId });
      this.audit.recordForPlatform(tx, { action: 'auth.signed_in', resource: { type: 'session', id } });
      return true;
    });
    if (!opened) return null;
    return { accessToken: this.sign(user.id, id, tenantId), refreshToken: `${id}.${secret}` };
  }

  /**
   * Exchanges a refresh token for new ones. Using one twice ends the session: one of the two who have it stole it
   * (RFC 9700, 4.14.2).
   *
   * @throws Problem 401 `invalid_refresh_token`
   */
  async refresh(refreshToken: string): Promise<IssuedTokens> {
    const [id = '', secret = ''] = refreshToken.split('.', 2);
    if (!isUuid(id)) throw refused();
    const next = randomSecret();
    const session = await this.database.run(async tx => {
      const state = await this.sessions.state(tx, id);
      if (!state?.valid) return null;
      const rotated = await this.sessions.rotate(
        tx,
        id,
        hashSecret(secret),
        hashSecret(next),
        this.refreshExpiry(),
      );
      if (rotated) return this.sessions.find(tx, id);
      await this.end(tx, state.userId, id, { reason: 'refresh_token_reused' });
      return null;
    });
    if (!session) throw refused();
    return {
      accessToken: this.sign(session.userId, id, session.activeTenantId),
      refreshToken: `${id}.${next}`,
    };
  }

  async switchTenant(userId: string, sessionId: string, tenantId: string): Promise<string> {
    await this.database.run(tx => this.sessions.setActiveTenant(tx, sessionId, tenantId));
    return this.sign(userId, sessionId, tenantId);
  }

  /** Those of a user that still stand. */
  list(userId: string, query: { page: number; page_size: number }): Promise<Page<AuthSession>> {
    return this.database.run(tx => this.sessions.list(tx, userId, query));
  }

  async signOut(userId: string, sessionId: string): Promise<void> {
    await this.database.run(async tx => {
      if (await this.sessions.revoke(tx, sessionId, userId))
        await this.ended(tx, sessionId, 'auth.signed_out');
    });
  }

  /** @throws Problem 404 where it is no session of the user, or has ended */
  async revoke(userId: string, sessionId: string): Promise<void> {
    await this.database.run(async tx => {
      if (!(await this.end(tx, userId, sessionId))) throw Problem.notFound('session');
    });
  }

  /** Where the account with this e-mail address was signed in to; where there is none, nowhere. */
  addressesOf(email: string): Promise<string[]> {
    return this.database.run(tx => this.sessions.addressesOf(tx, email));
  }

  /** Ends every session of a user but one. */
  async revokeOthers(userId: string, sessionId: string): Promise<void> {
    await this.database.run(async tx => {
      const sessions = await this.userSessions.endAll(tx, userId, sessionId);
      if (sessions === 0) return;
      this.audit.recordForPlatform(tx, {
        action: 'session.revoked',
        resource: { type: 'user', id: userId },
        details: { sessions },
      });
    });
  }

  /** The session of an access token, where it still stands. Asked on every request. */
  async validState(sessionId: string, userId: string): Promise<SessionState | null> {
    let state = this.states.get(sessionId);
    if (!state) {
      if (!isUuid(sessionId)) return null;
      const changedBefore = this.changed;
      const found = await this.database.run(tx => this.sessions.state(tx, sessionId));
      if (!found) return null;
      state = found;
      if (changedBefore === this.changed) this.states.set(sessionId, state);
    }
    return state.valid && state.userId === userId ? state : null;
  }

  private async end(
    tx: Tx,
    userId: string,
    sessionId: string,
    details: Record<string, unknown> = {},
  ): Promise<boolean> {
    if (!(await this.sessions.revoke(tx, sessionId, userId))) return false;
    await this.ended(tx, sessionId, 'session.revoked', details);
    return true;
  }

  private async ended(tx: Tx, id: string, action: string, details = {}): Promise<void> {
    await this.changes.publish(tx, SESSION_TOPIC, id);
    this.audit.recordForPlatform(tx, { action, resource: { type: 'session', id }, details });
  }

  private sign(userId: string, sessionId: string, tenantId: string | null): string {
    return this.jwt.sign({ sub: userId, sid: sessionId, ...(tenantId && { tid: tenantId }) });
  }

  private refreshExpiry(): Date {
    return new Date(Date.now() + this.env.refreshTokenTtl * 1000);
  }

  private forget(sessionId: string | null): void {
    this.changed++;
    if (sessionId) this.states.delete(sessionId);
    else this.states.clear();
  }
}

const refused = (): Problem =>
  Problem.unauthorized('invalid_refresh_token', 'The refresh token is not valid. Log in again.');
