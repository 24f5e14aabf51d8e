import fc from 'fast-check';
import { expect, it } from 'vitest';
import { usageWindow, windowBefore } from './usage-window.js';

const HOUR = 3_600_000;
const at = (text: string) => new Date(`2026-01-${text}Z`);

it('reads whole days by day, and what is left of the first and the last by hour', () => {
  expect(usageWindow(at('08T10:20:00'), at('15T09:00:00')).parts).toEqual([
    { grain: 'hour', from: at('08T10:00:00'), until: at('09T00:00:00') },
    { grain: 'day', from: at('09T00:00:00'), until: at('15T00:00:00') },
    { grain: 'hour', from: at('15T00:00:00'), until: at('15T09:00:00') },
  ]);
  expect(usageWindow(at('08T00:00:00'), at('10T00:00:00')).parts.map(part => part.grain)).toEqual(['day']);
  expect(usageWindow(at('08T10:00:00'), at('09T10:30:00')).parts).toEqual([
    { grain: 'hour', from: at('08T10:00:00'), until: at('09T11:00:00') },
  ]);
  expect(usageWindow(at('08T00:00:00'), at('10T00:00:00'), { days: false }).parts).toHaveLength(1);
});

it('leaves nothing out and counts nothing twice', () => {
  const hours = fc.integer({ min: 0, max: 24 * 400 });
  fc.assert(
    fc.property(hours, hours, (first, length) => {
      const from = new Date(Date.UTC(2026, 0, 1) + first * HOUR);
      const window = usageWindow(from, new Date(from.getTime() + length * HOUR));
      let end = from.getTime();
      for (const part of window.parts) {
        expect(part.from.getTime()).toBe(end);
        if (part.grain === 'day') expect([part.from.getUTCHours(), part.until.getUTCHours()]).toEqual([0, 0]);
        end = part.until.getTime();
      }
      expect(end).toBe(window.until.getTime());
    }),
  );
});

it('compares with as many hours right before', () => {
  const { from, until } = windowBefore(usageWindow(at('08T10:00:00'), at('15T10:00:00')));
  expect([from, until]).toEqual([at('01T10:00:00'), at('08T10:00:00')]);
});
