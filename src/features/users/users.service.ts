import { Injectable } from '@nestjs/common';
import { hash, verify } from '@node-rs/argon2';
import { v7 as uuidv7 } from 'uuid';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import type { User } from './user.entity.js';
import type { UpdateProfile } from './users.dto.js';
import { UsersRepository } from './users.repository.js';

export interface NewUser {
  email: string;
  displayName: string;
  password: string;
}

@Injectable()
export class UsersService {
  /** Verified against where there is no such account, so that both cases take the same time. */
  private readonly decoy = hash('no account has this password');

  constructor(
    private readonly database: PlatformDatabase,
    private readonly users: UsersRepository,
  ) {}

  /** @throws Problem 409 `email_taken` */
  async register(input: NewUser): Promise<User> {
    // argon2id takes its time; no transaction may stay open meanwhile.
    const passwordHash = await hash(input.password);
    return this.database.run(tx => this.insert(tx, input, passwordHash));
  }

  /** The same, in the caller's transaction. */
  async insert(tx: Tx, input: Pick<NewUser, 'email' | 'displayName'>, passwordHash: string): Promise<User> {
    const id = uuidv7();
    const { email, displayName } = input;
    if (!(await this.users.insert(tx, { id, email, displayName, passwordHash }))) {
      throw Problem.conflict('email_taken', 'There is an account with this e-mail address already.');
    }
    return (await this.users.findById(tx, id)) as User;
  }

  /** The account that these credentials open; null where they open none. */
  async authenticate(email: string, password: string): Promise<User | null> {
    const user = await this.database.run(tx => this.users.findWithPassword(tx, email));
    const matches = await verify(user?.passwordHash ?? (await this.decoy), password);
    return user && matches && user.isActive ? user : null;
  }

  async get(id: string): Promise<User> {
    const user = await this.database.run(tx => this.users.findById(tx, id));
    if (!user) throw Problem.notFound('user');
    return user;
  }

  findByEmail(email: string): Promise<User | null> {
    return this.database.run(tx => this.users.findByEmail(tx, email));
  }

  updateProfile(id: string, input: UpdateProfile): Promise<User> {
    return this.database.run(async tx => {
      const changes = {
        ...(input.display_name !== undefined && { displayName: input.display_name }),
        ...(input.username !== undefined && { username: input.username }),
        ...(input.avatar_url !== undefined && { avatarUrl: input.avatar_url }),
        ...(input.language !== undefined && { language: input.language }),
        ...(input.timezone !== undefined && { timezone: input.timezone }),
      };
      if (Object.keys(changes).length > 0) await this.users.update(tx, id, changes);
      const user = await this.users.findById(tx, id);
      if (!user) throw Problem.notFound('user');
      return user;
    });
  }
}
