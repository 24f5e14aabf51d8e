import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { kbOfRequest } from '../../core/authorization/kb-of-request.js';
import { ACCESS, type Access } from '../../core/authorization/require-permission.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { ApiTokenUses } from '../../features/api-tokens/api-token-uses.service.js';
import { LiveRequests } from './live-requests.js';

/** The last guard: whoever came this far is let in, and watched over until the answer has ended. */
@Injectable()
export class LiveRequestGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly requests: LiveRequests,
    private readonly uses: ApiTokenUses,
  ) {}

  canActivate(execution: ExecutionContext): boolean {
    const access = this.reflector.get<Access | undefined>(ACCESS, execution.getHandler());
    const principal = this.context.principalOrNull;
    if (access?.kind !== 'permission' || !principal || principal.kind === 'system') return true;
    if (principal.kind === 'api_token') this.uses.note(principal.tokenId);
    const http = execution.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    this.requests.watch({
      request,
      reply: http.getResponse<FastifyReply>(),
      principal,
      tenantId: this.context.tenantOrNull?.id ?? null,
      permission: access.permission,
      or: access.or,
      askedFor: kbOfRequest(request, access),
    });
    return true;
  }
}
