import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { Problem } from '../../foundation/http/problem.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { AuthorizationService } from './authorization.service.js';
import { PLATFORM_DOMAIN, type Permission, domainKind, tenantDomain, userDomain } from './permissions.js';
import { ACCESS, type Access } from './require-permission.js';

/** Asks Casbin for the permission that a route requires, in the domain that the permission belongs to. */
@Injectable()
export class PermissionGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly authorization: AuthorizationService,
  ) {}

  async canActivate(execution: ExecutionContext): Promise<boolean> {
    const access = this.reflector.get<Access | undefined>(ACCESS, execution.getHandler());
    if (access?.kind === 'public') return true;
    // The start has checked every route; this is for one that was added past it.
    if (!access) throw Problem.forbidden('Nobody has said who may call this route.');
    const { permission } = access;
    const allowed = await this.authorization.can(this.context.userId, this.domainOf(permission), permission);
    if (!allowed) throw Problem.forbidden(`This needs the permission ${permission}.`);
    return true;
  }

  private domainOf(permission: Permission): string {
    switch (domainKind(permission)) {
      case 'platform':
        return PLATFORM_DOMAIN;
      case 'user':
        return userDomain(this.context.userId);
      case 'tenant':
        return tenantDomain(this.context.tenant.id);
    }
  }
}
