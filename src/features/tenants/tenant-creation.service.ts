import { Injectable } from '@nestjs/common';
import { hash } from '@node-rs/argon2';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { type ConfigOverrides, configOverridesSchema } from '../../core/tenancy/tenant-config.js';
import type { PlanTier } from '../../core/tenancy/tenant-limits.js';
import { InjectEnv } from '../../foundation/config/config.module.js';
import type { Env } from '../../foundation/config/env.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { freeJson } from '../../foundation/http/free-json.js';
import { mergePatch } from '../../foundation/http/merge-patch.js';
import { Problem } from '../../foundation/http/problem.js';
import { RolesService } from '../roles/roles.service.js';
import { FirstMembersService } from './first-members.service.js';
import type { TemplateBody } from './tenant-templates.dto.js';
import { TenantTemplatesService } from './tenant-templates.service.js';
import { brandingSchema, requireValid, tenantSettingsSchema } from './tenant-fields.js';
import { placementErrors } from './tenant-placement.js';
import type { Tenant, TenantBranding } from './tenant.entity.js';
import type { CreateTenant, CreatedTenant } from './tenants.dto.js';
import { TenantsRepository } from './tenants.repository.js';

/** Who makes a tenant. */
export interface Creator {
  /** Null: whoever runs the installation, at its command line. */
  userId: string | null;
  /** Whether for the platform, so that everything may be said of the new tenant. */
  platform: boolean;
}

/** What is the platform's to say. */
const PLATFORM_FIELDS = [
  'type',
  'parent_id',
  'plan_tier',
  'quotas',
  'enforce_quotas',
  'admin_user',
  'template',
  'placeholders',
] as const;

/** What comes of a request and its template. */
type NewTenant = Pick<
  Tenant,
  | 'name'
  | 'displayName'
  | 'description'
  | 'type'
  | 'parentId'
  | 'planTier'
  | 'quotas'
  | 'enforceQuotas'
  | 'settings'
  | 'branding'
  | 'metadata'
  | 'features'
  | 'config'
>;

@Injectable()
export class TenantCreationService {
  constructor(
    @InjectEnv() private readonly env: Env,
    private readonly database: PlatformDatabase,
    private readonly tenants: TenantsRepository,
    private readonly templates: TenantTemplatesService,
    private readonly roles: RolesService,
    private readonly firstMembers: FirstMembersService,
    private readonly features: FeaturesService,
    private readonly audit: AuditService,
  ) {}

  /**
   * Makes a tenant with its roles and first members, in one transaction: all of it or nothing.
   *
   * @throws Problem 403 `platform_field`, `tenant_limit`, `quota_exceeded`, 409 `name_taken`, `username_taken`, 422
   */
  async create(input: CreateTenant, creator: Creator): Promise<CreatedTenant> {
    if (!creator.platform) requireOwnFields(input);
    if (input.placeholders && !input.template) {
      const message = 'are values for a template, and none is named';
      throw Problem.invalid([{ path: 'placeholders', code: 'no_template', message }]);
    }
    const template = input.template ? await this.templates.fill(input.template, placeholdersOf(input)) : {};
    const planned = planOf(input, template, this.env.defaultPlanTier);
    const features = this.features.effective(planned.features);
    // argon2id takes its time; no transaction may stay open meanwhile.
    const passwordHash = input.admin_user?.password ? await hash(input.admin_user.password) : null;
    const id = uuidv7();
    return this.database.run(async tx => {
      if (!creator.platform) await this.requireRoom(tx, creator.userId as string);
      await this.insert(tx, { id, ...planned, createdBy: creator.userId });
      for (const role of template.roles ?? []) await this.roles.create(tx, id, role);
      const { adminUser, members, count } = await this.firstMembers.admit(tx, {
        tenant: { id, displayName: planned.displayName },
        features,
        admin: input.admin_user ? { ...input.admin_user, passwordHash } : null,
        others: template.members ?? null,
        creatorId: creator.userId,
      });
      this.record(tx, id, planned, input.template);
      const tenant = (await this.tenants.findById(tx, id)) as Tenant;
      const statistics = { kbCount: 0, documentCount: 0, storageBytes: 0, memberCount: count };
      return { tenant, features, statistics, adminUser, members };
    });
  }

  private async insert(tx: Tx, tenant: NewTenant & { id: string; createdBy: string | null }): Promise<void> {
    const { type, parentId } = tenant;
    const parent = parentId ? await this.tenants.lockParent(tx, parentId) : null;
    const errors = placementErrors({ id: null, type, parentId, hasChildren: false }, parent);
    if (errors.length > 0) throw Problem.invalid(errors);
    if (!(await this.tenants.insert(tx, tenant))) {
      throw Problem.conflict('name_taken', `The name ${tenant.name} is taken.`);
    }
  }

  private async requireRoom(tx: Tx, userId: string): Promise<void> {
    const { maxTenants } = this.env.selfService;
    if ((await this.tenants.lockAndCountMadeBy(tx, userId)) < maxTenants) return;
    throw Problem.forbidden(
      `You have made as many tenants as you may: ${maxTenants}. Delete one first, or ask the platform.`,
      'tenant_limit',
    );
  }

  private record(tx: Tx, id: string, planned: NewTenant, template: string | undefined): void {
    const event = {
      action: 'tenant.created',
      resource: { type: 'tenant', id },
      details: {
        name: planned.name,
        display_name: planned.displayName,
        type: planned.type,
        parent_id: planned.parentId,
        plan_tier: planned.planTier,
        quotas: planned.quotas,
        enforce_quotas: planned.enforceQuotas,
        template,
      },
    };
    this.audit.recordForTenant(tx, id, event);
    this.audit.recordForPlatform(tx, event);
  }
}

function requireOwnFields(input: CreateTenant): void {
  const fields = PLATFORM_FIELDS.filter(field => input[field] !== undefined);
  if (fields.length > 0) throw platformFields(fields);
}

/** Of a request that sets what only the platform may. */
export const platformFields = (fields: readonly string[]): Problem =>
  new Problem(403, 'platform_field', `Only the platform sets ${fields.join(', ')}.`, {
    errors: fields.map(path => ({ path, code: 'platform_only', message: 'This needs platform:tenants.' })),
  });

function placeholdersOf(input: CreateTenant): Map<string, string> {
  return new Map([
    ['TENANT_NAME', input.name],
    ['TENANT_DISPLAY_NAME', input.display_name ?? input.name],
    ...(input.admin_user ? [['TENANT_ADMIN_EMAIL', input.admin_user.email] as const] : []),
    ...Object.entries(input.placeholders ?? {}),
  ]);
}

/** What the request says over what the template says over the defaults. @throws Problem 422 */
function planOf(input: CreateTenant, template: TemplateBody, defaultPlanTier: PlanTier): NewTenant {
  // Without a template there is nothing to merge into, and a null is a value like any other.
  const merged = (field: 'settings' | 'metadata') =>
    template[field] ? mergePatch(template[field], input[field] ?? {}) : (input[field] ?? {});
  return {
    name: input.name,
    displayName: input.display_name ?? input.name,
    description: input.description ?? '',
    type: input.type ?? template.type ?? 'organization',
    parentId: input.parent_id ?? null,
    planTier: input.plan_tier ?? template.plan_tier ?? defaultPlanTier,
    quotas: { ...template.quotas, ...input.quotas },
    enforceQuotas: input.enforce_quotas ?? template.enforce_quotas ?? true,
    settings: requireValid(tenantSettingsSchema, merged('settings'), 'settings'),
    branding: requireValid(
      brandingSchema,
      mergePatch(template.branding ?? {}, input.branding ?? {}),
      'branding',
    ) satisfies TenantBranding,
    metadata: requireValid(freeJson, merged('metadata'), 'metadata'),
    features: { ...template.features, ...input.features },
    config: requireValid(
      configOverridesSchema,
      mergePatch(template.config ?? {}, input.config ?? {}),
      'config',
    ) as ConfigOverrides,
  };
}
