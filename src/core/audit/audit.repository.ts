import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type UnchainedEntry, canonicalParts } from './audit-entry.js';

/** The chain of the platform; a tenant's chain has the tenant's id. */
export const PLATFORM_CHAIN = '00000000-0000-0000-0000-000000000000';

@Injectable()
export class AuditRepository {
  /** Appends to a chain, and holds the lock on its head from here to the end of the transaction. */
  async append(tx: Tx, chainId: string, entries: readonly UnchainedEntry[]): Promise<void> {
    const prepared = entries.map(entry => ({ ...entry, parts: canonicalParts(entry) }));
    await tx.query('SELECT append_audit($1, $2)', [chainId, JSON.stringify(prepared)]);
  }
}
