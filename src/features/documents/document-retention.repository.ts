import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** How long tenants keep documents. */
@Injectable()
export class DocumentRetentionRepository {
  /** Tenants that do not keep theirs for ever. In a transaction of the platform. */
  list(tx: Tx): Promise<Array<{ tenantId: string; days: number }>> {
    return tx.query(
      `SELECT id AS "tenantId", (settings->>'data_retention_days')::integer AS days FROM tenants
       WHERE status <> 'erasing' AND jsonb_typeof(settings->'data_retention_days') = 'number'
       ORDER BY id`,
    );
  }
}
