import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** How tenants want to look; in a transaction of the platform. */
@Injectable()
export class BrandingRepository {
  /** `branding` as it is stored. Null where there is no such tenant. */
  async find(tx: Tx, tenantId: string): Promise<{ displayName: string; branding: unknown } | null> {
    const rows: Array<{ displayName: string; branding: unknown }> = await tx.query(
      'SELECT display_name AS "displayName", branding FROM tenants WHERE id = $1',
      [tenantId],
    );
    return rows[0] ?? null;
  }
}
