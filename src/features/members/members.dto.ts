import { z } from 'zod';
import { BUILT_IN_ROLES } from '../../core/authorization/permissions.js';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { emailField } from '../users/users.dto.js';

const roleFields = {
  role: z
    .enum(BUILT_IN_ROLES)
    .optional()
    .meta({ description: 'One role; or use `roles`.', example: 'editor' }),
  roles: z.array(z.enum(BUILT_IN_ROLES)).min(1).max(BUILT_IN_ROLES.length).optional(),
};

const oneOf = (a: string, b: string) => ({
  message: `needs either ${a} or ${b}`,
  path: [a],
});

const given = (value: object, a: string, b: string): boolean =>
  ((value as Record<string, unknown>)[a] === undefined) !==
  ((value as Record<string, unknown>)[b] === undefined);

export const addMemberSchema = z
  .strictObject({ user_id: z.uuid().optional(), email: emailField.optional(), ...roleFields })
  .refine(body => given(body, 'user_id', 'email'), oneOf('user_id', 'email'))
  .refine(body => given(body, 'role', 'roles'), oneOf('role', 'roles'))
  .meta({ id: 'AddMember', example: { email: 'ada@example.com', role: 'editor' } });

export const changeMemberSchema = z
  .strictObject(roleFields)
  .refine(body => given(body, 'role', 'roles'), oneOf('role', 'roles'))
  .meta({ id: 'ChangeMember', example: { role: 'viewer' } });

export const listMembersQuery = listQuery(['joined_at', 'email', 'display_name'], {
  role: z.enum(BUILT_IN_ROLES).optional(),
});

export const memberSchema = z
  .object({
    user_id: z.uuid(),
    email: z.string().meta({ example: 'ada@example.com' }),
    display_name: z.string(),
    username: z.string().nullable(),
    avatar_url: z.string().nullable(),
    roles: z.array(z.string()).meta({ example: ['editor'] }),
    status: z.enum(['active', 'suspended']),
    joined_at: z.iso.datetime(),
    joined_by: z.uuid().nullable(),
  })
  .meta({ id: 'Member' });

export const memberPageSchema = pageSchema(memberSchema, 'MemberPage');

export type AddMember = z.infer<typeof addMemberSchema>;
export type ChangeMember = z.infer<typeof changeMemberSchema>;
export type ListMembers = z.infer<typeof listMembersQuery>;

/** A member with what their tenant may know of them. */
export interface MemberProfile {
  userId: string;
  email: string;
  displayName: string;
  username: string | null;
  avatarUrl: string | null;
  status: 'active' | 'suspended';
  joinedAt: Date;
  joinedBy: string | null;
  roles: string[];
}

export function toMember(member: MemberProfile): z.infer<typeof memberSchema> {
  return {
    user_id: member.userId,
    email: member.email,
    display_name: member.displayName,
    username: member.username,
    avatar_url: member.avatarUrl,
    roles: member.roles,
    status: member.status,
    joined_at: member.joinedAt.toISOString(),
    joined_by: member.joinedBy,
  };
}
