/** Why a webhook was switched off by the system: its receiver said that it is gone, or failed for days. */
export const DISABLED_REASONS = ['gone', 'failing'] as const;
export type DisabledReason = (typeof DISABLED_REASONS)[number];

export const DELIVERY_STATUSES = ['pending', 'succeeded', 'failed'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** A row of the table `webhooks`, without what is sealed. */
export interface Webhook {
  id: string;
  url: string;
  description: string;
  events: string[];
  headerNames: string[];
  isActive: boolean;
  disabledReason: DisabledReason | null;
  /** Attempts that failed since the last that succeeded. */
  consecutiveFailures: number;
  failingSince: Date | null;
  previousSecretExpiresAt: Date | null;
  createdBy: string | null;
  createdAt: Date;
  updatedAt: Date;
}

/** The sealed parts of a webhook; see {@link WebhookSecrets}. */
export interface SealedParts {
  secret: Buffer;
  previousSecret: Buffer | null;
  headers: Buffer | null;
}

/** What a receiver is sent, as JSON. */
export interface Message {
  /** Of the event: whoever gets it twice knows it by this. */
  id: string;
  type: string;
  /** When it happened, ISO 8601. */
  timestamp: string;
  tenant_id: string;
  data: Record<string, unknown>;
}

/** A row of the table `webhook_deliveries`, without what was sent and answered. */
export interface DeliverySummary {
  id: string;
  webhookId: string;
  eventId: string;
  eventType: string;
  redeliveryOf: string | null;
  status: DeliveryStatus;
  attempts: number;
  statusCode: number | null;
  errorCode: string | null;
  durationMs: number | null;
  nextAttemptAt: Date | null;
  createdAt: Date;
  finishedAt: Date | null;
}

export interface Delivery extends DeliverySummary {
  payload: Message;
  responseExcerpt: string | null;
}

/** How one attempt ended. */
export interface Outcome {
  ok: boolean;
  statusCode: number | null;
  /** The beginning of the answer, where that is text. */
  excerpt: string | null;
  /** Null where it succeeded. */
  errorCode: string | null;
  durationMs: number | null;
  /** Seconds that the receiver asks to be left alone. */
  retryAfter: number | null;
}
