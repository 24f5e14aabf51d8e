import { Injectable } from '@nestjs/common';
import { ClsService } from 'nestjs-cls';

/** Who acts. A credential becomes one of these at the door; nobody behind it sees the credential again. */
export type Principal =
  { kind: 'user'; userId: string; sessionId: string; tokenTenantId: string | null } | { kind: 'system' };

/** The tenant that a request or a job works in. */
export interface CurrentTenant {
  id: string;
  name: string;
}

/** Nothing has said yet whose request or job this is. */
export class ContextMissingError extends Error {
  override readonly name = 'ContextMissingError';
}

const PRINCIPAL = 'principal';
const TENANT = 'tenant';

/**
 * Who acts, and in which tenant: for the length of one request or one job, through AsyncLocalStorage. Reading what
 * was not set throws, so that code without a context fails instead of seeing everybody's data.
 */
@Injectable()
export class TenantContext {
  constructor(private readonly cls: ClsService) {}

  get principal(): Principal {
    const principal = this.cls.get<Principal | undefined>(PRINCIPAL);
    if (!principal) throw new ContextMissingError('No principal is set for this request or job.');
    return principal;
  }

  get tenant(): CurrentTenant {
    const tenant = this.cls.get<CurrentTenant | undefined>(TENANT);
    if (!tenant) throw new ContextMissingError('No tenant is set for this request or job.');
    return tenant;
  }

  /** Null outside of a request or job, and on routes that belong to no tenant: for logs and problem documents. */
  get tenantOrNull(): CurrentTenant | null {
    return this.cls.isActive() ? (this.cls.get<CurrentTenant | undefined>(TENANT) ?? null) : null;
  }

  get principalOrNull(): Principal | null {
    return this.cls.isActive() ? (this.cls.get<Principal | undefined>(PRINCIPAL) ?? null) : null;
  }

  /** The acting user. @throws ContextMissingError where the system acts. */
  get userId(): string {
    const principal = this.principal;
    if (principal.kind !== 'user') throw new ContextMissingError('No user acts here.');
    return principal.userId;
  }

  setPrincipal(principal: Principal): void {
    this.cls.set(PRINCIPAL, principal);
  }

  setTenant(tenant: CurrentTenant): void {
    this.cls.set(TENANT, tenant);
  }

  /** Runs `work` as the system in one tenant: the way in for jobs. */
  runAsSystem<T>(tenant: CurrentTenant, work: () => Promise<T>): Promise<T> {
    return this.cls.run(() => {
      this.setPrincipal({ kind: 'system' });
      this.setTenant(tenant);
      return work();
    });
  }
}
