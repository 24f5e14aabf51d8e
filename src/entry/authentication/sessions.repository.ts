import { Injectable } from '@nestjs/common';
import { IsNull, MoreThan } from 'typeorm';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { AuthSession } from './auth-session.entity.js';

/** What decides, on every request, whether an access token still opens anything. */
export interface SessionState {
  userId: string;
  email: string;
  /** Not revoked, not expired, and its user may sign in. */
  valid: boolean;
}

@Injectable()
export class SessionsRepository {
  async insert(tx: Tx, session: Omit<AuthSession, 'createdAt' | 'revokedAt'>): Promise<void> {
    await tx.getRepository(AuthSession).insert(session);
  }

  find(tx: Tx, id: string): Promise<AuthSession | null> {
    return tx.getRepository(AuthSession).findOneBy({ id });
  }

  async state(tx: Tx, id: string): Promise<SessionState | null> {
    const rows: SessionState[] = await tx.query(
      `SELECT s.user_id AS "userId", u.email, s.revoked_at IS NULL AND s.expires_at > now() AND u.is_active AS valid
       FROM auth_sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1`,
      [id],
    );
    return rows[0] ?? null;
  }

  /**
   * Exchanges the refresh token of a session.
   *
   * @returns false where `oldHash` is no longer, or never was, the good one
   */
  async rotate(tx: Tx, id: string, oldHash: Buffer, newHash: Buffer, expiresAt: Date): Promise<boolean> {
    const result = await tx
      .getRepository(AuthSession)
      .update(
        { id, refreshTokenHash: oldHash, revokedAt: IsNull() },
        { refreshTokenHash: newHash, expiresAt, lastUsedAt: new Date() },
      );
    return result.affected === 1;
  }

  async setActiveTenant(tx: Tx, id: string, tenantId: string): Promise<void> {
    await tx.getRepository(AuthSession).update({ id }, { activeTenantId: tenantId, lastUsedAt: new Date() });
  }

  /** Those of a user that still stand, the one used last first. */
  async list(tx: Tx, userId: string, query: { page: number; page_size: number }): Promise<Page<AuthSession>> {
    const [items, total] = await tx.getRepository(AuthSession).findAndCount({
      where: { userId, revokedAt: IsNull(), expiresAt: MoreThan(new Date()) },
      order: { lastUsedAt: 'DESC', id: 'DESC' },
      take: query.page_size,
      skip: (query.page - 1) * query.page_size,
    });
    return { items, total };
  }

  /** The last ones, of three months. */
  async addressesOf(tx: Tx, email: string): Promise<string[]> {
    const rows: Array<{ ip: string }> = await tx.query(
      `SELECT s.ip FROM auth_sessions s JOIN users u ON u.id = s.user_id
       WHERE lower(u.email) = lower($1) AND s.ip IS NOT NULL AND s.created_at > now() - interval '90 days'
       GROUP BY s.ip ORDER BY max(s.created_at) DESC LIMIT 200`,
      [email],
    );
    return rows.map(({ ip }) => ip);
  }

  /** @returns false where it is no session of the user, or has ended already */
  async revoke(tx: Tx, id: string, userId: string): Promise<boolean> {
    const result = await tx
      .getRepository(AuthSession)
      .update(
        { id, userId, revokedAt: IsNull(), expiresAt: MoreThan(new Date()) },
        { revokedAt: new Date() },
      );
    return result.affected === 1;
  }
}
