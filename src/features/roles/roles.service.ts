import { Injectable } from '@nestjs/common';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { BUILT_IN_ROLES, tenantDomain } from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import { RolesRepository } from './roles.repository.js';

@Injectable()
export class RolesService {
  constructor(
    private readonly context: TenantContext,
    private readonly authorization: AuthorizationService,
    private readonly roles: RolesRepository,
  ) {}

  /** The names among `roles` that are no role of the tenant, built in or its own. Works in either kind of transaction. */
  async unknown(tx: Tx, tenantId: string, roles: readonly string[]): Promise<string[]> {
    const others = roles.filter(role => !(BUILT_IN_ROLES as readonly string[]).includes(role));
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
      const domain = tenantDomain(this.context.tenant.id);
      if (!(await this.authorization.outranks(this.context.userId, role, domain))) {
        throw Problem.forbidden(`The role ${role} may do what you may not.`, 'role_above_own');
      }
    }
  }
}
