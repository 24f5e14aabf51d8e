import { Injectable, type OnModuleInit } from '@nestjs/common';
import { BackgroundJobs, type JobRun, JobRetry } from '../../core/jobs/background-jobs.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import type { Delivery, DisabledReason, Outcome, SealedParts, Webhook } from './webhook.js';
import { type Progress, WebhookDeliveriesRepository } from './webhook-deliveries.repository.js';
import { DELIVER_JOB, type DeliverPayload } from './webhook-job.js';
import { WebhookSender } from './webhook-sender.js';
import { WebhooksRepository } from './webhooks.repository.js';
import { WebhooksService } from './webhooks.service.js';

/** Seconds between the attempts: ten of them, within a day. */
const DELAYS = [2, 30, 120, 600, 1_800, 3_600, 7_200, 21_600, 50_400];
/** So that what failed together does not come back together. */
const JITTER = 0.1;
/** Seconds that a receiver may ask for at most. */
const LONGEST_RETRY_AFTER = 6 * 3600;
/** Seconds; a tenant that is suspended has no attempt to lose. */
const SUSPENDED_DELAY = 3600;
/** More than there are attempts: interruptions of ours, and suspensions, count here too. */
const MOST_JOB_ATTEMPTS = 100;
/** A webhook that has failed as often as this, and for as long, is switched off. */
const FAILING = { failures: 20, hours: 72 };
/** What a suspended tenant is told all the same. */
const TOLD_WHEN_SUSPENDED = 'tenant.suspended';

/** Delivers messages, and tries again. */
@Injectable()
export class WebhookJobService implements OnModuleInit {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly directory: TenantDirectory,
    private readonly jobs: BackgroundJobs,
    private readonly service: WebhooksService,
    private readonly webhooks: WebhooksRepository,
    private readonly deliveries: WebhookDeliveriesRepository,
    private readonly sender: WebhookSender,
  ) {}

  onModuleInit(): void {
    this.jobs.define<DeliverPayload>({
      kind: DELIVER_JOB,
      mostAttempts: MOST_JOB_ATTEMPTS,
      lane: 'outbound',
      brief: true,
      run: job => this.deliver(job),
    });
  }

  /**
   * A process that dies between sending and writing that down sends again: receivers know a message by its id.
   *
   * @throws JobRetry
   */
  private async deliver({ payload: { deliveryId }, signal }: JobRun<DeliverPayload>): Promise<void> {
    const found = await this.find(deliveryId);
    if (!found) return;
    const { delivery, webhook } = found;
    const refusal = await this.refusal(delivery, webhook);
    const outcome = refusal ?? (await this.sender.send(webhook, delivery.payload, signal));
    const progress = refusal ? progressUnasked(refusal) : progressOf(delivery, outcome);
    const reason = await this.note(delivery, outcome, progress);
    if (reason) await this.service.disable(webhook.id, reason);
    if (progress.delay === null) return;
    const code = outcome.errorCode ?? 'failed';
    throw new JobRetry(code, `The webhook’s receiver was not reached (${code}).`, progress.delay);
  }

  private find(deliveryId: string): Promise<{ delivery: Delivery; webhook: Webhook & SealedParts } | null> {
    return this.database.run(async tx => {
      const delivery = await this.deliveries.find(tx, deliveryId);
      if (delivery?.status !== 'pending') return null;
      const webhook = await this.webhooks.findSealed(tx, delivery.webhookId);
      return webhook && { delivery, webhook };
    });
  }

  /** Why the receiver is not even asked; null where it is. */
  private async refusal({ eventType }: Delivery, { isActive }: Webhook): Promise<Outcome | null> {
    if (!isActive) return unasked('webhook_inactive');
    const tenant = await this.directory.find(this.context.tenant.id);
    const suspended = tenant?.status === 'suspended' && eventType !== TOLD_WHEN_SUSPENDED;
    return suspended ? unasked('tenant_suspended') : null;
  }

  /** Writes down how it went. @returns why the webhook has to be switched off, where it has */
  private note(
    { id, webhookId }: Delivery,
    outcome: Outcome,
    progress: Progress,
  ): Promise<DisabledReason | null> {
    return this.database.run(async tx => {
      // The webhook first, as whoever deletes it locks them.
      const failing =
        progress.attempted && !outcome.ok ? await this.webhooks.noteFailure(tx, webhookId) : null;
      if (outcome.ok) await this.webhooks.noteSuccess(tx, webhookId);
      await this.deliveries.note(tx, id, outcome, progress);
      if (outcome.errorCode === 'gone') return 'gone';
      return failing && failing.failures >= FAILING.failures && failing.hours >= FAILING.hours
        ? 'failing'
        : null;
    });
  }
}

const unasked = (errorCode: string): Outcome => ({
  ok: false,
  statusCode: null,
  excerpt: null,
  errorCode,
  durationMs: null,
  retryAfter: null,
});

/** What is switched off hears nothing; a suspension passes. */
function progressUnasked({ errorCode }: Outcome): Progress {
  return errorCode === 'tenant_suspended'
    ? { status: 'pending', attempted: false, delay: SUSPENDED_DELAY }
    : { status: 'failed', attempted: false, delay: null };
}

function progressOf({ attempts }: Delivery, outcome: Outcome): Progress {
  if (outcome.ok) return { status: 'succeeded', attempted: true, delay: null };
  const planned = DELAYS[attempts];
  if (planned === undefined || outcome.errorCode === 'gone')
    return { status: 'failed', attempted: true, delay: null };
  const asked = Math.min(outcome.retryAfter ?? 0, LONGEST_RETRY_AFTER);
  return {
    status: 'pending',
    attempted: true,
    delay: Math.max(planned, asked) * (1 + Math.random() * JITTER),
  };
}
