import type { EmbedDocumentsOptions } from './model.js';

/**
 * Waits for the work, but no longer than until the signal aborts; what is under way then is left to itself.
 *
 * @throws the signal's reason
 */
export async function unlessAborted<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return work();
  signal.throwIfAborted();
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    void work()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', abort));
  });
}

/**
 * Embeds texts batch by batch. A call has no more than `concurrency` batches under way or waiting, so that
 * several documents ingested at once take turns and none of them fills the queue behind the model.
 *
 * @returns the vectors in the order of the texts
 */
export async function embedInBatches(
  texts: string[],
  { batchSize, concurrency }: { batchSize: number; concurrency: number },
  embed: (batch: string[]) => Promise<number[][]>,
  { signal, onProgress }: EmbedDocumentsOptions = {},
): Promise<number[][]> {
  signal?.throwIfAborted();
  const vectors: number[][] = [];
  let next = 0;
  let done = 0;

  const lane = async (): Promise<void> => {
    try {
      while (next < texts.length) {
        const start = next;
        const batch = texts.slice(start, start + batchSize);
        next += batch.length;
        const embedded = await unlessAborted(() => embed(batch), signal);
        for (const [i, vector] of embedded.entries()) vectors[start + i] = vector;
        done += batch.length;
        await onProgress?.(done);
      }
    } catch (error) {
      // The other lanes start nothing more.
      next = texts.length;
      throw error;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  return vectors;
}
