import { Injectable } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import { UsersService } from '../users/users.service.js';
import type { AddMember, ChangeMember, ListMembers, MemberProfile } from './members.dto.js';
import { MembersRepository } from './members.repository.js';

@Injectable()
export class MembersService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly members: MembersRepository,
    private readonly users: UsersService,
    private readonly authorization: AuthorizationService,
    private readonly roles: RolesService,
  ) {}

  list(query: ListMembers): Promise<Page<MemberProfile>> {
    return this.database.run(tx => this.members.list(tx, query));
  }

  /** @throws Problem 404 for an unknown user, 409 `already_member`, 403 for a role above one's own */
  async add(input: AddMember): Promise<MemberProfile> {
    const user = input.user_id
      ? await this.users.get(input.user_id)
      : await this.users.findByEmail(input.email as string);
    if (!user) throw Problem.notFound('user');
    const roles = rolesIn(input);
    await this.roles.requireRank(roles);
    const tenantId = this.context.tenant.id;
    return this.database.run(async tx => {
      if (!(await this.members.insert(tx, { tenantId, userId: user.id, joinedBy: this.context.userId }))) {
        throw Problem.conflict('already_member', 'This user is a member already.');
      }
      for (const role of roles)
        await this.authorization.assignRole(tx, user.id, role, tenantDomain(tenantId));
      return (await this.members.find(tx, user.id)) as MemberProfile;
    });
  }

  /** The first owner of a tenant that is being made in this transaction. */
  async addOwner(tx: Tx, tenantId: string, userId: string): Promise<void> {
    await this.members.insert(tx, { tenantId, userId, joinedBy: userId });
    await this.authorization.assignRole(tx, userId, 'owner', tenantDomain(tenantId));
  }

  /** Replaces the roles. @throws Problem 404, 409 `last_owner`, 403 for a role above one's own */
  async changeRoles(userId: string, input: ChangeMember): Promise<MemberProfile> {
    const member = await this.get(userId);
    const roles = rolesIn(input);
    await this.roles.requireRank([...roles, ...member.roles]);
    return this.database.run(async tx => {
      if (!roles.includes('owner')) await this.keepOneOwner(tx, userId);
      const domain = this.domain;
      const current = await this.currentRoles(tx, member);
      for (const role of current.filter(held => !roles.includes(held))) {
        await this.authorization.removeRole(tx, userId, role, domain);
      }
      for (const role of roles.filter(wanted => !current.includes(wanted))) {
        await this.authorization.assignRole(tx, userId, role, domain);
      }
      return (await this.members.find(tx, userId)) as MemberProfile;
    });
  }

  /** @throws Problem 404, 409 `last_owner`, 403 where the member holds a role above one's own */
  async remove(userId: string): Promise<void> {
    const member = await this.get(userId);
    await this.roles.requireRank(member.roles);
    await this.database.run(async tx => {
      await this.keepOneOwner(tx, userId);
      const current = await this.currentRoles(tx, member);
      for (const role of current) await this.authorization.removeRole(tx, userId, role, this.domain);
      await this.members.delete(tx, this.context.tenant.id, userId);
    });
  }

  private get domain(): string {
    return tenantDomain(this.context.tenant.id);
  }

  private async get(userId: string): Promise<MemberProfile> {
    const member = await this.database.run(tx => this.members.find(tx, userId));
    if (!member) throw Problem.notFound('member');
    return member;
  }

  /** What the member holds now, which must still be what one's own rank was compared with. */
  private async currentRoles(tx: Tx, member: MemberProfile): Promise<string[]> {
    const current = (await this.members.find(tx, member.userId))?.roles;
    if (!current) throw Problem.notFound('member');
    if (current.join() !== member.roles.join()) {
      throw Problem.conflict(
        'changed_meanwhile',
        'Somebody else changed the roles of this member. Try again.',
      );
    }
    return current;
  }

  private async keepOneOwner(tx: Tx, userId: string): Promise<void> {
    const owners = await this.authorization.lockHolders(tx, 'owner', this.domain);
    if (owners.length === 1 && owners[0] === userId) {
      throw Problem.conflict(
        'last_owner',
        'The last owner of a tenant cannot be removed or given another role.',
      );
    }
  }
}

const rolesIn = (input: ChangeMember): string[] => [...new Set(input.roles ?? [input.role as string])];
