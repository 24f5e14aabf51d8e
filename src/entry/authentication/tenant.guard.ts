import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyRequest } from 'fastify';
import { domainKind } from '../../core/authorization/permissions.js';
import { ACCESS, type Access } from '../../core/authorization/require-permission.js';
import { TenantAdmission } from '../../core/authorization/tenant-admission.service.js';
import { type Principal, TenantContext } from '../../core/tenancy/tenant-context.js';
import { type KnownTenant, TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { Problem } from '../../foundation/http/problem.js';

/** Where a request may name its tenant, most telling first. */
type Source = 'path' | 'header' | 'query' | 'body';

/**
 * Finds the tenant that a request is about: named by its path, the header `X-Tenant-ID`, the query `tenant`, the
 * body's `tenant_id`, or the access token, in this order. Naming one only selects: whoever is not a member gets the
 * 404 of a tenant that does not exist.
 */
@Injectable()
export class TenantGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly admission: TenantAdmission,
  ) {}

  async canActivate(execution: ExecutionContext): Promise<boolean> {
    const access = this.reflector.get<Access | undefined>(ACCESS, execution.getHandler());
    if (access?.kind !== 'permission') return true;
    const request = execution.switchToHttp().getRequest<FastifyRequest>();
    const named = [...namedTenants(request)];
    // An API token acts in its own tenant on whatever route.
    const needed = domainKind(access.permission) === 'tenant' || this.context.principal.kind === 'api_token';
    const tenant = await this.choose(named);
    if (!tenant) {
      if (!needed) return true;
      throw Problem.malformed(
        'tenant_missing',
        'Name a tenant: with the header X-Tenant-ID, or by switching to one.',
      );
    }
    // A token outlives the membership that it was made for: no reason to refuse what needs no tenant.
    if (!needed && named.length === 0 && !(await this.mayKnow(tenant.id))) return true;
    const sees = await this.admission.admit(this.context.subject, tenant, { suspended: !needed });
    this.context.setTenant({ id: tenant.id, name: tenant.name }, sees);
    return true;
  }

  private async choose(named: Array<[Source, string]>): Promise<KnownTenant | null> {
    const principal = this.context.principal;
    const fromToken = tenantOf(principal);
    let chosen: KnownTenant | null = null;
    for (const [, reference] of named) {
      const tenant = await this.directory.find(reference);
      if (!tenant || !(await this.mayKnow(tenant.id))) {
        // What is not there has just been looked for; what is somebody else's, and remembered, must take as long.
        if (tenant) await this.directory.lookUp(reference);
        throw Problem.foreignTenant(reference);
      }
      if (chosen && chosen.id !== tenant.id) throw mismatch(named.map(([source]) => source));
      chosen = tenant;
    }
    if (fromToken && chosen && chosen.id !== fromToken)
      throw mismatch([...named.map(([source]) => source), 'token']);
    return chosen ?? (fromToken ? this.directory.find(fromToken) : null);
  }

  private mayKnow(tenantId: string): Promise<boolean> {
    return this.admission.mayKnow(this.context.subject, tenantId);
  }
}

function* namedTenants(request: FastifyRequest): Generator<[Source, string]> {
  const { tenant: fromPath } = request.params as { tenant?: string };
  const header = request.headers['x-tenant-id'];
  const { tenant: fromQuery } = (request.query ?? {}) as { tenant?: unknown };
  const fromBody = isRecord(request.body) ? request.body['tenant_id'] : undefined;
  if (fromPath) yield ['path', fromPath];
  if (typeof header === 'string' && header !== '') yield ['header', header];
  // Given twice it is a list.
  for (const reference of [fromQuery].flat()) {
    if (typeof reference === 'string' && reference !== '') yield ['query', reference];
  }
  if (typeof fromBody === 'string' && fromBody !== '') yield ['body', fromBody];
}

/** The tenant that the credential itself names. */
function tenantOf(principal: Principal): string | null {
  if (principal.kind === 'api_token') return principal.tenantId;
  return principal.kind === 'user' ? principal.tokenTenantId : null;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const mismatch = (sources: string[]): Problem =>
  Problem.malformed('tenant_mismatch', `The request names different tenants: in its ${sources.join(', ')}.`);
