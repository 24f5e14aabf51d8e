import { Injectable } from '@nestjs/common';
import { hash } from '@node-rs/argon2';
import { AuditService } from '../../core/audit/audit.service.js';
import { MailService } from '../../core/mail/mail.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import { PasswordsService, WELCOME_LIFETIME } from '../users/passwords.service.js';
import { UsersService } from '../users/users.service.js';
import { type Account, AccountsRepository } from './accounts.repository.js';
import { InvitationLimiter } from './invitation-limiter.js';
import { type AddMember, type MemberProfile, type NewUserAndMember, nameOf } from './members.dto.js';
import { MembersRepository } from './members.repository.js';
import { MembersService } from './members.service.js';
import { rolesIn } from './role-fields.js';

/** Adds people to the tenant: those who have an account, and those for whom one is made on the way. */
@Injectable()
export class NewMembersService {
  constructor(
    private readonly context: TenantContext,
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly directory: TenantDirectory,
    private readonly roles: RolesService,
    private readonly members: MembersService,
    private readonly memberRows: MembersRepository,
    private readonly accounts: AccountsRepository,
    private readonly users: UsersService,
    private readonly passwords: PasswordsService,
    private readonly mail: MailService,
    private readonly audit: AuditService,
    private readonly limiter: InvitationLimiter,
  ) {}

  /**
   * Account and membership are made in one transaction: both or neither.
   *
   * @throws Problem 404 for an unknown user, 409 `already_member`, `email_taken`, `username_taken`, 403
   * `role_above_own`, `quota_exceeded`, 422 `unknown_role`, 429
   */
  async add(input: AddMember): Promise<MemberProfile> {
    const roles = rolesIn(input);
    const path = input.role === undefined ? 'roles' : 'role';
    await this.tenantDatabase.run(tx => this.roles.requireKnown(tx, roles, path));
    await this.roles.requireRank(roles);
    const tenantId = this.context.tenant.id;
    if (input.send_notification || input.send_welcome_email) {
      const recipient = input.user?.email ?? input.email ?? input.user_id;
      await this.limiter.countMail(tenantId, recipient as string);
    }
    const tenantName = (await this.directory.find(tenantId))?.displayName ?? this.context.tenant.name;
    // argon2id takes its time; no transaction may stay open meanwhile.
    const passwordHash = input.user?.password === undefined ? null : await hash(input.user.password);
    return this.platformDatabase.run(async tx => {
      await this.roles.requireKnown(tx, roles, path);
      const account = input.user
        ? await this.create(tx, input.user, passwordHash)
        : await this.existing(tx, input);
      const { id: userId, email } = account;
      const joinedBy = this.context.userId;
      if (!(await this.members.join(tx, { tenantId, userId, email, roles, joinedBy }))) {
        throw Problem.conflict('already_member', 'This user is a member already.');
      }
      if (input.send_notification || input.send_welcome_email) {
        await this.welcome(tx, account, { tenantId, tenantName, roles });
      }
      return (await this.memberRows.find(tx, tenantId, userId)) as MemberProfile;
    });
  }

  private async existing(tx: Tx, { user_id, email }: AddMember): Promise<Account> {
    const account = user_id
      ? await this.accounts.findById(tx, user_id)
      : (await this.accounts.findByEmails(tx, [email as string]))[0];
    if (!account) throw Problem.notFound('user');
    return account;
  }

  private async create(tx: Tx, input: NewUserAndMember, passwordHash: string | null): Promise<Account> {
    const user = await this.users.insert(
      tx,
      {
        email: input.email,
        displayName: input.display_name ?? input.full_name ?? nameOf(input.email),
        username: input.username ?? null,
      },
      passwordHash,
    );
    this.audit.recordForPlatform(tx, {
      action: 'user.created',
      resource: { type: 'user', id: user.id },
      details: { email: user.email, tenant_id: this.context.tenant.id },
    });
    return (await this.accounts.findById(tx, user.id)) as Account;
  }

  private async welcome(
    tx: Tx,
    { id, email, language, hasPassword }: Account,
    { tenantId, tenantName, roles }: { tenantId: string; tenantName: string; roles: string[] },
  ): Promise<void> {
    const token = hasPassword ? null : (await this.passwords.issueToken(tx, id, WELCOME_LIFETIME)).token;
    const data = { tenantName, roles, token };
    await this.mail.send(tx, { template: 'welcome', data, to: email, language, tenantId });
  }
}
