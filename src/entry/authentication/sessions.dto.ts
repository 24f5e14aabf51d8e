import { z } from 'zod';
import { type pageQuery, pageSchema } from '../../foundation/http/pagination.js';
import type { AuthSession } from './auth-session.entity.js';
import type { ReceivedInvitation } from './received-invitations.repository.js';

export type PageQuery = z.infer<typeof pageQuery>;

const sessionSchema = z
  .object({
    id: z.uuid(),
    current: z.boolean().describe('Whether this request belongs to it'),
    ip: z.string().nullable().describe('From where it was opened'),
    user_agent: z.string().nullable(),
    active_tenant_id: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    last_used_at: z.iso.datetime().describe('When it last got new tokens'),
    expires_at: z.iso.datetime(),
  })
  .meta({ id: 'Session' });

export const sessionPageSchema = pageSchema(sessionSchema, 'SessionPage');

const receivedInvitationSchema = z
  .object({
    id: z.uuid(),
    tenant: z.object({
      id: z.uuid(),
      name: z.string().meta({ example: 'acme-corp' }),
      display_name: z.string(),
    }),
    roles: z.array(z.string()).meta({ example: ['editor'] }),
    invited_by: z.object({ id: z.uuid(), display_name: z.string() }).nullable(),
    message: z.string().nullable(),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime(),
  })
  .meta({ id: 'ReceivedInvitation' });

export const receivedInvitationPageSchema = pageSchema(receivedInvitationSchema, 'ReceivedInvitationPage');

export const toSession =
  (currentId: string) =>
  (session: AuthSession): z.infer<typeof sessionSchema> => ({
    id: session.id,
    current: session.id === currentId,
    ip: session.ip,
    user_agent: session.userAgent,
    active_tenant_id: session.activeTenantId,
    created_at: session.createdAt.toISOString(),
    last_used_at: session.lastUsedAt.toISOString(),
    expires_at: session.expiresAt.toISOString(),
  });

export const toReceivedInvitation = (
  invitation: ReceivedInvitation,
): z.infer<typeof receivedInvitationSchema> => ({
  id: invitation.id,
  tenant: {
    id: invitation.tenantId,
    name: invitation.tenantName,
    display_name: invitation.tenantDisplayName,
  },
  roles: invitation.roles,
  invited_by:
    invitation.inviterId === null
      ? null
      : { id: invitation.inviterId, display_name: invitation.inviterName ?? '' },
  message: invitation.message,
  created_at: invitation.createdAt.toISOString(),
  expires_at: invitation.expiresAt.toISOString(),
});
