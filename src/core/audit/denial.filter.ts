import { type ArgumentsHost, Catch, type ExceptionFilter, Logger } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { sendProblem } from '../../foundation/http/problem.filter.js';
import { Problem } from '../../foundation/http/problem.js';
import { RouteAccess } from '../authorization/route-access.js';
import { TenantContext } from '../tenancy/tenant-context.js';
import { AuditService } from './audit.service.js';

/** Characters of a tenant's name: what is longer is none, and does not belong into the audit. */
const LONGEST_REFERENCE = 63;

/**
 * Writes every denial down before it is answered: each 403, and each 404 that hides one. It stands in the chain of the
 * tenant that the principal was let into; a tenant that they only named never hears of it, and takes no time for it.
 */
@Catch(Problem)
export class DenialFilter implements ExceptionFilter<Problem> {
  private readonly logger = new Logger('audit');
  /** By `METHOD /path`; null for public routes. */
  private permissions: Map<string, string | null> | null = null;

  constructor(
    private readonly context: TenantContext,
    private readonly audit: AuditService,
    private readonly routes: RouteAccess,
  ) {}

  async catch(problem: Problem, host: ArgumentsHost): Promise<void> {
    const http = host.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const { denied } = problem.options;
    if (denied || (denied === undefined && problem.status === 403)) await this.record(problem, request);
    sendProblem(problem, request, http.getResponse<FastifyReply>());
  }

  /** What cannot be written down is logged; it is refused all the same. */
  private async record(problem: Problem, request: FastifyRequest): Promise<void> {
    try {
      const route = (request.routeOptions.url ?? '').replace(/^\/api\/v1(?=\/)/, '');
      const tenant = this.context.tenantOrNull;
      const named = (problem.options.denied || {}).tenant;
      await this.audit.recordAlone(tenant?.id ?? null, {
        action: 'request.denied',
        resource: { type: 'route', id: `${request.method} ${route}` },
        details: {
          method: request.method,
          route,
          code: problem.code,
          permission: this.permissionOf(`${request.method} ${route}`),
          ...(!tenant && { tenant: named?.slice(0, LONGEST_REFERENCE) }),
        },
        outcome: 'denied',
      });
    } catch (error) {
      this.logger.error(error);
    }
  }

  private permissionOf(route: string): string | undefined {
    this.permissions ??= new Map(
      this.routes.list().map(({ method, path, permission }) => [`${method} ${path}`, permission]),
    );
    return this.permissions.get(route) ?? undefined;
  }
}
