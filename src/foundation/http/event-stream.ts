import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';

export const EVENT_STREAM_TYPE = 'text/event-stream; charset=utf-8';

/** Of every stream of server-sent events. */
export const EVENT_STREAM_HEADERS = {
  'cache-control': 'no-cache, no-store, no-transform',
  // A proxy that waits until there is enough to send would hold every event back.
  'x-accel-buffering': 'no',
};

/** What proxies between us and the client take for silence. */
const KEEP_ALIVE_MS = 15_000;

/** Means nothing: says that the connection is alive. */
export const STILL_HERE = ': still here\n\n';

/** A server-sent event as it is written (HTML standard, 9.2). @param data JSON, which has no line breaks */
export const serverSentEvent = (type: string, data: string, id?: string): string =>
  `event: ${type}\n${id === undefined ? '' : `id: ${id}\n`}data: ${data}\n\n`;

/** Milliseconds: more often than a silent connection is given up. @param requestTimeout in milliseconds */
export const keepAliveInterval = (requestTimeout: number): number =>
  Math.min(KEEP_ALIVE_MS, requestTimeout / 2);

/**
 * Writes events as they come, no faster than they are read. Once nobody reads any more the source is closed, which ends
 * its work.
 *
 * @param source of events as they are written; what it throws ends the stream
 * @param options.keepAlive milliseconds of silence after which the client is told that there is more to come
 */
export function eventStream(
  source: AsyncGenerator<string, unknown>,
  options: { keepAlive: number; onError: (error: unknown) => void },
): Readable {
  const out = new PassThrough();
  const timer = setInterval(() => out.write(STILL_HERE), options.keepAlive);
  const gone = new AbortController();
  out.once('close', () => gone.abort());
  void feed(out, source, gone.signal)
    .catch((error: unknown) => {
      if (!gone.signal.aborted) options.onError(error);
    })
    .finally(() => {
      clearInterval(timer);
      out.end();
    });
  return out;
}

async function feed(
  out: PassThrough,
  source: AsyncGenerator<string, unknown>,
  gone: AbortSignal,
): Promise<void> {
  for await (const event of source) {
    if (gone.aborted) return;
    if (!out.write(event)) await once(out, 'drain', { signal: gone });
  }
}
