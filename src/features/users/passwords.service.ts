import { Injectable, type OnModuleInit } from '@nestjs/common';
import { hash, verify } from '@node-rs/argon2';
import { AuditService } from '../../core/audit/audit.service.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { MailService } from '../../core/mail/mail.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { hashSecret, randomSecret } from '../../foundation/crypto/opaque-token.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { PasswordTokensRepository } from './password-tokens.repository.js';
import type { User } from './user.entity.js';
import { UserSessionsService } from './user-sessions.service.js';
import { UsersRepository } from './users.repository.js';

/** Seconds in which whoever forgot a password can choose another. */
export const RESET_LIFETIME = 60 * 60;
/** Seconds in which whoever was given an account can choose its first password. */
export const WELCOME_LIFETIME = 7 * 24 * 60 * 60;

const RESET_JOB = 'password-reset';

/** Lets its holder choose a password, once. */
export interface PasswordToken {
  token: string;
  expiresAt: Date;
}

/** Passwords of accounts: chosen with the old one, or with a token that was sent to the account's address. */
@Injectable()
export class PasswordsService implements OnModuleInit {
  constructor(
    private readonly database: PlatformDatabase,
    private readonly users: UsersRepository,
    private readonly tokens: PasswordTokensRepository,
    private readonly sessions: UserSessionsService,
    private readonly jobs: BackgroundJobs,
    private readonly mail: MailService,
    private readonly audit: AuditService,
  ) {}

  onModuleInit(): void {
    this.jobs.define<{ email: string }>({
      kind: RESET_JOB,
      mostAttempts: 5,
      run: ({ payload }) => this.sendReset(payload.email),
    });
  }

  /** Makes a token for an account. In a transaction of the platform. @param lifetime seconds */
  async issueToken(tx: Tx, userId: string, lifetime: number): Promise<PasswordToken> {
    return (await this.issueTokens(tx, [userId], lifetime)).get(userId) as PasswordToken;
  }

  /** The same for many accounts at once; by the account's id. */
  async issueTokens(
    tx: Tx,
    userIds: readonly string[],
    lifetime: number,
  ): Promise<Map<string, PasswordToken>> {
    const made = [...new Set(userIds)].map(userId => ({ userId, token: randomSecret() }));
    if (made.length === 0) return new Map();
    await this.tokens.deleteExpired(tx);
    const expiresAt = await this.tokens.insert(
      tx,
      made.map(({ userId, token }) => ({ userId, hash: hashSecret(token) })),
      lifetime,
    );
    return new Map(made.map(({ userId, token }) => [userId, { token, expiresAt }]));
  }

  /** Voids the tokens of an account. */
  async revokeTokens(tx: Tx, userId: string): Promise<void> {
    await this.tokens.deleteOfUser(tx, userId);
  }

  /**
   * Sends a token to the address, where there is an account with it. That is found out by a job: the answer to the
   * request takes the same time either way.
   */
  async requestReset(email: string): Promise<void> {
    await this.database.run(tx =>
      this.jobs.enqueue(tx, { kind: RESET_JOB, payload: { email }, tenantId: null }),
    );
  }

  /**
   * Chooses a password with a token; every session of the account ends.
   *
   * @returns the account
   * @throws Problem 401 `invalid_reset_token`
   */
  async reset(token: string, password: string): Promise<User> {
    const tokenHash = hashSecret(token);
    const known = await this.database.run(tx => this.tokens.findUser(tx, tokenHash));
    if (!known) throw refusedToken();
    const passwordHash = await hash(password);
    return this.database.run(async tx => {
      const userId = await this.tokens.findUser(tx, tokenHash);
      // Of two who use it at once, one deletes it.
      if (!userId || !(await this.tokens.consume(tx, tokenHash))) throw refusedToken();
      const user = (await this.users.findById(tx, userId)) as User;
      const sessions = await this.replace(tx, user, passwordHash, null);
      if (!user.emailVerifiedAt) await this.users.update(tx, userId, { emailVerifiedAt: new Date() });
      this.audit.recordForPlatform(tx, {
        action: 'password.reset',
        resource: { type: 'user', id: userId },
        details: { email: user.email, sessions_ended: sessions },
      });
      return user;
    });
  }

  /**
   * Chooses a password with the one before; every session of the account ends but one.
   *
   * @returns false where `current` is not the password
   * @throws Problem 409 `changed_meanwhile`
   */
  async change(userId: string, current: string, password: string, sessionId: string): Promise<boolean> {
    const before = await this.database.run(tx => this.users.passwordOf(tx, userId));
    if (!before || !(await verify(before, current))) return false;
    const passwordHash = await hash(password);
    await this.database.run(async tx => {
      const user = await this.users.findById(tx, userId, { lock: true });
      // Whoever chose another one meanwhile, perhaps because this one had become known, keeps it.
      if (!user || (await this.users.passwordOf(tx, userId)) !== before) {
        throw Problem.conflict('changed_meanwhile', 'The password was changed meanwhile. Try again.');
      }
      const sessions = await this.replace(tx, user, passwordHash, sessionId);
      this.audit.recordForPlatform(tx, {
        action: 'password.changed',
        resource: { type: 'user', id: userId },
        details: { sessions_ended: sessions },
      });
    });
    return true;
  }

  /**
   * Puts a password in the place of the one before, with what follows from that: its tokens are void, sessions end,
   * and the account's address is told.
   *
   * @param keptSession the session that goes on
   * @returns how many sessions it ended
   */
  async replace(tx: Tx, user: User, passwordHash: string, keptSession: string | null): Promise<number> {
    await this.users.update(tx, user.id, { passwordHash });
    await this.tokens.deleteOfUser(tx, user.id);
    await this.mail.send(tx, {
      to: user.email,
      language: user.language,
      tenantId: null,
      template: 'password-changed',
      data: {},
    });
    return this.sessions.endAll(tx, user.id, keptSession);
  }

  private async sendReset(email: string): Promise<void> {
    await this.database.run(async tx => {
      const user = await this.users.findByEmail(tx, email);
      const open = user?.isActive ? user : null;
      this.audit.recordForPlatform(tx, {
        action: 'password.reset_requested',
        resource: { type: 'user', id: user?.id ?? null },
        details: { email },
        outcome: open ? 'allowed' : 'denied',
      });
      if (!open) return;
      const { token, expiresAt } = await this.issueToken(tx, open.id, RESET_LIFETIME);
      await this.mail.send(tx, {
        to: open.email,
        language: open.language,
        tenantId: null,
        template: 'password-reset',
        data: { token, expiresAt: expiresAt.toISOString() },
      });
    });
  }
}

const refusedToken = (): Problem =>
  Problem.unauthorized(
    'invalid_reset_token',
    'The token is not valid, was used already, or has expired. Ask for another one.',
  );
