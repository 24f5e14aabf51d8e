import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { MailService } from '../../core/mail/mail.service.js';
import type { Features } from '../../core/tenancy/feature-flags.js';
import { hashSecret, randomSecret } from '../../foundation/crypto/opaque-token.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { InvitationsRepository } from '../members/invitations.repository.js';
import { MembersService } from '../members/members.service.js';
import { nameOf } from '../members/members.dto.js';
import { PasswordsService, WELCOME_LIFETIME } from '../users/passwords.service.js';
import type { User } from '../users/user.entity.js';
import { emailField } from '../users/users.dto.js';
import { UsersRepository } from '../users/users.repository.js';
import { UsersService } from '../users/users.service.js';
import { requireValid } from './tenant-fields.js';
import type { AdminUser, CreatedTenant } from './tenants.dto.js';

/** Who comes into a tenant that is being made. */
export interface FirstMembers {
  tenant: { id: string; displayName: string };
  features: Features;
  /** The first owner; null where that is whoever makes the tenant. */
  admin: (AdminUser & { passwordHash: string | null }) | null;
  /** Of the template. */
  others: ReadonlyArray<{ role: string; users: readonly string[] }> | null;
  creatorId: string | null;
}

/** Lets the first people into a new tenant, in the transaction that makes it. */
@Injectable()
export class FirstMembersService {
  constructor(
    private readonly users: UsersService,
    private readonly userRows: UsersRepository,
    private readonly passwords: PasswordsService,
    private readonly members: MembersService,
    private readonly invitations: InvitationsRepository,
    private readonly mail: MailService,
    private readonly audit: AuditService,
  ) {}

  /**
   * @returns who was let in, and how many members there are now
   * @throws Problem 409 `username_taken`, 422
   */
  async admit(
    tx: Tx,
    first: FirstMembers,
  ): Promise<Pick<CreatedTenant, 'adminUser' | 'members'> & { count: number }> {
    const { owner, created } = await this.findOwner(tx, first);
    const rolesByEmail = rolesOf(first.others ?? []);
    const ownersOthers = rolesByEmail.get(owner.email.toLowerCase()) ?? new Set();
    const joined: NonNullable<CreatedTenant['members']> = [];
    const token = await this.join(tx, first, owner, ['owner', ...ownersOthers], created);
    let count = 1;
    for (const [email, roles] of rolesByEmail) {
      const outcome =
        email === owner.email.toLowerCase()
          ? 'added'
          : await this.addOrInvite(tx, first, owner, email, [...roles]);
      if (outcome === 'added' && email !== owner.email.toLowerCase()) count++;
      joined.push({ email, roles: [...roles], outcome });
    }
    return {
      adminUser: first.admin ? { id: owner.id, email: owner.email, created, token } : null,
      members: first.others ? joined : null,
      count,
    };
  }

  private async findOwner(
    tx: Tx,
    { admin, creatorId, tenant }: FirstMembers,
  ): Promise<{ owner: User; created: boolean }> {
    if (!admin) {
      const owner = creatorId ? await this.userRows.findById(tx, creatorId) : null;
      if (!owner) throw new Error('A tenant needs a first owner.');
      return { owner, created: false };
    }
    const found = await this.userRows.findByEmail(tx, admin.email);
    if (found) return { owner: requireActive(found, 'admin_user.email'), created: false };
    try {
      const owner = await this.users.insert(
        tx,
        {
          email: admin.email,
          displayName: admin.display_name ?? admin.full_name ?? nameOf(admin.email),
          username: admin.username ?? null,
        },
        admin.passwordHash,
      );
      this.audit.recordForPlatform(tx, {
        action: 'user.created',
        resource: { type: 'user', id: owner.id },
        details: { email: owner.email, tenant_id: tenant.id },
      });
      return { owner, created: true };
    } catch (error) {
      // Of two who make the same account at once, the second finds it.
      const made =
        error instanceof Problem && error.code === 'email_taken'
          ? await this.userRows.findByEmail(tx, admin.email)
          : null;
      if (!made) throw error;
      return { owner: requireActive(made, 'admin_user.email'), created: false };
    }
  }

  private async addOrInvite(
    tx: Tx,
    first: FirstMembers,
    owner: User,
    email: string,
    roles: string[],
  ): Promise<'added' | 'invited'> {
    const user = await this.userRows.findByEmail(tx, email);
    if (user) {
      await this.join(tx, first, requireActive(user, 'template.members'), roles, false);
      return 'added';
    }
    await this.invite(tx, first, owner, email, roles);
    return 'invited';
  }

  /** @returns the token that a new account gets to choose its password with */
  private async join(
    tx: Tx,
    { tenant, creatorId, admin }: FirstMembers,
    user: User,
    roles: string[],
    created: boolean,
  ): Promise<string | null> {
    const joinedBy = creatorId ?? user.id;
    await this.members.join(tx, { tenantId: tenant.id, userId: user.id, email: user.email, roles, joinedBy });
    // Whoever makes a tenant knows of it.
    if (user.id === creatorId) return null;
    const waits = created && admin?.passwordHash === null;
    const token = waits ? (await this.passwords.issueToken(tx, user.id, WELCOME_LIFETIME)).token : null;
    await this.mail.send(tx, {
      template: 'welcome',
      data: { tenantName: tenant.displayName, roles, token },
      to: user.email,
      language: user.language,
      tenantId: tenant.id,
    });
    return token;
  }

  private async invite(
    tx: Tx,
    { tenant, features, creatorId }: FirstMembers,
    owner: User,
    email: string,
    roles: string[],
  ): Promise<void> {
    if (!features.invitations) {
      const message = `There is no account for ${email}, and this tenant does not invite by e-mail.`;
      throw Problem.invalid([{ path: 'template.members', code: 'feature_disabled', message }]);
    }
    const inviter = creatorId ? ((await this.userRows.findById(tx, creatorId)) ?? owner) : owner;
    const token = randomSecret();
    const invitation = await this.invitations.insert(tx, {
      id: uuidv7(),
      tenantId: tenant.id,
      email,
      roles,
      message: null,
      tokenHash: hashSecret(token),
      invitedBy: inviter.id,
      days: features.invitation_days,
    });
    if (!invitation) throw new Error('A tenant that is being made has invitations already.');
    const expiresAt = invitation.expiresAt.toISOString();
    await this.mail.send(tx, {
      template: 'invitation',
      data: {
        tenantName: tenant.displayName,
        inviter: inviter.displayName,
        roles,
        message: null,
        token,
        expiresAt,
      },
      to: email,
      tenantId: tenant.id,
    });
    this.audit.recordForTenant(tx, tenant.id, {
      action: 'invitation.created',
      resource: { type: 'invitation', id: invitation.id },
      details: { email, roles, expires_at: expiresAt },
    });
  }
}

/** Who gets which roles, by address. @throws Problem 422 for what is no address */
function rolesOf(others: NonNullable<FirstMembers['others']>): Map<string, Set<string>> {
  const roles = new Map<string, Set<string>>();
  for (const { role, users } of others) {
    for (const user of users) {
      const email = requireValid(emailField, user, 'template.members').toLowerCase();
      roles.set(email, (roles.get(email) ?? new Set()).add(role));
    }
  }
  return roles;
}

function requireActive(user: User, path: string): User {
  if (user.isActive) return user;
  const message = `The account ${user.email} is not active.`;
  throw Problem.invalid([{ path, code: 'inactive_user', message }]);
}
