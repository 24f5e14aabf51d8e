import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WorkClock } from './work-clock.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function clockOf(limits: { total: number; silence: number }) {
  const expire = vi.fn();
  return { clock: new WorkClock(limits, expire), expire };
}

describe('WorkClock', () => {
  it('tells when the work takes too long, pauses not counted', () => {
    const { clock, expire } = clockOf({ total: 1000, silence: 10_000 });
    vi.advanceTimersByTime(5000);
    clock.resume();
    vi.advanceTimersByTime(600);
    clock.pause();
    vi.advanceTimersByTime(5000);
    clock.resume();
    clock.resume();
    vi.advanceTimersByTime(399);
    expect(expire).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(expire).toHaveBeenCalledOnce();
  });

  it('tells when there was no sign of life for too long', () => {
    const { clock, expire } = clockOf({ total: 10_000, silence: 1000 });
    clock.resume();
    for (let round = 0; round < 5; round++) {
      vi.advanceTimersByTime(900);
      clock.heard();
    }
    clock.pause();
    vi.advanceTimersByTime(5000);
    clock.heard();
    clock.resume();
    vi.advanceTimersByTime(999);
    expect(expire).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(expire).toHaveBeenCalledOnce();
  });

  it('tells nothing after the last pause', () => {
    const { clock, expire } = clockOf({ total: 1000, silence: 1000 });
    clock.resume();
    clock.pause();
    clock.heard();
    vi.advanceTimersByTime(10_000);
    expect(expire).not.toHaveBeenCalled();
  });
});
