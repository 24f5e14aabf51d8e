import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { MailService } from '../../core/mail/mail.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { hashSecret, randomSecret } from '../../foundation/crypto/opaque-token.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import { UsersService } from '../users/users.service.js';
import { InvitationLimiter } from './invitation-limiter.js';
import type { CreateInvitation, Invitation, ListInvitations } from './invitations.dto.js';
import { InvitationsRepository } from './invitations.repository.js';
import { alreadyMember, notPending, roleGone } from './invitation-problems.js';
import { rolesIn } from './role-fields.js';

/** What an invitation is sent with; looked up before the transaction that sends it. */
interface Letterhead {
  days: number;
  tenantName: string;
  inviter: string;
}

@Injectable()
export class InvitationsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly directory: TenantDirectory,
    private readonly features: FeaturesService,
    private readonly invitations: InvitationsRepository,
    private readonly roles: RolesService,
    private readonly users: UsersService,
    private readonly mail: MailService,
    private readonly audit: AuditService,
    private readonly limiter: InvitationLimiter,
  ) {}

  list(query: ListInvitations): Promise<Page<Invitation>> {
    return this.database.run(tx => this.invitations.list(tx, this.tenantId, query));
  }

  /** @throws Problem 404 */
  get(id: string): Promise<Invitation> {
    return this.database.run(tx => this.find(tx, id));
  }

  /**
   * Invites whoever reads mail to an address.
   *
   * @throws Problem 403 `feature_disabled`, `role_above_own`, 409 `already_member`, `already_invited`, 422 `unknown_role`, 429
   */
  async create(input: CreateInvitation): Promise<Invitation> {
    const letterhead = await this.letterhead();
    const roles = rolesIn(input);
    const path = input.role === undefined ? 'roles' : 'role';
    await this.database.run(tx => this.roles.requireKnown(tx, roles, path));
    await this.roles.requireRank(roles);
    await this.limiter.countMail(this.tenantId, input.email);
    const token = randomSecret();
    return this.database.run(async tx => {
      await this.roles.requireKnown(tx, roles, path);
      if (await this.invitations.isMember(tx, this.tenantId, input.email)) throw alreadyMember();
      const invitation = await this.invitations.insert(tx, {
        id: uuidv7(),
        tenantId: this.tenantId,
        email: input.email,
        roles,
        message: input.message || null,
        tokenHash: hashSecret(token),
        invitedBy: this.context.userId,
        days: letterhead.days,
      });
      if (!invitation) {
        throw Problem.conflict(
          'already_invited',
          'This address has an invitation that waits for an answer. Send it again, or revoke it.',
        );
      }
      await this.send(tx, invitation, token, letterhead);
      this.record(tx, 'invitation.created', invitation);
      return invitation;
    });
  }

  /**
   * Sends an invitation again, with a new token and a new time to answer; the old token stops.
   *
   * @throws Problem 403 `feature_disabled`, `role_above_own`, 404, 409 `invitation_accepted`, … , `role_gone`, 429
   */
  async resend(id: string): Promise<Invitation> {
    const letterhead = await this.letterhead();
    const { email, roles } = await this.get(id);
    await this.roles.requireRank(roles);
    await this.limiter.countMail(this.tenantId, email);
    const token = randomSecret();
    return this.database.run(async tx => {
      const before = await this.waiting(tx, id);
      if (await this.invitations.isMember(tx, this.tenantId, before.email)) throw alreadyMember();
      const [gone] = await this.roles.unknown(tx, this.tenantId, before.roles);
      if (gone !== undefined) throw roleGone(gone);
      const { days } = letterhead;
      // Another invitation has taken the place of one that had expired.
      if (!(await this.invitations.renew(tx, this.tenantId, id, hashSecret(token), days)))
        throw notPending('expired');
      const invitation = await this.find(tx, id);
      await this.send(tx, invitation, token, letterhead);
      this.record(tx, 'invitation.resent', invitation);
      return invitation;
    });
  }

  /** @throws Problem 403 `role_above_own`, 404, 409 where it has been answered or revoked */
  async revoke(id: string): Promise<void> {
    await this.roles.requireRank((await this.get(id)).roles);
    await this.database.run(async tx => {
      const invitation = await this.waiting(tx, id);
      if (!(await this.invitations.answer(tx, this.tenantId, id, 'revoked'))) throw notPending('expired');
      this.record(tx, 'invitation.revoked', invitation);
    });
  }

  private get tenantId(): string {
    return this.context.tenant.id;
  }

  private async find(tx: Tx, id: string, options?: { lock: boolean }): Promise<Invitation> {
    const invitation = await this.invitations.find(tx, this.tenantId, id, options);
    if (!invitation) throw Problem.notFound('invitation');
    return invitation;
  }

  /** One that nobody has answered, be it in time or not; nobody else changes it until the transaction ends. */
  private async waiting(tx: Tx, id: string): Promise<Invitation> {
    const invitation = await this.find(tx, id, { lock: true });
    if (invitation.status !== 'pending' && invitation.status !== 'expired')
      throw notPending(invitation.status);
    return invitation;
  }

  private async letterhead(): Promise<Letterhead> {
    if (!(await this.features.get('invitations'))) {
      throw Problem.forbidden('This tenant does not invite by e-mail.', 'feature_disabled');
    }
    const days = await this.features.get('invitation_days');
    const tenant = await this.directory.find(this.tenantId);
    const { displayName } = await this.users.get(this.context.userId);
    return { days, tenantName: tenant?.displayName ?? this.context.tenant.name, inviter: displayName };
  }

  private async send(tx: Tx, invitation: Invitation, token: string, letterhead: Letterhead): Promise<void> {
    const { email, roles, message, expiresAt } = invitation;
    await this.mail.send(tx, {
      template: 'invitation',
      data: {
        tenantName: letterhead.tenantName,
        inviter: letterhead.inviter,
        roles,
        message,
        token,
        expiresAt: expiresAt.toISOString(),
      },
      to: email,
      tenantId: this.tenantId,
    });
  }

  private record(tx: Tx, action: string, { id, email, roles, expiresAt }: Invitation): void {
    this.audit.record(tx, {
      action,
      resource: { type: 'invitation', id },
      details: { email, roles, expires_at: expiresAt.toISOString() },
    });
  }
}
