import { Injectable } from '@nestjs/common';
import { QueryFailedError } from 'typeorm';
import type { Tx } from '../../foundation/database/transaction.js';
import { User } from './user.entity.js';

/** What a new account may begin with. */
export type UserFields = Pick<User, 'id' | 'email' | 'displayName' | 'passwordHash'> &
  Partial<Pick<User, 'username' | 'language' | 'timezone' | 'emailVerifiedAt'>>;

const UNIQUE: Record<string, 'email' | 'username'> = {
  users_email_key: 'email',
  users_username_key: 'username',
};

@Injectable()
export class UsersRepository {
  /** @param options.lock keeps others from changing the account until the transaction ends */
  findById(tx: Tx, id: string, { lock = false } = {}): Promise<User | null> {
    return tx
      .getRepository(User)
      .findOne({ where: { id }, ...(lock && { lock: { mode: 'for_no_key_update' as const } }) });
  }

  findByEmail(tx: Tx, email: string): Promise<User | null> {
    return tx
      .getRepository(User)
      .createQueryBuilder('u')
      .where('lower(u.email) = lower(:email)', { email })
      .getOne();
  }

  findWithPassword(tx: Tx, email: string): Promise<User | null> {
    return tx
      .getRepository(User)
      .createQueryBuilder('u')
      .addSelect('u.passwordHash')
      .where('lower(u.email) = lower(:email)', { email })
      .getOne();
  }

  /** The hash of the password; null where the account has none, or is none. */
  async passwordOf(tx: Tx, id: string): Promise<string | null> {
    const user = await tx.getRepository(User).findOne({ where: { id }, select: { passwordHash: true } });
    return user?.passwordHash ?? null;
  }

  /** @returns false where the address or the user name belongs to another account */
  async insert(tx: Tx, user: UserFields): Promise<boolean> {
    const result = await tx
      .getRepository(User)
      .createQueryBuilder()
      .insert()
      .values(user)
      .orIgnore()
      .returning('id')
      .execute();
    return (result.raw as unknown[]).length === 1;
  }

  async update(tx: Tx, id: string, changes: Partial<User>): Promise<void> {
    await tx.getRepository(User).update({ id }, changes);
  }

  /**
   * Writes down a sign-in, and refuses one whose password was changed, or whose account was closed, since it was
   * verified.
   *
   * @param passwordHash what the password matched
   */
  async signIn(tx: Tx, id: string, passwordHash: string | null): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      `UPDATE users SET last_login_at = now()
       WHERE id = $1 AND is_active AND password_hash IS NOT DISTINCT FROM $2`,
      [id, passwordHash],
    );
    return count === 1;
  }

  /** Of an error that a statement failed with: the field whose value belongs to another account. */
  takenField(error: unknown): 'email' | 'username' | null {
    if (!(error instanceof QueryFailedError)) return null;
    const { constraint } = error.driverError as { constraint?: string };
    return (constraint && UNIQUE[constraint]) || null;
  }
}
