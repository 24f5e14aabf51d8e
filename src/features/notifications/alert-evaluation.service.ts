import { Injectable, Logger, type OnModuleInit } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { EventsService } from '../../core/events/events.service.js';
import { BackgroundJobs } from '../../core/jobs/background-jobs.service.js';
import { MailService } from '../../core/mail/mail.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { PlatformDatabase } from '../../core/tenancy/platform-database.js';
import { type CurrentTenant, TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { AlertMetricsRepository } from './alert-metrics.repository.js';
import { AlertRecipientsRepository } from './alert-recipients.repository.js';
import { type AlertMetric, type AlertStep, type Reading, nextStep } from './alert-rules.js';
import { alertText } from './alert-text.js';
import type { Alert } from './alerts.dto.js';
import { AlertsRepository, type WatchedTenant } from './alerts.repository.js';

export const EVALUATION_JOB = 'alerts.evaluate';
const EVALUATE_EVERY = 60;
const TENANTS_AT_ONCE = 200;
const MAILS_AT_ONCE = 500;

type Readings = Record<AlertMetric, Reading>;

/** Looks every minute, once for the whole installation, whether what alerts wait for has happened. */
@Injectable()
export class AlertEvaluationService implements OnModuleInit {
  private readonly logger = new Logger(AlertEvaluationService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly platform: PlatformDatabase,
    private readonly database: TenantDatabase,
    private readonly alerts: AlertsRepository,
    private readonly metrics: AlertMetricsRepository,
    private readonly recipients: AlertRecipientsRepository,
    private readonly quotas: QuotasService,
    private readonly mail: MailService,
    private readonly events: EventsService,
    private readonly audit: AuditService,
    private readonly jobs: BackgroundJobs,
  ) {}

  onModuleInit(): void {
    this.jobs.define({
      kind: EVALUATION_JOB,
      mostAttempts: 1,
      every: EVALUATE_EVERY,
      run: ({ signal }) => this.evaluateAll(signal),
    });
  }

  /** One tenant after the other; what goes wrong in one is tried again with the next minute. */
  async evaluateAll(signal: AbortSignal): Promise<void> {
    for (let after: string | null = null; !signal.aborted;) {
      const tenants: CurrentTenant[] = await this.platform.run(tx =>
        this.alerts.watchedAfter(tx, after, TENANTS_AT_ONCE),
      );
      for (const tenant of tenants) {
        if (signal.aborted) return;
        await this.evaluate(tenant).catch((error: Error) =>
          this.logger.error(`The alerts of the tenant ${tenant.name} were not evaluated: ${error.message}`),
        );
      }
      after = tenants.at(-1)?.id ?? null;
      if (after === null) return;
    }
  }

  /** In one transaction, so that what is told has happened, and what has happened is told once. */
  private evaluate(tenant: CurrentTenant): Promise<void> {
    return this.context.runAsSystem(tenant, () =>
      this.database.run(async tx => {
        const now = new Date();
        const readings = await this.metrics.read(tx, now);
        // Mostly nothing has changed: then nothing is locked or written.
        if (!(await this.alerts.active(tx)).some(alert => isNews(alert, readings, now))) return;
        const watched = await this.alerts.lockTenant(tx, tenant.id);
        if (!watched) return;
        // Another process may have been here first.
        const alerts = (await this.alerts.active(tx)).filter(alert => isNews(alert, readings, now));
        for (const alert of alerts) await this.apply(tx, watched, alert, readings[alert.metric], now);
        await this.alerts.saveReadings(
          tx,
          alerts.map(({ id, metric }) => ({ alertId: id, ...readings[metric] })),
        );
        await this.followThrottles(tx, tenant.id, watched.throttledTo);
      }),
    );
  }

  /**
   * Slows the tenant down as its firing alerts say, or no more. Whoever calls this holds the tenant's lock.
   *
   * @param before requests a minute, as it was
   */
  async followThrottles(tx: Tx, tenantId: string, before: number | null): Promise<void> {
    const strictest = await this.alerts.strictestThrottle(tx);
    if (strictest !== before) await this.quotas.throttle(tx, tenantId, strictest);
  }

  private async apply(
    tx: Tx,
    watched: WatchedTenant,
    alert: Alert,
    reading: Reading,
    now: Date,
  ): Promise<void> {
    const { change, tell } = nextStep(alert, reading, now);
    if (change) await this.change(tx, alert, change, tell !== null, reading, now);
    else if (tell) await this.alerts.tellLate(tx, alert.id, now);
    if (!tell) return;
    if (alert.actions.includes('webhook')) this.publish(tx, alert, tell, reading);
    await this.sendMails(tx, watched, alert, tell, reading, now);
  }

  private async change(
    tx: Tx,
    alert: Alert,
    kind: NonNullable<AlertStep['change']>,
    told: boolean,
    reading: Reading,
    now: Date,
  ): Promise<void> {
    const { threshold, thresholdType, metric, name } = alert;
    await this.alerts.change(tx, this.context.tenant.id, {
      id: uuidv7(),
      alertId: alert.id,
      kind,
      ...reading,
      threshold,
      thresholdType,
      told,
      createdAt: now,
    });
    this.audit.record(tx, {
      action: 'alert.state_changed',
      resource: { type: 'alert', id: alert.id },
      details: { name, metric, state: kind === 'fired' ? 'firing' : 'ok', ...reading },
    });
  }

  private publish(tx: Tx, alert: Alert, kind: 'fired' | 'recovered', { value, limit }: Reading): void {
    this.events.publish(tx, {
      type: `alert.${kind}`,
      data: {
        alert_id: alert.id,
        name: alert.name,
        metric: alert.metric,
        threshold: alert.threshold,
        threshold_type: alert.thresholdType,
        value,
        limit,
      },
    });
  }

  private async sendMails(
    tx: Tx,
    watched: WatchedTenant,
    alert: Alert,
    kind: 'fired' | 'recovered',
    reading: Reading,
    now: Date,
  ): Promise<void> {
    const whom = alert.actions.includes('email_members')
      ? 'members'
      : alert.actions.includes('email_admins')
        ? 'admins'
        : null;
    if (!whom) return;
    const { id: tenantId } = this.context.tenant;
    const data = {
      tenantName: watched.displayName,
      ...alertText(alert, kind, reading),
      at: now.toISOString(),
    };
    for (let after: string | null = null; ;) {
      const page: Array<{ id: string; email: string }> = await this.recipients.after(
        tx,
        whom,
        after,
        MAILS_AT_ONCE,
      );
      await this.mail.sendMany(
        tx,
        page.map(({ email }) => ({ template: 'alert', data, to: email, tenantId })),
      );
      if (page.length < MAILS_AT_ONCE) return;
      after = page.at(-1)?.id ?? null;
    }
  }
}

/** Whether there is something to write down. */
function isNews(alert: Alert, readings: Readings, now: Date): boolean {
  const reading = readings[alert.metric];
  const { change, tell } = nextStep(alert, reading, now);
  return (
    change !== null || tell !== null || alert.lastValue !== reading.value || alert.lastLimit !== reading.limit
  );
}
