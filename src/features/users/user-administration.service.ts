import { Injectable } from '@nestjs/common';
import { hash } from '@node-rs/argon2';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PLATFORM_DOMAIN, userDomain } from '../../core/authorization/permissions.js';
import { MailService } from '../../core/mail/mail.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { PasswordsService, WELCOME_LIFETIME } from './passwords.service.js';
import type { User } from './user.entity.js';
import { UserAdministrationRepository } from './user-administration.repository.js';
import { UserSessionsService } from './user-sessions.service.js';
import type {
  CreateUser,
  ListUsers,
  ListedUser,
  PlatformRole,
  TenantMembership,
  UpdateUser,
} from './users.dto.js';
import { UsersRepository } from './users.repository.js';
import { UsersService } from './users.service.js';

const ADMIN: PlatformRole = 'platform_admin';

export type UserDetails = ListedUser & { memberships: TenantMembership[] };

/** The users of the installation, in the hands of the platform. */
@Injectable()
export class UserAdministrationService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly repository: UserAdministrationRepository,
    private readonly usersRepository: UsersRepository,
    private readonly users: UsersService,
    private readonly passwords: PasswordsService,
    private readonly sessions: UserSessionsService,
    private readonly authorization: AuthorizationService,
    private readonly mail: MailService,
    private readonly audit: AuditService,
  ) {}

  list(query: ListUsers): Promise<Page<ListedUser>> {
    return this.database.run(tx => this.repository.list(tx, query));
  }

  /** @throws Problem 404 */
  get(id: string): Promise<UserDetails> {
    return this.database.run(async tx => {
      const user = await this.usersRepository.findById(tx, id);
      if (!user) throw Problem.notFound('user');
      return this.details(tx, user);
    });
  }

  /** @throws Problem 403 `role_above_own`, 409 `email_taken`, `username_taken` */
  async create(input: CreateUser): Promise<UserDetails> {
    const passwordHash = input.password === undefined ? null : await hash(input.password);
    const roles = input.platform_roles ?? [];
    return this.users.change(async tx => {
      if (roles.length > 0) this.requireAdmin(await this.lockAdmins(tx));
      const { email, display_name: displayName, username } = input;
      const user = await this.users.insert(tx, { email, displayName, username }, passwordHash);
      for (const role of roles) await this.authorization.assignRole(tx, user.id, role, PLATFORM_DOMAIN);
      if (input.send_welcome_email) await this.welcome(tx, user, passwordHash === null);
      this.audit.recordForPlatform(tx, {
        action: 'user.created',
        resource: { type: 'user', id: user.id },
        details: { email, username: user.username, display_name: displayName, platform_roles: roles },
      });
      return this.details(tx, user);
    });
  }

  /**
   * @throws Problem 404, 403 `role_above_own`, 409 `email_taken`, `username_taken`, `not_yourself`,
   * `last_platform_admin`
   */
  async update(id: string, input: UpdateUser): Promise<UserDetails> {
    const passwordHash = input.password === undefined ? null : await hash(input.password);
    return this.users.change(async tx => {
      const { user, roles, admins } = await this.lock(tx, id);
      if (input.is_active === false) this.refuseOneself(id);
      const wanted = input.platform_roles ?? roles;
      if (wanted.length > 0) this.requireAdmin(admins);
      const staysAdmin = wanted.includes(ADMIN) && (input.is_active ?? user.isActive);
      if (!staysAdmin) await this.keepAnotherAdmin(tx, admins, id);

      // Before the address changes: whoever reads the old one is told.
      if (passwordHash) await this.passwords.replace(tx, user, passwordHash, null);
      const gone = roles.filter(role => !wanted.includes(role as PlatformRole));
      const added = wanted.filter(role => !roles.includes(role));
      for (const role of gone) await this.authorization.removeRole(tx, id, role, PLATFORM_DOMAIN);
      for (const role of added) await this.authorization.assignRole(tx, id, role, PLATFORM_DOMAIN);
      const moved = input.email !== undefined && input.email !== user.email.toLowerCase();
      const changed = await this.users.apply(
        tx,
        user,
        {
          displayName: input.display_name,
          username: input.username,
          isActive: input.is_active,
          ...(moved && { email: input.email, emailVerifiedAt: null }),
        },
        {
          ...(passwordHash && { password: 'replaced' }),
          ...(gone.length + added.length > 0 && { platform_roles: { before: roles, after: wanted } }),
        },
      );
      if (moved) {
        await this.passwords.revokeTokens(tx, id);
        await this.sessions.userChanged(tx, id);
      }
      if (!changed.isActive) await this.sessions.endAll(tx, id);
      return this.details(tx, changed);
    });
  }

  /** @throws Problem 404, 403 `role_above_own`, 409 `not_yourself`, `last_platform_admin`, `last_owner` */
  async delete(id: string): Promise<void> {
    await this.database.run(async tx => {
      const { user, admins } = await this.lock(tx, id);
      this.refuseOneself(id);
      await this.keepAnotherAdmin(tx, admins, id);
      const tenants = await this.repository.ownedAlone(tx, id);
      if (tenants.length > 0) {
        throw Problem.conflict(
          'last_owner',
          'This user is the last owner of tenants: give them another first.',
          {
            tenants,
          },
        );
      }
      const memberships = await this.repository.memberships(tx, id);
      for (const { role, domain } of await this.repository.rolesEverywhere(tx, id)) {
        await this.authorization.removeRole(tx, id, role, domain);
      }
      await this.authorization.policyChanged(tx, userDomain(id));
      await this.sessions.endAll(tx, id);
      await this.repository.delete(tx, id);
      const details = { email: user.email, display_name: user.displayName };
      this.audit.recordForPlatform(tx, {
        action: 'user.deleted',
        resource: { type: 'user', id },
        details: { ...details, tenants: memberships.map(({ name }) => name) },
      });
      for (const { id: tenantId, roles } of memberships) {
        this.audit.recordForTenant(tx, tenantId, {
          action: 'member.removed',
          resource: { type: 'member', id },
          details: { ...details, roles, reason: 'user_deleted' },
        });
      }
    });
  }

  /** The account and the admins as they are, until the transaction ends. Nobody acts on those above themselves. */
  private async lock(tx: Tx, id: string): Promise<{ user: User; roles: string[]; admins: string[] }> {
    const admins = await this.lockAdmins(tx);
    const user = await this.usersRepository.findById(tx, id, { lock: true });
    if (!user) throw Problem.notFound('user');
    const roles = await this.authorization.storedRolesOf(tx, id, PLATFORM_DOMAIN);
    if (roles.length > 0) this.requireAdmin(admins);
    return { user, roles, admins };
  }

  private lockAdmins(tx: Tx): Promise<string[]> {
    return this.authorization.lockFirstHolder(tx, ADMIN, PLATFORM_DOMAIN);
  }

  private requireAdmin(admins: readonly string[]): void {
    if (admins.includes(this.context.userId)) return;
    throw Problem.forbidden(`This needs the role ${ADMIN}.`, 'role_above_own');
  }

  private refuseOneself(id: string): void {
    if (id !== this.context.userId) return;
    throw Problem.conflict('not_yourself', 'Nobody deactivates or deletes their own account here.');
  }

  private async keepAnotherAdmin(tx: Tx, admins: readonly string[], id: string): Promise<void> {
    if (!admins.includes(id)) return;
    const others = await this.repository.active(
      tx,
      admins.filter(admin => admin !== id),
    );
    if (others.length > 0) return;
    throw Problem.conflict('last_platform_admin', 'The platform keeps at least one active admin.');
  }

  private async welcome(tx: Tx, user: User, choosesPassword: boolean): Promise<void> {
    const issued = choosesPassword ? await this.passwords.issueToken(tx, user.id, WELCOME_LIFETIME) : null;
    await this.mail.send(tx, {
      to: user.email,
      language: user.language,
      tenantId: null,
      template: 'account-created',
      data: { token: issued?.token ?? null },
    });
  }

  private async details(tx: Tx, user: User): Promise<UserDetails> {
    return {
      user,
      platformRoles: await this.authorization.storedRolesOf(tx, user.id, PLATFORM_DOMAIN),
      memberships: await this.repository.memberships(tx, user.id),
    };
  }
}
