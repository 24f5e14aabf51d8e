import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';

/** An account of the installation, as far as joining a tenant is concerned. */
export interface Account {
  id: string;
  email: string;
  displayName: string;
  username: string | null;
  language: string;
  isActive: boolean;
  hasPassword: boolean;
  /** Somebody with this account has shown to read the mail of its address. */
  emailVerified: boolean;
}

export interface NewAccount {
  id: string;
  email: string;
  displayName: string;
  username: string | null;
  /** Null: none yet. */
  passwordHash: string | null;
  emailVerified: boolean;
}

const COLUMNS = `id, email, display_name AS "displayName", username, language, is_active AS "isActive",
  password_hash IS NOT NULL AS "hasPassword", email_verified_at IS NOT NULL AS "emailVerified"`;

/** Accounts of people who join, many at a time. In transactions of the platform. */
@Injectable()
export class AccountsRepository {
  async findById(tx: Tx, id: string): Promise<Account | null> {
    const rows: Account[] = await tx.query(`SELECT ${COLUMNS} FROM users WHERE id = $1`, [id]);
    return rows[0] ?? null;
  }

  /** Whatever the case of the addresses. */
  findByEmails(tx: Tx, emails: readonly string[]): Promise<Account[]> {
    return tx.query(
      `SELECT ${COLUMNS} FROM users WHERE lower(email) = ANY (SELECT lower(e) FROM unnest($1::text[]) AS e)`,
      [emails],
    );
  }

  /** The same of one, which nobody else changes until the transaction ends. */
  async lockByEmail(tx: Tx, email: string): Promise<Account | null> {
    const rows: Account[] = await tx.query(
      `SELECT ${COLUMNS} FROM users WHERE lower(email) = lower($1) FOR UPDATE`,
      [email],
    );
    return rows[0] ?? null;
  }

  /** Those of `usernames` that somebody has, in lower case. */
  async takenUsernames(tx: Tx, usernames: readonly string[]): Promise<string[]> {
    const rows: Array<{ username: string }> = await tx.query(
      `SELECT lower(username) AS username FROM users
       WHERE lower(username) = ANY (SELECT lower(u) FROM unnest($1::text[]) AS u)`,
      [usernames],
    );
    return rows.map(row => row.username);
  }

  /** @returns ids of those that were made; the others' address or user name is taken */
  async insert(tx: Tx, accounts: readonly NewAccount[]): Promise<string[]> {
    const rows: Array<{ id: string }> = await tx.query(
      `INSERT INTO users (id, email, username, display_name, password_hash, email_verified_at)
       SELECT id, email, username, display_name, password_hash, CASE WHEN verified THEN now() END
       FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
         AS a(id, email, username, display_name, password_hash, verified)
       ON CONFLICT DO NOTHING RETURNING id`,
      [
        accounts.map(account => account.id),
        accounts.map(account => account.email),
        accounts.map(account => account.username),
        accounts.map(account => account.displayName),
        accounts.map(account => account.passwordHash),
        accounts.map(account => account.emailVerified),
      ],
    );
    return rows.map(row => row.id);
  }

  /** Writes down that mail to the address is read by its owner, who may have chosen a first password with that. */
  async proveEmail(tx: Tx, id: string, passwordHash: string | null): Promise<void> {
    await tx.query(
      `UPDATE users SET email_verified_at = coalesce(email_verified_at, now()), updated_at = now(),
              password_hash = coalesce(password_hash, $2)
       WHERE id = $1`,
      [id, passwordHash],
    );
  }
}
