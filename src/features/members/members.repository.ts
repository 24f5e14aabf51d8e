import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import { Member } from './member.entity.js';
import type { ListMembers, MemberProfile } from './members.dto.js';

const SORTABLE = { joined_at: 'm.joined_at', email: 'u.email', display_name: 'u.display_name' };

const PROFILE = `
  m.user_id AS "userId", u.email, u.display_name AS "displayName", u.username, u.avatar_url AS "avatarUrl",
  m.status, m.joined_at AS "joinedAt", m.joined_by AS "joinedBy",
  ARRAY(SELECT r.v1 FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
        AND r.tenant_id = m.tenant_id ORDER BY r.id) AS roles`;

/** Members of the transaction's tenant. */
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

  async delete(tx: Tx, tenantId: string, userId: string): Promise<void> {
    await tx.getRepository(Member).delete({ tenantId, userId });
  }

  async find(tx: Tx, userId: string): Promise<MemberProfile | null> {
    const rows: MemberProfile[] = await tx.query(
      `SELECT ${PROFILE} FROM members m JOIN users u ON u.id = m.user_id WHERE m.user_id = $1`,
      [userId],
    );
    return rows[0] ?? null;
  }

  async list(tx: Tx, query: ListMembers): Promise<Page<MemberProfile>> {
    const conditions = ['true'];
    const parameters: unknown[] = [];
    if (query.search) {
      parameters.push(likePattern(query.search));
      conditions.push(`(u.email ILIKE $${parameters.length} OR u.display_name ILIKE $${parameters.length})`);
    }
    if (query.role) {
      parameters.push(query.role);
      conditions.push(
        `EXISTS (SELECT FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
           AND r.tenant_id = m.tenant_id AND r.v1 = $${parameters.length})`,
      );
    }
    const from = `FROM members m JOIN users u ON u.id = m.user_id WHERE ${conditions.join(' AND ')}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, parameters);
    const items: MemberProfile[] = await tx.query(
      `SELECT ${PROFILE} ${from} ORDER BY ${orderBy(query.sort, SORTABLE)}, m.user_id
       LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }
}
