import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { onEnd } from '../../foundation/http/request-lifecycle.js';
import { type Permission, domainKind, isKbPermission } from '../authorization/permissions.js';
import { ACCESS, type Access } from '../authorization/require-permission.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { BILLING, USAGE_OPERATION, USAGE_READ } from './usage-operation.js';
import { UsageService } from './usage.service.js';

type Handler = ReturnType<ExecutionContext['getHandler']>;

/** Behind every other guard: whoever comes this far was let into the tenant, and has used it. */
@Injectable()
export class UsageGuard implements CanActivate {
  /** Null: not the tenant's. */
  private readonly operations = new WeakMap<Handler, string | null>();

  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly usage: UsageService,
  ) {}

  canActivate(execution: ExecutionContext): boolean {
    const tenant = this.context.tenantOrNull;
    if (!tenant) return true;
    const operation = this.operationOf(execution.getHandler());
    if (operation === null) return true;
    const http = execution.switchToHttp();
    const reply = http.getResponse<FastifyReply>();
    const meter = this.usage.meter({ operation });
    const ended = () => {
      const status = reply.raw.writableFinished ? reply.statusCode : CLIENT_GONE;
      meter.end(status < 400 ? 'success' : 'failure', { status, durationMs: reply.elapsedTime });
    };
    onEnd(http.getRequest<FastifyRequest>(), reply, ended);
    return true;
  }

  private operationOf(handler: Handler): string | null {
    let operation = this.operations.get(handler);
    if (operation === undefined) {
      const access = this.reflector.get<Access | undefined>(ACCESS, handler);
      const named = this.reflector.get<string | undefined>(USAGE_OPERATION, handler);
      operation =
        access?.kind === 'permission' && domainKind(access.permission) === 'tenant'
          ? (named ?? nameOf(access.permission))
          : null;
      this.operations.set(handler, operation);
    }
    return operation;
  }
}

/** What counts against no limit has a name of its own. */
const OPERATIONS_OF_PERMISSIONS: Partial<Record<Permission, string>> = {
  'tenant:read_usage': USAGE_READ,
  'tenant:manage_billing': BILLING,
};

/** Nobody has read the answer: nginx's word for it. */
const CLIENT_GONE = 499;

const nameOf = (permission: Permission): string =>
  OPERATIONS_OF_PERMISSIONS[permission] ??
  (isKbPermission(permission) ? permission.replace(':', '.') : 'api');
