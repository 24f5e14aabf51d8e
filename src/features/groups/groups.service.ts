import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { tenantDomain } from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import type {
  AddGroupMembers,
  CreateGroup,
  Group,
  GroupMember,
  ListGroupMembers,
  ListGroups,
  UpdateGroup,
} from './groups.dto.js';
import { GranteesRepository } from './grantees.repository.js';
import { type GroupGrant, GroupsRepository } from './groups.repository.js';

/** Named sets of members, which knowledge bases and documents are granted to. */
@Injectable()
export class GroupsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly audit: AuditService,
    private readonly groups: GroupsRepository,
    private readonly grantees: GranteesRepository,
  ) {}

  list(query: ListGroups): Promise<Page<Group>> {
    return this.database.run(tx => this.groups.list(tx, query));
  }

  get(id: string): Promise<Group> {
    return this.database.run(tx => this.require(tx, id));
  }

  /** @throws Problem 409 `name_taken` */
  create({ name, description }: CreateGroup): Promise<Group> {
    const id = uuidv7();
    const { tenant, userId: createdBy } = this.context;
    return this.database.run(async tx => {
      if (!(await this.groups.insert(tx, { id, tenantId: tenant.id, name, description, createdBy }))) {
        throw nameTaken();
      }
      this.audit.record(tx, {
        action: 'group.created',
        resource: { type: 'group', id },
        details: { name, description },
      });
      return this.require(tx, id);
    });
  }

  /** @throws Problem 404, 409 `name_taken` */
  update(id: string, input: UpdateGroup, ifMatch: IfMatch = null): Promise<Group> {
    return this.database.run(async tx => {
      const before = await this.requireLocked(tx, id);
      requireMatch(ifMatch, before.updatedAt);
      const { name = before.name, description = before.description } = input;
      if (await this.groups.isTaken(tx, name, id)) throw nameTaken();
      await this.groups.update(tx, id, name, description);
      // Explanations of permissions call groups by their names.
      await this.authorization.policyChanged(tx, this.domain);
      this.audit.record(tx, {
        action: 'group.updated',
        resource: { type: 'group', id },
        details: {
          before: { name: before.name, description: before.description },
          after: { name, description },
        },
      });
      return this.require(tx, id);
    });
  }

  /** Takes from its members what was granted to it. @throws Problem 403 `role_above_own`, 404 */
  async delete(id: string): Promise<void> {
    const known = await this.requireRank(id);
    await this.database.run(async tx => {
      const group = await this.requireLocked(tx, id);
      await this.requireSame(tx, id, known);
      await this.groups.delete(tx, id);
      await this.authorization.policyChanged(tx, this.domain);
      this.audit.record(tx, {
        action: 'group.deleted',
        resource: { type: 'group', id },
        details: { name: group.name, member_count: group.memberCount, grants: known.map(toDetails) },
      });
    });
  }

  members(id: string, query: ListGroupMembers): Promise<Page<GroupMember>> {
    return this.database.run(async tx => {
      await this.require(tx, id);
      return this.groups.members(tx, id, query);
    });
  }

  /**
   * Gives members what the group's grants give, which must be the giver's own.
   *
   * @throws Problem 403 `role_above_own`, 404, 422 `unknown_member` for everybody who is not a member of the tenant
   */
  async add(id: string, input: AddGroupMembers): Promise<{ added: string[]; memberCount: number }> {
    const given = (input.user_ids ?? [input.user_id as string]).map(user => user.toLowerCase());
    const userIds = [...new Set(given)];
    const known = await this.requireRank(id);
    const { tenant, userId: addedBy } = this.context;
    return this.database.run(async tx => {
      await this.requireLocked(tx, id);
      await this.requireSame(tx, id, known);
      const members = await this.grantees.membersAmong(tx, userIds);
      const strangers = userIds.filter(user => !members.includes(user));
      if (strangers.length > 0) {
        throw Problem.invalid(
          strangers.map(user => ({
            path: input.user_ids ? `user_ids.${given.indexOf(user)}` : 'user_id',
            code: 'unknown_member',
            message: 'This is no member of the tenant.',
          })),
        );
      }
      const added = await this.groups.add(tx, { id, tenantId: tenant.id }, userIds, addedBy);
      const group = await this.require(tx, id);
      if (added.length > 0) {
        await this.authorization.policyChanged(tx, this.domain);
        this.audit.record(tx, {
          action: 'group.members_added',
          resource: { type: 'group', id },
          details: { name: group.name, user_ids: added },
        });
      }
      return { added, memberCount: group.memberCount };
    });
  }

  /** @throws Problem 403 `role_above_own`, 404 */
  async remove(id: string, userId: string): Promise<void> {
    // What one has through a group may always be given up.
    const known = userId === this.context.ownAccount ? null : await this.requireRank(id);
    await this.database.run(async tx => {
      const group = await this.requireLocked(tx, id);
      if (known) await this.requireSame(tx, id, known);
      if (!(await this.groups.remove(tx, id, userId))) throw Problem.notFound('member of this group');
      await this.authorization.policyChanged(tx, this.domain);
      this.audit.record(tx, {
        action: 'group.member_removed',
        resource: { type: 'group', id },
        details: { name: group.name, user_id: userId },
      });
    });
  }

  private get domain(): string {
    return tenantDomain(this.context.tenant.id);
  }

  private async require(tx: Tx, id: string): Promise<Group> {
    const group = await this.groups.find(tx, id);
    if (!group) throw Problem.notFound('group');
    return group;
  }

  private async requireLocked(tx: Tx, id: string): Promise<Group> {
    if (!(await this.groups.lock(tx, id))) throw Problem.notFound('group');
    return this.require(tx, id);
  }

  /**
   * Whether one holds what the group gives: its roles in knowledge bases, and the documents that it may read.
   *
   * @returns the grants that one's own permissions were compared with
   */
  private async requireRank(id: string): Promise<GroupGrant[]> {
    const { grants, further } = await this.database.run(async tx => {
      await this.require(tx, id);
      return { grants: await this.groups.grants(tx, id), further: await this.groups.reachesFurther(tx, id) };
    });
    // Of what is in other knowledge bases, a token that is kept to some does not even see the grants.
    if (further || this.context.access.kbIds) {
      throw Problem.forbidden('This group sees what you do not.', 'role_above_own');
    }
    const { subject, tenant } = this.context;
    for (const { kbId, role } of grants) {
      if (await this.authorization.outranksInKb(subject, role, tenant.id, kbId)) continue;
      throw Problem.forbidden(
        `This group has the role ${role} in a knowledge base, which may do there what you may not.`,
        'role_above_own',
      );
    }
    return grants;
  }

  /** The group is locked, and a grant to it needs that lock: what is compared here holds until the end. */
  private async requireSame(tx: Tx, id: string, known: readonly GroupGrant[]): Promise<void> {
    const now = await this.groups.grants(tx, id);
    if (JSON.stringify(now) === JSON.stringify(known) && !(await this.groups.reachesFurther(tx, id))) return;
    throw Problem.conflict('changed_meanwhile', 'Somebody else changed what this group may do. Try again.');
  }
}

const toDetails = ({ kbId, role }: GroupGrant) => ({ kb_id: kbId, role });

const nameTaken = (): Problem =>
  Problem.conflict('name_taken', 'Another group of this tenant has this name.');
