import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyRequest } from 'fastify';
import { Problem } from '../../foundation/http/problem.js';
import { type ApiTokenPrincipal, TenantContext } from '../tenancy/tenant-context.js';
import { AuthorizationService } from './authorization.service.js';
import { kbOfRequest } from './kb-of-request.js';
import { PLATFORM_DOMAIN, type Permission, domainKind, userDomain } from './permissions.js';
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
    const kind = domainKind(permission);
    if (kind === 'platform') this.context.setForPlatform();
    const { principal } = this.context;
    if (principal.kind === 'api_token') {
      requireForTokens(principal, access);
      // What it may see there of its own, the route looks after.
      if (kind === 'user') return true;
    }
    const { kb, anyKb } = kbOfRequest(execution.switchToHttp().getRequest<FastifyRequest>(), access);
    const { subject } = this.context;
    const allowed =
      kind === 'tenant'
        ? await this.authorization.letsIn(subject, this.context.tenant.id, permission, kb, anyKb, access.or)
        : await this.authorization.can(subject, this.domainOf(permission), permission);
    if (!allowed) throw Problem.forbidden(`This needs the permission ${permission}.`);
    return true;
  }

  private domainOf(permission: Permission): string {
    return domainKind(permission) === 'platform' ? PLATFORM_DOMAIN : userDomain(this.context.userId);
  }
}

function requireForTokens(
  { tokenKind, agentIds }: ApiTokenPrincipal,
  { tokens, asksAgents }: Extract<Access, { kind: 'permission' }>,
): void {
  if (tokenKind === 'publishable') {
    throw Problem.forbidden(
      'This token stands in web pages for all to read: it opens a widget’s chat and nothing else.',
      'publishable_token',
    );
  }
  if (!tokens) {
    throw Problem.forbidden('This is for people who are signed in, not for API tokens.', 'token_not_allowed');
  }
  if (agentIds && !asksAgents) {
    throw Problem.forbidden(
      'This token is kept to some agents: it asks those, and nothing past them.',
      'agents_only',
    );
  }
}
