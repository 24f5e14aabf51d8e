import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import type { ChangeMember, ListMembers, MemberProfile, MemberRole } from './members.dto.js';
import { MembersRepository } from './members.repository.js';
import { rolesIn } from './role-fields.js';

const NO_ROLES = { roles: [], path: 'role' };

/** Who joins a tenant, with which roles. */
export interface Joining {
  tenantId: string;
  userId: string;
  email: string;
  roles: readonly string[];
  joinedBy: string | null;
  /** Of the audit: how they came. */
  by?: Record<string, unknown>;
}

@Injectable()
export class MembersService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly members: MembersRepository,
    private readonly authorization: AuthorizationService,
    private readonly roles: RolesService,
    private readonly audit: AuditService,
  ) {}

  list(query: ListMembers): Promise<Page<MemberProfile>> {
    return this.database.run(tx => this.members.list(tx, this.context.tenant.id, query));
  }

  /** @throws Problem 404 */
  async get(userId: string): Promise<MemberProfile> {
    const member = await this.database.run(tx => this.find(tx, userId));
    if (!member) throw Problem.notFound('member');
    return member;
  }

  /** Makes a user a member, in the caller's transaction of the platform. @returns false where they are one already */
  async join(tx: Tx, { tenantId, userId, email, roles, joinedBy, by }: Joining): Promise<boolean> {
    if (!(await this.members.insert(tx, { tenantId, userId, joinedBy }))) return false;
    const assignments = roles.map(role => ({ userId, role }));
    await this.authorization.assignRoles(tx, assignments, tenantDomain(tenantId));
    this.audit.recordForTenant(tx, tenantId, {
      action: 'member.added',
      resource: { type: 'member', id: userId },
      details: { email, roles, ...by },
    });
    return true;
  }

  /**
   * Replaces the roles, suspends, or lifts a suspension.
   *
   * @throws Problem 404, 403 `role_above_own`, 409 `last_owner`, `not_yourself`, 422 `unknown_role`
   */
  async change(userId: string, input: ChangeMember): Promise<MemberProfile> {
    const wanted = input.role === undefined && input.roles === undefined ? null : rolesIn(input);
    if (input.status === 'suspended' && userId === this.ownId) {
      throw Problem.conflict('not_yourself', 'Nobody suspends themselves. To go, leave the tenant.');
    }
    const path = input.role === undefined ? 'roles' : 'role';
    return this.changeMember(userId, { roles: wanted ?? [], path }, async (tx, member) => {
      const staysOwner = wanted?.includes('owner') ?? true;
      if (!staysOwner || input.status === 'suspended') await this.keepAnotherOwner(tx, member);
      if (wanted) await this.setRoles(tx, member, wanted);
      if (input.status && input.status !== member.status) await this.setStatus(tx, member, input.status);
    });
  }

  /** @throws Problem 404, 403 `role_above_own`, 409 `role_held` where the member has it already, 422 `unknown_role` */
  async addRole(userId: string, input: MemberRole): Promise<MemberProfile> {
    const [role, path] = roleOf(input);
    return this.changeMember(userId, { roles: [role], path }, async (tx, member) => {
      if (member.roles.includes(role)) throw roleHeld(role);
      await this.setRoles(tx, member, [...member.roles, role]);
    });
  }

  /** @throws Problem 404 for a role that the member does not have, 403 `role_above_own`, 409 `last_role`, `last_owner` */
  async removeRole(userId: string, role: string): Promise<void> {
    await this.changeMember(userId, NO_ROLES, async (tx, member) => {
      if (!member.roles.includes(role)) throw Problem.notFound('role of this member');
      if (role === 'owner') await this.keepAnotherOwner(tx, member);
      const rest = member.roles.filter(held => held !== role);
      if (rest.length === 0) {
        throw Problem.conflict(
          'last_role',
          'A member has at least one role. Replace it, or remove the member.',
        );
      }
      await this.setRoles(tx, member, rest);
    });
  }

  /** @throws Problem 404 for a role that the member does not have, 403, 409 `role_held`, `last_owner`, 422 `unknown_role` */
  async replaceRole(userId: string, role: string, input: MemberRole): Promise<MemberProfile> {
    const [next, path] = roleOf(input);
    return this.changeMember(userId, { roles: [next], path }, async (tx, member) => {
      if (!member.roles.includes(role)) throw Problem.notFound('role of this member');
      if (next === role) return;
      if (member.roles.includes(next)) throw roleHeld(next);
      if (role === 'owner') await this.keepAnotherOwner(tx, member);
      const wanted = member.roles.map(held => (held === role ? next : held));
      await this.setRoles(tx, member, wanted);
    });
  }

  /** @throws Problem 404, 409 `last_owner`, 403 where the member holds a role above one's own */
  async remove(userId: string): Promise<void> {
    await this.changeMember(userId, NO_ROLES, (tx, member) => this.takeOut(tx, member, 'member.removed'));
  }

  /** Leaves the tenant oneself, whatever one's roles. @throws Problem 404 for whoever is no member, 409 `last_owner` */
  async leave(): Promise<void> {
    await this.database.run(async tx => {
      const { userId } = this.context;
      const locked = await this.members.lock(tx, this.context.tenant.id, userId);
      const member = locked ? await this.find(tx, userId) : null;
      if (!member) throw Problem.notFound('member');
      await this.takeOut(tx, member, 'member.left');
    });
  }

  private get ownId(): string {
    return this.context.userId;
  }

  private get domain(): string {
    return tenantDomain(this.context.tenant.id);
  }

  private find(tx: Tx, userId: string): Promise<MemberProfile | null> {
    return this.members.find(tx, this.context.tenant.id, userId);
  }

  /**
   * Changes one member who holds nothing, and gets nothing, that is above oneself. Rank is asked for outside of the
   * transaction, and holds for the roles that the member has then.
   */
  private async changeMember(
    userId: string,
    given: { roles: readonly string[]; path: string },
    change: (tx: Tx, member: MemberProfile) => Promise<void>,
  ): Promise<MemberProfile> {
    const before = await this.database.run(async tx => {
      const member = await this.find(tx, userId);
      if (!member) throw Problem.notFound('member');
      await this.roles.requireKnown(tx, given.roles, given.path);
      return member;
    });
    await this.roles.requireRank([...given.roles, ...before.roles]);
    return this.database.run(async tx => {
      // A role may have been deleted meanwhile.
      await this.roles.requireKnown(tx, given.roles, given.path);
      const locked = await this.members.lock(tx, this.context.tenant.id, userId);
      const member = locked ? await this.find(tx, userId) : null;
      if (!member) throw Problem.notFound('member');
      if (member.roles.join() !== before.roles.join()) {
        throw Problem.conflict(
          'changed_meanwhile',
          'Somebody else changed the roles of this member. Try again.',
        );
      }
      await change(tx, member);
      return (await this.find(tx, userId)) ?? member;
    });
  }

  private async setRoles(tx: Tx, member: MemberProfile, wanted: readonly string[]): Promise<void> {
    const given = wanted.filter(role => !member.roles.includes(role));
    const taken = member.roles.filter(role => !wanted.includes(role));
    for (const role of taken) await this.authorization.removeRole(tx, member.userId, role, this.domain);
    const assignments = given.map(role => ({ userId: member.userId, role }));
    if (given.length > 0) await this.authorization.assignRoles(tx, assignments, this.domain);
    if (given.length + taken.length === 0) return;
    this.audit.record(tx, {
      action: 'member.roles_changed',
      resource: { type: 'member', id: member.userId },
      details: { email: member.email, before: member.roles, after: wanted },
    });
  }

  /** The roles stay, but do not count while the member is suspended. */
  private async setStatus(tx: Tx, member: MemberProfile, status: MemberProfile['status']): Promise<void> {
    await this.members.setStatus(tx, this.context.tenant.id, member.userId, status);
    await this.authorization.policyChanged(tx, this.domain);
    this.audit.record(tx, {
      action: status === 'suspended' ? 'member.suspended' : 'member.activated',
      resource: { type: 'member', id: member.userId },
      details: { email: member.email, before: member.status, after: status },
    });
  }

  /** Groups, grants and places on documents' lists go with the membership. */
  private async takeOut(tx: Tx, member: MemberProfile, action: string): Promise<void> {
    if (member.roles.includes('owner')) await this.keepAnotherOwner(tx, member);
    for (const role of member.roles)
      await this.authorization.removeRole(tx, member.userId, role, this.domain);
    await this.members.delete(tx, this.context.tenant.id, member.userId);
    await this.authorization.policyChanged(tx, this.domain);
    this.audit.record(tx, {
      action,
      resource: { type: 'member', id: member.userId },
      details: { email: member.email, roles: member.roles, groups: member.groups },
    });
  }

  /**
   * Of an owner who stops being one. The rules of all owners are locked first, so that two such changes come one after
   * the other, and the second sees what the first has left.
   */
  private async keepAnotherOwner(tx: Tx, member: MemberProfile): Promise<void> {
    if (!member.roles.includes('owner')) return;
    const owners = await this.authorization.lockHolders(tx, 'owner', this.domain);
    const others = owners.filter(id => id !== member.userId);
    if ((await this.members.active(tx, this.context.tenant.id, others)).length > 0) return;
    throw Problem.conflict(
      'last_owner',
      'A tenant keeps at least one active owner: its last one cannot be removed, suspended or given another role.',
    );
  }
}

const roleOf = (input: MemberRole): [role: string, path: string] =>
  input.role === undefined ? [input.role_name as string, 'role_name'] : [input.role, 'role'];

const roleHeld = (role: string): Problem =>
  Problem.conflict('role_held', `This member has the role ${role} already.`);
