import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** Who is told of an alert; of the transaction's tenant. */
@Injectable()
export class AlertRecipientsRepository {
  /**
   * Members who are neither suspended nor closed out of the installation, page by page in the order of their ids.
   *
   * @param whom owners and admins alone, or everybody
   */
  after(
    tx: Tx,
    whom: 'admins' | 'members',
    after: string | null,
    limit: number,
  ): Promise<Array<{ id: string; email: string }>> {
    const isAdmin = `EXISTS (SELECT FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
      AND r.tenant_id = m.tenant_id AND r.v1 IN ('owner', 'admin'))`;
    return tx.query(
      `SELECT u.id, u.email FROM members m JOIN users u ON u.id = m.user_id
       WHERE m.status = 'active' AND u.is_active AND ($1::uuid IS NULL OR m.user_id > $1)
         ${whom === 'admins' ? `AND ${isAdmin}` : ''}
       ORDER BY m.user_id LIMIT $2`,
      [after, limit],
    );
  }
}
