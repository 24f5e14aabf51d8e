export const WINDOWS = ['hour', 'day', 'month'] as const;
export type Window = (typeof WINDOWS)[number];

/** An hour of the clock, a day or a month, in UTC. */
export interface CalendarWindow {
  /** `2026-03`, `2026-03-31`, `2026-03-31T09`. */
  name: string;
  start: Date;
  end: Date;
}

const LENGTH_OF_NAME = { hour: 13, day: 10, month: 7 };

/** The one that a moment lies in. */
export function calendarWindow(window: Window, now: Date): CalendarWindow {
  const [year, month] = [now.getUTCFullYear(), now.getUTCMonth()];
  const day = window === 'month' ? 1 : now.getUTCDate();
  const hour = window === 'hour' ? now.getUTCHours() : 0;
  const start = new Date(Date.UTC(year, month, day, hour));
  const end = new Date(
    window === 'month'
      ? Date.UTC(year, month + 1, 1)
      : start.getTime() + (window === 'day' ? 24 : 1) * 3_600_000,
  );
  return { name: start.toISOString().slice(0, LENGTH_OF_NAME[window]), start, end };
}

/** Until it ends, at least one; rounded up. */
export const secondsLeft = ({ end }: CalendarWindow, now: Date): number =>
  Math.max(1, Math.ceil((end.getTime() - now.getTime()) / 1000));

/** Of the whole of it. */
export const secondsOf = ({ start, end }: CalendarWindow): number => (end.getTime() - start.getTime()) / 1000;
