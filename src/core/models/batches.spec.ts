import { setImmediate as tick } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { embedInBatches, unlessAborted } from './batches.js';

const texts = Array.from({ length: 23 }, (_, i) => String(i));
const vectorsOf = (batch: string[]) => batch.map(text => [Number(text)]);

describe('embedInBatches', () => {
  it('keeps the order of the texts, whatever order the batches finish in', async () => {
    const vectors = await embedInBatches(texts, { batchSize: 5, concurrency: 3 }, async batch => {
      for (let i = Number(batch[0]); i < 25; i++) await tick();
      return vectorsOf(batch);
    });
    expect(vectors).toEqual(vectorsOf(texts));
  });

  it('has no more batches under way than allowed, and reports every one', async () => {
    let running = 0;
    let most = 0;
    const done: number[] = [];
    await embedInBatches(
      texts,
      { batchSize: 5, concurrency: 2 },
      async batch => {
        most = Math.max(most, ++running);
        await tick();
        running--;
        return vectorsOf(batch);
      },
      { onProgress: count => void done.push(count) },
    );
    expect(most).toBe(2);
    expect(done.at(-1)).toBe(23);
    expect(done).toEqual(done.toSorted((a, b) => a - b));
    expect(done).toHaveLength(5);
  });

  it('starts nothing after a batch has failed', async () => {
    const embed = vi.fn<(batch: string[]) => Promise<number[][]>>(async batch => {
      await tick();
      if (batch[0] === '5') throw new Error('broken');
      return vectorsOf(batch);
    });
    await expect(embedInBatches(texts, { batchSize: 5, concurrency: 2 }, embed)).rejects.toThrow('broken');
    await tick();
    expect(embed.mock.calls.length).toBeLessThan(5);
  });

  it('fails when progress cannot be written', async () => {
    await expect(
      embedInBatches(texts, { batchSize: 5, concurrency: 2 }, async batch => vectorsOf(batch), {
        onProgress: () => Promise.reject(new Error('job is gone')),
      }),
    ).rejects.toThrow('job is gone');
  });

  it('embeds nothing for no text', async () => {
    const embed = vi.fn<() => Promise<number[][]>>(async () => []);
    await expect(embedInBatches([], { batchSize: 5, concurrency: 2 }, embed)).resolves.toEqual([]);
    expect(embed).not.toHaveBeenCalled();
  });
});

describe('unlessAborted', () => {
  it('does not begin when the signal has aborted already', async () => {
    const work = vi.fn<() => Promise<number>>(async () => 1);
    await expect(unlessAborted(work, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    expect(work).not.toHaveBeenCalled();
  });

  it('rejects with the reason at once and ignores what happens later', async () => {
    const controller = new AbortController();
    const late = tick().then(() => Promise.reject(new Error('too late')));
    const result = unlessAborted(() => late, controller.signal);
    controller.abort(new Error('cancelled'));
    await expect(result).rejects.toThrow('cancelled');
    await expect(late).rejects.toThrow('too late');
  });
});
