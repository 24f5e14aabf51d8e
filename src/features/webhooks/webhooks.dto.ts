import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { isEventPattern } from './event-types.js';
import { DISABLED_REASONS, type Webhook } from './webhook.js';

const MOST_EVENTS = 50;
const MOST_HEADERS = 10;
const LONGEST_HEADER = 1024;

/** Those that the sender, the protocol or the signature need for themselves. */
const RESERVED_HEADER =
  /^(webhook-.*|proxy-.*|host|connection|keep-alive|transfer-encoding|te|trailer|upgrade|expect|content-.*|accept-encoding|user-agent)$/i;

const urlField = z
  .string()
  .trim()
  .min(1)
  .max(2000)
  .describe('https:// address that messages are posted to. `${NAME}` stands for a variable of the tenant.')
  .meta({ example: 'https://hooks.example.com/enclave' });
const eventsField = z
  .array(
    z.string().max(100).refine(isEventPattern, 'must be an event’s name, a family such as member.*, or *'),
  )
  .min(1)
  .max(MOST_EVENTS)
  .transform(events => [...new Set(events)])
  .describe('Names of events, families (`member.*`), or `*` for all. GET /webhook-events lists them.')
  .meta({ example: ['document.ready', 'member.*'] });
const descriptionField = z.string().max(500);
const headersField = z
  .record(
    z
      .string()
      .regex(/^[\w!#$%&'*+.^`|~-]{1,100}$/, 'must be the name of a header')
      .refine(name => !RESERVED_HEADER.test(name), 'cannot be set'),
    z
      .string()
      .min(1)
      .max(LONGEST_HEADER)
      .regex(/^[\x20-\x7e]*$/, 'must be visible ASCII characters and spaces'),
  )
  .refine(headers => Object.keys(headers).length <= MOST_HEADERS, `must not be more than ${MOST_HEADERS}`)
  .refine(
    headers =>
      new Set(Object.keys(headers).map(name => name.toLowerCase())).size === Object.keys(headers).length,
    'must not name a header twice',
  )
  .describe('Further headers to send. Sealed, and never shown again; `${NAME}` stands for a variable.')
  .meta({ example: { authorization: 'Bearer ${HOOK_TOKEN}' } });

export const createWebhookSchema = z
  .strictObject({
    url: urlField,
    events: eventsField,
    description: descriptionField.default(''),
    headers: headersField.optional(),
    is_active: z.boolean().default(true),
  })
  .meta({
    id: 'CreateWebhook',
    example: { url: 'https://hooks.example.com/enclave', events: ['document.ready', 'member.*'] },
  });

export const updateWebhookSchema = z
  .strictObject({
    url: urlField.optional(),
    events: eventsField.optional(),
    description: descriptionField.optional(),
    headers: headersField.nullable().optional().describe('Replaces all of them; null removes them'),
    is_active: z.boolean().optional().describe('Switching it on again forgets the failures'),
  })
  .meta({ id: 'UpdateWebhook', example: { events: ['*'] } });

export const rotateWebhookSecretSchema = z
  .strictObject({
    overlap_hours: z
      .int()
      .min(0)
      .max(168)
      .default(24)
      .describe('How long messages are signed with the secret of before, too [24]'),
  })
  .meta({ id: 'RotateWebhookSecret', example: { overlap_hours: 24 } });

export const listWebhooksQuery = listQuery(['created_at', 'url'], {
  is_active: z
    .enum(['true', 'false'])
    .transform(value => value === 'true')
    .optional(),
});

export const webhookSchema = z
  .object({
    id: z.uuid(),
    url: z.string().meta({ example: 'https://hooks.example.com/enclave' }),
    description: z.string(),
    events: z.array(z.string()).meta({ example: ['document.ready', 'member.*'] }),
    header_names: z.array(z.string()).describe('Of the further headers; their values are not shown'),
    is_active: z.boolean(),
    disabled_reason: z
      .enum(DISABLED_REASONS)
      .nullable()
      .describe('Why the system has switched it off: the receiver answered 410, or failed for days'),
    consecutive_failures: z.int().describe('Attempts that failed since the last that succeeded'),
    failing_since: z.iso.datetime().nullable(),
    previous_secret_expires_at: z.iso.datetime().nullable().describe('Until then both secrets sign'),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'Webhook' });

export const webhookWithSecretSchema = webhookSchema
  .extend({
    secret: z
      .string()
      .describe('Shown this once. Verify messages with it (Standard Webhooks)')
      .meta({ example: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDI0iQXGj4NY8=' }),
  })
  .meta({ id: 'WebhookWithSecret' });

export const webhookPageSchema = pageSchema(webhookSchema, 'WebhookPage');

export const webhookEventsSchema = z
  .object({
    items: z.array(z.object({ type: z.string(), description: z.string() })),
    families: z.array(
      z.object({ family: z.string(), description: z.string(), examples: z.array(z.string()) }),
    ),
  })
  .meta({ id: 'WebhookEvents' });

export type CreateWebhook = z.infer<typeof createWebhookSchema>;
export type UpdateWebhook = z.infer<typeof updateWebhookSchema>;
export type RotateWebhookSecret = z.infer<typeof rotateWebhookSecretSchema>;
export type ListWebhooks = z.infer<typeof listWebhooksQuery>;

export function toWebhook(webhook: Webhook): z.infer<typeof webhookSchema> {
  const { previousSecretExpiresAt } = webhook;
  return {
    id: webhook.id,
    url: webhook.url,
    description: webhook.description,
    events: webhook.events,
    header_names: webhook.headerNames,
    is_active: webhook.isActive,
    disabled_reason: webhook.disabledReason,
    consecutive_failures: webhook.consecutiveFailures,
    failing_since: webhook.failingSince?.toISOString() ?? null,
    previous_secret_expires_at:
      previousSecretExpiresAt && previousSecretExpiresAt > new Date()
        ? previousSecretExpiresAt.toISOString()
        : null,
    created_by: webhook.createdBy,
    created_at: webhook.createdAt.toISOString(),
    updated_at: webhook.updatedAt.toISOString(),
  };
}
