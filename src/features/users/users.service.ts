import { Injectable } from '@nestjs/common';
import { hash, verify } from '@node-rs/argon2';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { randomSecret } from '../../foundation/crypto/opaque-token.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import type { User } from './user.entity.js';
import type { UpdateProfile } from './users.dto.js';
import { type UserFields, UsersRepository } from './users.repository.js';

export interface NewUser {
  email: string;
  displayName: string;
  password: string;
}

@Injectable()
export class UsersService {
  /** Verified against where there is no such account, so that both cases take the same time. */
  private readonly decoy = hash(randomSecret());

  constructor(
    private readonly database: PlatformDatabase,
    private readonly users: UsersRepository,
    private readonly audit: AuditService,
  ) {}

  /** @returns the account, with its password's hash @throws Problem 409 `email_taken` */
  async register(input: NewUser): Promise<User> {
    // argon2id takes its time; no transaction may stay open meanwhile.
    const passwordHash = await hash(input.password);
    const { email, displayName } = input;
    return this.database.run(async tx => {
      const user = await this.insert(tx, { email, displayName }, passwordHash);
      this.audit.recordForPlatform(tx, {
        action: 'user.registered',
        resource: { type: 'user', id: user.id },
        details: { email: user.email },
      });
      return Object.assign(user, { passwordHash });
    });
  }

  /**
   * The same, in the caller's transaction of the platform.
   *
   * @param passwordHash null: the account gets its password later, with a token
   * @throws Problem 409 `email_taken`, `username_taken`
   */
  async insert(
    tx: Tx,
    input: Omit<UserFields, 'id' | 'passwordHash'>,
    passwordHash: string | null,
  ): Promise<User> {
    const id = uuidv7();
    if (!(await this.users.insert(tx, { id, ...input, passwordHash }))) {
      throw taken((await this.users.findByEmail(tx, input.email)) ? 'email' : 'username');
    }
    return (await this.users.findById(tx, id)) as User;
  }

  /** Runs what changes accounts. @throws Problem 409 `email_taken`, `username_taken` */
  async change<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    try {
      return await this.database.run(work);
    } catch (error) {
      const field = this.users.takenField(error);
      throw field ? taken(field) : error;
    }
  }

  /** The account that these credentials open, with its password's hash; null where they open none. */
  async authenticate(email: string, password: string): Promise<User | null> {
    const user = await this.database.run(tx => this.users.findWithPassword(tx, email));
    const matches = await verify(user?.passwordHash ?? (await this.decoy), password);
    return user?.passwordHash && matches && user.isActive ? user : null;
  }

  async get(id: string): Promise<User> {
    const user = await this.database.run(tx => this.users.findById(tx, id));
    if (!user) throw Problem.notFound('user');
    return user;
  }

  findByEmail(email: string): Promise<User | null> {
    return this.database.run(tx => this.users.findByEmail(tx, email));
  }

  /** @throws Problem 409 `username_taken` */
  updateProfile(id: string, input: UpdateProfile): Promise<User> {
    return this.change(async tx => {
      const user = await this.users.findById(tx, id, { lock: true });
      if (!user) throw Problem.notFound('user');
      return this.apply(tx, user, {
        displayName: input.display_name,
        username: input.username,
        avatarUrl: input.avatar_url,
        language: input.language,
        timezone: input.timezone,
      });
    });
  }

  /** Changes an account, and writes down what it changed. @param changes those that are undefined stay as they are */
  async apply(tx: Tx, user: User, changes: Partial<User>, details: object = {}): Promise<User> {
    const changed = Object.entries(changes).filter(
      ([field, value]) => value !== undefined && value !== user[field as keyof User],
    );
    if (changed.length > 0) await this.users.update(tx, user.id, Object.fromEntries(changed));
    if (changed.length > 0 || Object.keys(details).length > 0) {
      const before = Object.fromEntries(
        changed.map(([field]) => [wireName(field), user[field as keyof User]]),
      );
      const after = Object.fromEntries(changed.map(([field, value]) => [wireName(field), value]));
      this.audit.recordForPlatform(tx, {
        action: 'user.updated',
        resource: { type: 'user', id: user.id },
        details: { before, after, ...details },
      });
    }
    return (await this.users.findById(tx, user.id)) as User;
  }
}

function taken(field: 'email' | 'username'): Problem {
  return field === 'email'
    ? Problem.conflict('email_taken', 'There is an account with this e-mail address already.')
    : Problem.conflict('username_taken', 'There is an account with this user name already.');
}

const wireName = (field: string): string => field.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
