import { Injectable } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import type { KbGrant, MemberFacts } from '../../core/authorization/member-facts.repository.js';
import {
  type Permission,
  TENANT_PERMISSIONS,
  isKbPermission,
  tenantDomain,
} from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { Problem } from '../../foundation/http/problem.js';
import type { EffectivePermissions, Reason } from './effective-permissions.dto.js';
import { type KbFacts, RolesRepository } from './roles.repository.js';

/** A role that somebody has, with what it allows. */
interface Source {
  reason: Reason;
  permissions: readonly Permission[];
}

/** All that decides about one person, in the tenant or in one knowledge base. */
interface Situation {
  userId: string;
  tenantId: string;
  kb: KbFacts | null;
  seesAll: boolean;
  facts: MemberFacts | null;
  /** Roles in the tenant and of the platform. */
  roles: Source[];
  /** Grants: on the knowledge base, or on any where none was asked for. */
  grants: Source[];
}

/** Says what somebody may do and why, with the decisions that the guard makes. */
@Injectable()
export class EffectivePermissionsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly roles: RolesRepository,
  ) {}

  /**
   * @param kbReference id or slug; without it, what may be done in the tenant
   * @throws Problem 403 about others without tenant:manage_members; 404 for who is no member, or a knowledge base that
   *   the one who asks does not see
   */
  async explain(userId: string, kbReference: string | undefined): Promise<EffectivePermissions> {
    const { tenant, ownAccount: asking, subject } = this.context;
    const domain = tenantDomain(tenant.id);
    if (userId !== asking && !(await this.authorization.can(subject, domain, 'tenant:manage_members'))) {
      throw Problem.forbidden('What others may do is shown to those who manage the members.');
    }
    const facts = await this.authorization.factsOf(userId, tenant.id);
    const { isMember, kb, groups } = await this.database.run(async tx => ({
      isMember: await this.roles.isMember(tx, userId),
      kb: kbReference === undefined ? null : await this.roles.findKb(tx, kbReference),
      groups: await this.roles.groups(tx, facts?.groups ?? []),
    }));
    if (!isMember && userId !== asking) throw Problem.notFound('member');
    if (kbReference !== undefined && !kb) throw Problem.notFound('knowledge base');
    const situation = await this.situationOf(userId, facts, kb);
    const { tenant: held } = await this.authorization.rolesOf(userId, tenant.id);
    return {
      user_id: userId,
      kb: kb?.slug ?? null,
      roles: held,
      groups,
      sees_all: situation.seesAll,
      items: await Promise.all(TENANT_PERMISSIONS.map(permission => this.decide(situation, permission))),
    };
  }

  private async situationOf(
    userId: string,
    facts: MemberFacts | null,
    kb: KbFacts | null,
  ): Promise<Situation> {
    const tenantId = this.context.tenant.id;
    const { tenant, platform } = await this.authorization.rolesOf(userId, tenantId);
    const grants = facts?.status === 'active' ? facts.grants : [];
    const source = async (reason: Reason): Promise<Source> => ({
      reason,
      permissions: await this.authorization.permissionsOf(reason.role, tenantDomain(tenantId)),
    });
    return {
      userId,
      tenantId,
      kb,
      facts,
      seesAll: (await this.authorization.accessOf(userId, tenantId)).all,
      roles: await Promise.all([
        ...tenant.map(role => source({ role, source: 'role', text: `${role} in the tenant` })),
        ...platform.map(role => source({ role, source: 'platform', text: `${role} of the platform` })),
      ]),
      grants: await Promise.all(
        grants.filter(grant => !kb || grant.kbId === kb.id).map(grant => source(reasonOf(grant))),
      ),
    };
  }

  private async decide(
    situation: Situation,
    permission: Permission,
  ): Promise<EffectivePermissions['items'][number]> {
    const counted = countedFor(situation, permission);
    const allowed = await this.isAllowed(situation, permission);
    return {
      permission,
      allowed,
      because: allowed
        ? counted.filter(({ permissions }) => permissions.includes(permission)).map(({ reason }) => reason)
        : [],
      why_not: allowed ? null : whyNot(situation, permission),
    };
  }

  private async isAllowed(situation: Situation, permission: Permission): Promise<boolean> {
    const { userId, tenantId, kb } = situation;
    if (kb && isAskedInKb(permission)) {
      if (isClosedTo(situation) && situation.grants.length === 0) return false;
      return this.authorization.canInKb(userId, tenantId, kb.id, permission);
    }
    if (await this.authorization.can(userId, tenantDomain(tenantId), permission)) return true;
    // Whoever was granted a knowledge base may list those.
    return (
      permission === 'kb:read' &&
      (await this.authorization.kbsGranted(userId, tenantId, permission)).length > 0
    );
  }
}

/** Making a knowledge base is nothing that happens in one. */
const isAskedInKb = (permission: Permission): boolean =>
  isKbPermission(permission) && permission !== 'kb:create';

/** Whether the roles in the tenant say nothing about this knowledge base. */
const isClosedTo = ({ kb, seesAll }: Situation): boolean => kb?.visibility === 'granted' && !seesAll;

function countedFor(situation: Situation, permission: Permission): Source[] {
  if (!situation.kb) {
    return permission === 'kb:read' ? [...situation.roles, ...situation.grants] : situation.roles;
  }
  if (!isAskedInKb(permission)) return situation.roles;
  return isClosedTo(situation) ? situation.grants : [...situation.roles, ...situation.grants];
}

function reasonOf({ role, slug, group }: KbGrant): Reason {
  if (!group) return { role, source: 'grant', kb: slug, text: `${role} granted on kb ${slug}` };
  return {
    role,
    source: 'group',
    group: group.name,
    kb: slug,
    text: `${role} via group ${group.name} on kb ${slug}`,
  };
}

function whyNot(situation: Situation, permission: Permission): string {
  const { facts, kb, grants } = situation;
  if (facts?.status === 'suspended') return 'The member is suspended.';
  if (kb && isAskedInKb(permission) && isClosedTo(situation)) {
    return grants.length === 0
      ? `The kb ${kb.slug} is closed, and no role on it was granted to the member or their groups.`
      : `The kb ${kb.slug} is closed, so only roles granted on it count, and none of them gives this.`;
  }
  return kb && isAskedInKb(permission)
    ? `No role in the tenant and none granted on kb ${kb.slug} gives this.`
    : 'No role in the tenant gives this.';
}
