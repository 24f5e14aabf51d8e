import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { requireReader } from './request-lifecycle.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }));
afterEach(() => void vi.useRealTimers());

/** An answer of which `written` bytes were handed over, and `waiting` of them not taken yet. */
function answering() {
  const socket = { bytesWritten: 0, writableLength: 0 };
  const answer = Object.assign(new EventEmitter(), {
    socket,
    setTimeout: vi.fn(),
    destroy: vi.fn(() => void answer.emit('close')),
  });
  Object.defineProperty(answer, 'writableLength', { get: () => socket.writableLength });
  return { answer: answer as unknown as ServerResponse & typeof answer, socket };
}

it('an answer goes on while it is taken, or while there is nothing to take', () => {
  const { answer, socket } = answering();
  requireReader(answer, 1_000);
  for (let i = 1; i <= 5; i++) {
    Object.assign(socket, { bytesWritten: i * 65_536 + 65_536, writableLength: 65_536 });
    vi.advanceTimersByTime(1_000);
  }
  // A stream that waits for its next event.
  Object.assign(socket, { writableLength: 0 });
  vi.advanceTimersByTime(10_000);
  expect(answer.destroy).not.toHaveBeenCalled();
  expect(answer.setTimeout).toHaveBeenCalledWith(1_000, expect.any(Function));
});

it('ends when nothing of what waits was taken for as long', () => {
  const { answer, socket } = answering();
  requireReader(answer, 1_000);
  Object.assign(socket, { bytesWritten: 131_072, writableLength: 65_536 });
  vi.advanceTimersByTime(1_000);
  expect(answer.destroy).not.toHaveBeenCalled();
  // More is handed over, but none of it taken.
  Object.assign(socket, { bytesWritten: 140_000, writableLength: 74_464 });
  vi.advanceTimersByTime(1_000);
  expect(answer.destroy).toHaveBeenCalledTimes(1);
  expect(vi.getTimerCount()).toBe(0);
});
