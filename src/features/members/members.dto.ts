import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { displayNameField, emailField, newPasswordField, usernameField } from '../users/users.dto.js';
import { exactlyOne, needsOneOf, roleFields, roleNameField } from './role-fields.js';

export const MEMBER_STATUSES = ['active', 'suspended'] as const;

const newUserSchema = z
  .strictObject({
    email: emailField,
    password: newPasswordField.optional().describe('Without one the account waits until one is chosen.'),
    username: usernameField.optional(),
    display_name: displayNameField.optional(),
    full_name: displayNameField.optional().describe('Another word for `display_name`'),
  })
  .refine(user => user.display_name === undefined || user.full_name === undefined, {
    message: 'is the same as display_name: give one of them',
    path: ['full_name'],
  })
  .meta({ id: 'NewUserAndMember' });

export const addMemberSchema = z
  .strictObject({
    user_id: z.uuid().optional(),
    email: emailField.optional().describe('Of somebody who has an account'),
    user: newUserSchema.optional().describe('An account that is made on the way'),
    ...roleFields,
    send_notification: z.boolean().default(false).describe('Tells them by e-mail.'),
    send_welcome_email: z
      .boolean()
      .default(false)
      .describe('The same; an account without a password gets a link to choose one.'),
  })
  .refine(body => exactlyOne(body, 'user_id', 'email', 'user'), needsOneOf('user_id', 'email', 'user'))
  .refine(body => exactlyOne(body, 'role', 'roles'), needsOneOf('role', 'roles'))
  .meta({ id: 'AddMember', example: { email: 'ada@example.com', role: 'editor' } });

export const changeMemberSchema = z
  .strictObject({ ...roleFields, status: z.enum(MEMBER_STATUSES).optional() })
  .refine(body => body.role === undefined || body.roles === undefined, needsOneOf('role', 'roles'))
  .refine(
    body => body.role !== undefined || body.roles !== undefined || body.status !== undefined,
    needsOneOf('role', 'roles', 'status'),
  )
  .meta({ id: 'ChangeMember', example: { role: 'viewer' } });

export const memberRoleSchema = z
  .strictObject({
    role: roleNameField.optional(),
    role_name: roleNameField.optional().describe('Another word for `role`'),
  })
  .refine(body => exactlyOne(body, 'role', 'role_name'), needsOneOf('role', 'role_name'))
  .meta({ id: 'MemberRole', example: { role: 'editor' } });

export const listMembersQuery = listQuery(['joined_at', 'email', 'display_name'], {
  role: roleNameField.optional(),
  status: z.enum(MEMBER_STATUSES).optional(),
});

export const memberSchema = z
  .object({
    user_id: z.uuid(),
    email: z.string().meta({ example: 'ada@example.com' }),
    email_verified: z.boolean(),
    display_name: z.string(),
    username: z.string().nullable(),
    avatar_url: z.string().nullable(),
    roles: z.array(z.string()).meta({ example: ['editor'] }),
    groups: z.array(z.string()).describe('Names of the groups that the member is in'),
    status: z.enum(MEMBER_STATUSES),
    joined_at: z.iso.datetime(),
    joined_by: z.uuid().nullable(),
  })
  .meta({ id: 'Member' });

export const memberPageSchema = pageSchema(memberSchema, 'MemberPage');

export type AddMember = z.infer<typeof addMemberSchema>;
export type NewUserAndMember = z.infer<typeof newUserSchema>;
export type ChangeMember = z.infer<typeof changeMemberSchema>;
export type MemberRole = z.infer<typeof memberRoleSchema>;
export type ListMembers = z.infer<typeof listMembersQuery>;

/** What somebody is called who has not said it: the address before its `@`. */
export const nameOf = (email: string): string => email.split('@', 1).join();

/** A member with what their tenant may know of them. */
export interface MemberProfile {
  userId: string;
  email: string;
  emailVerified: boolean;
  displayName: string;
  username: string | null;
  avatarUrl: string | null;
  status: (typeof MEMBER_STATUSES)[number];
  joinedAt: Date;
  joinedBy: string | null;
  roles: string[];
  groups: string[];
}

export function toMember(member: MemberProfile): z.infer<typeof memberSchema> {
  return {
    user_id: member.userId,
    email: member.email,
    email_verified: member.emailVerified,
    display_name: member.displayName,
    username: member.username,
    avatar_url: member.avatarUrl,
    roles: member.roles,
    groups: member.groups,
    status: member.status,
    joined_at: member.joinedAt.toISOString(),
    joined_by: member.joinedBy,
  };
}
