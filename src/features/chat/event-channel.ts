import { Readable } from 'node:stream';

/** Events from where they happen to whoever reads them, in their order. What ends it may be an error, which comes last. */
export class EventChannel<Event> {
  readonly #out = new Readable({ objectMode: true, read: () => undefined });

  push(event: Event): void {
    if (!this.#out.destroyed) this.#out.push({ event });
  }

  end(): void {
    if (!this.#out.destroyed) this.#out.push(null);
  }

  /** Unlike `destroy` of a stream it does not overtake what was pushed before. */
  fail(error: unknown): void {
    if (!this.#out.destroyed) this.#out.push({ error });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event> {
    for await (const item of this.#out as AsyncIterable<{ event: Event } | { error: unknown }>) {
      if ('error' in item) throw item.error;
      yield item.event;
    }
  }
}
