import { Injectable } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { AuditService } from '../../core/audit/audit.service.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { type IfMatch, requireMatch } from '../../foundation/http/entity-tag.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import { AlertEvaluationService } from './alert-evaluation.service.js';
import { AlertMetricsRepository } from './alert-metrics.repository.js';
import { alertFaults } from './alert-rules.js';
import type {
  Alert,
  AlertEvent,
  AlertSettings,
  CreateAlert,
  ListAlertEvents,
  ListAlerts,
  UpdateAlert,
} from './alerts.dto.js';
import { toSettings } from './alerts.dto.js';
import { AlertsRepository, type WatchedTenant } from './alerts.repository.js';

const MOST_ALERTS = 100;

/** What a tenant wants to be told of. */
@Injectable()
export class AlertsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly alerts: AlertsRepository,
    private readonly metrics: AlertMetricsRepository,
    private readonly evaluation: AlertEvaluationService,
    private readonly audit: AuditService,
  ) {}

  list(query: ListAlerts): Promise<Page<Alert>> {
    return this.database.run(tx => this.alerts.list(tx, query));
  }

  /** @throws Problem 404 */
  get(id: string): Promise<Alert> {
    return this.database.run(tx => this.require(tx, id));
  }

  /** @throws Problem 404 */
  events(id: string, query: ListAlertEvents): Promise<Page<AlertEvent>> {
    return this.database.run(async tx => {
      await this.require(tx, id);
      return this.alerts.events(tx, id, query);
    });
  }

  /** @throws Problem 409 `too_many_alerts`, 422 */
  create(input: CreateAlert): Promise<Alert> {
    const settings = toSettings(input) as AlertSettings;
    const id = uuidv7();
    const { tenant, userId: createdBy } = this.context;
    return this.database.run(async tx => {
      await this.lock(tx);
      if ((await this.alerts.count(tx)) >= MOST_ALERTS)
        throw Problem.conflict('too_many_alerts', `A tenant has at most ${MOST_ALERTS} alerts.`);
      await this.check(tx, settings);
      await this.alerts.insert(tx, { ...settings, id, tenantId: tenant.id, createdBy });
      this.audit.record(tx, {
        action: 'alert.created',
        resource: { type: 'alert', id },
        details: toDetails(settings),
      });
      return this.require(tx, id);
    });
  }

  /**
   * One that is switched off while it fires, or made to wait for something else, begins anew: nobody is told that it has
   * recovered, and what it has slowed down goes on.
   *
   * @throws Problem 404, 412, 422
   */
  update(id: string, input: UpdateAlert, ifMatch: IfMatch): Promise<Alert> {
    return this.database.run(async tx => {
      const tenant = await this.lock(tx);
      const before = await this.require(tx, id);
      requireMatch(ifMatch, before.updatedAt);
      const settings = { ...settingsOf(before), ...toSettings(input) };
      const restart = !isSameCondition(before, settings);
      if (restart || alertFaults(settings).length > 0) await this.check(tx, settings);
      await this.alerts.update(tx, id, settings, restart);
      await this.evaluation.followThrottles(tx, this.context.tenant.id, tenant.throttledTo);
      this.audit.record(tx, {
        action: 'alert.updated',
        resource: { type: 'alert', id },
        details: { before: toDetails(settingsOf(before)), after: toDetails(settings) },
      });
      return this.require(tx, id);
    });
  }

  /** With its events; what it has slowed down goes on. @throws Problem 404 */
  delete(id: string): Promise<void> {
    return this.database.run(async tx => {
      const tenant = await this.lock(tx);
      const alert = await this.require(tx, id);
      await this.alerts.delete(tx, id);
      await this.evaluation.followThrottles(tx, this.context.tenant.id, tenant.throttledTo);
      this.audit.record(tx, {
        action: 'alert.deleted',
        resource: { type: 'alert', id },
        details: toDetails(settingsOf(alert)),
      });
    });
  }

  /** @throws Problem 422, of a percentage of what the tenant has no limit of, too: it would never fire */
  private async check(tx: Tx, settings: AlertSettings): Promise<void> {
    const faults = alertFaults(settings);
    if (faults.length === 0 && settings.thresholdType === 'percentage_of_quota') {
      const readings = await this.metrics.read(tx, new Date());
      if (readings[settings.metric].limit === null)
        faults.push({
          path: 'threshold_type',
          code: 'no_limit',
          message:
            settings.metric === 'credits'
              ? 'this tenant was granted no credits yet that it could be a percentage of'
              : `this tenant has no limit of ${settings.metric} that it could be a percentage of`,
        });
    }
    if (faults.length > 0) throw Problem.invalid(faults);
  }

  private async lock(tx: Tx): Promise<WatchedTenant> {
    const tenant = await this.alerts.lockTenant(tx, this.context.tenant.id);
    if (!tenant) throw Problem.notFound('tenant');
    return tenant;
  }

  private async require(tx: Tx, id: string): Promise<Alert> {
    const alert = await this.alerts.find(tx, id);
    if (!alert) throw Problem.notFound('alert');
    return alert;
  }
}

const settingsOf = (alert: Alert): AlertSettings => ({
  name: alert.name,
  metric: alert.metric,
  threshold: alert.threshold,
  thresholdType: alert.thresholdType,
  actions: alert.actions,
  throttleToPerMinute: alert.throttleToPerMinute,
  cooldownSeconds: alert.cooldownSeconds,
  isActive: alert.isActive,
});

const isSameCondition = (one: AlertSettings, other: AlertSettings): boolean =>
  one.metric === other.metric &&
  one.threshold === other.threshold &&
  one.thresholdType === other.thresholdType;

/** As it is named on the wire. */
const toDetails = (settings: AlertSettings): Record<string, unknown> => ({
  name: settings.name,
  metric: settings.metric,
  threshold: settings.threshold,
  threshold_type: settings.thresholdType,
  actions: settings.actions,
  throttle_to_per_minute: settings.throttleToPerMinute,
  cooldown_seconds: settings.cooldownSeconds,
  is_active: settings.isActive,
});
