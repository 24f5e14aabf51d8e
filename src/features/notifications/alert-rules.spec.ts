import { describe, expect, it } from 'vitest';
import { type AlertCondition, type AlertState, alertFaults, isCrossed, nextStep } from './alert-rules.js';

const NOW = new Date('2026-11-21T12:00:00Z');
const ago = (seconds: number) => new Date(NOW.getTime() - seconds * 1000);
const alert = (changes: Partial<AlertCondition & AlertState> = {}): AlertCondition & AlertState => ({
  metric: 'users',
  threshold: 90,
  thresholdType: 'percentage_of_quota',
  state: 'ok',
  told: false,
  toldAt: null,
  cooldownSeconds: 3600,
  ...changes,
});

describe('a threshold is crossed', () => {
  it.each([
    ['percentage_of_quota', 90, 8, 10, false],
    ['percentage_of_quota', 90, 9, 10, true],
    ['percentage_of_quota', 150, 14, 10, false],
    ['percentage_of_quota', 150, 15, 10, true],
    ['percentage_of_quota', 90, 1_000, null, false],
    ['percentage_of_quota', 90, 0, 0, false],
    ['percentage_of_quota', 90, 1, 0, true],
    ['percentage_of_quota', 33.3, 333, 1000, true],
    ['absolute', 90, 89.999, 10, false],
    ['absolute', 90, 90, null, true],
  ] as const)('%s %d by %d of %j: %j', (thresholdType, threshold, value, limit, crossed) => {
    expect(isCrossed({ metric: 'users', threshold, thresholdType }, { value, limit })).toBe(crossed);
  });

  it.each([
    ['absolute', 100, 100, null, false],
    ['absolute', 100, 99, null, true],
    ['absolute', 100, -5, null, true],
    ['percentage_of_quota', 10, 100, 1000, false],
    ['percentage_of_quota', 10, 99, 1000, true],
    ['percentage_of_quota', 10, 0, null, false],
  ] as const)(
    'of credits from above: %s %d by %d of %j: %j',
    (thresholdType, threshold, value, limit, crossed) => {
      expect(isCrossed({ metric: 'credits', threshold, thresholdType }, { value, limit })).toBe(crossed);
    },
  );
});

describe('an alert', () => {
  const high = { value: 9, limit: 10 };
  const low = { value: 8, limit: 10 };
  const step = (changes: Partial<AlertCondition & AlertState>, reading: typeof high) =>
    nextStep(alert(changes), reading, NOW);

  it('fires once and recovers once', () => {
    expect(step({}, low)).toEqual({ change: null, tell: null });
    expect(step({}, high)).toEqual({ change: 'fired', tell: 'fired' });
    const firing = { state: 'firing', told: true, toldAt: ago(60) } as const;
    expect(step(firing, high)).toEqual({ change: null, tell: null });
    expect(step({ ...firing, toldAt: ago(7200) }, high)).toEqual({ change: null, tell: null });
    expect(step(firing, low)).toEqual({ change: 'recovered', tell: 'recovered' });
  });

  it('tells nobody of a second firing within the cooldown, unless it lasts', () => {
    expect(step({ toldAt: ago(3599) }, high)).toEqual({ change: 'fired', tell: null });
    expect(step({ toldAt: ago(3600) }, high)).toEqual({ change: 'fired', tell: 'fired' });
    const untold = { state: 'firing', told: false, toldAt: ago(3599) } as const;
    expect(step(untold, high)).toEqual({ change: null, tell: null });
    expect(step(untold, low)).toEqual({ change: 'recovered', tell: null });
    expect(step({ ...untold, toldAt: ago(3600) }, high)).toEqual({ change: null, tell: 'fired' });
  });

  it('is told although the clock has gone back', () => {
    expect(step({ toldAt: ago(-1) }, high)).toEqual({ change: 'fired', tell: 'fired' });
    const untold = { state: 'firing', told: false, toldAt: ago(-86_400) } as const;
    expect(step(untold, high)).toEqual({ change: null, tell: 'fired' });
  });

  it('recovers when its limit is taken away', () => {
    expect(step({ state: 'firing', told: true, toldAt: ago(1) }, { ...high, limit: null as never })).toEqual({
      change: 'recovered',
      tell: 'recovered',
    });
  });
});

describe('what is wrong with an alert is named', () => {
  const faults = (changes: object) =>
    alertFaults({ ...alert(), actions: ['webhook'], throttleToPerMinute: null, ...changes }).map(
      ({ path, code }) => `${path} ${code}`,
    );

  it.each([
    [{}, []],
    [{ threshold: 1000 }, []],
    [{ threshold: 1000.5 }, ['threshold too_big']],
    [{ threshold: 1000.5, thresholdType: 'absolute' }, []],
    [{ metric: 'credits' }, []],
    [{ metric: 'failure_rate' }, ['threshold_type no_quota']],
    [{ metric: 'failure_rate', thresholdType: 'absolute' }, []],
    [{ metric: 'failure_rate', thresholdType: 'absolute', threshold: 101 }, ['threshold too_big']],
    [{ actions: ['throttle'] }, ['throttle_to_per_minute required']],
    [{ actions: ['throttle'], throttleToPerMinute: 1 }, []],
  ])('%j: %j', (changes, expected) => {
    expect(faults(changes)).toEqual(expected);
  });
});
