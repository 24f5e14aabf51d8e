import { z } from 'zod';
import { type Permission, TENANT_PERMISSIONS } from '../../core/authorization/permissions.js';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';

/** The form of a role's name; which names are taken or reserved is decided where a role is made. */
export const roleNameField = z
  .string()
  .regex(
    /^[a-z][a-z0-9_-]{0,62}$/,
    'must be at most 63 lowercase letters, digits, dashes and underscores, and begin with a letter',
  )
  .meta({ example: 'support' });

const descriptionField = z.string().max(2000);

export const rolePermissionsField = z
  .array(z.enum(TENANT_PERMISSIONS as [Permission, ...Permission[]]))
  .max(TENANT_PERMISSIONS.length)
  .meta({ example: ['tenant:read', 'kb:read', 'document:read', 'query:run'] });

export const createRoleSchema = z
  .strictObject({
    name: roleNameField,
    description: descriptionField.default(''),
    permissions: rolePermissionsField,
  })
  .meta({ id: 'CreateRole' });

export const updateRoleSchema = z
  .strictObject({ description: descriptionField.optional(), permissions: rolePermissionsField.optional() })
  .meta({ id: 'UpdateRole', example: { permissions: ['tenant:read', 'kb:read', 'query:run'] } });

export const replaceRoleSchema = z
  .strictObject({ description: descriptionField, permissions: rolePermissionsField })
  .meta({ id: 'ReplaceRole' });

export const listRolesQuery = listQuery(['name'], {});

export const roleSchema = z
  .object({
    name: z.string().meta({ example: 'support' }),
    description: z.string(),
    built_in: z.boolean().describe('The same in every tenant, and not to be changed'),
    permissions: z.array(z.string()).meta({ example: ['tenant:read', 'kb:read', 'query:run'] }),
    member_count: z.int().describe('Members who hold it in the whole tenant'),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime().nullable().describe('Null for built-in roles'),
    updated_at: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Role' });

export const rolePageSchema = pageSchema(roleSchema, 'RolePage');

export type CreateRole = z.infer<typeof createRoleSchema>;
export type UpdateRole = z.infer<typeof updateRoleSchema>;
export type ListRoles = z.infer<typeof listRolesQuery>;

/** A role of a tenant, built in or its own. */
export interface Role {
  name: string;
  description: string;
  builtIn: boolean;
  permissions: string[];
  memberCount: number;
  createdBy: string | null;
  createdAt: Date | null;
  updatedAt: Date | null;
}

export function toRole(role: Role): z.infer<typeof roleSchema> {
  return {
    name: role.name,
    description: role.description,
    built_in: role.builtIn,
    permissions: role.permissions,
    member_count: role.memberCount,
    created_by: role.createdBy,
    created_at: role.createdAt?.toISOString() ?? null,
    updated_at: role.updatedAt?.toISOString() ?? null,
  };
}
