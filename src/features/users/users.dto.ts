import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import type { User } from './user.entity.js';

/** Characters before the @, RFC 5321, 4.5.3.1.1. */
const LONGEST_LOCAL_PART = 64;

/**
 * In small letters, so that it is one account however it is written. ASCII only: letters of other alphabets that look
 * alike would make two accounts of one address. What stands behind a plus belongs to the address.
 */
export const emailField = z
  .email('must be an e-mail address, in the letters a to z')
  .max(254)
  .refine(email => email.lastIndexOf('@') <= LONGEST_LOCAL_PART, 'has too much before the @')
  .transform(email => email.toLowerCase())
  .meta({ example: 'ada@example.com' });

export const newPasswordField = z
  .string()
  .min(10, 'must have at least 10 characters')
  .max(256)
  .meta({ example: 'correct horse battery staple' });

export const usernameField = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/i,
    'must be letters a to z, digits, dots, dashes or underscores, at most 63, and begin with a letter or digit',
  )
  .meta({ example: 'ada.lovelace' });

/** A password that exists, as somebody remembers it. */
export const passwordField = z.string().min(1).max(256);

export const displayNameField = z.string().trim().min(1).max(200).meta({ example: 'Ada Lovelace' });

export const userSchema = z
  .object({
    id: z.uuid(),
    email: z.string().meta({ example: 'ada@example.com' }),
    email_verified: z.boolean().describe('Whether something sent to the address has come back'),
    username: z.string().nullable(),
    display_name: z.string().meta({ example: 'Ada Lovelace' }),
    avatar_url: z.string().nullable(),
    language: z.string(),
    timezone: z.string(),
    is_active: z.boolean(),
    last_login_at: z.iso.datetime().nullable(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: 'User' });

export const updateProfileSchema = z
  .strictObject({
    display_name: displayNameField.optional(),
    username: usernameField.nullable().optional(),
    avatar_url: z
      .url({ protocol: /^https$/ })
      .max(2000)
      .nullable()
      .optional(),
    language: z.string().min(2).max(35).optional(),
    timezone: z
      .string()
      .max(64)
      .refine(isTimezone, 'must be an IANA time zone such as Europe/Zurich')
      .optional(),
  })
  .meta({ id: 'UpdateProfile' });

/** The roles of the platform; their rules stand in `casbin/policy.csv`. */
export const PLATFORM_ROLES = ['platform_admin', 'platform_auditor'] as const;

const platformRolesField = z
  .array(z.enum(PLATFORM_ROLES))
  .max(PLATFORM_ROLES.length)
  .transform(roles => [...new Set(roles)])
  .meta({ example: ['platform_auditor'] });

export const createUserSchema = z
  .strictObject({
    email: emailField,
    display_name: displayNameField,
    username: usernameField.optional(),
    password: newPasswordField
      .optional()
      .describe(
        'Without one, the account is opened with a token from an e-mail: welcome or forgotten password',
      ),
    platform_roles: platformRolesField.optional(),
    send_welcome_email: z.boolean().default(false),
  })
  .meta({
    id: 'CreateUser',
    example: { email: 'ada@example.com', display_name: 'Ada Lovelace', send_welcome_email: true },
  });

export const updateUserSchema = z
  .strictObject({
    email: emailField.optional(),
    display_name: displayNameField.optional(),
    username: usernameField.nullable().optional(),
    password: newPasswordField.optional(),
    is_active: z.boolean().optional().describe('False ends every session of the account at once'),
    platform_roles: platformRolesField.optional().describe('Replaces those of before'),
  })
  .meta({ id: 'UpdateUser', example: { is_active: false } });

export const listUsersQuery = listQuery(['created_at', 'email', 'display_name', 'last_login_at'], {
  is_active: z
    .enum(['true', 'false'])
    .transform(value => value === 'true')
    .optional(),
  platform_role: z.enum(PLATFORM_ROLES).optional(),
});

export const listedUserSchema = userSchema
  .extend({ platform_roles: z.array(z.string()) })
  .meta({ id: 'ListedUser' });

export const userPageSchema = pageSchema(listedUserSchema, 'UserPage');

export const userDetailsSchema = listedUserSchema
  .extend({
    tenant_memberships: z.array(
      z.object({
        tenant_id: z.uuid(),
        tenant_name: z.string().meta({ example: 'acme-corp' }),
        display_name: z.string(),
        roles: z.array(z.string()).meta({ example: ['editor'] }),
        status: z.enum(['active', 'suspended']),
        joined_at: z.iso.datetime(),
      }),
    ),
  })
  .meta({ id: 'UserDetails' });

export type CreateUser = z.infer<typeof createUserSchema>;
export type UpdateUser = z.infer<typeof updateUserSchema>;
export type ListUsers = z.infer<typeof listUsersQuery>;
export type PlatformRole = (typeof PLATFORM_ROLES)[number];

/** A user with the roles on the platform. */
export interface ListedUser {
  user: User;
  platformRoles: string[];
}

/** A tenant that a user belongs to, also while suspended there. */
export interface TenantMembership {
  id: string;
  name: string;
  displayName: string;
  roles: string[];
  status: 'active' | 'suspended';
  joinedAt: Date;
}

export type UpdateProfile = z.infer<typeof updateProfileSchema>;

export function toUser(user: User): z.infer<typeof userSchema> {
  return {
    id: user.id,
    email: user.email,
    email_verified: user.emailVerifiedAt !== null,
    username: user.username,
    display_name: user.displayName,
    avatar_url: user.avatarUrl,
    language: user.language,
    timezone: user.timezone,
    is_active: user.isActive,
    last_login_at: user.lastLoginAt?.toISOString() ?? null,
    created_at: user.createdAt.toISOString(),
  };
}

export const toListedUser = ({ user, platformRoles }: ListedUser): z.infer<typeof listedUserSchema> => ({
  ...toUser(user),
  platform_roles: platformRoles,
});

export const toUserDetails = (
  found: ListedUser & { memberships: TenantMembership[] },
): z.infer<typeof userDetailsSchema> => ({
  ...toListedUser(found),
  tenant_memberships: found.memberships.map(({ id, name, displayName, roles, status, joinedAt }) => ({
    tenant_id: id,
    tenant_name: name,
    display_name: displayName,
    roles,
    status,
    joined_at: joinedAt.toISOString(),
  })),
});

export function isTimezone(name: string): boolean {
  try {
    return Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}
