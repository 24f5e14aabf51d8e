import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Grant } from './kb-grants.dto.js';

const GRANT = `
  g.id, g.user_id AS "userId", g.group_id AS "groupId", coalesce(u.email, gr.name) AS name, g.role,
  g.granted_by AS "grantedBy", g.granted_at AS "grantedAt"
  FROM kb_grants g LEFT JOIN users u ON u.id = g.user_id LEFT JOIN groups gr ON gr.id = g.group_id`;

/** Whom a role is granted to; one of the two. */
export interface Grantee {
  userId: string | null;
  groupId: string | null;
}

/** Grants of the transaction's tenant. */
@Injectable()
export class KbGrantsRepository {
  /** All of a knowledge base, in the order of their names. */
  list(tx: Tx, kbId: string): Promise<Grant[]> {
    return tx.query(`SELECT ${GRANT} WHERE g.kb_id = $1 ORDER BY g.group_id IS NULL, name, g.id`, [kbId]);
  }

  /** Two changes of one knowledge base's grants happen one after the other. */
  async lock(tx: Tx, kbId: string): Promise<void> {
    await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`grants/${kbId}`]);
  }

  /** Gives a role in the place of the one that member or group had. @returns the grant's id */
  async put(
    tx: Tx,
    kb: { id: string; tenantId: string },
    { userId, groupId }: Grantee,
    role: string,
    grantedBy: string,
  ): Promise<string> {
    const rows: Array<{ id: string }> = await tx.query(
      `INSERT INTO kb_grants (id, tenant_id, kb_id, user_id, group_id, role, granted_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7)
       ON CONFLICT (kb_id, ${userId ? 'user_id' : 'group_id'})
       DO UPDATE SET role = excluded.role, granted_by = excluded.granted_by, granted_at = now() RETURNING id`,
      [uuidv7(), kb.tenantId, kb.id, userId, groupId, role, grantedBy],
    );
    return (rows[0] as { id: string }).id;
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM kb_grants WHERE id = $1', [id]);
  }
}
