import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** A tenant that a user belongs to, seen from the user. */
export interface Membership {
  id: string;
  name: string;
  displayName: string;
  roles: string[];
}

/** Across tenants, for one user: in a transaction of the platform. */
@Injectable()
export class MembershipsRepository {
  ofUser(tx: Tx, userId: string): Promise<Membership[]> {
    return tx.query(
      `SELECT t.id, t.name, t.display_name AS "displayName",
              ARRAY(SELECT r.v1 FROM casbin_rule r WHERE r.ptype = 'g' AND r.v0 = m.user_id::text
                    AND r.tenant_id = m.tenant_id ORDER BY r.id) AS roles
       FROM members m JOIN tenants t ON t.id = m.tenant_id
       WHERE m.user_id = $1 AND m.status = 'active' AND t.status <> 'erasing' ORDER BY t.name`,
      [userId],
    );
  }
}
