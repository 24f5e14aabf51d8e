const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A time in whole hours of UTC, cut so that whole days are read from what is rolled up by day. */
export interface UsageWindow {
  from: Date;
  /** Exclusive. */
  until: Date;
  parts: Array<{ grain: 'hour' | 'day'; from: Date; until: Date }>;
}

/** What was used in a window. Durations are in microseconds, credits in micro-credits. */
export interface UsageTotals {
  /** Requests, queries among them. */
  apiCalls: number;
  failedApiCalls: number;
  queries: number;
  failedQueries: number;
  queryDurationUs: number;
  jobs: number;
  failedJobs: number;
  inputTokens: number;
  outputTokens: number;
  embeddingTokens: number;
  credits: number;
}

/**
 * @param from from the beginning of its hour
 * @param until to the end of its hour
 * @param options.days false: cut into hours alone
 */
export function usageWindow(from: Date, until: Date, { days = true } = {}): UsageWindow {
  const begin = Math.floor(from.getTime() / HOUR_MS) * HOUR_MS;
  const end = Math.max(begin, Math.ceil(until.getTime() / HOUR_MS) * HOUR_MS);
  const firstDay = Math.ceil(begin / DAY_MS) * DAY_MS;
  const lastDay = Math.floor(end / DAY_MS) * DAY_MS;
  const cuts: Array<['hour' | 'day', number, number]> =
    days && firstDay < lastDay
      ? [
          ['hour', begin, firstDay],
          ['day', firstDay, lastDay],
          ['hour', lastDay, end],
        ]
      : [['hour', begin, end]];
  return {
    from: new Date(begin),
    until: new Date(end),
    parts: cuts
      .filter(([, first, last]) => first < last || cuts.length === 1)
      .map(([grain, first, last]) => ({ grain, from: new Date(first), until: new Date(last) })),
  };
}

/** The window of the same length right before. */
export function windowBefore({ from, until }: UsageWindow): UsageWindow {
  return usageWindow(new Date(2 * from.getTime() - until.getTime()), from);
}
