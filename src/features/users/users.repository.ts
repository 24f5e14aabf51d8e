import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { User } from './user.entity.js';

@Injectable()
export class UsersRepository {
  findById(tx: Tx, id: string): Promise<User | null> {
    return tx.getRepository(User).findOneBy({ id });
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

  /** @returns false where the address has an account already */
  async insert(tx: Tx, user: Pick<User, 'id' | 'email' | 'displayName' | 'passwordHash'>): Promise<boolean> {
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
}
