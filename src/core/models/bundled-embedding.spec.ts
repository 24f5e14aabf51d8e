import { performance } from 'node:perf_hooks';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { BundledEmbedding } from './bundled-embedding.js';

const paragraph =
  'Heat transfer in a laminar boundary layer rises with the Mach number, while the pressure behind the shock falls. ';
const chunk = (i: number) => `${i} ${paragraph.repeat(9)}`;
const cosine = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

describe('BundledEmbedding', () => {
  const model = new BundledEmbedding({ threads: 1 });
  afterAll(() => model.close());

  it('is up and holds no thread before the first call', async () => {
    const idle = new BundledEmbedding();
    await expect(idle.isUp()).resolves.toBe(true);
    expect(idle.loadedThreads).toBe(0);
    await idle.close();
  });

  it('places a question nearer to its passage than to another', async () => {
    const question = await model.embedQuery('Where do the Normans come from?');
    const [near, far] = await model.embedDocuments([
      'The Normans came from Normandy, a region in France.',
      'A Turing machine reads symbols from a tape.',
    ]);
    expect(question).toHaveLength(512);
    expect(cosine(question, question)).toBeCloseTo(1, 6);
    expect(cosine(question, near!)).toBeGreaterThan(cosine(question, far!) + 0.2);
  });

  it('gives the same vector for a text alone, among others and as a question', async () => {
    const [first, second] = await model.embedDocuments(['supersonic flow', chunk(1)]);
    expect(await model.embedQuery('supersonic flow')).toEqual(first);
    expect((await model.embedDocuments([chunk(1)]))[0]).toEqual(second);
  });

  it('reads any run of white space as one blank', async () => {
    expect(await model.embedQuery(' shock\n\n\twaves ')).toEqual(await model.embedQuery('shock waves'));
  });

  it.each([
    ['nothing', ''],
    ['white space', ' \n '],
    ['half a surrogate pair', '\ud800'],
    ['signs outside of the vocabulary', '漢字😀'],
  ])('has a vector for %s', async (_, text) => {
    const vector = await model.embedQuery(text);
    expect(cosine(vector, vector)).toBeCloseTo(1, 6);
  });

  it('cuts a text without a blank before the tokenizer, whose time grows with the square of the length', async () => {
    const started = performance.now();
    const [long, longer] = await model.embedDocuments(['a'.repeat(1_000), 'a'.repeat(100_000)]);
    // Uncut: 45 s.
    expect(performance.now() - started).toBeLessThan(5_000);
    expect(longer).toEqual(long);
  });

  it('cuts after normalization: one character may become eighteen', async () => {
    const started = performance.now();
    await model.embedQuery('ﷺ'.repeat(10_000));
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it('leaves the event loop to others while it embeds', async () => {
    const before = performance.eventLoopUtilization();
    await model.embedDocuments(Array.from({ length: 20 }, (_, i) => chunk(i)));
    expect(performance.eventLoopUtilization(before).utilization).toBeLessThan(0.3);
  });

  it('answers a question before the documents that wait', async () => {
    let done = 0;
    const ingestions = Array.from({ length: 8 }, (_, i) =>
      model.embedDocuments([chunk(i), chunk(i + 1), chunk(i + 2)], { onProgress: () => void done++ }),
    );
    await vi.waitFor(() => expect(done).toBeGreaterThan(0), { interval: 5 });
    const before = done;
    await model.embedQuery('what is heat transfer');
    // The text under way, and at most one more that ended at the same moment.
    expect(done - before).toBeLessThanOrEqual(2);
    await Promise.all(ingestions);
    expect(done).toBe(24);
  });

  it('drops what waits when the caller aborts, and keeps its thread', async () => {
    const controller = new AbortController();
    let done = 0;
    const ingestion = model.embedDocuments(
      Array.from({ length: 200 }, (_, i) => chunk(i)),
      {
        signal: controller.signal,
        onProgress: () => {
          if (++done === 3) controller.abort(new Error('cancelled'));
        },
      },
    );
    await expect(ingestion).rejects.toThrow('cancelled');
    await model.embedQuery('next');
    expect(done).toBe(3);
    expect(model.loadedThreads).toBe(1);
    await expect(model.embedQuery('never', { signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow(
      'gone',
    );
    await expect(model.isUp()).resolves.toBe(true);
  });

  it('ends an idle thread and loads it again when it is needed', async () => {
    const shortLived = new BundledEmbedding({ threads: 1, idleTimeout: 200 });
    const before = await shortLived.embedQuery('hello');
    expect(shortLived.loadedThreads).toBe(1);
    await vi.waitFor(() => expect(shortLived.loadedThreads).toBe(0), { timeout: 10_000 });
    expect(await shortLived.embedQuery('hello')).toEqual(before);
    await shortLived.close();
  });

  it('fails what is under way and what comes later when it is closed', async () => {
    const closing = new BundledEmbedding({ threads: 1 });
    await closing.embedQuery('hello');
    const calls = Promise.allSettled([
      closing.embedDocuments(Array.from({ length: 10 }, (_, i) => chunk(i))),
      ...Array.from({ length: 5 }, (_, i) => closing.embedDocuments([chunk(i)])),
    ]);
    await closing.close();
    for (const call of await calls) {
      expect(call).toMatchObject({
        status: 'rejected',
        reason: { code: 'model_unavailable', retryable: true },
      });
    }
    await expect(closing.embedQuery('hello')).rejects.toMatchObject({ code: 'model_unavailable' });
    await expect(closing.isUp()).resolves.toBe(false);
    expect(closing.loadedThreads).toBe(0);
  });
});
