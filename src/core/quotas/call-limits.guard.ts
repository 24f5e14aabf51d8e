import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { onEnd } from '../../foundation/http/request-lifecycle.js';
import { tellAllowances } from '../../foundation/rate-limits/rate-limit-headers.js';
import { type Permission, domainKind } from '../authorization/permissions.js';
import { ACCESS, type Access } from '../authorization/require-permission.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { TenantDirectory } from '../tenancy/tenant-directory.js';
import { CallLimits } from './call-limits.service.js';

/** Whoever has run out must see why, and be able to pay. */
const ALWAYS_OPEN: Permission[] = ['tenant:read_usage', 'tenant:manage_billing'];

type Handler = ReturnType<ExecutionContext['getHandler']>;

/** Behind the permission: what the tenant may do, it may do so often. */
@Injectable()
export class CallLimitsGuard implements CanActivate {
  /** Null: counts against no limit. */
  private readonly kinds = new WeakMap<Handler, { isQuery: boolean } | null>();

  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly limits: CallLimits,
  ) {}

  async canActivate(execution: ExecutionContext): Promise<boolean> {
    const kind = this.kindOf(execution.getHandler());
    const named = this.context.tenantOrNull;
    if (!kind || !named || this.actsForPlatform()) return true;
    const tenant = await this.directory.find(named.id);
    if (!tenant) return true;
    const http = execution.switchToHttp();
    const reply = http.getResponse<FastifyReply>();
    const { allowances, refusal, leave } = await this.limits.admit(tenant, kind);
    tellAllowances(reply, allowances);
    if (refusal) throw refusal;
    if (leave) onEnd(http.getRequest<FastifyRequest>(), reply, leave);
    return true;
  }

  private actsForPlatform(): boolean {
    return this.context.principal.kind === 'user' && !this.context.access.member;
  }

  private kindOf(handler: Handler): { isQuery: boolean } | null {
    let kind = this.kinds.get(handler);
    if (kind === undefined) {
      const access = this.reflector.get<Access | undefined>(ACCESS, handler);
      const counts =
        access?.kind === 'permission' &&
        domainKind(access.permission) === 'tenant' &&
        !ALWAYS_OPEN.includes(access.permission);
      kind = counts ? { isQuery: access.permission === 'query:run' } : null;
      this.kinds.set(handler, kind);
    }
    return kind;
  }
}
