import { z } from 'zod';
import { freeJson, jsonValue } from '../../foundation/http/free-json.js';
import { listQuery, pageSchema, toMegabytes } from '../../foundation/http/pagination.js';
import { PLAN_TIERS, TENANT_STATUSES, TENANT_TYPES, type Tenant } from './tenant.entity.js';

export const tenantNameField = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?$/, 'must be lowercase letters, digits, dashes and underscores')
  // A name that looks like an id could stand for another tenant in a path.
  .refine(name => !z.uuid().safeParse(name).success, 'must not be a UUID')
  .meta({ example: 'acme-corp' });

const displayName = z.string().trim().min(1).max(200).meta({ example: 'Acme Corporation' });
const description = z.string().max(2000);

export const createTenantSchema = z
  .strictObject({
    name: tenantNameField,
    display_name: displayName.optional(),
    description: description.optional(),
    type: z.enum(TENANT_TYPES).default('organization'),
    parent_id: z.uuid().nullable().optional(),
    plan_tier: z.enum(PLAN_TIERS).default('free'),
    settings: freeJson.optional(),
    metadata: freeJson.optional(),
  })
  .meta({ id: 'CreateTenant' });

export const updateTenantSchema = z
  .strictObject({
    display_name: displayName.optional(),
    description: description.optional(),
    settings: freeJson.optional(),
    metadata: freeJson.optional(),
  })
  .meta({ id: 'UpdateTenant' });

/** PUT names every field that a tenant's own people may set. */
export const replaceTenantSchema = z
  .strictObject({ display_name: displayName, description, settings: freeJson, metadata: freeJson })
  .meta({ id: 'ReplaceTenant' });

export const listTenantsQuery = listQuery(['name', 'created_at', 'display_name'], {
  status: z.enum(TENANT_STATUSES).optional(),
  type: z.enum(TENANT_TYPES).optional(),
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
    metadata: z.record(z.string(), jsonValue),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'Tenant' });

export const tenantDetailsSchema = tenantSchema
  .extend({
    kb_count: z.int(),
    document_count: z.int(),
    storage_mb: z.number(),
    member_count: z.int(),
  })
  .meta({ id: 'TenantDetails' });

export const tenantPageSchema = pageSchema(tenantSchema, 'TenantPage');

export type CreateTenant = z.infer<typeof createTenantSchema>;
export type UpdateTenant = z.infer<typeof updateTenantSchema>;
export type ListTenants = z.infer<typeof listTenantsQuery>;

export interface TenantStatistics {
  kbCount: number;
  documentCount: number;
  storageBytes: number;
  memberCount: number;
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
    metadata: tenant.metadata as Record<string, z.core.util.JSONType>,
    created_by: tenant.createdBy,
    created_at: tenant.createdAt.toISOString(),
    updated_at: tenant.updatedAt.toISOString(),
  };
}

export function toTenantDetails(
  tenant: Tenant,
  statistics: TenantStatistics,
): z.infer<typeof tenantDetailsSchema> {
  return {
    ...toTenant(tenant),
    kb_count: statistics.kbCount,
    document_count: statistics.documentCount,
    storage_mb: toMegabytes(statistics.storageBytes),
    member_count: statistics.memberCount,
  };
}
