import { Injectable } from '@nestjs/common';
import { validate as isUuid } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import {
  BUILT_IN_ROLES,
  type Permission,
  TENANT_PERMISSIONS,
  tenantDomain,
} from '../../core/authorization/permissions.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import type { CreateRole, ListRoles, Role, UpdateRole } from './roles.dto.js';
import { RolesRepository } from './roles.repository.js';

const MOST_ROLES = 100;

@Injectable()
export class RolesService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly features: FeaturesService,
    private readonly audit: AuditService,
    private readonly roles: RolesRepository,
  ) {}

  /** Built-in roles first, in their order, then the tenant's own by name. */
  async list(query: ListRoles): Promise<Page<Role>> {
    const builtIn = await this.builtIn();
    const { custom, counts } = await this.database.run(async tx => ({
      custom: await this.roles.custom(tx),
      counts: await this.roles.memberCounts(tx, this.context.tenant.id),
    }));
    const all = [
      ...builtIn.map(role => ({ ...role, memberCount: counts.get(role.name) ?? 0 })),
      ...custom.map(inOrder),
    ];
    const search = query.search?.toLowerCase() ?? '';
    const found = all.filter(({ name, description }) =>
      `${name}\n${description}`.toLowerCase().includes(search),
    );
    if (query.sort.startsWith('-')) found.reverse();
    const first = (query.page - 1) * query.page_size;
    return { items: found.slice(first, first + query.page_size), total: found.length };
  }

  /** @throws Problem 404 */
  async get(name: string): Promise<Role> {
    const builtIn = (await this.builtIn()).find(role => role.name === name);
    return this.database.run(async tx => {
      if (!builtIn) return this.find(tx, name);
      const counts = await this.roles.memberCounts(tx, this.context.tenant.id);
      return { ...builtIn, memberCount: counts.get(name) ?? 0 };
    });
  }

  /** @throws Problem 403 `feature_disabled`, `role_above_own`; 409 `name_taken`, `too_many_roles`; 422 `reserved` */
  async createOwn(input: CreateRole): Promise<Role> {
    await this.requireFeature();
    requireHeld(await this.held(), input.permissions);
    return this.database.run(async tx => {
      await this.create(tx, this.context.tenant.id, input);
      return this.find(tx, input.name);
    });
  }

  /**
   * Makes a role of a tenant, in a transaction of that tenant or of the platform. Whether the one who asks may give
   * such permissions is the caller's to check.
   *
   * @throws Problem 409 `name_taken`, `too_many_roles`; 422 `reserved`
   */
  async create(tx: Tx, tenantId: string, input: CreateRole): Promise<void> {
    if (isBuiltIn(input.name)) throw nameTaken();
    if (isReserved(input.name)) {
      throw Problem.invalid([{ path: 'name', code: 'reserved', message: 'This name is reserved.' }]);
    }
    if ((await this.roles.lockAndCount(tx, tenantId)) >= MOST_ROLES) {
      throw Problem.conflict('too_many_roles', `A tenant has at most ${MOST_ROLES} roles of its own.`);
    }
    const principal = this.context.principalOrNull;
    const createdBy = !principal || principal.kind === 'system' ? null : principal.userId;
    const { name, description } = input;
    if (!(await this.roles.insert(tx, { tenantId, name, description, createdBy }))) throw nameTaken();
    const permissions = unique(input.permissions);
    await this.authorization.defineRole(tx, name, tenantDomain(tenantId), permissions);
    const event = {
      action: 'role.created',
      resource: { type: 'role', id: name },
      details: { description, permissions },
    };
    if (this.context.tenantOrNull?.id === tenantId) this.audit.record(tx, event);
    else this.audit.recordForTenant(tx, tenantId, event);
  }

  /**
   * What the role allows changes at once for everybody who holds it, so both its old and its new permissions must be
   * one's own.
   *
   * @throws Problem 403 `feature_disabled`, `role_above_own`; 404; 409 `built_in_role`
   */
  async update(name: string, input: UpdateRole, ifMatch: IfMatch = null): Promise<Role> {
    if (isBuiltIn(name)) throw builtInRole();
    await this.requireFeature();
    const held = await this.held();
    return this.database.run(async tx => {
      if (!(await this.roles.lock(tx, name))) throw Problem.notFound('role');
      const before = await this.find(tx, name);
      requireMatch(ifMatch, before.updatedAt);
      const description = input.description ?? before.description;
      const permissions = input.permissions && unique(input.permissions);
      if (permissions) {
        requireHeld(held, [...before.permissions, ...permissions]);
        await this.authorization.defineRole(tx, name, this.domain, permissions);
      }
      await this.roles.update(tx, name, description);
      this.audit.record(tx, {
        action: 'role.updated',
        resource: { type: 'role', id: name },
        details: {
          before: { description: before.description, permissions: before.permissions },
          after: { description, permissions: permissions ?? before.permissions },
        },
      });
      return this.find(tx, name);
    });
  }

  /** @throws Problem 404; 409 `built_in_role`, `role_in_use` with how often */
  async delete(name: string): Promise<void> {
    if (isBuiltIn(name)) throw builtInRole();
    await this.database.run(async tx => {
      if (!(await this.roles.lockForDeletion(tx, name))) throw Problem.notFound('role');
      const uses = await this.roles.usesOf(tx, this.context.tenant.id, name);
      if (uses.members + uses.grants + uses.invitations > 0) {
        throw Problem.conflict('role_in_use', 'Members, grants or invitations have this role.', { ...uses });
      }
      const { description, permissions } = await this.find(tx, name);
      await this.authorization.defineRole(tx, name, this.domain, []);
      await this.roles.delete(tx, name);
      this.audit.record(tx, {
        action: 'role.deleted',
        resource: { type: 'role', id: name },
        details: { description, permissions },
      });
    });
  }

  /**
   * The names among `roles` that are no role of the tenant, built in or its own. The others stay until the transaction
   * ends. Works in either kind of transaction.
   */
  async unknown(tx: Tx, tenantId: string, roles: readonly string[]): Promise<string[]> {
    const others = roles.filter(role => !isBuiltIn(role));
    if (others.length === 0) return [];
    const existing = await this.roles.existing(tx, tenantId, others);
    return others.filter(role => !existing.includes(role));
  }

  /**
   * @param path the field that named the roles
   * @throws Problem 422 `unknown_role`
   */
  async requireKnown(tx: Tx, roles: readonly string[], path = 'role'): Promise<void> {
    const unknown = await this.unknown(tx, this.context.tenant.id, roles);
    if (unknown.length === 0) return;
    throw Problem.invalid(
      unknown.map(role => ({ path, code: 'unknown_role', message: `There is no role ${role}.` })),
    );
  }

  /**
   * Nobody gives, or takes from others, what they do not hold. Not inside of a transaction.
   *
   * @throws Problem 403 `role_above_own`
   */
  async requireRank(roles: Iterable<string>): Promise<void> {
    for (const role of new Set(roles)) {
      if (!(await this.authorization.outranks(this.context.subject, role, this.domain))) {
        throw Problem.forbidden(`The role ${role} may do what you may not.`, 'role_above_own');
      }
    }
  }

  private get domain(): string {
    return tenantDomain(this.context.tenant.id);
  }

  private async find(tx: Tx, name: string): Promise<Role> {
    const [role] = await this.roles.custom(tx, name);
    if (!role) throw Problem.notFound('role');
    return inOrder(role);
  }

  private builtIn(): Promise<Role[]> {
    return Promise.all(
      BUILT_IN_ROLES.map(async name => ({
        name,
        description: '',
        builtIn: true,
        // Asked as a subject of its own, a role has exactly its own permissions.
        permissions: await this.authorization.permissionsOf(name, this.domain),
        memberCount: 0,
        createdBy: null,
        createdAt: null,
        updatedAt: null,
      })),
    );
  }

  private held(): Promise<Permission[]> {
    return this.authorization.givableBy(this.context.subject, this.domain);
  }

  private async requireFeature(): Promise<void> {
    if (await this.features.get('custom_roles')) return;
    throw Problem.forbidden('Roles of one’s own are switched off in this tenant.', 'feature_disabled');
  }
}

const isBuiltIn = (name: string): boolean => (BUILT_IN_ROLES as readonly string[]).includes(name);

/** What means something else as a subject of Casbin's rules. */
const isReserved = (name: string): boolean => /^(platform_|group_|self$)/.test(name) || isUuid(name);

const unique = (permissions: readonly Permission[]): Permission[] => [...new Set(permissions)];

/** As they are declared, whatever the order in which they were given. */
const inOrder = (role: Role): Role => ({
  ...role,
  permissions: TENANT_PERMISSIONS.filter(permission => role.permissions.includes(permission)),
});

function requireHeld(held: readonly string[], permissions: readonly string[]): void {
  const lacking = [...new Set(permissions)].filter(permission => !held.includes(permission));
  if (lacking.length === 0) return;
  throw Problem.forbidden(`This role may do what you may not: ${lacking.join(', ')}.`, 'role_above_own');
}

const nameTaken = (): Problem => Problem.conflict('name_taken', 'This tenant has a role of this name.');

const builtInRole = (): Problem =>
  Problem.conflict('built_in_role', 'Built-in roles are the same in every tenant and cannot be changed.');
