import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PLATFORM_DOMAIN } from '../../core/authorization/permissions.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { type KnownTenant, TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { MembershipsRepository, type Membership } from '../../features/members/memberships.repository.js';
import { PasswordsService } from '../../features/users/passwords.service.js';
import type { User } from '../../features/users/user.entity.js';
import { UsersService } from '../../features/users/users.service.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import type { ChangePassword, Login, Register, ResetPassword } from './authentication.dto.js';
import { type ReceivedInvitation, ReceivedInvitationsRepository } from './received-invitations.repository.js';
import { type Client, type IssuedTokens, SessionsService } from './sessions.service.js';
import { type Attempt, SignInLimiter } from './sign-in-limiter.js';

export interface SignedIn extends IssuedTokens {
  user: User;
}

@Injectable()
export class AuthenticationService {
  constructor(
    @InjectEnv() private readonly env: Pick<Env, 'selfRegistration'>,
    private readonly users: UsersService,
    private readonly sessions: SessionsService,
    private readonly limiter: SignInLimiter,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly database: PlatformDatabase,
    private readonly memberships: MembershipsRepository,
    private readonly received: ReceivedInvitationsRepository,
    private readonly passwords: PasswordsService,
    private readonly audit: AuditService,
  ) {}

  /** @throws Problem 403 `registration_closed`, 409 `email_taken`, 429 */
  async register(input: Register, client: Client): Promise<SignedIn> {
    await this.limiter.countAddress(client.ip);
    if (!this.env.selfRegistration) {
      throw new Problem(403, 'registration_closed', 'Accounts are made by invitation here.', {
        denied: false,
      });
    }
    // Whoever tries addresses finds out who has an account.
    await this.limiter.checkRegistration(client.ip);
    const { email, password } = input;
    const displayName = input.display_name ?? email.split('@', 1).join();
    let user: User;
    try {
      user = await this.users.register({ email, displayName, password });
    } catch (error) {
      if (error instanceof Problem && error.code === 'email_taken') await this.limiter.countTaken(client.ip);
      throw error;
    }
    return this.open(user, this.attemptOf(email, client), client, null);
  }

  /** @throws Problem 401 `invalid_credentials`, 404 for a tenant that is not one's own, 429 */
  async login(input: Login, client: Client): Promise<SignedIn> {
    await this.limiter.countAddress(client.ip);
    const attempt = this.attemptOf(input.email, client);
    await this.limiter.check(attempt);
    const user = await this.users.authenticate(input.email, input.password);
    if (!user) return this.refuse(attempt);
    await this.limiter.check(attempt);
    const tenant = input.tenant ? await this.ownTenant(user.id, input.tenant) : null;
    return this.open(user, attempt, client, tenant);
  }

  /**
   * Asks for a token to choose a new password with. Nothing tells whether there is an account with this address.
   *
   * @throws Problem 429
   */
  async forgotPassword(email: string, client: Client): Promise<void> {
    await this.limiter.countAddress(client.ip);
    if (await this.limiter.countReset({ email, ip: client.ip })) await this.passwords.requestReset(email);
  }

  /** @throws Problem 401 `invalid_reset_token`, 429 */
  async resetPassword(input: ResetPassword, client: Client): Promise<void> {
    await this.limiter.countAddress(client.ip);
    const { email } = await this.passwords.reset(input.token, input.new_password);
    await this.limiter.prove({ email: email.toLowerCase(), ip: client.ip });
  }

  /** @throws Problem 403 `wrong_password`, 409 `changed_meanwhile`, 429 */
  async changePassword(
    { userId, email, sessionId }: { userId: string; email: string; sessionId: string },
    input: ChangePassword,
    client: Client,
  ): Promise<void> {
    // Whoever holds nothing but somebody's session may not guess the password with it.
    await this.limiter.countChange(userId);
    if (await this.passwords.change(userId, input.current_password, input.new_password, sessionId)) {
      await this.limiter.forgiveChanges(userId);
      return;
    }
    await this.audit.recordAlone(null, {
      action: 'password.changed',
      resource: { type: 'user', id: userId },
      outcome: 'denied',
    });
    await this.limiter.countFailure(this.attemptOf(email.toLowerCase(), client));
    // Written down already, in the chain of the platform.
    throw new Problem(403, 'wrong_password', 'The current password is wrong.', { denied: false });
  }

  async refresh(refreshToken: string, client: Client): Promise<IssuedTokens> {
    await this.limiter.countAddress(client.ip);
    return this.sessions.refresh(refreshToken);
  }

  /** @throws Problem 404 for a tenant that is not one's own */
  async switchTenant(userId: string, sessionId: string, reference: string): Promise<string> {
    const tenant = await this.ownTenant(userId, reference);
    return this.sessions.switchTenant(userId, sessionId, tenant.id);
  }

  async me(userId: string): Promise<{ user: User; platformRoles: string[]; memberships: Membership[] }> {
    const user = await this.users.get(userId);
    const [memberships, platformRoles] = await this.database.run(async tx => [
      await this.memberships.ofUser(tx, userId),
      await this.authorization.storedRolesOf(tx, userId, PLATFORM_DOMAIN),
    ]);
    return { user, platformRoles, memberships };
  }

  /** Invitations that are open to whoever has the user's e-mail address. */
  invitations(userId: string, query: { page: number; page_size: number }): Promise<Page<ReceivedInvitation>> {
    return this.database.run(tx => this.received.ofUser(tx, userId, query));
  }

  private attemptOf(email: string, { ip }: Client): Attempt {
    return { email, ip, openedFrom: () => this.sessions.addressesOf(email) };
  }

  private async open(
    user: User,
    attempt: Attempt,
    client: Client,
    tenant: KnownTenant | null,
  ): Promise<SignedIn> {
    const tokens = await this.sessions.open(user, user.passwordHash, client, tenant?.id ?? null);
    if (!tokens) return this.refuse(attempt);
    await this.limiter.forgive(attempt);
    return { user, ...tokens };
  }

  private async refuse(attempt: Attempt): Promise<never> {
    try {
      await this.limiter.countFailure(attempt);
    } finally {
      await this.audit.recordAlone(null, {
        action: 'auth.signed_in',
        resource: { type: 'user', id: null },
        details: { email: attempt.email },
        outcome: 'denied',
      });
    }
    throw Problem.unauthorized('invalid_credentials', 'The e-mail address or the password is wrong.');
  }

  private async ownTenant(userId: string, reference: string): Promise<KnownTenant> {
    const tenant = await this.directory.find(reference);
    if (!tenant || !(await this.authorization.accessOf(userId, tenant.id)).member) {
      // As in TenantGuard: what is remembered must take as long as what is not there.
      if (tenant) await this.directory.lookUp(reference);
      throw Problem.foreignTenant(reference);
    }
    return tenant;
  }
}
