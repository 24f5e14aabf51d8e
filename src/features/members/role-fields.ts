import { z } from 'zod';

/** Roles of one member; more than a handful is a mistake. */
const MOST_ROLES = 20;

/** The name of a role, built in or the tenant's own; whether there is one is the service's to say. */
export const roleNameField = z.string().trim().min(1).max(100).meta({ example: 'editor' });

/** One role or several: a body has one of the two fields. */
export const roleFields = {
  role: roleNameField.optional().describe('One role; or use `roles`.'),
  roles: z.array(roleNameField).min(1).max(MOST_ROLES).optional(),
};

export interface RoleFields {
  role?: string | undefined;
  roles?: string[] | undefined;
}

/** Whether exactly one of the fields is there. */
export const exactlyOne = (value: object, ...fields: string[]): boolean =>
  fields.filter(field => (value as Record<string, unknown>)[field] !== undefined).length === 1;

/** For `refine`: names the first of the fields. */
export const needsOneOf = (...fields: [string, ...string[]]) => ({
  message: `needs exactly one of ${fields.join(', ')}`,
  path: [fields[0]],
});

/** Each role once. */
export const rolesIn = (input: RoleFields): string[] => [
  ...new Set(input.roles ?? (input.role === undefined ? [] : [input.role])),
];
