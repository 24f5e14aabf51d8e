import { z } from 'zod';
import {
  displayNameField,
  emailField,
  newPasswordField,
  passwordField,
  userSchema,
} from '../../features/users/users.dto.js';

export const registerSchema = z
  .strictObject({ email: emailField, password: newPasswordField, display_name: displayNameField.optional() })
  .meta({ id: 'Register' });

export const loginSchema = z
  .strictObject({
    email: emailField,
    password: passwordField,
    tenant: z.string().max(63).optional().describe('Id or name of the tenant to begin in'),
  })
  .meta({ id: 'Login' });

export const refreshSchema = z
  .strictObject({ refresh_token: z.string().min(1).max(200) })
  .meta({ id: 'Refresh', example: { refresh_token: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11.uX3…' } });

export const changePasswordSchema = z
  .strictObject({ current_password: passwordField, new_password: newPasswordField })
  .meta({ id: 'ChangePassword' });

export const forgotPasswordSchema = z.strictObject({ email: emailField }).meta({ id: 'ForgotPassword' });

export const resetPasswordSchema = z
  .strictObject({
    token: z.string().min(1).max(200).describe('From the e-mail; good once'),
    new_password: newPasswordField,
  })
  .meta({ id: 'ResetPassword' });

export const acceptedSchema = z.object({ message: z.string() }).meta({
  id: 'Accepted',
  example: { message: 'If there is an account with this address, an e-mail is on its way to it.' },
});

const tenantReference = z.string().min(1).max(63).describe('Id or name');

export const switchTenantSchema = z
  .strictObject({
    tenant: tenantReference.optional(),
    tenant_id: tenantReference.optional().describe('The same; one of both'),
  })
  .refine(body => (body.tenant === undefined) !== (body.tenant_id === undefined), {
    message: 'needs either tenant or tenant_id',
    path: ['tenant'],
  })
  .transform(({ tenant, tenant_id }) => ({ tenant: (tenant ?? tenant_id) as string }))
  .meta({ id: 'SwitchTenant', example: { tenant: 'acme-corp' } });

export const tokensSchema = z
  .object({
    access_token: z.string().describe('JWT; send it as `Authorization: Bearer …`'),
    token_type: z.literal('Bearer'),
    expires_in: z.int().describe('Seconds until the access token expires').meta({ example: 900 }),
    refresh_token: z.string().describe('Good once, for POST /auth/refresh'),
  })
  .meta({ id: 'Tokens' });

export const signedInSchema = tokensSchema.extend({ user: userSchema }).meta({ id: 'SignedIn' });

export const accessTokenSchema = tokensSchema.omit({ refresh_token: true }).meta({ id: 'AccessToken' });

export const meSchema = userSchema
  .extend({
    active_tenant_id: z.uuid().nullable().describe('Of the access token'),
    platform_roles: z.array(z.string()),
    tenants: z.array(
      z.object({ id: z.uuid(), name: z.string(), display_name: z.string(), roles: z.array(z.string()) }),
    ),
  })
  .meta({ id: 'Me' });

export type Register = z.infer<typeof registerSchema>;
export type Login = z.infer<typeof loginSchema>;
export type Refresh = z.infer<typeof refreshSchema>;
export type ChangePassword = z.infer<typeof changePasswordSchema>;
export type ForgotPassword = z.infer<typeof forgotPasswordSchema>;
export type ResetPassword = z.infer<typeof resetPasswordSchema>;
export type SwitchTenant = z.infer<typeof switchTenantSchema>;
