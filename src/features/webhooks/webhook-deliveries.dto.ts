import { z } from 'zod';
import { jsonValue } from '../../foundation/http/free-json.js';
import { pageQuery, pageSchema } from '../../foundation/http/pagination.js';
import { DELIVERY_STATUSES, type Delivery, type DeliverySummary } from './webhook.js';

export const listDeliveriesQuery = pageQuery.extend({
  sort: z.enum(['-created_at', 'created_at']).default('-created_at'),
  status: z.enum(DELIVERY_STATUSES).optional(),
  event_type: z.string().max(100).optional().describe('Exact, or a family such as member.*'),
  created_after: z.iso.datetime({ offset: true }).optional(),
  created_before: z.iso.datetime({ offset: true }).optional(),
});

const summaryFields = {
  id: z.uuid(),
  webhook_id: z.uuid(),
  event_id: z.uuid().describe('The header webhook-id: the same whenever the event is told again'),
  event_type: z.string().meta({ example: 'document.ready' }),
  redelivery_of: z.uuid().nullable(),
  status: z.enum(DELIVERY_STATUSES),
  attempts: z.int(),
  status_code: z.int().nullable().describe('Of the last answer'),
  error_code: z
    .string()
    .nullable()
    .describe('Why the last attempt failed: `unexpected_status`, `timeout`, `address_refused`, …')
    .meta({ example: 'unexpected_status' }),
  duration_ms: z.int().nullable().describe('Of the last attempt'),
  next_attempt_at: z.iso.datetime().nullable(),
  created_at: z.iso.datetime(),
  finished_at: z.iso.datetime().nullable(),
};

export const deliverySummarySchema = z.object(summaryFields).meta({ id: 'WebhookDeliverySummary' });

export const deliverySchema = z
  .object({
    ...summaryFields,
    payload: z
      .object({
        id: z.uuid(),
        type: z.string(),
        timestamp: z.iso.datetime(),
        tenant_id: z.uuid(),
        data: z.record(z.string(), jsonValue),
      })
      .describe('What is sent'),
    response_excerpt: z.string().nullable().describe('The beginning of the last answer, where that is text'),
  })
  .meta({ id: 'WebhookDelivery' });

export const deliveryPageSchema = pageSchema(deliverySummarySchema, 'WebhookDeliveryPage');

export type ListDeliveries = z.infer<typeof listDeliveriesQuery>;

export function toDeliverySummary(delivery: DeliverySummary): z.infer<typeof deliverySummarySchema> {
  return {
    id: delivery.id,
    webhook_id: delivery.webhookId,
    event_id: delivery.eventId,
    event_type: delivery.eventType,
    redelivery_of: delivery.redeliveryOf,
    status: delivery.status,
    attempts: delivery.attempts,
    status_code: delivery.statusCode,
    error_code: delivery.errorCode,
    duration_ms: delivery.durationMs,
    next_attempt_at: delivery.nextAttemptAt?.toISOString() ?? null,
    created_at: delivery.createdAt.toISOString(),
    finished_at: delivery.finishedAt?.toISOString() ?? null,
  };
}

export function toDelivery(delivery: Delivery): z.infer<typeof deliverySchema> {
  return {
    ...toDeliverySummary(delivery),
    payload: delivery.payload as z.infer<typeof deliverySchema>['payload'],
    response_excerpt: delivery.responseExcerpt,
  };
}
