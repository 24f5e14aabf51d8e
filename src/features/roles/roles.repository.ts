import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** Custom roles of the transaction's tenant; what they may do are Casbin's rules in the tenant's domain. */
@Injectable()
export class RolesRepository {
  /** Those of `names` that the tenant has as roles of its own. */
  async existing(tx: Tx, tenantId: string, names: readonly string[]): Promise<string[]> {
    const rows: Array<{ name: string }> = await tx.query(
      'SELECT name FROM roles WHERE tenant_id = $1 AND name = ANY ($2)',
      [tenantId, names],
    );
    return rows.map(row => row.name);
  }
}
