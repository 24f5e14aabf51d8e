import { z } from 'zod';
import { listQuery, pageQuery, pageSchema } from '../../foundation/http/pagination.js';
import {
  ALERT_ACTIONS,
  ALERT_METRICS,
  type AlertAction,
  type AlertCondition,
  type AlertState,
  THRESHOLD_TYPES,
  firesBelow,
} from './alert-rules.js';

const LONGEST_COOLDOWN = 30 * 24 * 3600;
const DEFAULT_COOLDOWN = 3600;

const nameField = z
  .string()
  .trim()
  .max(100)
  .refine(name => !/\p{Cc}/u.test(name), 'must not hold control characters')
  .describe('For people; may be empty');
const metricField = z
  .enum(ALERT_METRICS)
  .describe(
    'What is watched: members, documents, knowledge bases, stored MiB, requests and tokens of chat models of the calendar ' +
      'month, queries of the hour of the clock (all in UTC), available micro-credits, or the percentage of requests that ' +
      'failed in this hour and the one before (of fewer than 10 it is 0). Credits fire when they fall below the threshold, ' +
      'everything else when it reaches it.',
  );
const thresholdField = z.number().positive().max(Number.MAX_SAFE_INTEGER);
const thresholdTypeField = z
  .enum(THRESHOLD_TYPES)
  .describe(
    '`percentage_of_quota` is of the limit of the tenant, and of credits of the last grant; at most 1000.',
  );
const actionField = z.enum(ALERT_ACTIONS);
const actionsField = z
  .array(actionField)
  .min(1)
  .max(ALERT_ACTIONS.length)
  .refine(actions => new Set(actions).size === actions.length, 'must not name an action twice')
  .describe(
    '`email_admins`: owners and admins; `email_members`: all active members; `webhook`: the events `alert.fired` and ' +
      '`alert.recovered`; `throttle`: slows the tenant down while it fires, the strictest of several alerts counts.',
  );
const throttleField = z.int().min(1).max(1_000_000).nullable().describe('Requests; needed by `throttle`');
const cooldownField = z
  .int()
  .min(0)
  .max(LONGEST_COOLDOWN)
  .describe('Seconds after a firing was told in which another one is not told');

const fields = {
  name: nameField,
  metric: metricField,
  threshold: thresholdField,
  threshold_type: thresholdTypeField,
  throttle_to_per_minute: throttleField,
  cooldown_seconds: cooldownField,
  is_active: z.boolean(),
};
const chosen = {
  action: actionField.optional().describe('Instead of `actions`, where there is one'),
  actions: actionsField.optional(),
};

export const createAlertSchema = z
  .strictObject({
    ...fields,
    ...chosen,
    name: nameField.default(''),
    throttle_to_per_minute: throttleField.default(null),
    cooldown_seconds: cooldownField.default(DEFAULT_COOLDOWN),
    is_active: z.boolean().default(true),
  })
  .refine(body => (body.action === undefined) !== (body.actions === undefined), {
    message: 'needs either action or actions',
    path: ['actions'],
  })
  .meta({
    id: 'CreateAlert',
    example: {
      name: 'Almost full',
      metric: 'users',
      threshold: 90,
      threshold_type: 'percentage_of_quota',
      actions: ['email_admins', 'webhook'],
    },
  });

export const updateAlertSchema = z
  .strictObject({ ...fields, ...chosen })
  .partial()
  .refine(body => body.action === undefined || body.actions === undefined, {
    message: 'takes either action or actions',
    path: ['actions'],
  })
  .meta({ id: 'UpdateAlert', example: { threshold: 80, actions: ['email_members'] } });

export const listAlertsQuery = listQuery(['created_at', 'name'], {
  metric: z.enum(ALERT_METRICS).optional(),
  state: z.enum(['ok', 'firing']).optional(),
});
export const listAlertEventsQuery = pageQuery;

export const alertSchema = z
  .object({
    id: z.uuid(),
    ...fields,
    actions: z.array(actionField),
    direction: z.enum(['above', 'below']).describe('On which side of the threshold it fires'),
    state: z.enum(['ok', 'firing']),
    last_value: z.number().nullable().describe('As of the last evaluation, which is made every minute'),
    limit: z
      .number()
      .nullable()
      .describe('What a percentage was of at the last evaluation; null: there was no limit, it cannot fire'),
    fired_at: z.iso.datetime().nullable(),
    recovered_at: z.iso.datetime().nullable(),
    created_by: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'Alert' });

export const alertPageSchema = pageSchema(alertSchema, 'AlertPage');

export const alertEventSchema = z
  .object({
    id: z.uuid(),
    alert_id: z.uuid(),
    kind: z.enum(['fired', 'recovered']),
    value: z.number(),
    threshold: z.number(),
    threshold_type: z.enum(THRESHOLD_TYPES),
    limit: z.number().nullable(),
    told: z.boolean().describe('False: it was within the cooldown'),
    created_at: z.iso.datetime(),
  })
  .meta({ id: 'AlertEvent' });

export const alertEventPageSchema = pageSchema(alertEventSchema, 'AlertEventPage');

export type CreateAlert = z.infer<typeof createAlertSchema>;
export type UpdateAlert = z.infer<typeof updateAlertSchema>;
export type ListAlerts = z.infer<typeof listAlertsQuery>;
export type ListAlertEvents = z.infer<typeof listAlertEventsQuery>;

/** What people say of an alert. */
export interface AlertSettings extends AlertCondition {
  name: string;
  actions: AlertAction[];
  throttleToPerMinute: number | null;
  cooldownSeconds: number;
  isActive: boolean;
}

export interface Alert extends AlertSettings, AlertState {
  id: string;
  lastValue: number | null;
  lastLimit: number | null;
  firedAt: Date | null;
  recoveredAt: Date | null;
  createdBy: string | null;
  createdAt: Date;
  updatedAt: Date;
}

export interface AlertEvent {
  id: string;
  alertId: string;
  kind: 'fired' | 'recovered';
  value: number;
  threshold: number;
  thresholdType: AlertCondition['thresholdType'];
  limit: number | null;
  told: boolean;
  createdAt: Date;
}

/** What a body says of an alert; undefined what it says nothing of. */
export function toSettings(body: UpdateAlert): Partial<AlertSettings> {
  const settings: { [Field in keyof AlertSettings]: AlertSettings[Field] | undefined } = {
    name: body.name,
    metric: body.metric,
    threshold: body.threshold,
    thresholdType: body.threshold_type,
    actions: body.action ? [body.action] : body.actions,
    throttleToPerMinute: body.throttle_to_per_minute,
    cooldownSeconds: body.cooldown_seconds,
    isActive: body.is_active,
  };
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

const round = (value: number): number => Math.round(value * 100) / 100;
const rounded = (value: number | null): number | null => (value === null ? null : round(value));

export function toAlert(alert: Alert): z.infer<typeof alertSchema> {
  return {
    id: alert.id,
    name: alert.name,
    metric: alert.metric,
    threshold: alert.threshold,
    threshold_type: alert.thresholdType,
    direction: firesBelow(alert.metric) ? 'below' : 'above',
    actions: alert.actions,
    throttle_to_per_minute: alert.throttleToPerMinute,
    cooldown_seconds: alert.cooldownSeconds,
    is_active: alert.isActive,
    state: alert.state,
    last_value: rounded(alert.lastValue),
    limit: rounded(alert.lastLimit),
    fired_at: alert.firedAt?.toISOString() ?? null,
    recovered_at: alert.recoveredAt?.toISOString() ?? null,
    created_by: alert.createdBy,
    created_at: alert.createdAt.toISOString(),
    updated_at: alert.updatedAt.toISOString(),
  };
}

export function toAlertEvent(event: AlertEvent): z.infer<typeof alertEventSchema> {
  return {
    id: event.id,
    alert_id: event.alertId,
    kind: event.kind,
    value: round(event.value),
    threshold: event.threshold,
    threshold_type: event.thresholdType,
    limit: rounded(event.limit),
    told: event.told,
    created_at: event.createdAt.toISOString(),
  };
}
