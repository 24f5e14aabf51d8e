import { describe, expect, it } from 'vitest';
import { calendarWindow, secondsLeft, secondsOf } from './calendar-window.js';

describe('calendarWindow', () => {
  it.each([
    ['hour', '2026-03-31T09:59:59.999Z', '2026-03-31T09', '2026-03-31T09:00:00Z', '2026-03-31T10:00:00Z'],
    ['day', '2026-03-31T23:30:00Z', '2026-03-31', '2026-03-31T00:00:00Z', '2026-04-01T00:00:00Z'],
    ['month', '2026-12-31T23:59:59Z', '2026-12', '2026-12-01T00:00:00Z', '2027-01-01T00:00:00Z'],
    ['month', '2028-02-29T12:00:00Z', '2028-02', '2028-02-01T00:00:00Z', '2028-03-01T00:00:00Z'],
  ] as const)('is the %s of %s', (window, now, name, start, end) => {
    expect(calendarWindow(window, new Date(now))).toEqual({
      name,
      start: new Date(start),
      end: new Date(end),
    });
  });

  it('says how long it is and how long it lasts', () => {
    const now = new Date('2026-02-28T23:59:59.500Z');
    const month = calendarWindow('month', now);
    expect(secondsOf(month)).toBe(28 * 24 * 3_600);
    expect(secondsLeft(month, now)).toBe(1);
    expect(secondsLeft(month, month.start)).toBe(28 * 24 * 3_600);
    // A clock that has gone on meanwhile.
    expect(secondsLeft(month, new Date('2026-03-02T00:00:00Z'))).toBe(1);
  });
});
