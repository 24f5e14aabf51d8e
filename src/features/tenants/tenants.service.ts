import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PLATFORM_DOMAIN, tenantDomain } from '../../core/authorization/permissions.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { FileStorage } from '../../foundation/storage/file-storage.js';
import { MembersService } from '../members/members.service.js';
import type { Tenant } from './tenant.entity.js';
import type { CreateTenant, ListTenants, TenantStatistics, UpdateTenant } from './tenants.dto.js';
import { TenantsRepository } from './tenants.repository.js';

export interface TenantDetails {
  tenant: Tenant;
  statistics: TenantStatistics;
}

@Injectable()
export class TenantsService {
  constructor(
    private readonly context: TenantContext,
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly tenants: TenantsRepository,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly members: MembersService,
    private readonly storage: FileStorage,
  ) {}

  /** Those that the principal is a member of; all of them where it may read the platform. */
  async list(query: ListTenants): Promise<Page<Tenant>> {
    const { userId } = this.context;
    const all = await this.authorization.can(userId, PLATFORM_DOMAIN, 'platform:read');
    return this.platformDatabase.run(tx => this.tenants.list(tx, query, all ? null : userId));
  }

  /** Makes a tenant, with whoever makes it as its first owner. @throws Problem 409 `name_taken`, 422 for a parent that is none */
  async create(input: CreateTenant): Promise<TenantDetails> {
    const id = uuidv7();
    const tenant = await this.platformDatabase.run(async tx => {
      if (input.parent_id) checkParent(input, await this.tenants.findById(tx, input.parent_id));
      const inserted = await this.tenants.insert(tx, {
        id,
        name: input.name,
        displayName: input.display_name ?? input.name,
        description: input.description ?? '',
        type: input.type,
        parentId: input.parent_id ?? null,
        planTier: input.plan_tier,
        settings: input.settings ?? {},
        metadata: input.metadata ?? {},
        createdBy: this.context.userId,
      });
      if (!inserted) throw Problem.conflict('name_taken', `The name ${input.name} is taken.`);
      await this.members.addOwner(tx, id, this.context.userId);
      return (await this.tenants.findById(tx, id)) as Tenant;
    });
    return { tenant, statistics: { kbCount: 0, documentCount: 0, storageBytes: 0, memberCount: 1 } };
  }

  get(): Promise<TenantDetails> {
    return this.tenantDatabase.run(async tx => {
      const tenant = await this.tenants.findById(tx, this.context.tenant.id);
      if (!tenant) throw Problem.notFound('tenant');
      return { tenant, statistics: await this.tenants.statistics(tx) };
    });
  }

  update(input: UpdateTenant): Promise<TenantDetails> {
    return this.tenantDatabase.run(async tx => {
      const { id } = this.context.tenant;
      await this.tenants.update(tx, id, {
        ...(input.display_name !== undefined && { displayName: input.display_name }),
        ...(input.description !== undefined && { description: input.description }),
        ...(input.settings !== undefined && { settings: input.settings }),
        ...(input.metadata !== undefined && { metadata: input.metadata }),
      });
      await this.directory.tenantChanged(tx, id);
      const tenant = await this.tenants.findById(tx, id);
      if (!tenant) throw Problem.notFound('tenant');
      return { tenant, statistics: await this.tenants.statistics(tx) };
    });
  }

  /** Removes the tenant with everything of it: rows first, in one transaction, then the files that nothing names any more. */
  async delete(): Promise<void> {
    const { id } = this.context.tenant;
    await this.platformDatabase.run(async tx => {
      await this.tenants.delete(tx, id);
      await this.directory.tenantChanged(tx, id);
      await this.authorization.policyChanged(tx, tenantDomain(id));
    });
    await this.storage.deleteAll(id);
  }

  async setStatus(status: 'active' | 'suspended'): Promise<TenantDetails> {
    const { id } = this.context.tenant;
    await this.platformDatabase.run(async tx => {
      await this.tenants.update(tx, id, { status });
      await this.directory.tenantChanged(tx, id);
    });
    return this.get();
  }
}

function checkParent(input: CreateTenant, parent: Tenant | null): void {
  if (!parent || parent.type !== 'organization') {
    throw Problem.invalid([
      { path: 'parent_id', code: 'not_an_organization', message: 'must be an organization' },
    ]);
  }
  if (input.type === 'organization') {
    throw Problem.invalid([
      { path: 'parent_id', code: 'no_parent', message: 'an organization has no parent' },
    ]);
  }
}
