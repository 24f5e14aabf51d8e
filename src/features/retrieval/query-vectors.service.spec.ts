import { describe, expect, it } from 'vitest';
import type { EmbeddingModel } from '../../core/models/model.js';
import type { TenantContext } from '../../core/tenancy/tenant-context.js';
import { QueryVectors } from './query-vectors.service.js';

/** Answers when told to. */
class SlowModel implements EmbeddingModel {
  readonly fusionWeight = 0.5;
  readonly asked: string[] = [];
  readonly signals: AbortSignal[] = [];
  readonly answers: Array<{ resolve: (vector: number[]) => void; reject: (error: Error) => void }> = [];

  constructor(readonly name = 'slow') {}

  embedQuery(text: string, { signal }: { signal?: AbortSignal } = {}): Promise<number[]> {
    this.asked.push(text);
    this.signals.push(signal as AbortSignal);
    return new Promise((resolve, reject) => this.answers.push({ resolve, reject }));
  }

  embedDocuments(): Promise<number[][]> {
    throw new Error('Nobody asks for this.');
  }
}

const never = new AbortController().signal;
const open = () => {
  const tenant = { id: 'a', name: 'a' };
  return { tenant, vectors: new QueryVectors({ tenant } as unknown as TenantContext) };
};

describe('QueryVectors', () => {
  it('asks a model once for a text of a tenant', async () => {
    const { tenant, vectors } = open();
    const model = new SlowModel();
    const both = [vectors.of(model, 'one', never), vectors.of(model, 'one', never)];
    model.answers[0]?.resolve([1, 0]);
    expect(await Promise.all(both)).toEqual([
      { vector: [1, 0], remembered: false },
      { vector: [1, 0], remembered: true },
    ]);
    expect(await vectors.of(model, 'one', never)).toEqual({ vector: [1, 0], remembered: true });
    expect(model.asked).toEqual(['one']);

    tenant.id = 'b';
    void vectors.of(model, 'one', never);
    void vectors.of(new SlowModel(), 'one', never);
    expect(model.asked).toEqual(['one', 'one']);
  });

  it('does not take one model for another of the same name', async () => {
    const { vectors } = open();
    const [before, after] = [new SlowModel(), new SlowModel()];
    void vectors.of(before, 'one', never);
    void vectors.of(after, 'one', never);
    expect([before.asked.length, after.asked.length]).toEqual([1, 1]);
  });

  it('remembers no failure', async () => {
    const { vectors } = open();
    const model = new SlowModel();
    const failed = vectors.of(model, 'one', never);
    model.answers[0]?.reject(new Error('down'));
    await expect(failed).rejects.toThrow('down');
    const again = vectors.of(model, 'one', never);
    model.answers[1]?.resolve([1]);
    expect(await again).toEqual({ vector: [1], remembered: false });
  });

  it('gives up when the last one who waits has gone, and not before', async () => {
    const { vectors } = open();
    const model = new SlowModel();
    const [first, second] = [new AbortController(), new AbortController()];
    const waiting = [vectors.of(model, 'one', first.signal), vectors.of(model, 'one', second.signal)];
    first.abort(new Error('gone'));
    await expect(waiting[0]).rejects.toThrow('gone');
    expect(model.signals[0]?.aborted).toBe(false);
    second.abort(new Error('gone too'));
    await expect(waiting[1]).rejects.toThrow('gone too');
    expect(model.signals[0]?.aborted).toBe(true);
    const again = vectors.of(model, 'one', never);
    expect(model.asked.length).toBe(2);
    model.answers[1]?.resolve([1]);
    await again;
  });
});
