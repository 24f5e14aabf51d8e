import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';

/** Of any alphabet; two spellings that look the same are the same name. */
const nameField = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .refine(name => !/\p{Cc}/u.test(name), 'must not hold control characters')
  .transform(name => name.normalize('NFC').replace(/\s+/gu, ' '))
  .meta({ example: 'Support' });
const descriptionField = z.string().max(2000);

export const createGroupSchema = z
  .strictObject({ name: nameField, description: descriptionField.default('') })
  .meta({ id: 'CreateGroup' });

export const updateGroupSchema = z
  .strictObject({ name: nameField.optional(), description: descriptionField.optional() })
  .meta({ id: 'UpdateGroup' });

export const addGroupMembersSchema = z
  .strictObject({
    user_id: z.uuid().optional(),
    user_ids: z.array(z.uuid()).min(1).max(500).optional(),
  })
  .refine(body => (body.user_id === undefined) !== (body.user_ids === undefined), {
    message: 'needs either user_id or user_ids',
    path: ['user_id'],
  })
  .meta({ id: 'AddGroupMembers', example: { user_id: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11' } });

export const listGroupsQuery = listQuery(['name', 'created_at'], {});
export const listGroupMembersQuery = listQuery(['email', 'display_name', 'added_at'], {});

export const groupSchema = z
  .object({
    id: z.uuid(),
    name: z.string().meta({ example: 'Support' }),
    description: z.string(),
    member_count: z.int(),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'Group' });

export const groupPageSchema = pageSchema(groupSchema, 'GroupPage');

export const groupMemberSchema = z
  .object({
    user_id: z.uuid(),
    email: z.string().meta({ example: 'ada@example.com' }),
    display_name: z.string(),
    status: z.enum(['active', 'suspended']),
    added_by: z.uuid().nullable(),
    added_at: z.iso.datetime(),
  })
  .meta({ id: 'GroupMember' });

export const groupMemberPageSchema = pageSchema(groupMemberSchema, 'GroupMemberPage');

export const groupMembersAddedSchema = z
  .object({
    added: z.array(z.uuid()).describe('Those who were not in the group before'),
    member_count: z.int(),
  })
  .meta({ id: 'GroupMembersAdded' });

export type CreateGroup = z.infer<typeof createGroupSchema>;
export type UpdateGroup = z.infer<typeof updateGroupSchema>;
export type AddGroupMembers = z.infer<typeof addGroupMembersSchema>;
export type ListGroups = z.infer<typeof listGroupsQuery>;
export type ListGroupMembers = z.infer<typeof listGroupMembersQuery>;

export interface Group {
  id: string;
  name: string;
  description: string;
  memberCount: number;
  createdBy: string | null;
  createdAt: Date;
  updatedAt: Date;
}

export interface GroupMember {
  userId: string;
  email: string;
  displayName: string;
  status: 'active' | 'suspended';
  addedBy: string | null;
  addedAt: Date;
}

export function toGroup(group: Group): z.infer<typeof groupSchema> {
  return {
    id: group.id,
    name: group.name,
    description: group.description,
    member_count: group.memberCount,
    created_by: group.createdBy,
    created_at: group.createdAt.toISOString(),
    updated_at: group.updatedAt.toISOString(),
  };
}

export function toGroupMember(member: GroupMember): z.infer<typeof groupMemberSchema> {
  return {
    user_id: member.userId,
    email: member.email,
    display_name: member.displayName,
    status: member.status,
    added_by: member.addedBy,
    added_at: member.addedAt.toISOString(),
  };
}
