import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** A role on one knowledge base alone. */
export interface KbGrant {
  kbId: string;
  slug: string;
  visibility: 'tenant' | 'granted';
  role: string;
  /** The group through which it holds; null where it was granted to the member. */
  group: { id: string; name: string } | null;
}

/** What decides about a member besides the roles. */
export interface MemberFacts {
  status: 'active' | 'suspended';
  groups: string[];
  grants: KbGrant[];
}

@Injectable()
export class MemberFactsRepository {
  /** In a transaction of the platform. @returns null where the user is no member */
  async find(tx: Tx, tenantId: string, userId: string): Promise<MemberFacts | null> {
    const rows: MemberFacts[] = await tx.query(
      `WITH own_groups AS (
         SELECT group_id FROM group_members WHERE tenant_id = $1 AND user_id = $2
       ), own_grants AS (
         SELECT kb_id, role, group_id FROM kb_grants WHERE tenant_id = $1 AND user_id = $2
         UNION ALL
         SELECT kb_id, role, group_id FROM kb_grants
         WHERE tenant_id = $1 AND group_id IN (SELECT group_id FROM own_groups)
       )
       SELECT m.status, ARRAY(SELECT group_id::text FROM own_groups) AS groups,
              coalesce((
                SELECT json_agg(json_build_object(
                  'kbId', kb.id, 'slug', kb.slug, 'visibility', kb.visibility, 'role', g.role,
                  'group', CASE WHEN g.group_id IS NOT NULL THEN json_build_object('id', g.group_id, 'name', gr.name) END))
                FROM own_grants g JOIN knowledge_bases kb ON kb.id = g.kb_id LEFT JOIN groups gr ON gr.id = g.group_id
              ), '[]') AS grants
       FROM members m WHERE m.tenant_id = $1 AND m.user_id = $2`,
      [tenantId, userId],
    );
    return rows[0] ?? null;
  }
}
