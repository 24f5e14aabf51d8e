import { setTimeout as sleep } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { InProcessQueue } from './in-process-queue.js';

const queues: Array<InProcessQueue<string>> = [];
afterEach(async () => {
  await Promise.all(queues.splice(0).map(queue => queue.close(0)));
});

function createQueue(): InProcessQueue<string> {
  const queue = new InProcessQueue<string>();
  queues.push(queue);
  return queue;
}

/** A handler whose jobs wait until they are told to end. */
function heldHandler() {
  const started: string[] = [];
  const ends: Array<() => void> = [];
  const handler = (data: string): Promise<void> => {
    started.push(data);
    return new Promise(end => ends.push(end));
  };
  return { started, handler, endAll: () => ends.splice(0).forEach(end => end()) };
}

describe('InProcessQueue', () => {
  it('hands each job to the handler, at most so many at once', async () => {
    const queue = createQueue();
    const { started, handler, endAll } = heldHandler();
    queue.process(2, handler);
    for (const data of ['a', 'b', 'c']) await queue.add(data, data);
    await vi.waitFor(() => expect(started).toEqual(['a', 'b']));
    await sleep(20);
    expect(started).toHaveLength(2);
    endAll();
    await vi.waitFor(() => expect(started).toEqual(['a', 'b', 'c']));
    endAll();
  });

  it('takes an id once while it waits, and again as soon as it runs', async () => {
    const queue = createQueue();
    const { started, handler, endAll } = heldHandler();
    queue.process(1, handler);
    await queue.add('blocks', 'blocks');
    await queue.add('same', 'first');
    await queue.add('same', 'second');
    endAll();
    await vi.waitFor(() => expect(started).toEqual(['blocks', 'first']));
    await queue.add('same', 'third');
    endAll();
    await vi.waitFor(() => expect(started).toEqual(['blocks', 'first', 'third']));
    endAll();
  });

  it('wakes somebody up once for as many calls as wait, and again once that one has begun', async () => {
    const queue = createQueue();
    const { started, handler, endAll } = heldHandler();
    queue.process(1, handler);
    for (let call = 0; call < 3; call++) await queue.wake('look');
    await vi.waitFor(() => expect(started).toHaveLength(1));
    for (let call = 0; call < 3; call++) await queue.wake('look');
    endAll();
    await vi.waitFor(() => expect(started).toHaveLength(2));
    endAll();
    const added = performance.now();
    for (let call = 0; call < 3; call++) await queue.wake('look', { delay: 50 });
    await vi.waitFor(() => expect(started).toHaveLength(3), { timeout: 2_000 });
    expect(performance.now() - added).toBeGreaterThanOrEqual(49);
    endAll();
    await sleep(20);
    expect(started).toHaveLength(3);
  });

  it('takes the smaller priority first, and keeps the order within one', async () => {
    const queue = createQueue();
    const { started, handler, endAll } = heldHandler();
    queue.process(1, handler);
    await queue.add('blocks', 'blocks');
    await queue.add('late', 'late', { priority: 5 });
    await queue.add('first', 'first');
    await queue.add('second', 'second');
    for (const count of [2, 3, 4]) {
      endAll();
      await vi.waitFor(() => expect(started).toHaveLength(count));
    }
    expect(started).toEqual(['blocks', 'first', 'second', 'late']);
    endAll();
  });

  it('waits for the delay of a job', async () => {
    const queue = createQueue();
    const handler = vi.fn(() => Promise.resolve());
    queue.process(1, handler);
    const added = performance.now();
    await queue.add('later', 'later', { delay: 60 });
    await vi.waitFor(() => expect(handler).toHaveBeenCalled());
    expect(performance.now() - added).toBeGreaterThanOrEqual(59);
  });

  it('takes it for no leak that many wait', async () => {
    const warned = vi.fn();
    process.on('warning', warned);
    const queue = createQueue();
    for (let i = 0; i < 50; i++) await queue.add(`job-${i}`, '', { delay: 60_000 });
    await sleep(1);
    process.off('warning', warned);
    expect(warned).not.toHaveBeenCalled();
  });

  it('logs a job that throws, and goes on with the next', async () => {
    const log = vi.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const queue = createQueue();
    const done: string[] = [];
    queue.process(1, async data => {
      if (data === 'bad') throw new Error('this job failed');
      done.push(data);
    });
    await queue.add('bad', 'bad');
    await queue.add('good', 'good');
    await vi.waitFor(() => expect(done).toEqual(['good']));
    expect(log).toHaveBeenCalledWith(expect.objectContaining({ message: 'this job failed' }));
    log.mockRestore();
  });

  it('closes with the jobs that run, and without those that wait', async () => {
    const queue = createQueue();
    const { started, handler, endAll } = heldHandler();
    queue.process(1, handler);
    await queue.add('runs', 'runs');
    await queue.add('waits', 'waits');
    await queue.add('is delayed', 'is delayed', { delay: 30 });
    await vi.waitFor(() => expect(started).toEqual(['runs']));
    let closed = false;
    const closing = queue.close(5_000).then(() => (closed = true));
    await sleep(50);
    expect(closed).toBe(false);
    expect(await queue.isHealthy()).toBe(false);
    endAll();
    await closing;
    await queue.add('too late', 'too late');
    await sleep(20);
    expect(started).toEqual(['runs']);
  });

  it('aborts a job that is not done in time', async () => {
    const queue = createQueue();
    const reasons: string[] = [];
    queue.process(1, (_, signal) => {
      return new Promise(end => {
        signal.addEventListener('abort', () => {
          reasons.push((signal.reason as Error).message);
          end();
        });
      });
    });
    await queue.add('endless', 'endless');
    await sleep(5);
    await queue.close(20);
    expect(reasons).toEqual(['This process is shutting down.']);
  });
});
