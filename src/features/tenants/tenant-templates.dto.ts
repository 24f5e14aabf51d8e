import { z } from 'zod';
import { BUILT_IN_ROLES } from '../../core/authorization/permissions.js';
import { enforceQuotasField } from '../../core/quotas/quotas.dto.js';
import { featureOverridesSchema } from '../../core/tenancy/feature-flags.js';
import { configOverridesSchema } from '../../core/tenancy/tenant-config.js';
import { PLAN_TIERS, limitOverridesSchema } from '../../core/tenancy/tenant-limits.js';
import { freeJson, jsonValue } from '../../foundation/http/free-json.js';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { roleNameField } from '../members/role-fields.js';
import { createRoleSchema } from '../roles/roles.dto.js';
import { emailField } from '../users/users.dto.js';
import { hasPlaceholder } from './template-placeholders.js';
import {
  brandingSchema,
  planTierField,
  slugField,
  tenantDescriptionField,
  tenantSettingsSchema,
  tenantTypeField,
} from './tenant-fields.js';
import { TENANT_TYPES } from './tenant.entity.js';

/** Roles that one template makes, and people that it names. */
const MOST_ROLES = 100;
const MOST_MEMBERS = 100;

/**
 * A field whose texts may have placeholders in them: what their values will be is not known yet, so of those texts
 * nothing is checked but that they are texts.
 */
function withPlaceholders(schema: z.ZodType) {
  return freeJson.superRefine((value, context) => {
    for (const issue of schema.safeParse(value).error?.issues ?? []) {
      const at = issue.path.reduce<unknown>(
        (part, key) => (part as Record<PropertyKey, unknown>)?.[key],
        value,
      );
      if (!hasPlaceholder(at)) context.addIssue({ ...issue });
    }
  });
}

const userField = z
  .string()
  .max(500)
  .refine(
    email => hasPlaceholder(email) || emailField.safeParse(email).success,
    'must be an e-mail address, or have a placeholder in it',
  );

const templateFields = {
  description: tenantDescriptionField.default(''),
  type: tenantTypeField.optional(),
  plan_tier: planTierField.optional(),
  quotas: limitOverridesSchema.optional().describe('Limits over those of the plan; null is none'),
  enforce_quotas: enforceQuotasField.optional(),
  settings: withPlaceholders(tenantSettingsSchema).optional(),
  config: withPlaceholders(configOverridesSchema).optional(),
  features: featureOverridesSchema.optional(),
  branding: withPlaceholders(brandingSchema).optional(),
  metadata: freeJson.optional(),
  roles: z
    .array(createRoleSchema)
    .max(MOST_ROLES)
    .optional()
    .describe('The tenant’s own roles, beside those that every tenant has'),
  members: z
    .array(z.strictObject({ role: roleNameField, users: z.array(userField).max(MOST_MEMBERS) }))
    .max(MOST_ROLES)
    .optional()
    .describe('Who gets which role: whoever has an account is added, everybody else is invited'),
};

interface Roles {
  roles?: Array<{ name: string }> | undefined;
  members?: Array<{ role: string; users: string[] }> | undefined;
}

/** Every role is there, once. */
function checkRoles({ roles = [], members = [] }: Roles, context: z.RefinementCtx): void {
  const names: string[] = [...BUILT_IN_ROLES];
  for (const [index, { name }] of roles.entries()) {
    if (names.includes(name)) {
      const message = `There is a role ${name} already.`;
      context.addIssue({ code: 'custom', path: ['roles', index, 'name'], message });
    }
    names.push(name);
  }
  for (const [index, { role }] of members.entries()) {
    if (names.includes(role)) continue;
    const message = `There is no role ${role}.`;
    context.addIssue({ code: 'custom', path: ['members', index, 'role'], message });
  }
}

const example = {
  description: 'A department of ours',
  type: 'department',
  settings: { data_retention_days: 30, notification_email: '${TENANT_ADMIN_EMAIL}' },
  roles: [{ name: 'developer', permissions: ['tenant:read', 'kb:read', 'document:create', 'query:run'] }],
  members: [{ role: 'admin', users: ['${TENANT_ADMIN_EMAIL}'] }],
};

export const createTemplateSchema = z
  .strictObject({ name: slugField.meta({ example: 'department_template' }), ...templateFields })
  .superRefine(checkRoles)
  .meta({ id: 'CreateTenantTemplate', example: { name: 'department_template', ...example } });

export const replaceTemplateSchema = z
  .strictObject(templateFields)
  .superRefine(checkRoles)
  .meta({ id: 'ReplaceTenantTemplate', example });

export const listTemplatesQuery = listQuery(['name', 'created_at'], {});

const jsonObject = z.record(z.string(), jsonValue);

export const templateSchema = z
  .object({
    name: z.string().meta({ example: 'department_template' }),
    description: z.string(),
    type: z.enum(TENANT_TYPES).nullable(),
    plan_tier: z.enum(PLAN_TIERS).nullable(),
    quotas: limitOverridesSchema,
    enforce_quotas: z.boolean().nullable(),
    settings: jsonObject,
    config: jsonObject,
    features: jsonObject,
    branding: jsonObject,
    metadata: jsonObject,
    roles: z.array(z.object({ name: z.string(), description: z.string(), permissions: z.array(z.string()) })),
    members: z.array(z.object({ role: z.string(), users: z.array(z.string()) })),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'TenantTemplate' });

export const templatePageSchema = pageSchema(templateSchema, 'TenantTemplatePage');

export type CreateTemplate = z.infer<typeof createTemplateSchema>;
export type ReplaceTemplate = z.infer<typeof replaceTemplateSchema>;
export type ListTemplates = z.infer<typeof listTemplatesQuery>;
/** Everything of a template but its name and description, as it is stored. */
export type TemplateBody = Omit<ReplaceTemplate, 'description'>;

export interface TenantTemplate {
  name: string;
  description: string;
  body: TemplateBody;
  createdBy: string | null;
  createdAt: Date;
  updatedAt: Date;
}

export function toTemplate(template: TenantTemplate): z.infer<typeof templateSchema> {
  const { body } = template;
  return {
    name: template.name,
    description: template.description,
    type: body.type ?? null,
    plan_tier: body.plan_tier ?? null,
    quotas: body.quotas ?? {},
    enforce_quotas: body.enforce_quotas ?? null,
    settings: body.settings ?? {},
    config: body.config ?? {},
    features: { ...body.features },
    branding: body.branding ?? {},
    metadata: body.metadata ?? {},
    roles: body.roles ?? [],
    members: body.members ?? [],
    created_by: template.createdBy,
    created_at: template.createdAt.toISOString(),
    updated_at: template.updatedAt.toISOString(),
  };
}
