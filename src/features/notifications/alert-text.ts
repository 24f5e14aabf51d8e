import { METRICS, type Reading, firesBelow } from './alert-rules.js';
import type { AlertSettings } from './alerts.dto.js';

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });

/** What an e-mail says of an alert: its subject and its sentences. */
export function alertText(
  alert: AlertSettings,
  kind: 'fired' | 'recovered',
  { value, limit }: Reading,
): { title: string; paragraphs: string[] } {
  const { label, unit } = METRICS[alert.metric];
  const below = firesBelow(alert.metric);
  const fired = below ? 'fell below' : 'reached';
  const recovered = below ? 'are no longer below' : 'fell below';
  const title = `${label} ${kind === 'fired' ? fired : recovered} ${boundOf(alert)}`;
  const measured = `${number.format(value)}${unit}`;
  const ofLimit =
    limit === null ? '' : ` of ${number.format(limit)}${unit}${below ? ' that were granted last' : ''}`;
  return {
    title,
    paragraphs: [
      `${title}: ${kind === 'fired' ? 'now it is' : 'by now it is'} ${measured}${ofLimit}.`,
      ...(alert.name ? [`The alert is called “${alert.name}”.`] : []),
      ...(alert.actions.includes('throttle') ? [throttleText(kind, alert.throttleToPerMinute)] : []),
    ],
  };
}

const throttleText = (kind: 'fired' | 'recovered', perMinute: number | null): string =>
  kind === 'fired'
    ? `Until this is over, requests are slowed down to ${number.format(perMinute ?? 0)} a minute.`
    : 'This alert slows requests down no more.';

function boundOf({ metric, threshold, thresholdType }: AlertSettings): string {
  if (thresholdType === 'absolute') return `${number.format(threshold)}${METRICS[metric].unit}`;
  return `${number.format(threshold)} % of ${firesBelow(metric) ? 'the last grant' : 'the limit'}`;
}
