import { expect, it } from 'vitest';
import { EventChannel } from './event-channel.js';

const read = async (channel: EventChannel<number>) => {
  const events: Array<number | string> = [];
  try {
    for await (const event of channel) events.push(event);
  } catch (error) {
    events.push((error as Error).message);
  }
  return events;
};

it('gives events in their order, those of before it was read, too', async () => {
  const channel = new EventChannel<number>();
  channel.push(1);
  const reading = read(channel);
  channel.push(2);
  channel.end();
  expect(await reading).toEqual([1, 2]);
});

it('ends with what it failed with, after what was pushed before', async () => {
  const channel = new EventChannel<number>();
  for (let i = 1; i <= 100; i++) channel.push(i);
  channel.fail(new Error('the end'));
  const events = await read(channel);
  expect(events).toHaveLength(101);
  expect(events.at(-1)).toBe('the end');
});

it('takes what comes after its reader has left', async () => {
  const channel = new EventChannel<number>();
  channel.push(1);
  for await (const event of channel) {
    expect(event).toBe(1);
    break;
  }
  channel.push(2);
  channel.fail(new Error('nobody hears of it'));
  channel.end();
  expect(await read(channel)).not.toContain('nobody hears of it');
});
