import { Injectable } from '@nestjs/common';
import { Problem } from '../../foundation/http/problem.js';
import type { Subject, TenantAccess } from '../tenancy/tenant-context.js';
import type { KnownTenant } from '../tenancy/tenant-directory.js';
import { AuthorizationService } from './authorization.service.js';
import { PLATFORM_DOMAIN } from './permissions.js';

/** Who comes into a tenant at all, and how far they see in it. */
@Injectable()
export class TenantAdmission {
  constructor(private readonly authorization: AuthorizationService) {}

  /** A member, or somebody whose platform role reaches into tenants. */
  async mayKnow(subject: Subject, tenantId: string): Promise<boolean> {
    return (
      (await this.authorization.accessOf(subject, tenantId)).member || (await this.mayReadPlatform(subject))
    );
  }

  /**
   * @param options.suspended also where the tenant is suspended: for what is no business of the tenant's
   * @throws Problem 404 for somebody else's tenant, 403 `tenant_suspended`
   */
  async admit(subject: Subject, tenant: KnownTenant, { suspended = false } = {}): Promise<TenantAccess> {
    if (!(await this.mayKnow(subject, tenant.id))) throw Problem.foreignTenant(tenant.id);
    if (!suspended && tenant.status !== 'active' && !(await this.mayReadPlatform(subject))) {
      throw new Problem(403, 'tenant_suspended', 'This tenant is suspended.', {
        denied: { tenant: tenant.id },
      });
    }
    return this.authorization.accessOf(subject, tenant.id);
  }

  private async mayReadPlatform(subject: Subject): Promise<boolean> {
    return this.authorization.can(subject, PLATFORM_DOMAIN, 'platform:read');
  }
}
