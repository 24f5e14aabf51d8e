import { ModelError } from './model.js';
import { beforeRetry, toModelError } from './model-fault.js';
import { type Door, openDoor, readAtMost } from './model-transport.js';
import type { MultipartBody } from './multipart-body.js';

export interface ServiceRequest {
  method: 'GET' | 'POST';
  /** Below the base URL, with its slash. */
  path: string;
  /** Made anew for each attempt. */
  body?: () => Promise<MultipartBody>;
  /** Milliseconds of one attempt, from the request to the last byte of the answer. */
  timeout: number;
  /** Bytes of the largest answer that is read. */
  mostBytes: number;
  /** Statuses of refusal that the caller wants to read itself. */
  accept?: readonly number[];
  signal?: AbortSignal;
}

export interface ServiceAnswer {
  status: number;
  text: string;
}

/** A server that langchain has no client for. It is tried again, and its failures mean, what they do for those that it has. */
export class RemoteService {
  constructor(
    /** As a sentence begins: `The transcription endpoint`. */
    private readonly subject: string,
    private readonly baseUrl: string,
    private readonly headers: Record<string, string>,
    /** Attempts after the first that failed for a passing reason. */
    private readonly maxRetries: number,
    private readonly door: Door = openDoor,
  ) {}

  /** @throws ModelError, or the signal's reason */
  async send(call: ServiceRequest): Promise<ServiceAnswer> {
    const { signal } = call;
    signal?.throwIfAborted();
    const { AsyncCaller } = await import('@langchain/core/utils/async_caller');
    const caller = new AsyncCaller({
      maxRetries: this.maxRetries,
      onFailedAttempt: async (error: unknown) => {
        signal?.throwIfAborted();
        await beforeRetry(this.subject, error);
      },
    });
    try {
      return await caller.callWithOptions({ signal }, () => this.attempt(call));
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw toModelError(this.subject, error);
    }
  }

  /** An answer that is no answer, or a file that the service cannot do anything with. */
  malformed(what: string): ModelError {
    return new ModelError('model_rejected', `${this.subject} ${what}.`, false);
  }

  /** What an answer with this status means that the caller has read. */
  refused(status: number): ModelError {
    return toModelError(this.subject, { status });
  }

  private async attempt(call: ServiceRequest): Promise<ServiceAnswer> {
    call.signal?.throwIfAborted();
    const controller = new AbortController();
    const abort = () => controller.abort(call.signal?.reason);
    const timer = setTimeout(
      () => controller.abort(new DOMException('Timed out', 'TimeoutError')),
      call.timeout,
    );
    call.signal?.addEventListener('abort', abort, { once: true });
    let body: MultipartBody | undefined;
    try {
      body = await call.body?.();
      // The timer above is the limit: undici's own of five minutes are too short for an hour of speech.
      const answer = await this.door({
        url: `${this.baseUrl.replace(/\/+$/, '')}${call.path}`,
        method: call.method,
        headers: { ...this.headers, ...body?.headers },
        body: body?.content,
        signal: controller.signal,
      });
      const { status } = answer;
      const content = await readAtMost(answer.body, call.mostBytes);
      if ((status < 200 || status > 299) && !call.accept?.includes(status)) {
        const headers = new Headers();
        const retryAfter = answer.headers['retry-after'];
        if (retryAfter !== undefined) headers.set('retry-after', retryAfter);
        throw Object.assign(new Error('refused'), { status, headers });
      }
      return { status, text: content.toString('utf8') };
    } finally {
      clearTimeout(timer);
      call.signal?.removeEventListener('abort', abort);
      body?.content.destroy();
    }
  }
}

/**
 * How long a service may take for a file: two minutes, and one for every three megabytes, but no more than half an hour.
 * An hour of speech has 30 to 60 MB, and is written down on a CPU in ten to twenty minutes.
 *
 * @returns milliseconds
 */
export function timeFor(sizeBytes: number): number {
  return Math.min(30, 2 + sizeBytes / 3e6) * 60_000;
}
