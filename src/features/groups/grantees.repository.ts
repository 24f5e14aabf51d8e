import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** Those to whom something may be granted: members and groups of the transaction's tenant. */
@Injectable()
export class GranteesRepository {
  /** Those of `userIds` who belong to the tenant; they do so until the transaction ends. */
  async membersAmong(tx: Tx, userIds: readonly string[]): Promise<string[]> {
    if (userIds.length === 0) return [];
    const rows: Array<{ id: string }> = await tx.query(
      'SELECT user_id AS id FROM members WHERE user_id = ANY ($1::uuid[]) ORDER BY user_id FOR KEY SHARE',
      [userIds],
    );
    return rows.map(({ id }) => id);
  }

  /** Those of `groupIds` that there are, until the transaction ends. */
  async groupsAmong(tx: Tx, groupIds: readonly string[]): Promise<string[]> {
    if (groupIds.length === 0) return [];
    const rows: Array<{ id: string }> = await tx.query(
      'SELECT id FROM groups WHERE id = ANY ($1::uuid[]) ORDER BY id FOR KEY SHARE',
      [groupIds],
    );
    return rows.map(({ id }) => id);
  }
}
