import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { displayNameField, emailField, newPasswordField, usernameField } from '../users/users.dto.js';
import { exactlyOne, needsOneOf, roleFields } from './role-fields.js';

export const INVITATION_STATUSES = ['pending', 'accepted', 'declined', 'revoked', 'expired'] as const;

export const createInvitationSchema = z
  .strictObject({
    email: emailField,
    ...roleFields,
    message: z.string().trim().max(1000).optional().describe('Stands in the e-mail'),
  })
  .refine(body => exactlyOne(body, 'role', 'roles'), needsOneOf('role', 'roles'))
  .meta({ id: 'CreateInvitation', example: { email: 'grace@example.com', role: 'editor' } });

export const listInvitationsQuery = listQuery(['created_at', 'email', 'expires_at'], {
  status: z.enum(INVITATION_STATUSES).optional(),
});

export const invitationSchema = z
  .object({
    id: z.uuid(),
    email: z.string().meta({ example: 'grace@example.com' }),
    roles: z.array(z.string()).meta({ example: ['editor'] }),
    message: z.string().nullable(),
    status: z.enum(INVITATION_STATUSES),
    invited_by: z.uuid().nullable(),
    accepted_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    sent_at: z.iso.datetime().describe('When its last e-mail was written'),
    expires_at: z.iso.datetime(),
    answered_at: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Invitation' });

export const invitationPageSchema = pageSchema(invitationSchema, 'InvitationPage');

/** What the holder of a token is shown. */
export const receivedInvitationSchema = z
  .object({
    tenant: z.object({
      name: z.string().meta({ example: 'acme-corp' }),
      display_name: z.string().meta({ example: 'Acme Corporation' }),
      branding: z.record(z.string(), z.json()),
    }),
    email: z.string(),
    roles: z.array(z.string()),
    invited_by: z.string().nullable().describe('The name of whoever invited'),
    message: z.string().nullable(),
    status: z.enum(INVITATION_STATUSES),
    expires_at: z.iso.datetime(),
    account_exists: z.boolean().describe('Without an account, accepting needs a password.'),
  })
  .meta({ id: 'InvitationByToken' });

export const acceptInvitationSchema = z
  .strictObject({
    password: newPasswordField.optional().describe('Of the account that is made on the way'),
    display_name: displayNameField.optional(),
    username: usernameField.optional(),
  })
  .meta({ id: 'AcceptInvitation', example: {} });

export const acceptedInvitationSchema = z
  .object({
    tenant: z.object({ id: z.uuid(), name: z.string(), display_name: z.string() }),
    user: z.object({ id: z.uuid(), email: z.string(), display_name: z.string() }),
    created: z.boolean().describe('Whether an account was made'),
  })
  .meta({ id: 'AcceptedInvitation' });

export type CreateInvitation = z.infer<typeof createInvitationSchema>;
export type ListInvitations = z.infer<typeof listInvitationsQuery>;
export type AcceptInvitation = z.infer<typeof acceptInvitationSchema>;
export type InvitationStatus = (typeof INVITATION_STATUSES)[number];

/** An invitation as its tenant sees it; the token was only ever in the e-mail. */
export interface Invitation {
  id: string;
  tenantId: string;
  email: string;
  roles: string[];
  message: string | null;
  /** As of now: a pending one whose time is over has expired. */
  status: InvitationStatus;
  invitedBy: string | null;
  acceptedBy: string | null;
  createdAt: Date;
  sentAt: Date;
  expiresAt: Date;
  answeredAt: Date | null;
}

/** The same with what stands around it, for whoever holds its token. */
export interface ReceivedInvitation extends Invitation {
  tenantName: string;
  tenantDisplayName: string;
  tenantStatus: 'active' | 'suspended' | 'erasing';
  branding: Record<string, unknown>;
  inviter: string | null;
}

export function toInvitation(invitation: Invitation): z.infer<typeof invitationSchema> {
  return {
    id: invitation.id,
    email: invitation.email,
    roles: invitation.roles,
    message: invitation.message,
    status: invitation.status,
    invited_by: invitation.invitedBy,
    accepted_by: invitation.acceptedBy,
    created_at: invitation.createdAt.toISOString(),
    sent_at: invitation.sentAt.toISOString(),
    expires_at: invitation.expiresAt.toISOString(),
    answered_at: invitation.answeredAt?.toISOString() ?? null,
  };
}

export function toReceivedInvitation(
  invitation: ReceivedInvitation,
  accountExists: boolean,
): z.infer<typeof receivedInvitationSchema> {
  return {
    tenant: {
      name: invitation.tenantName,
      display_name: invitation.tenantDisplayName,
      branding: invitation.branding as Record<string, z.core.util.JSONType>,
    },
    email: invitation.email,
    roles: invitation.roles,
    invited_by: invitation.inviter,
    message: invitation.message,
    status: invitation.status,
    expires_at: invitation.expiresAt.toISOString(),
    account_exists: accountExists,
  };
}
