import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** Tokens that let somebody choose a password without knowing the old one. Only their hashes are kept. */
@Injectable()
export class PasswordTokensRepository {
  /** @param lifetime seconds */
  async insert(
    tx: Tx,
    tokens: ReadonlyArray<{ userId: string; hash: Buffer }>,
    lifetime: number,
  ): Promise<Date> {
    const rows: Array<{ expiresAt: Date }> = await tx.query(
      `INSERT INTO password_tokens (token_hash, user_id, expires_at)
       SELECT hash, user_id, now() + make_interval(secs => $3) FROM unnest($1::bytea[], $2::uuid[]) AS t(hash, user_id)
       RETURNING expires_at AS "expiresAt"`,
      [tokens.map(({ hash }) => hash), tokens.map(({ userId }) => userId), lifetime],
    );
    return rows[0]?.expiresAt as Date;
  }

  /** Whose account a token opens; null where it opens none. */
  async findUser(tx: Tx, hash: Buffer): Promise<string | null> {
    const rows: Array<{ id: string }> = await tx.query(
      `SELECT u.id FROM password_tokens t JOIN users u ON u.id = t.user_id
       WHERE t.token_hash = $1 AND t.expires_at > now() AND u.is_active`,
      [hash],
    );
    return rows[0]?.id ?? null;
  }

  /** Uses a token up. @returns false where somebody else has, or it has expired */
  async consume(tx: Tx, hash: Buffer): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM password_tokens WHERE token_hash = $1 AND expires_at > now()',
      [hash],
    );
    return count === 1;
  }

  async deleteOfUser(tx: Tx, userId: string): Promise<void> {
    await tx.query('DELETE FROM password_tokens WHERE user_id = $1', [userId]);
  }

  async deleteExpired(tx: Tx): Promise<void> {
    await tx.query('DELETE FROM password_tokens WHERE expires_at <= now()');
  }
}
