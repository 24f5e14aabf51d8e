import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { Reading } from './alert-rules.js';
import type { Alert, AlertEvent, AlertSettings, ListAlertEvents, ListAlerts } from './alerts.dto.js';

const SORTABLE = { created_at: 'created_at', name: 'lower(name)' };
/** How long it can be looked up when an alert has fired. */
const KEEP_EVENTS = `interval '90 days'`;

const COLUMNS = `
  id, name, metric, threshold::float8 AS threshold, threshold_type AS "thresholdType", actions,
  throttle_to_per_minute AS "throttleToPerMinute", cooldown_seconds AS "cooldownSeconds", is_active AS "isActive",
  state, told, told_at AS "toldAt", last_value::float8 AS "lastValue", last_limit::float8 AS "lastLimit",
  fired_at AS "firedAt", recovered_at AS "recoveredAt", created_by AS "createdBy",
  created_at AS "createdAt", updated_at AS "updatedAt"`;

const EVENT_COLUMNS = `
  id, alert_id AS "alertId", kind, value::float8 AS value, threshold::float8 AS threshold,
  threshold_type AS "thresholdType", limit_value::float8 AS "limit", told, created_at AS "createdAt"`;

/** The tenant as alerts need it. */
export interface WatchedTenant {
  displayName: string;
  /** Requests a minute. */
  throttledTo: number | null;
}

/** Alerts of the transaction's tenant. */
@Injectable()
export class AlertsRepository {
  /**
   * Makes whoever changes or evaluates alerts of the tenant wait for the other. The tenant's row is what is locked: whoever
   * deletes it begins there, too.
   */
  async lockTenant(tx: Tx, tenantId: string): Promise<WatchedTenant | null> {
    const rows: WatchedTenant[] = await tx.query(
      `SELECT display_name AS "displayName", throttled_to AS "throttledTo" FROM tenants WHERE id = $1
       FOR NO KEY UPDATE`,
      [tenantId],
    );
    return rows[0] ?? null;
  }

  async find(tx: Tx, id: string): Promise<Alert | null> {
    const rows: Alert[] = await tx.query(`SELECT ${COLUMNS} FROM alerts WHERE id = $1`, [id]);
    return rows[0] ?? null;
  }

  active(tx: Tx): Promise<Alert[]> {
    return tx.query(`SELECT ${COLUMNS} FROM alerts WHERE is_active ORDER BY id`);
  }

  async count(tx: Tx): Promise<number> {
    const [{ count }] = await tx.query('SELECT count(*)::int AS count FROM alerts');
    return count as number;
  }

  async list(tx: Tx, query: ListAlerts): Promise<Page<Alert>> {
    const parameters: unknown[] = [];
    const conditions = ['true'];
    const add = (value: unknown, condition: (parameter: string) => string) =>
      conditions.push(condition(`$${parameters.push(value)}`));
    if (query.metric) add(query.metric, value => `metric = ${value}`);
    if (query.state) add(query.state, value => `state = ${value}`);
    if (query.search) add(likePattern(query.search), value => `name ILIKE ${value}`);
    const where = `WHERE ${conditions.join(' AND ')}`;
    const [{ total }] = await tx.query(`SELECT count(*)::int AS total FROM alerts ${where}`, parameters);
    const items: Alert[] = await tx.query(
      `SELECT ${COLUMNS} FROM alerts ${where} ORDER BY ${orderBy(query.sort, SORTABLE)}, id
       LIMIT $${parameters.length + 1} OFFSET $${parameters.length + 2}`,
      [...parameters, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }

  async insert(
    tx: Tx,
    alert: AlertSettings & { id: string; tenantId: string; createdBy: string },
  ): Promise<void> {
    await tx.query(
      `INSERT INTO alerts (id, tenant_id, name, metric, threshold, threshold_type, actions, throttle_to_per_minute,
                           cooldown_seconds, is_active, created_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
      [alert.id, alert.tenantId, ...valuesOf(alert), alert.createdBy],
    );
  }

  /** @param restart whether it waits for something else now: what it was and told before says nothing of that */
  async update(tx: Tx, id: string, settings: AlertSettings, restart: boolean): Promise<void> {
    await tx.query(
      `UPDATE alerts SET
         name = $2, metric = $3, threshold = $4, threshold_type = $5, actions = $6, throttle_to_per_minute = $7,
         cooldown_seconds = $8, is_active = $9,
         state = CASE WHEN $10 OR NOT $9 THEN 'ok' ELSE state END, told = told AND $9 AND NOT $10,
         told_at = CASE WHEN $10 THEN NULL ELSE told_at END,
         last_value = CASE WHEN $10 THEN NULL ELSE last_value END,
         last_limit = CASE WHEN $10 THEN NULL ELSE last_limit END,
         updated_at = now()
       WHERE id = $1`,
      [id, ...valuesOf(settings), restart],
    );
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM alerts WHERE id = $1', [id]);
  }

  /** What was last read, of those for which it was something else before. */
  async saveReadings(tx: Tx, readings: ReadonlyArray<Reading & { alertId: string }>): Promise<void> {
    await tx.query(
      `UPDATE alerts SET last_value = r.value, last_limit = r.limit_value
       FROM unnest($1::uuid[], $2::numeric[], $3::numeric[]) AS r (id, value, limit_value) WHERE alerts.id = r.id`,
      [
        readings.map(reading => reading.alertId),
        readings.map(reading => reading.value),
        readings.map(reading => reading.limit),
      ],
    );
  }

  /** Its new state, with the event that says so. */
  async change(tx: Tx, tenantId: string, event: AlertEvent): Promise<void> {
    const fired = event.kind === 'fired';
    await tx.query(
      `UPDATE alerts SET state = $2, ${fired ? 'fired_at' : 'recovered_at'} = $3, told = $4,
         told_at = CASE WHEN $4 THEN $3 ELSE told_at END
       WHERE id = $1`,
      [event.alertId, fired ? 'firing' : 'ok', event.createdAt, fired && event.told],
    );
    await tx.query(
      `INSERT INTO alert_events (id, tenant_id, alert_id, kind, value, threshold, threshold_type, limit_value, told,
                                 created_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        event.id,
        tenantId,
        event.alertId,
        event.kind,
        event.value,
        event.threshold,
        event.thresholdType,
        event.limit,
        event.told,
        event.createdAt,
      ],
    );
    await tx.query(
      `DELETE FROM alert_events WHERE alert_id = $1 AND created_at < $2::timestamptz - ${KEEP_EVENTS}`,
      [event.alertId, event.createdAt],
    );
  }

  /** It has fired before, and is told now. */
  async tellLate(tx: Tx, alertId: string, now: Date): Promise<void> {
    await tx.query('UPDATE alerts SET told = true, told_at = $2 WHERE id = $1', [alertId, now]);
    await tx.query(
      `UPDATE alert_events SET told = true
       WHERE id = (SELECT id FROM alert_events WHERE alert_id = $1 AND kind = 'fired'
                   ORDER BY created_at DESC, id DESC LIMIT 1)`,
      [alertId],
    );
  }

  /** Of several that slow the tenant down, the strictest. @returns requests a minute; null: none does */
  async strictestThrottle(tx: Tx): Promise<number | null> {
    const [{ strictest }] = await tx.query(
      `SELECT min(throttle_to_per_minute) AS strictest FROM alerts
       WHERE state = 'firing' AND 'throttle' = ANY (actions)`,
    );
    return strictest as number | null;
  }

  async events(tx: Tx, alertId: string, query: ListAlertEvents): Promise<Page<AlertEvent>> {
    const [{ total }] = await tx.query(
      'SELECT count(*)::int AS total FROM alert_events WHERE alert_id = $1',
      [alertId],
    );
    const items: AlertEvent[] = await tx.query(
      `SELECT ${EVENT_COLUMNS} FROM alert_events WHERE alert_id = $1 ORDER BY created_at DESC, id DESC
       LIMIT $2 OFFSET $3`,
      [alertId, query.page_size, (query.page - 1) * query.page_size],
    );
    return { items, total };
  }

  /** Tenants in which alerts wait for something, in the order of their ids; in a transaction of the platform. */
  watchedAfter(tx: Tx, after: string | null, limit: number): Promise<Array<{ id: string; name: string }>> {
    return tx.query(
      `SELECT id, name FROM tenants t
       WHERE status = 'active' AND ($1::uuid IS NULL OR id > $1)
         AND EXISTS (SELECT FROM alerts a WHERE a.tenant_id = t.id AND a.is_active)
       ORDER BY id LIMIT $2`,
      [after, limit],
    );
  }
}

const valuesOf = (settings: AlertSettings): unknown[] => [
  settings.name,
  settings.metric,
  settings.threshold,
  settings.thresholdType,
  settings.actions,
  settings.throttleToPerMinute,
  settings.cooldownSeconds,
  settings.isActive,
];
