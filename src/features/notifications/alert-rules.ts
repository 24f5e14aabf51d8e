import type { LimitName } from '../../core/tenancy/tenant-limits.js';
import type { FieldError } from '../../foundation/http/problem.js';

/**
 * What can be watched. `limit` is what a percentage is of: a limit of the plan, or of credits the last grant; null: there is
 * none, and only an absolute threshold makes sense.
 */
export const METRICS = {
  users: { label: 'Members', unit: '', limit: 'max_users' },
  documents: { label: 'Documents', unit: '', limit: 'max_documents' },
  kbs: { label: 'Knowledge bases', unit: '', limit: 'max_kbs' },
  storage: { label: 'Stored files', unit: ' MiB', limit: 'max_storage_mb' },
  api_calls: { label: 'API calls of this month', unit: '', limit: 'max_api_calls_per_month' },
  queries_per_hour: { label: 'Queries of this hour', unit: '', limit: 'max_queries_per_hour' },
  llm_tokens: { label: 'Tokens of chat models this month', unit: '', limit: 'max_llm_tokens_per_month' },
  credits: { label: 'Credits', unit: ' micro-credits', limit: 'last_grant' },
  failure_rate: { label: 'Failed requests', unit: ' %', limit: null },
} as const satisfies Record<string, { label: string; unit: string; limit: LimitName | 'last_grant' | null }>;

export type AlertMetric = keyof typeof METRICS;
export const ALERT_METRICS = Object.keys(METRICS) as [AlertMetric, ...AlertMetric[]];
export const THRESHOLD_TYPES = ['percentage_of_quota', 'absolute'] as const;
export const ALERT_ACTIONS = ['email_admins', 'email_members', 'webhook', 'throttle'] as const;
export type AlertAction = (typeof ALERT_ACTIONS)[number];

const HIGHEST_PERCENTAGE = 1000;

/** What an alert waits for. */
export interface AlertCondition {
  metric: AlertMetric;
  threshold: number;
  thresholdType: (typeof THRESHOLD_TYPES)[number];
}

/** What is told of an alert, and when. */
export interface AlertState {
  state: 'ok' | 'firing';
  /** Whether anybody was told of this firing. */
  told: boolean;
  /** When it was last told that it fires. */
  toldAt: Date | null;
  cooldownSeconds: number;
}

/** How much there is of a metric, and of how much a percentage of it would be; null: of nothing. */
export interface Reading {
  value: number;
  limit: number | null;
}

/** What an evaluation comes to: whether the state changes, and whether somebody is told. */
export interface AlertStep {
  change: 'fired' | 'recovered' | null;
  tell: 'fired' | 'recovered' | null;
}

/** Credits run out; of everything else there can be too much. */
export const firesBelow = (metric: AlertMetric): boolean => metric === 'credits';

/**
 * Whether a value is past the threshold: at it or above, of credits below it. There is no hysteresis; the cooldown keeps a
 * value that goes to and fro from being told each time. A percentage of no limit is never reached.
 */
export function isCrossed({ metric, threshold, thresholdType }: AlertCondition, reading: Reading): boolean {
  const { value, limit } = reading;
  if (thresholdType === 'percentage_of_quota' && limit === null) return false;
  const bound = thresholdType === 'absolute' ? threshold : ((limit as number) * threshold) / 100;
  // Nothing is no share of a limit of nothing.
  return firesBelow(metric) ? value < bound : value >= bound && value > 0;
}

/**
 * What follows from a reading. Within the cooldown a second firing is kept track of, but not told; if it lasts, it is told
 * when the cooldown is over. A recovery is told where the firing was.
 */
export function nextStep(alert: AlertCondition & AlertState, reading: Reading, now: Date): AlertStep {
  const crossed = isCrossed(alert, reading);
  if (!crossed)
    return alert.state === 'firing'
      ? { change: 'recovered', tell: alert.told ? 'recovered' : null }
      : { change: null, tell: null };
  const sinceTold = now.getTime() - (alert.toldAt?.getTime() ?? -Infinity);
  // Told in the future: the clock has gone back, and must not silence the alert until it is there again.
  const rested = sinceTold < 0 || sinceTold >= alert.cooldownSeconds * 1000;
  if (alert.state === 'ok') return { change: 'fired', tell: rested ? 'fired' : null };
  return { change: null, tell: !alert.told && rested ? 'fired' : null };
}

/** What is wrong with an alert by itself, whatever the tenant's limits. */
export function alertFaults(
  alert: AlertCondition & { actions: readonly AlertAction[]; throttleToPerMinute: number | null },
): FieldError[] {
  const faults: FieldError[] = [];
  const { metric, threshold, thresholdType } = alert;
  if (thresholdType === 'percentage_of_quota') {
    if (METRICS[metric].limit === null)
      faults.push({
        path: 'threshold_type',
        code: 'no_quota',
        message: `there is no quota of ${metric}: it takes an absolute threshold, in percent of the requests`,
      });
    else if (threshold > HIGHEST_PERCENTAGE)
      faults.push({
        path: 'threshold',
        code: 'too_big',
        message: `must be at most ${HIGHEST_PERCENTAGE} percent`,
      });
  } else if (metric === 'failure_rate' && threshold > 100) {
    faults.push({
      path: 'threshold',
      code: 'too_big',
      message: 'must be at most 100 percent of the requests',
    });
  }
  if (alert.actions.includes('throttle') && alert.throttleToPerMinute === null)
    faults.push({
      path: 'throttle_to_per_minute',
      code: 'required',
      message: 'must say how many requests a minute the action throttle leaves',
    });
  return faults;
}
