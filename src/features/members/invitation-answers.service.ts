import { Injectable } from '@nestjs/common';
import { hash } from '@node-rs/argon2';
import { AuditService } from '../../core/audit/audit.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { hashSecret } from '../../foundation/crypto/opaque-token.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type FieldError, Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import { UsersService } from '../users/users.service.js';
import { type Account, AccountsRepository } from './accounts.repository.js';
import { alreadyMember, notPending, roleGone } from './invitation-problems.js';
import type { AcceptInvitation, ReceivedInvitation } from './invitations.dto.js';
import { InvitationsRepository } from './invitations.repository.js';
import { nameOf } from './members.dto.js';
import { MembersService } from './members.service.js';

export interface Accepted {
  invitation: ReceivedInvitation;
  account: Account;
  /** Whether the account was made on the way. */
  created: boolean;
}

/** Answers to invitations, by whoever holds the token: it went to the address alone, so its holder reads that mail. */
@Injectable()
export class InvitationAnswersService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: PlatformDatabase,
    private readonly invitations: InvitationsRepository,
    private readonly accounts: AccountsRepository,
    private readonly users: UsersService,
    private readonly members: MembersService,
    private readonly roles: RolesService,
    private readonly audit: AuditService,
  ) {}

  /** @throws Problem 404 for a token that is none */
  get(token: string): Promise<{ invitation: ReceivedInvitation; account: Account | null }> {
    return this.database.run(async tx => {
      const invitation = await this.find(tx, token);
      const [account] = await this.accounts.findByEmails(tx, [invitation.email]);
      return { invitation, account: account ?? null };
    });
  }

  /**
   * Joins the tenant with the invited address's account, made on the way where there is none.
   *
   * @throws Problem 403 `account_disabled`, `account_unproven`, `tenant_suspended`, 404, 409 `already_member`, `role_gone`,
   * `invitation_accepted`, …, 422 for fields that do not fit the account
   */
  async accept(token: string, input: AcceptInvitation): Promise<Accepted> {
    const before = await this.get(token);
    requireAnswerable(before.invitation);
    requireFitting(input, before.account);
    // argon2id takes its time; no transaction may stay open meanwhile.
    const passwordHash = input.password === undefined ? null : await hash(input.password);
    return this.database.run(async tx => {
      const invitation = await this.find(tx, token, { lock: true });
      requireAnswerable(invitation);
      const { id, tenantId, email, roles, invitedBy } = invitation;
      const [gone] = await this.roles.unknown(tx, tenantId, roles);
      if (gone !== undefined) throw roleGone(gone);
      const known = await this.accounts.lockByEmail(tx, email);
      requireFitting(input, known);
      const account = known
        ? await this.prove(tx, known, passwordHash)
        : await this.create(tx, invitation, input, passwordHash as string);
      const joining = { tenantId, userId: account.id, email, roles, joinedBy: invitedBy };
      if (!(await this.members.join(tx, { ...joining, by: { invitation: id } }))) throw alreadyMember();
      await this.invitations.answer(tx, tenantId, id, 'accepted', account.id);
      this.record(tx, 'invitation.accepted', invitation, {
        user_id: account.id,
        account_created: !known,
        password_chosen: passwordHash !== null,
      });
      return { invitation, account, created: !known };
    });
  }

  /** @throws Problem 404, 409 `invitation_accepted`, … */
  async decline(token: string): Promise<void> {
    await this.database.run(async tx => {
      const invitation = await this.find(tx, token, { lock: true });
      if (invitation.status !== 'pending') throw notPending(invitation.status);
      await this.invitations.answer(tx, invitation.tenantId, invitation.id, 'declined');
      this.record(tx, 'invitation.declined', invitation);
    });
  }

  private async find(tx: Tx, token: string, options?: { lock: boolean }): Promise<ReceivedInvitation> {
    const invitation = await this.invitations.findByToken(tx, hashSecret(token), options);
    if (!invitation || invitation.tenantStatus === 'erasing') throw Problem.notFound('invitation');
    return invitation;
  }

  private async prove(tx: Tx, account: Account, passwordHash: string | null): Promise<Account> {
    if (!account.isActive) throw Problem.forbidden('This account is disabled.', 'account_disabled');
    // The token proves who reads the mail, not who made the account: that may have been somebody else, in advance.
    const principal = this.context.principalOrNull;
    const isOwn = principal?.kind === 'user' && principal.userId === account.id;
    if (account.hasPassword && !account.emailVerified && !isOwn) {
      throw Problem.forbidden(
        'Nobody has shown yet that this account and this address are the same person’s. Accept signed in to it, or choose a new password by e-mail first.',
        'account_unproven',
      );
    }
    await this.accounts.proveEmail(tx, account.id, passwordHash);
    return account;
  }

  private async create(
    tx: Tx,
    invitation: ReceivedInvitation,
    input: AcceptInvitation,
    passwordHash: string,
  ): Promise<Account> {
    const { email, tenantId } = invitation;
    const user = await this.users.insert(
      tx,
      {
        email,
        displayName: input.display_name ?? nameOf(email),
        username: input.username ?? null,
        emailVerifiedAt: new Date(),
      },
      passwordHash,
    );
    this.audit.recordForPlatform(tx, {
      action: 'user.created',
      resource: { type: 'user', id: user.id },
      details: { email, tenant_id: tenantId, invitation: invitation.id },
    });
    return (await this.accounts.findById(tx, user.id)) as Account;
  }

  /** Nobody is signed in: who answered is told by the address. */
  private record(
    tx: Tx,
    action: string,
    { id, tenantId, email, roles }: ReceivedInvitation,
    details: Record<string, unknown> = {},
  ): void {
    this.audit.recordForTenant(tx, tenantId, {
      action,
      resource: { type: 'invitation', id },
      details: { email, roles, ...details },
    });
  }
}

function requireAnswerable(invitation: ReceivedInvitation): void {
  if (invitation.status !== 'pending') throw notPending(invitation.status);
  if (invitation.tenantStatus !== 'active') {
    throw Problem.forbidden('This tenant is suspended.', 'tenant_suspended');
  }
}

/** A new account needs a password; an account that has one keeps it, its name and its user name. */
function requireFitting(input: AcceptInvitation, account: Account | null): void {
  if (!account) {
    if (input.password !== undefined) return;
    throw Problem.invalid([
      {
        path: 'password',
        code: 'required',
        message: 'This address has no account yet: choose its password.',
      },
    ]);
  }
  const settled = ['display_name', 'username', ...(account.hasPassword ? ['password'] : [])] as const;
  const errors = settled
    .filter(field => input[field as keyof AcceptInvitation] !== undefined)
    .map((path): FieldError => {
      const message =
        'This address has an account already, which keeps what it has: accept without this field.';
      return { path, code: 'account_exists', message };
    });
  if (errors.length > 0) throw Problem.invalid(errors);
}
