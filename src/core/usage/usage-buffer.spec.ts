import { AsyncLocalStorage } from 'node:async_hooks';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { UsageBuffer, type UsageBufferOptions } from './usage-buffer.js';
import type { UsageRow } from './usage-event.js';

class Refused extends Error {}

const row = (operation: string) => ({ operation }) as UsageRow;
const rows = (count: number) => Array.from({ length: count }, (_, i) => row(String(i)));

let written: string[][];
let warnings: string[];
let write: (batch: readonly UsageRow[]) => Promise<void>;

function createBuffer(options: Partial<UsageBufferOptions> = {}): UsageBuffer {
  return new UsageBuffer({
    write: batch => write(batch),
    faultOf: error => (error instanceof Refused ? 'refused' : 'unavailable'),
    warn: message => warnings.push(message),
    ...options,
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  written = [];
  warnings = [];
  write = batch => {
    written.push(batch.map(({ operation }) => operation));
    return Promise.resolve();
  };
});
afterEach(() => vi.useRealTimers());

describe('UsageBuffer', () => {
  it('writes what has waited for a second, in one batch', async () => {
    const buffer = createBuffer();
    for (const event of rows(3)) buffer.push(event);
    await vi.advanceTimersByTimeAsync(999);
    expect(written).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(written).toEqual([['0', '1', '2']]);
    expect(buffer.size).toBe(0);
  });

  it('does not wait where there are enough for a batch', async () => {
    const buffer = createBuffer({ batchSize: 2 });
    for (const event of rows(5)) buffer.push(event);
    await vi.advanceTimersByTimeAsync(999);
    expect(written).toEqual([
      ['0', '1'],
      ['2', '3'],
    ]);
    await vi.advanceTimersByTimeAsync(1);
    expect(written.at(-1)).toEqual(['4']);
  });

  it('does nothing where there is nothing', async () => {
    await createBuffer().flush();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(written).toEqual([]);
  });

  it('flushes what came while a batch was under way, too', async () => {
    let release = () => {};
    const wait = new Promise<void>(resolve => (release = resolve));
    const plain = write;
    write = batch => (written.length === 0 ? wait.then(() => plain(batch)) : plain(batch));
    const buffer = createBuffer();
    buffer.push(row('a'));
    const first = buffer.flush();
    buffer.push(row('b'));
    const second = buffer.flush();
    release();
    await Promise.all([first, second]);
    expect(written).toEqual([['a'], ['b']]);
  });

  it('makes no batch of its own of each event that comes while one is under way', async () => {
    const plain = write;
    write = async batch => {
      await new Promise(resolve => setTimeout(resolve, 50));
      await plain(batch);
    };
    const buffer = createBuffer();
    for (let i = 0; i < 100; i++) {
      buffer.push(row(String(i)));
      await vi.advanceTimersByTimeAsync(30);
    }
    await vi.advanceTimersByTimeAsync(2_000);
    expect(written.flat()).toHaveLength(100);
    expect(written.length).toBeLessThanOrEqual(4);
  });

  it('keeps what could not be written, in its order, and says what there was no room for', async () => {
    let away = true;
    const plain = write;
    write = batch => (away ? Promise.reject(new Error('connection refused')) : plain(batch));
    const buffer = createBuffer({ capacity: 4 });
    for (const event of rows(3)) buffer.push(event);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(warnings).toEqual(['Usage events wait for the database (3): connection refused']);
    for (const event of [row('x'), row('y'), row('z')]) buffer.push(event);
    expect(buffer.size).toBe(4);
    away = false;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(written).toEqual([['0', '1', '2', 'x']]);
    expect(warnings.at(-1)).toBe('2 usage events were dropped while the database was away.');
    buffer.push(row('later'));
    await buffer.flush();
    expect(written.at(-1)).toEqual(['later']);
  });

  it('tries again by itself', async () => {
    let attempts = 0;
    write = () => Promise.reject(new Error(`attempt ${++attempts}`));
    createBuffer().push(row('a'));
    await vi.advanceTimersByTimeAsync(3_000);
    expect(attempts).toBe(3);
  });

  it('drops the one event that the database refuses, and no other', async () => {
    const plain = write;
    write = batch =>
      batch.some(({ operation }) => operation === '5')
        ? Promise.reject(new Refused('out of range'))
        : plain(batch);
    const buffer = createBuffer();
    for (const event of rows(9)) buffer.push(event);
    await buffer.flush();
    expect(written.flat().toSorted()).toEqual(['0', '1', '2', '3', '4', '6', '7', '8']);
    expect(buffer.size).toBe(0);
    expect(warnings).toEqual(['A usage event that the database refuses was dropped: out of range']);
  });

  it('writes outside of the context that it was given an event in', async () => {
    const storage = new AsyncLocalStorage<string>();
    const seen: unknown[] = [];
    write = () => {
      seen.push(storage.getStore());
      return Promise.resolve();
    };
    const buffer = createBuffer({ batchSize: 2 });
    storage.run('a transaction', () => buffer.push(row('a')));
    await vi.advanceTimersByTimeAsync(1_000);
    storage.run('another', () => {
      buffer.push(row('b'));
      buffer.push(row('c'));
    });
    await vi.advanceTimersByTimeAsync(0);
    expect(seen).toEqual([undefined, undefined]);
  });
});
