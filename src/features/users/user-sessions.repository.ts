import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** The sign-ins of a user, as far as what happens to an account ends them. */
@Injectable()
export class UserSessionsRepository {
  /** Ids of the sessions that still stand. */
  async list(tx: Tx, userId: string): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      'SELECT id FROM auth_sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > now()',
      [userId],
    );
    return rows.map(row => row.id);
  }

  /** @returns ids of those that it ended @param except the one that goes on */
  async revokeAll(tx: Tx, userId: string, except: string | null): Promise<string[]> {
    const [rows]: [Array<{ id: string }>] = await tx.query(
      `UPDATE auth_sessions SET revoked_at = now()
       WHERE user_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $2::uuid RETURNING id`,
      [userId, except],
    );
    return rows.map(row => row.id);
  }
}
