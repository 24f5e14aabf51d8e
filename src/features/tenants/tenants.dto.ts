import { z } from 'zod';
import type { Features } from '../../core/tenancy/feature-flags.js';
import { enforceQuotasField } from '../../core/quotas/quotas.dto.js';
import { featureOverridesSchema } from '../../core/tenancy/feature-flags.js';
import { PLAN_TIERS, limitOverridesSchema } from '../../core/tenancy/tenant-limits.js';
import { freeJson, jsonValue } from '../../foundation/http/free-json.js';
import { listQuery, pageSchema, toMegabytes } from '../../foundation/http/pagination.js';
import { displayNameField, emailField, newPasswordField, usernameField } from '../users/users.dto.js';
import { placeholdersField } from './template-placeholders.js';
import {
  brandingSchema,
  patchField,
  planTierField,
  slugField,
  tenantDescriptionField,
  tenantDisplayNameField,
  tenantNameField,
  tenantSettingsSchema,
  tenantTypeField,
} from './tenant-fields.js';
import { TENANT_STATUSES, TENANT_TYPES, type Tenant } from './tenant.entity.js';

const adminUserSchema = z
  .strictObject({
    email: emailField,
    username: usernameField.optional(),
    password: newPasswordField
      .optional()
      .describe('Without one the account gets a link to choose it; an account that is there keeps its own'),
    display_name: displayNameField.optional(),
    full_name: displayNameField.optional().describe('Another word for `display_name`'),
  })
  .refine(user => user.display_name === undefined || user.full_name === undefined, {
    message: 'is the same as display_name: give one of them',
    path: ['full_name'],
  })
  .meta({ id: 'TenantAdminUser' });

export const createTenantSchema = z
  .strictObject({
    name: tenantNameField,
    display_name: tenantDisplayNameField.optional(),
    description: tenantDescriptionField.optional(),
    type: tenantTypeField.optional().describe('[organization]'),
    parent_id: z.uuid().nullable().optional(),
    plan_tier: planTierField.optional().describe('[free, where DEFAULT_PLAN_TIER says nothing else]'),
    quotas: limitOverridesSchema.optional().describe('Limits over those of the plan; null is none'),
    enforce_quotas: enforceQuotasField.optional(),
    settings: freeJson.optional().describe('With a template: merged into its own'),
    branding: patchField.optional(),
    metadata: freeJson.optional(),
    features: featureOverridesSchema.optional(),
    config: patchField.optional(),
    admin_user: adminUserSchema
      .optional()
      .describe('The first owner, made or found; without one it is whoever makes the tenant'),
    template: slugField.optional().describe('Name of a template; what is given here overrides it'),
    placeholders: placeholdersField.optional(),
  })
  .meta({ id: 'CreateTenant', example: { name: 'acme-corp', display_name: 'Acme Corporation' } });

/** What belongs to the platform of a tenant that is there. */
const platformFields = {
  name: tenantNameField.optional().describe('Needs platform:tenants'),
  type: tenantTypeField.optional().describe('Needs platform:tenants'),
  parent_id: z.uuid().nullable().optional().describe('Needs platform:tenants'),
  plan_tier: planTierField.optional().describe('Needs platform:tenants'),
};

export const updateTenantSchema = z
  .strictObject({
    display_name: tenantDisplayNameField.optional(),
    description: tenantDescriptionField.optional(),
    settings: patchField.optional(),
    branding: patchField.optional(),
    metadata: patchField.optional(),
    ...platformFields,
  })
  .meta({ id: 'UpdateTenant', example: { settings: { timezone: 'Europe/Zurich', legacy_key: null } } });

/** PUT names every field that a tenant's own people may set; a branding that is left out is none. */
export const replaceTenantSchema = z
  .strictObject({
    display_name: tenantDisplayNameField,
    description: tenantDescriptionField,
    settings: tenantSettingsSchema,
    branding: brandingSchema.default({}),
    metadata: freeJson,
    ...platformFields,
  })
  .meta({ id: 'ReplaceTenant' });

export const listTenantsQuery = listQuery(['name', 'created_at', 'display_name'], {
  status: z.enum(TENANT_STATUSES).optional(),
  type: z.enum(TENANT_TYPES).optional(),
  plan_tier: z.enum(PLAN_TIERS).optional(),
  parent_id: z.uuid().optional(),
});

export const tenantSchema = z
  .object({
    id: z.uuid(),
    name: z.string().meta({ example: 'acme-corp' }),
    display_name: z.string().meta({ example: 'Acme Corporation' }),
    description: z.string(),
    type: z.enum(TENANT_TYPES),
    parent_id: z.uuid().nullable(),
    plan_tier: z.enum(PLAN_TIERS),
    status: z.enum(TENANT_STATUSES),
    settings: z.record(z.string(), jsonValue),
    branding: brandingSchema,
    metadata: z.record(z.string(), jsonValue),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'Tenant' });

export const tenantDetailsSchema = tenantSchema
  .extend({
    features: z.record(z.string(), jsonValue).describe('What holds for the tenant, by name'),
    kb_count: z.int(),
    document_count: z.int(),
    storage_mb: z.number(),
    member_count: z.int(),
  })
  .meta({ id: 'TenantDetails' });

export const createdTenantSchema = tenantDetailsSchema
  .extend({
    admin_user: z
      .object({
        id: z.uuid(),
        email: z.string(),
        created: z.boolean().describe('False: it was there before'),
      })
      .optional(),
    members: z
      .array(
        z.object({
          email: z.string(),
          roles: z.array(z.string()),
          outcome: z.enum(['added', 'invited']),
        }),
      )
      .optional()
      .describe('Of the template'),
  })
  .meta({ id: 'CreatedTenant' });

export const tenantPageSchema = pageSchema(tenantSchema, 'TenantPage');

export type CreateTenant = z.infer<typeof createTenantSchema>;
export type AdminUser = z.infer<typeof adminUserSchema>;
export type UpdateTenant = z.infer<typeof updateTenantSchema>;
export type ReplaceTenant = z.infer<typeof replaceTenantSchema>;
export type ListTenants = z.infer<typeof listTenantsQuery>;

export interface TenantStatistics {
  kbCount: number;
  documentCount: number;
  storageBytes: number;
  memberCount: number;
}

export interface TenantDetails {
  tenant: Tenant;
  features: Features;
  statistics: TenantStatistics;
}

/** A tenant that was made just now, and who came into it on the way. */
export interface CreatedTenant extends TenantDetails {
  adminUser: {
    id: string;
    email: string;
    created: boolean;
    /** Lets a new account without a password choose one. A secret: it goes by e-mail, and into no answer. */
    token: string | null;
  } | null;
  /** Null where no template names any. */
  members: Array<{ email: string; roles: string[]; outcome: 'added' | 'invited' }> | null;
}

export function toTenant(tenant: Tenant): z.infer<typeof tenantSchema> {
  return {
    id: tenant.id,
    name: tenant.name,
    display_name: tenant.displayName,
    description: tenant.description,
    type: tenant.type,
    parent_id: tenant.parentId,
    plan_tier: tenant.planTier,
    status: tenant.status,
    settings: tenant.settings as Record<string, z.core.util.JSONType>,
    branding: tenant.branding,
    metadata: tenant.metadata as Record<string, z.core.util.JSONType>,
    created_by: tenant.createdBy,
    created_at: tenant.createdAt.toISOString(),
    updated_at: tenant.updatedAt.toISOString(),
  };
}

export function toTenantDetails({
  tenant,
  features,
  statistics,
}: TenantDetails): z.infer<typeof tenantDetailsSchema> {
  return {
    ...toTenant(tenant),
    features: { ...features },
    kb_count: statistics.kbCount,
    document_count: statistics.documentCount,
    storage_mb: toMegabytes(statistics.storageBytes),
    member_count: statistics.memberCount,
  };
}

export function toCreatedTenant(created: CreatedTenant): z.infer<typeof createdTenantSchema> {
  const { adminUser } = created;
  return {
    ...toTenantDetails(created),
    ...(adminUser && {
      admin_user: { id: adminUser.id, email: adminUser.email, created: adminUser.created },
    }),
    ...(created.members && { members: created.members }),
  };
}
