import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';

/** An open invitation, as whoever it is for sees it. */
export interface ReceivedInvitation {
  id: string;
  tenantId: string;
  tenantName: string;
  tenantDisplayName: string;
  roles: string[];
  inviterId: string | null;
  inviterName: string | null;
  message: string | null;
  createdAt: Date;
  expiresAt: Date;
}

/** Invitations of all tenants, seen from the person invited: in a transaction of the platform. */
@Injectable()
export class ReceivedInvitationsRepository {
  async ofUser(
    tx: Tx,
    userId: string,
    query: { page: number; page_size: number },
  ): Promise<Page<ReceivedInvitation>> {
    const from = `
      FROM invitations i
      JOIN users u ON lower(u.email) = lower(i.email)
      JOIN tenants t ON t.id = i.tenant_id
      LEFT JOIN users inviter ON inviter.id = i.invited_by
      WHERE u.id = $1 AND i.status = 'pending' AND i.expires_at > now() AND t.status = 'active'`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total ${from}`, [userId]);
    const items: ReceivedInvitation[] = await tx.query(
      `SELECT i.id, t.id AS "tenantId", t.name AS "tenantName", t.display_name AS "tenantDisplayName", i.roles,
              inviter.id AS "inviterId", inviter.display_name AS "inviterName", i.message,
              i.created_at AS "createdAt", i.expires_at AS "expiresAt"
       ${from} ORDER BY i.created_at DESC, i.id LIMIT $2 OFFSET $3`,
      [userId, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }
}
