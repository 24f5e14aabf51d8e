import { z } from 'zod';
import { pageSchema } from '../../foundation/http/pagination.js';

export const MOST_GRANTS = 500;

/** A role of the tenant; whether there is one of this name is seen when it is granted. */
const roleField = z
  .string()
  .min(1)
  .max(63)
  .describe('A role of the tenant, built in or its own; in the knowledge base alone')
  .meta({ example: 'editor' });

export const grantSchema = z
  .strictObject({ user_id: z.uuid().optional(), group_id: z.uuid().optional(), role: roleField })
  .refine(grant => (grant.user_id === undefined) !== (grant.group_id === undefined), {
    message: 'needs either user_id or group_id',
    path: ['user_id'],
  })
  .meta({
    id: 'CreateKbGrant',
    example: { user_id: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11', role: 'editor' },
  });

export const replaceGrantsSchema = z
  .strictObject({ grants: z.array(grantSchema).max(MOST_GRANTS) })
  .meta({ id: 'ReplaceKbGrants' });

export const kbGrantSchema = z
  .object({
    id: z.uuid(),
    user_id: z.uuid().nullable(),
    group_id: z.uuid().nullable(),
    name: z.string().describe('E-mail address of the member, or name of the group'),
    role: z.string().meta({ example: 'editor' }),
    granted_by: z.uuid().nullable(),
    granted_at: z.iso.datetime(),
  })
  .meta({ id: 'KbGrant' });

export const kbGrantPageSchema = pageSchema(kbGrantSchema, 'KbGrantPage');

export const kbGrantsSchema = z
  .object({ items: z.array(kbGrantSchema), total: z.int() })
  .meta({ id: 'KbGrants' });

export type GrantInput = z.infer<typeof grantSchema>;

/** A role that a member or a group has in one knowledge base. */
export interface Grant {
  id: string;
  userId: string | null;
  groupId: string | null;
  name: string;
  role: string;
  grantedBy: string | null;
  grantedAt: Date;
}

export function toKbGrant(grant: Grant): z.infer<typeof kbGrantSchema> {
  return {
    id: grant.id,
    user_id: grant.userId,
    group_id: grant.groupId,
    name: grant.name,
    role: grant.role,
    granted_by: grant.grantedBy,
    granted_at: grant.grantedAt.toISOString(),
  };
}
