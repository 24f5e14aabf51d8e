import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { User } from './user.entity.js';
import type { ListUsers, ListedUser, TenantMembership } from './users.dto.js';

const SORTABLE = {
  created_at: 'u.created_at',
  email: 'lower(u.email)',
  display_name: 'u.display_name',
  last_login_at: 'u.last_login_at',
};

const COLUMNS = `u.id, u.email, u.username, u.display_name AS "displayName", u.avatar_url AS "avatarUrl", u.language,
  u.timezone, u.is_active AS "isActive", u.email_verified_at AS "emailVerifiedAt", u.last_login_at AS "lastLoginAt",
  u.created_at AS "createdAt", u.updated_at AS "updatedAt"`;

/** Users as the platform sees them, with what they are everywhere. In transactions of the platform. */
@Injectable()
export class UserAdministrationRepository {
  async list(tx: Tx, query: ListUsers): Promise<Page<ListedUser>> {
    const conditions = ['true'];
    const parameters: unknown[] = [];
    const add = (value: unknown, condition: (parameter: string) => string) => {
      parameters.push(value);
      conditions.push(condition(`$${parameters.length}`));
    };
    if (query.search) {
      add(
        likePattern(query.search),
        p => `(u.email ILIKE ${p} OR u.display_name ILIKE ${p} OR u.username ILIKE ${p})`,
      );
    }
    if (query.is_active !== undefined) add(query.is_active, p => `u.is_active = ${p}`);
    if (query.platform_role) {
      add(
        query.platform_role,
        p =>
          `u.id::text IN (SELECT v0 FROM casbin_rule WHERE ptype = 'g' AND domain = 'platform' AND v1 = ${p})`,
      );
    }
    const from = `FROM users u WHERE ${conditions.join(' AND ')}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, parameters);
    const rows: Array<User & { platformRoles: string[] }> = await tx.query(
      `SELECT ${COLUMNS}, ARRAY(SELECT r.v1 FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = u.id::text
                                AND r.domain = 'platform' ORDER BY r.id) AS "platformRoles"
       ${from} ORDER BY ${orderBy(query.sort, SORTABLE)}, u.id
       LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items: rows.map(({ platformRoles, ...user }) => ({ user, platformRoles })), total };
  }

  /** The tenants that a user belongs to, also while suspended there. */
  memberships(tx: Tx, userId: string): Promise<TenantMembership[]> {
    return tx.query(
      `SELECT t.id, t.name, t.display_name AS "displayName", m.status, m.joined_at AS "joinedAt",
              ARRAY(SELECT r.v1 FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
                    AND r.tenant_id = m.tenant_id ORDER BY r.id) AS roles
       FROM members m JOIN tenants t ON t.id = m.tenant_id WHERE m.user_id = $1 ORDER BY t.name`,
      [userId],
    );
  }

  /** Every role that a user has, in whatever domain. */
  rolesEverywhere(tx: Tx, userId: string): Promise<Array<{ role: string; domain: string }>> {
    return tx.query(
      `SELECT v1 AS role, domain FROM casbin_rule WHERE ptype = 'g' AND v0 = $1 ORDER BY domain, id`,
      [userId],
    );
  }

  /**
   * The tenants that would be without an owner if this one went. The rules of their owners stay locked, so that two who
   * go at once are not each taken for the one who stays.
   */
  async ownedAlone(tx: Tx, userId: string): Promise<Array<{ id: string; name: string }>> {
    const rules: Array<{ tenantId: string }> = await tx.query(
      `SELECT tenant_id AS "tenantId" FROM casbin_rule
       WHERE ptype = 'g' AND v1 = 'owner' AND tenant_id IN (
         SELECT tenant_id FROM casbin_rule WHERE ptype = 'g' AND v1 = 'owner' AND v0 = $1)
       ORDER BY id FOR UPDATE`,
      [userId],
    );
    const tenantIds = [...new Set(rules.map(rule => rule.tenantId))];
    if (tenantIds.length === 0) return [];
    return tx.query(
      `SELECT t.id, t.name FROM tenants t
       WHERE t.id = ANY ($1) AND t.status <> 'erasing' AND NOT EXISTS (
         SELECT FROM casbin_rule r JOIN members m ON m.tenant_id = r.tenant_id AND m.user_id::text = r.v0
         WHERE r.ptype = 'g' AND r.v1 = 'owner' AND r.tenant_id = t.id AND r.v0 <> $2 AND m.status = 'active')
       ORDER BY t.name`,
      [tenantIds, userId],
    );
  }

  /** Those of `ids` who may sign in. */
  async active(tx: Tx, ids: readonly string[]): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      'SELECT id FROM users WHERE id = ANY ($1::uuid[]) AND is_active',
      [ids],
    );
    return rows.map(row => row.id);
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM users WHERE id = $1', [id]);
  }
}
