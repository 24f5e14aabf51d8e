import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import { Member } from './member.entity.js';
import type { ListMembers, MemberProfile } from './members.dto.js';

const SORTABLE = { joined_at: 'm.joined_at', email: 'u.email', display_name: 'u.display_name' };

/** Works in either kind of transaction: the tenant is always named. */
const PROFILE = `
  m.user_id AS "userId", u.email, u.email_verified_at IS NOT NULL AS "emailVerified",
  u.display_name AS "displayName", u.username, u.avatar_url AS "avatarUrl",
  m.status, m.joined_at AS "joinedAt", m.joined_by AS "joinedBy",
  ARRAY(SELECT r.v1 FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
        AND r.tenant_id = m.tenant_id ORDER BY r.id) AS roles,
  ARRAY(SELECT g.name FROM group_members gm JOIN groups g ON g.id = gm.group_id
        WHERE gm.tenant_id = m.tenant_id AND gm.user_id = m.user_id ORDER BY g.name) AS groups`;

@Injectable()
export class MembersRepository {
  /** @returns false where the user is a member already */
  async insert(tx: Tx, member: Pick<Member, 'tenantId' | 'userId' | 'joinedBy'>): Promise<boolean> {
    const result = await tx
      .getRepository(Member)
      .createQueryBuilder()
      .insert()
      .values(member)
      .orIgnore()
      .returning('user_id')
      .execute();
    return (result.raw as unknown[]).length === 1;
  }

  /** The same for many. @returns those who were no members before */
  async insertMany(
    tx: Tx,
    tenantId: string,
    userIds: readonly string[],
    joinedBy: string | null,
  ): Promise<string[]> {
    const rows: Array<{ userId: string }> = await tx.query(
      `INSERT INTO members (tenant_id, user_id, joined_by) SELECT $1, id, $3 FROM unnest($2::uuid[]) AS u(id)
       ON CONFLICT DO NOTHING RETURNING user_id AS "userId"`,
      [tenantId, userIds, joinedBy],
    );
    return rows.map(row => row.userId);
  }

  /** Those of `userIds` who are members, suspended or not, with when and through whom they became it. */
  joined(
    tx: Tx,
    tenantId: string,
    userIds: readonly string[],
  ): Promise<Array<Pick<Member, 'userId' | 'joinedAt' | 'joinedBy'>>> {
    return tx.query(
      `SELECT user_id AS "userId", joined_at AS "joinedAt", joined_by AS "joinedBy"
       FROM members WHERE tenant_id = $1 AND user_id = ANY ($2)`,
      [tenantId, userIds],
    );
  }

  async delete(tx: Tx, tenantId: string, userId: string): Promise<void> {
    await tx.getRepository(Member).delete({ tenantId, userId });
  }

  async setStatus(tx: Tx, tenantId: string, userId: string, status: Member['status']): Promise<void> {
    await tx.getRepository(Member).update({ tenantId, userId }, { status });
  }

  /** Of two who change the same member, one waits for the other. @returns false where there is none */
  async lock(tx: Tx, tenantId: string, userId: string): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      'SELECT FROM members WHERE tenant_id = $1 AND user_id = $2 FOR UPDATE',
      [tenantId, userId],
    );
    return rows.length === 1;
  }

  async find(tx: Tx, tenantId: string, userId: string): Promise<MemberProfile | null> {
    const rows: MemberProfile[] = await tx.query(
      `SELECT ${PROFILE} FROM members m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = $1 AND m.user_id = $2`,
      [tenantId, userId],
    );
    return rows[0] ?? null;
  }

  /** Those of `userIds` who may act in the tenant: neither suspended there nor closed out of the installation. */
  async active(tx: Tx, tenantId: string, userIds: readonly string[]): Promise<string[]> {
    const rows: Array<{ userId: string }> = await tx.query(
      `SELECT m.user_id AS "userId" FROM members m JOIN users u ON u.id = m.user_id
       WHERE m.tenant_id = $1 AND m.user_id = ANY ($2) AND m.status = 'active' AND u.is_active`,
      [tenantId, userIds],
    );
    return rows.map(row => row.userId);
  }

  /** The page is found first and filled with what stands elsewhere after: the last page costs what the first does. */
  async list(tx: Tx, tenantId: string, query: ListMembers): Promise<Page<MemberProfile>> {
    const parameters: unknown[] = [tenantId];
    const conditions = ['m.tenant_id = $1'];
    const add = (value: unknown, condition: (parameter: string) => string) =>
      conditions.push(condition(`$${parameters.push(value)}`));
    if (query.status) add(query.status, value => `m.status = ${value}`);
    if (query.role) {
      add(
        query.role,
        value => `EXISTS (SELECT FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
                    AND r.tenant_id = m.tenant_id AND r.v1 = ${value})`,
      );
    }
    if (query.search) {
      add(
        likePattern(query.search),
        value => `(u.email ILIKE ${value} OR u.display_name ILIKE ${value} OR u.username ILIKE ${value})`,
      );
    }
    const needsUsers = query.search !== undefined || !/^-?joined_at$/.test(query.sort);
    const users = 'JOIN users u ON u.id = m.user_id';
    const where = `WHERE ${conditions.join(' AND ')}`;
    const [column, direction] = orderBy(query.sort, SORTABLE).split(' ') as [string, 'ASC' | 'DESC'];
    const order = (way: string) => `${column} ${way}, m.user_id ${way}`;
    const [{ total }] = await tx.query(
      `SELECT count(*)::int AS total FROM members m ${query.search === undefined ? '' : users} ${where}`,
      parameters,
    );
    const first = (query.page - 1) * query.page_size;
    const size = Math.max(0, Math.min(query.page_size, total - first));
    // What lies in the second half is counted from the end.
    const fromEnd = first > total / 2;
    const way = fromEnd === (direction === 'ASC') ? 'DESC' : 'ASC';
    const items: MemberProfile[] = await tx.query(
      `WITH page AS (
         SELECT m.user_id FROM members m ${needsUsers ? users : ''} ${where}
         ORDER BY ${order(way)} LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}
       )
       SELECT ${PROFILE} FROM page JOIN members m ON m.tenant_id = $1 AND m.user_id = page.user_id
       ${users} ORDER BY ${order(direction)}`,
      [...parameters, size, fromEnd ? Math.max(0, total - first - size) : first],
    );
    return { items, total };
  }
}
