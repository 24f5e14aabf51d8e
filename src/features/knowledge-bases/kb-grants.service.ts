import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { isKbPermission, tenantDomain } from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type FieldError, Problem } from '../../foundation/http/problem.js';
import { GranteesRepository } from '../groups/grantees.repository.js';
import { RolesService } from '../roles/roles.service.js';
import { type Grant, type GrantInput, MOST_GRANTS } from './kb-grants.dto.js';
import { type Grantee, KbGrantsRepository } from './kb-grants.repository.js';
import type { KnowledgeBase } from './knowledge-base.entity.js';
import { KnowledgeBasesRepository } from './knowledge-bases.repository.js';

/** A role for a member or a group; `path` is where the request names it. */
interface WantedGrant extends Grantee {
  role: string;
  path: string;
}

/** Roles on one knowledge base alone: in an open one they widen what the tenant's roles allow, in a closed one they replace it. */
@Injectable()
export class KbGrantsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly roles: RolesService,
    private readonly audit: AuditService,
    private readonly knowledgeBases: KnowledgeBasesRepository,
    private readonly grants: KbGrantsRepository,
    private readonly grantees: GranteesRepository,
  ) {}

  async list(kbReference: string, page: number, pageSize: number): Promise<Page<Grant>> {
    const { grants } = await this.read(kbReference);
    return { items: grants.slice((page - 1) * pageSize, page * pageSize), total: grants.length };
  }

  /** Replaces all grants. @throws Problem as {@link grant} */
  replace(kbReference: string, inputs: readonly GrantInput[]): Promise<Grant[]> {
    const wanted = inputs.map((input, index) => toWanted(input, `grants.${index}.`));
    return this.change(kbReference, () => wanted);
  }

  /**
   * Gives a role in the place of the one that the member or group has here.
   *
   * @throws Problem 403 `role_above_own`; 404; 409 `changed_meanwhile`, `too_many_grants`; 422 `unknown_role`,
   *   `unknown_member`, `unknown_group`, `repeated`, `would_lock_you_out`
   */
  async grant(kbReference: string, input: GrantInput): Promise<Grant> {
    const wanted = toWanted(input, '');
    const grants = await this.change(kbReference, current => [
      ...current.filter(grant => keyOf(grant) !== keyOf(wanted)).map(asItIs),
      wanted,
    ]);
    return grants.find(grant => keyOf(grant) === keyOf(wanted)) as Grant;
  }

  /** @throws Problem 403 `role_above_own`, 404, 422 `would_lock_you_out` */
  async revoke(kbReference: string, id: string): Promise<void> {
    await this.change(kbReference, current => {
      if (!current.some(grant => grant.id === id)) throw Problem.notFound('grant');
      return current.filter(grant => grant.id !== id).map(asItIs);
    });
  }

  /**
   * The role that one must be granted before one closes a knowledge base, so as not to be shut out of it. Not inside of
   * a transaction.
   *
   * @param kbReference id or slug; null for one that does not exist yet
   * @returns null where one sees everything, or has a grant that lets one go on changing it
   */
  async roleToKeep(kbReference: string | null): Promise<string | null> {
    const { userId, tenant, access } = this.context;
    if (access.all) return null;
    const domain = tenantDomain(tenant.id);
    const facts = await this.authorization.factsOf(userId, tenant.id);
    const reference = kbReference?.toLowerCase();
    for (const grant of facts?.grants ?? []) {
      if (grant.kbId !== reference && grant.slug !== reference) continue;
      if (await this.authorization.can(grant.role, domain, 'kb:update')) return null;
    }
    const held = await this.database.run(tx => this.authorization.storedRolesOf(tx, userId, domain));
    const ranked = await Promise.all(
      held.map(async role => {
        const permissions = (await this.authorization.permissionsOf(role, domain)).filter(isKbPermission);
        return { role, weight: permissions.length + (permissions.includes('kb:update') ? 100 : 0) };
      }),
    );
    return ranked.toSorted((a, b) => b.weight - a.weight)[0]?.role ?? null;
  }

  /** Grants oneself a role in the transaction that closes the knowledge base. */
  async keep(tx: Tx, kbId: string, role: string): Promise<void> {
    const { userId, tenant } = this.context;
    await this.grants.lock(tx, kbId);
    const before = (await this.grants.list(tx, kbId)).find(grant => grant.userId === userId);
    const own = { userId, groupId: null, role, path: '' };
    await this.put(tx, { id: kbId, tenantId: tenant.id }, own, before?.role ?? null);
    await this.authorization.policyChanged(tx, tenantDomain(tenant.id));
  }

  private read(kbReference: string): Promise<{ kb: KnowledgeBase; grants: Grant[] }> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.find(tx, kbReference);
      if (!kb) throw Problem.notFound('knowledge base');
      return { kb, grants: await this.grants.list(tx, kb.id) };
    });
  }

  /** One's own rank is compared with the change before the transaction that makes it, which looks whether it still is that change. */
  private async change(kbReference: string, next: (current: Grant[]) => WantedGrant[]): Promise<Grant[]> {
    const { kb, grants: known } = await this.read(kbReference);
    const wanted = next(known);
    requireDistinct(wanted);
    this.requireOwnAccess(kb, wanted);
    await this.requireRank(kb, known, wanted);
    return this.database.run(async tx => {
      await this.grants.lock(tx, kb.id);
      const now = await this.knowledgeBases.find(tx, kb.id);
      if (!now) throw Problem.notFound('knowledge base');
      const current = await this.grants.list(tx, kb.id);
      if (fingerprint(now, current) !== fingerprint(kb, known)) {
        throw Problem.conflict('changed_meanwhile', 'Somebody else changed these grants. Try again.');
      }
      await this.requireKnown(tx, wanted);
      await this.apply(tx, kb, current, wanted);
      return this.grants.list(tx, kb.id);
    });
  }

  private async apply(
    tx: Tx,
    kb: KnowledgeBase,
    current: readonly Grant[],
    wanted: readonly WantedGrant[],
  ): Promise<void> {
    const before = new Map(current.map(grant => [keyOf(grant), grant]));
    const after = new Map(wanted.map(grant => [keyOf(grant), grant]));
    for (const grant of current.filter(given => !after.has(keyOf(given)))) {
      await this.grants.delete(tx, grant.id);
      this.audit.record(tx, {
        action: 'grant.deleted',
        resource: { type: 'grant', id: grant.id },
        details: { ...toDetails(kb.id, grant), role: grant.role },
      });
    }
    for (const grant of wanted.filter(({ role, ...to }) => before.get(keyOf(to))?.role !== role)) {
      await this.put(tx, kb, grant, before.get(keyOf(grant))?.role ?? null);
    }
    await this.authorization.policyChanged(tx, tenantDomain(kb.tenantId));
  }

  private async put(
    tx: Tx,
    kb: { id: string; tenantId: string },
    grant: WantedGrant,
    before: string | null,
  ): Promise<void> {
    const id = await this.grants.put(tx, kb, grant, grant.role, this.context.userId);
    this.audit.record(tx, {
      action: before === null ? 'grant.created' : 'grant.updated',
      resource: { type: 'grant', id },
      details: {
        ...toDetails(kb.id, grant),
        role: grant.role,
        ...(before !== null && { role_before: before }),
      },
    });
  }

  /** Nobody gives, or takes from others, what they do not hold in this knowledge base. */
  private async requireRank(
    kb: KnowledgeBase,
    current: readonly Grant[],
    wanted: readonly WantedGrant[],
  ): Promise<void> {
    const { ownAccount, subject, tenant } = this.context;
    const before = new Map(current.map(grant => [keyOf(grant), grant.role]));
    const after = new Map(wanted.map(grant => [keyOf(grant), grant.role]));
    const given = wanted.filter(grant => before.get(keyOf(grant)) !== grant.role);
    const taken = current.filter(
      grant =>
        after.get(keyOf(grant)) !== grant.role && (grant.userId === null || grant.userId !== ownAccount),
    );
    for (const role of new Set([...given, ...taken].map(grant => grant.role))) {
      if (await this.authorization.outranksInKb(subject, role, tenant.id, kb.id)) continue;
      throw Problem.forbidden(
        `The role ${role} may do in this knowledge base what you may not.`,
        'role_above_own',
      );
    }
  }

  private requireOwnAccess(kb: KnowledgeBase, wanted: readonly WantedGrant[]): void {
    const { userId, access } = this.context;
    if (kb.visibility === 'tenant' || access.all) return;
    if (wanted.some(grant => grant.userId === userId || access.groups.includes(grant.groupId ?? ''))) return;
    throw Problem.invalid([
      {
        path: 'grants',
        code: 'would_lock_you_out',
        message: 'You would not see this knowledge base any more: keep a grant for yourself.',
      },
    ]);
  }

  /** Roles of the tenant for its own members and groups; anybody else’s are the same as none. */
  private async requireKnown(tx: Tx, wanted: readonly WantedGrant[]): Promise<void> {
    const { id: tenantId } = this.context.tenant;
    const unknownRoles = await this.roles.unknown(tx, tenantId, [...new Set(wanted.map(({ role }) => role))]);
    const members = await this.grantees.membersAmong(
      tx,
      wanted.flatMap(({ userId }) => userId ?? []),
    );
    const groups = await this.grantees.groupsAmong(
      tx,
      wanted.flatMap(({ groupId }) => groupId ?? []),
    );
    const errors = wanted.flatMap(({ userId, groupId, role, path }): FieldError[] => [
      ...(unknownRoles.includes(role)
        ? [{ path: `${path}role`, code: 'unknown_role', message: `There is no role ${role}.` }]
        : []),
      ...(userId && !members.includes(userId)
        ? [{ path: `${path}user_id`, code: 'unknown_member', message: 'This is no member of the tenant.' }]
        : []),
      ...(groupId && !groups.includes(groupId)
        ? [{ path: `${path}group_id`, code: 'unknown_group', message: 'There is no such group.' }]
        : []),
    ]);
    if (errors.length > 0) throw Problem.invalid(errors);
  }
}

const keyOf = ({ userId, groupId }: Grantee): string => (userId ? `user ${userId}` : `group ${groupId}`);

const asItIs = ({ userId, groupId, role }: Grant): WantedGrant => ({ userId, groupId, role, path: '' });

const toWanted = ({ user_id, group_id, role }: GrantInput, path: string): WantedGrant => ({
  userId: user_id?.toLowerCase() ?? null,
  groupId: group_id?.toLowerCase() ?? null,
  role,
  path,
});

const toDetails = (kbId: string, { userId, groupId }: Grantee) => ({
  kb_id: kbId,
  ...(userId ? { user_id: userId } : { group_id: groupId }),
});

/** What a rank was compared with. */
const fingerprint = (kb: KnowledgeBase, grants: readonly Grant[]): string =>
  JSON.stringify([kb.visibility, grants.map(grant => `${grant.id} ${grant.role}`).toSorted()]);

function requireDistinct(wanted: readonly WantedGrant[]): void {
  if (wanted.length > MOST_GRANTS) {
    throw Problem.conflict('too_many_grants', `A knowledge base has at most ${MOST_GRANTS} grants.`);
  }
  const keys = wanted.map(keyOf);
  const repeated = wanted.filter((grant, index) => keys.indexOf(keyOf(grant)) < index);
  if (repeated.length === 0) return;
  throw Problem.invalid(
    repeated.map(({ userId, path }) => ({
      path: `${path}${userId ? 'user_id' : 'group_id'}`,
      code: 'repeated',
      message: 'must be given once',
    })),
  );
}
