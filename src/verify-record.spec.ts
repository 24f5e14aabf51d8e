import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { TestRecord } from './verify-record.js';

const silent = { begin: () => undefined, plan: () => undefined, step: () => undefined };
const recordOf = (signal = new AbortController().signal) => new TestRecord('T1', silent, signal);
const failure = () => ({ where: 'a route', who: 'somebody', expected: '404', got: '200' });

describe('what a test has tried', () => {
  it('counts every failure, also those that are not written down, and says how many those are', () => {
    const record = recordOf();
    for (let number = 0; number < 2_500; number++) record.check(number % 5 === 0 && number > 0, failure);
    const { cases, failure_count: failed, failures, left_out: leftOut } = record.result;
    expect({ cases, failed, listed: failures.length }).toEqual({
      cases: 2_500,
      failed: 2_001,
      listed: 2_000,
    });
    expect(leftOut).toEqual(['Of 2001 failures only the first 2000 are listed.']);
  });

  it('begins nothing more after an error, and ends once nothing is under way', async () => {
    let [begun, ended] = [0, 0];
    const work = recordOf().each(Array(100).fill(0), async () => {
      const number = begun++;
      await sleep(number === 3 ? 5 : 30);
      ended++;
      if (number === 3) throw new Error('no answer');
    });
    await expect(work).rejects.toThrow('no answer');
    expect({ begun, ended }).toEqual({ begun: 6, ended: 6 });
  });

  it('ends with the reason of a run that was stopped', async () => {
    const stop = new AbortController();
    const work = recordOf(stop.signal).each(Array(100).fill(0), async () => {
      await sleep(5);
      stop.abort(new Error('stopped'));
    });
    await expect(work).rejects.toThrow('stopped');
  });
});
