import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyRequest } from 'fastify';
import { Problem } from '../../foundation/http/problem.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { AuthorizationService } from './authorization.service.js';
import {
  PLATFORM_DOMAIN,
  type Permission,
  domainKind,
  isKbPermission,
  tenantDomain,
  userDomain,
} from './permissions.js';
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
    if (domainKind(permission) === 'platform') this.context.setForPlatform();
    // What is a user's own is no token's, unless the route looks after that itself.
    if (access.tokens && this.context.principal.kind === 'api_token') return true;
    const { kb } = execution.switchToHttp().getRequest<FastifyRequest>().params as { kb?: string };
    const allowed = isKbPermission(permission)
      ? await this.isAllowedInKb(permission, kb)
      : await this.authorization.can(this.context.subject, this.domainOf(permission), permission);
    if (!allowed) throw Problem.forbidden(`This needs the permission ${permission}.`);
    return true;
  }

  /** Grants count for their own knowledge base; where a route names none, the service keeps to those that are granted. */
  private async isAllowedInKb(permission: Permission, kb: string | undefined): Promise<boolean> {
    const { subject, tenant } = this.context;
    if (kb) return this.authorization.canInKb(subject, tenant.id, kb, permission);
    if (await this.authorization.can(subject, tenantDomain(tenant.id), permission)) return true;
    return (
      permission === 'kb:read' &&
      (await this.authorization.kbsGranted(subject, tenant.id, permission)).length > 0
    );
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
