import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { Group, GroupMember, ListGroupMembers, ListGroups } from './groups.dto.js';

const GROUP_COLUMNS = { name: 'lower(g.name)', created_at: 'g.created_at' };
const MEMBER_COLUMNS = { email: 'u.email', display_name: 'u.display_name', added_at: 'gm.added_at' };

const GROUP = `
  g.id, g.name, g.description, g.created_by AS "createdBy", g.created_at AS "createdAt", g.updated_at AS "updatedAt",
  (SELECT count(*)::int FROM group_members gm WHERE gm.group_id = g.id) AS "memberCount"`;

/** A role that whoever is in a group has in one knowledge base. */
export interface GroupGrant {
  kbId: string;
  role: string;
}

/** Groups of the transaction's tenant. */
@Injectable()
export class GroupsRepository {
  async find(tx: Tx, id: string): Promise<Group | null> {
    const rows: Group[] = await tx.query(`SELECT ${GROUP} FROM groups g WHERE g.id = $1`, [id]);
    return rows[0] ?? null;
  }

  /** So that its grants and members stay what they are until the transaction ends. @returns false where there is none */
  async lock(tx: Tx, id: string): Promise<boolean> {
    const rows: unknown[] = await tx.query('SELECT 1 FROM groups WHERE id = $1 FOR UPDATE', [id]);
    return rows.length === 1;
  }

  async list(tx: Tx, query: ListGroups): Promise<Page<Group>> {
    const where = query.search ? 'WHERE g.name ILIKE $1' : '';
    const parameters = query.search ? [likePattern(query.search.normalize('NFC'))] : [];
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total FROM groups g ${where}`, parameters);
    const items: Group[] = await tx.query(
      `SELECT ${GROUP} FROM groups g ${where} ORDER BY ${orderBy(query.sort, GROUP_COLUMNS)}, g.id
       LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }

  /** @returns false where the name is taken */
  async insert(
    tx: Tx,
    group: { id: string; tenantId: string; name: string; description: string; createdBy: string },
  ): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO groups (id, tenant_id, name, description, created_by) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT DO NOTHING RETURNING id`,
      [group.id, group.tenantId, group.name, group.description, group.createdBy],
    );
    return rows.length === 1;
  }

  async isTaken(tx: Tx, name: string, exceptId: string): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      'SELECT 1 FROM groups WHERE lower(name) = lower($1) AND id <> $2',
      [name, exceptId],
    );
    return rows.length > 0;
  }

  async update(tx: Tx, id: string, name: string, description: string): Promise<void> {
    await tx.query('UPDATE groups SET name = $2, description = $3, updated_at = now() WHERE id = $1', [
      id,
      name,
      description,
    ]);
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM groups WHERE id = $1', [id]);
  }

  async members(tx: Tx, id: string, query: ListGroupMembers): Promise<Page<GroupMember>> {
    const search = query.search ? 'AND (u.email ILIKE $2 OR u.display_name ILIKE $2)' : '';
    const parameters = query.search ? [id, likePattern(query.search)] : [id];
    const from = `
      FROM group_members gm
      JOIN members m ON m.tenant_id = gm.tenant_id AND m.user_id = gm.user_id
      JOIN users u ON u.id = gm.user_id
      WHERE gm.group_id = $1 ${search}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, parameters);
    const items: GroupMember[] = await tx.query(
      `SELECT gm.user_id AS "userId", u.email, u.display_name AS "displayName", m.status,
              gm.added_by AS "addedBy", gm.added_at AS "addedAt"
       ${from} ORDER BY ${orderBy(query.sort, MEMBER_COLUMNS)}, gm.user_id
       LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }

  /** @returns those who were not in the group before */
  async add(
    tx: Tx,
    group: { id: string; tenantId: string },
    userIds: readonly string[],
    addedBy: string,
  ): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      `INSERT INTO group_members (tenant_id, group_id, user_id, added_by)
       SELECT $1, $2, id, $4 FROM unnest($3::uuid[]) AS id ON CONFLICT DO NOTHING RETURNING user_id AS id`,
      [group.tenantId, group.id, userIds, addedBy],
    );
    return rows.map(({ id }) => id);
  }

  /** @returns false where the user was not in the group */
  async remove(tx: Tx, id: string, userId: string): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM group_members WHERE group_id = $1 AND user_id = $2',
      [id, userId],
    );
    return count === 1;
  }

  grants(tx: Tx, id: string): Promise<GroupGrant[]> {
    return tx.query('SELECT kb_id AS "kbId", role FROM kb_grants WHERE group_id = $1 ORDER BY kb_id', [id]);
  }

  /** Whether something was granted to the group that the transaction does not see: a knowledge base, a document. */
  async reachesFurther(tx: Tx, id: string): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `(SELECT 1 FROM kb_grants g
        WHERE g.group_id = $1 AND NOT EXISTS (SELECT FROM knowledge_bases kb WHERE kb.id = g.kb_id) LIMIT 1)
       UNION ALL
       (SELECT 1 FROM document_readers r
        WHERE r.group_id = $1 AND NOT EXISTS (SELECT FROM documents d WHERE d.id = r.document_id) LIMIT 1)`,
      [id],
    );
    return rows.length > 0;
  }
}
