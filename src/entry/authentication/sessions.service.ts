import { Injectable, type OnModuleInit } from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import { LRUCache } from 'lru-cache';
import { validate as isUuid, v7 as uuidv7 } from 'uuid';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import { hashSecret, randomSecret } from '../../foundation/crypto/opaque-token.js';
import { ChangeFeed } from '../../foundation/database/change-feed.js';
import { Problem } from '../../foundation/http/problem.js';
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

/** Of the change feed: a session ended, or whose it is changed. */
export const SESSION_TOPIC = 'session';
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
  ) {}

  onModuleInit(): void {
    this.changes.subscribe(
      SESSION_TOPIC,
      id => this.forget(id),
      () => this.forget(null),
    );
  }

  async open(userId: string, client: Client, tenantId: string | null): Promise<IssuedTokens> {
    const id = uuidv7();
    const secret = randomSecret();
    await this.database.run(tx =>
      this.sessions.insert(tx, {
        id,
        userId,
        activeTenantId: tenantId,
        refreshTokenHash: hashSecret(secret),
        userAgent: client.userAgent?.slice(0, 500) ?? null,
        ip: client.ip,
        lastUsedAt: new Date(),
        expiresAt: this.refreshExpiry(),
      }),
    );
    return { accessToken: this.sign(userId, id, tenantId), refreshToken: `${id}.${secret}` };
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
      await this.sessions.revoke(tx, id);
      await this.changes.publish(tx, SESSION_TOPIC, id);
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

  async revoke(sessionId: string): Promise<void> {
    await this.database.run(async tx => {
      await this.sessions.revoke(tx, sessionId);
      await this.changes.publish(tx, SESSION_TOPIC, sessionId);
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
