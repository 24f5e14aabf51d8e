import { z } from 'zod';
import type { User } from './user.entity.js';

export const emailField = z
  .email()
  .max(254)
  .transform(email => email.trim().toLowerCase())
  .meta({ example: 'ada@example.com' });

export const newPasswordField = z
  .string()
  .min(10, 'must have at least 10 characters')
  .max(256)
  .meta({ example: 'correct horse battery staple' });

export const displayNameField = z.string().trim().min(1).max(200).meta({ example: 'Ada Lovelace' });

export const userSchema = z
  .object({
    id: z.uuid(),
    email: z.string().meta({ example: 'ada@example.com' }),
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
    username: z
      .string()
      .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/i, 'must be letters, digits, dots, dashes or underscores')
      .nullable()
      .optional(),
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

export type UpdateProfile = z.infer<typeof updateProfileSchema>;

export function toUser(user: User): z.infer<typeof userSchema> {
  return {
    id: user.id,
    email: user.email,
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

function isTimezone(name: string): boolean {
  try {
    return Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}
