import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { PLATFORM_DOMAIN } from '../../core/authorization/permissions.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { freeJson } from '../../foundation/http/free-json.js';
import { mergePatch } from '../../foundation/http/merge-patch.js';
import type { Page } from '../../foundation/http/pagination.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import { Problem } from '../../foundation/http/problem.js';
import { changesBetween } from './tenant-changes.js';
import { TenantCreationService, platformFields } from './tenant-creation.service.js';
import { brandingSchema, requireValid, tenantSettingsSchema } from './tenant-fields.js';
import { placementErrors } from './tenant-placement.js';
import type { Tenant } from './tenant.entity.js';
import type {
  CreateTenant,
  CreatedTenant,
  ListTenants,
  ReplaceTenant,
  TenantDetails,
  UpdateTenant,
} from './tenants.dto.js';
import { TenantsRepository } from './tenants.repository.js';

const PLATFORM_FIELDS = ['name', 'type', 'parent_id', 'plan_tier'] as const;

@Injectable()
export class TenantsService {
  constructor(
    private readonly context: TenantContext,
    private readonly tenantDatabase: TenantDatabase,
    private readonly platformDatabase: PlatformDatabase,
    private readonly tenants: TenantsRepository,
    private readonly directory: TenantDirectory,
    private readonly authorization: AuthorizationService,
    private readonly creation: TenantCreationService,
    private readonly features: FeaturesService,
    private readonly audit: AuditService,
    private readonly quotas: QuotasService,
  ) {}

  /** Those that the principal is a member of; all of them where it may read the platform. */
  async list(query: ListTenants): Promise<Page<Tenant>> {
    const { userId, subject } = this.context;
    const all = await this.authorization.can(subject, PLATFORM_DOMAIN, 'platform:read');
    return this.platformDatabase.run(tx => this.tenants.list(tx, query, all ? null : userId));
  }

  async create(input: CreateTenant): Promise<CreatedTenant> {
    return this.creation.create(input, {
      userId: this.context.userId,
      platform: await this.isPlatform(),
    });
  }

  get(): Promise<TenantDetails> {
    return this.tenantDatabase.run(async tx => {
      const tenant = await this.tenants.findById(tx, this.context.tenant.id);
      if (!tenant || tenant.status === 'erasing') throw Problem.notFound('tenant');
      const features = this.features.effective(tenant.features);
      return { tenant, features, statistics: await this.tenants.statistics(tx) };
    });
  }

  /** Changes the fields that are given; free JSON is merged. @throws Problem 403 `platform_field`, 404, 409 `name_taken`, 422 */
  update(input: UpdateTenant, ifMatch: IfMatch = null): Promise<TenantDetails> {
    return this.change(input, ifMatch, tenant => ({
      settings:
        input.settings &&
        requireValid(tenantSettingsSchema, mergePatch(tenant.settings, input.settings), 'settings'),
      branding:
        input.branding &&
        requireValid(brandingSchema, mergePatch({ ...tenant.branding }, input.branding), 'branding'),
      metadata:
        input.metadata && requireValid(freeJson, mergePatch(tenant.metadata, input.metadata), 'metadata'),
    }));
  }

  /** The same, with free JSON replaced. */
  replace(input: ReplaceTenant, ifMatch: IfMatch = null): Promise<TenantDetails> {
    const { settings, branding, metadata } = input;
    return this.change(input, ifMatch, () => ({ settings, branding, metadata }));
  }

  /** Does nothing where that is its status already. */
  async setStatus(status: 'active' | 'suspended'): Promise<TenantDetails> {
    const { id, name } = this.context.tenant;
    await this.platformDatabase.run(async tx => {
      if (!(await this.tenants.setStatus(tx, id, status))) return;
      await this.directory.tenantChanged(tx, id);
      const event = {
        action: status === 'suspended' ? 'tenant.suspended' : 'tenant.activated',
        resource: { type: 'tenant', id },
        details: { name },
      };
      this.audit.recordForTenant(tx, id, event);
      this.audit.recordForPlatform(tx, event);
    });
    return this.get();
  }

  private async change(
    input: Omit<UpdateTenant, 'settings' | 'branding' | 'metadata'>,
    ifMatch: IfMatch,
    freeFieldsOf: (tenant: Tenant) => Partial<Pick<Tenant, 'settings' | 'branding' | 'metadata'>>,
  ): Promise<TenantDetails> {
    const platform = PLATFORM_FIELDS.filter(field => input[field] !== undefined);
    if (platform.length > 0 && !(await this.isPlatform())) throw platformFields(platform);
    // The tenant's own database role cannot change what is the platform's.
    const database = platform.length > 0 ? this.platformDatabase : this.tenantDatabase;
    const work = async (tx: Tx) => {
      const tenant = await this.lock(tx, input);
      requireMatch(ifMatch, tenant.updatedAt);
      const changes = given({
        name: input.name,
        displayName: input.display_name,
        description: input.description,
        type: input.type,
        parentId: input.parent_id,
        planTier: input.plan_tier,
        ...freeFieldsOf(tenant),
      });
      const details = changesBetween(onWire(tenant), onWire(changes));
      if (!details) return;
      await this.tenants.update(tx, tenant.id, changes);
      await this.directory.tenantChanged(tx, tenant.id);
      this.audit.record(tx, {
        action: 'tenant.updated',
        resource: { type: 'tenant', id: tenant.id },
        details,
      });
    };
    try {
      await database.run(work);
    } catch (error) {
      if (!this.tenants.isNameTaken(error)) throw error;
      throw Problem.conflict('name_taken', `The name ${input.name} is taken.`);
    }
    if (input.plan_tier !== undefined) await this.quotas.planChanged(this.context.tenant.id);
    return this.get();
  }

  /** The context's tenant, with what it is to hang under, locked until the transaction ends. @throws Problem 404, 422 */
  private async lock(tx: Tx, { type, parent_id }: Pick<UpdateTenant, 'type' | 'parent_id'>): Promise<Tenant> {
    const { id } = this.context.tenant;
    const locked = await this.tenants.lockAll(tx, parent_id ? [id, parent_id] : [id]);
    const tenant = locked.find(found => found.id === id);
    if (!tenant || tenant.status === 'erasing') throw Problem.notFound('tenant');
    if (type === undefined && parent_id === undefined) return tenant;
    const placement = {
      id,
      type: type ?? tenant.type,
      parentId: parent_id === undefined ? tenant.parentId : parent_id,
      hasChildren: await this.tenants.hasChildren(tx, id),
    };
    const { parentId } = placement;
    const parent =
      locked.find(found => found.id === parentId) ??
      (parentId ? await this.tenants.findById(tx, parentId) : null);
    const errors = placementErrors(placement, parent);
    if (errors.length > 0) throw Problem.invalid(errors);
    return tenant;
  }

  private async isPlatform(): Promise<boolean> {
    return this.authorization.can(this.context.subject, PLATFORM_DOMAIN, 'platform:tenants');
  }
}

/** Without what is undefined. */
const given = (fields: Partial<Tenant>): Partial<Tenant> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

/** Fields under their names on the wire. */
function onWire(tenant: Partial<Tenant>): Record<string, unknown> {
  const { displayName, parentId, planTier, ...rest } = tenant;
  const renamed = { display_name: displayName, parent_id: parentId, plan_tier: planTier };
  return {
    ...rest,
    ...Object.fromEntries(Object.entries(renamed).filter(([, value]) => value !== undefined)),
  };
}
