import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BrokenCircuitError, ConsecutiveBreaker, circuitBreaker, handleWhen } from 'cockatiel';
import { request as send } from 'undici';
import type { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { endless } from './answer-bounds.js';
import { ModelError } from './model.js';
import { LONGEST_WAIT, faultOfAnswer, toModelError } from './model-fault.js';

/** Milliseconds. */
export interface TimeLimits {
  /** Until the first piece of an answer that comes in pieces. */
  first: number;
  /** Between two pieces of one. */
  between: number;
  /** From the request to the end of the answer; of one that comes in pieces without the time that its reader takes. */
  whole: number;
}

export interface DoorRequest {
  url: string;
  method: 'GET' | 'POST';
  headers: Record<string, string>;
  body?: string | Buffer | Readable;
  signal: AbortSignal;
}

export interface DoorAnswer {
  status: number;
  /** Names in lower case. */
  headers: Record<string, string>;
  body: AsyncIterable<Buffer>;
  close: () => void;
}

/** The way to a server. */
export type Door = (request: DoorRequest) => Promise<DoorAnswer>;

/** For addresses that the platform or the settings name: they may lead anywhere. */
export const openDoor: Door = async ({ url, ...request }) => {
  const { statusCode, headers, body } = await send(url, { ...request, headersTimeout: 0, bodyTimeout: 0 });
  // Nobody listens to a body that is not read.
  body.on('error', () => undefined);
  return {
    status: statusCode,
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
    body,
    close: () => void body.destroy(),
  };
};

/** For addresses that a tenant gives. */
export const guardedDoor =
  (outbound: OutboundClient, httpsOnly: boolean): Door =>
  request =>
    outbound.exchange({ ...request, httpsOnly });

export interface TransportOptions {
  door?: Door;
  limits?: Partial<TimeLimits>;
  /** Attempts after the first that failed for a passing reason [2]. */
  maxRetries?: number;
  /** Milliseconds before the second attempt; doubled before each further one [500]. */
  retryDelay?: number;
  /** Attempts that fail in a row for a passing reason until the server is left alone [6]. */
  breakAfter?: number;
  /** Milliseconds for which it is left alone then [15,000]. */
  breakFor?: number;
}

const LIMITS: TimeLimits = { first: 60_000, between: 45_000, whole: 300_000 };

/** Bytes of the largest answer that is read: more than any batch of vectors takes. */
const MAX_ANSWER = 64 * 1024 * 1024;
/** Bytes of one that comes in pieces: the longest that a configuration lets a model write, with what stands around each token. */
const MAX_STREAM = 32 * 1024 * 1024;
/** Bytes of a refusal, of which one code is looked at. */
const MAX_REFUSAL = 64 * 1024;
/** Characters at the end of a stream in which it says that it is one. */
const TAIL = 4_096;
/** How the dialects end an answer: OpenAI's, Anthropic's, Ollama's, Google's. */
const ENDS = /\[DONE\]|"finish_reason"\s*:\s*"|message_stop|"done"\s*:\s*true|"finishReason"\s*:\s*"/;
/**
 * A line of a stream in which a server says that it failed, after it had begun with 200. What a model writes stands in JSON
 * strings, which have no ends of lines and no quotes of their own, so no text looks like it.
 */
const FAILURE =
  /^(?:event:[ \t]*error\b|(?:data:[ \t]*)?\{\s*"(?:error"\s*:\s*["{]|(?:type|object)"\s*:\s*"error"))/m;
/** Characters of a line that it takes to tell. */
const LINE_START = 64;
const STREAM = /^(?:text\/event-stream|application\/(?:x-ndjson|x-json-stream|jsonl))\b/i;
/**
 * Headers that a model's server is sent. The libraries add what variables of the environment say (OPENAI_CUSTOM_HEADERS and
 * the like), which is not for servers that tenants name.
 */
const SENT =
  /^(?:accept|content-type|user-agent|authorization|api-key|x-api-key|x-goog-api-key|x-goog-api-client|anthropic-(?:version|beta))$/;

/** Statuses with which a `Response` refuses a body. */
const BODILESS = new Set([204, 205, 304]);

/**
 * How requests reach one model's server: in time, tried again where that helps, and not at all while the server keeps
 * failing. The providers' libraries get `fetch`, and their own repetitions are switched off.
 */
export class ModelTransport {
  readonly #door: Door;
  readonly #limits: TimeLimits;
  readonly #maxRetries: number;
  readonly #retryDelay: number;
  readonly #breakAfter: number;
  readonly #breakFor: number;
  readonly #breaker;
  /** Answers in a row that broke off after they had begun well. */
  #brokenOff = 0;
  #restsUntil = -Infinity;
  /** When the last request succeeded, by `performance.now()`. */
  succeededAt = -Infinity;

  /** @param subject who fails, as a sentence begins: `The chat endpoint` */
  constructor(
    readonly subject: string,
    options: TransportOptions = {},
  ) {
    this.#door = options.door ?? openDoor;
    this.#limits = { ...LIMITS, ...options.limits };
    this.#maxRetries = options.maxRetries ?? 2;
    this.#retryDelay = options.retryDelay ?? 500;
    this.#breakAfter = options.breakAfter ?? 6;
    this.#breakFor = options.breakFor ?? 15_000;
    this.#breaker = circuitBreaker(
      handleWhen(error => error instanceof ModelError && error.retryable && !error.limited),
      { halfOpenAfter: this.#breakFor, breaker: new ConsecutiveBreaker(this.#breakAfter) },
    );
    this.#breaker.onBreak(() => {
      this.#restsUntil = performance.now() + this.#breakFor;
    });
  }

  /** Whether the server is being left alone, because it kept failing. */
  get resting(): boolean {
    return performance.now() < this.#restsUntil;
  }

  /** As the global `fetch`, for servers of models. Rejects with a ModelError, or the reason of the signal. */
  readonly fetch: typeof fetch = (input, init) => this.#fetch(input, init);

  /** The same for a library that knows of no signal, or not always. */
  fetchUntil(signal: AbortSignal | undefined): typeof fetch {
    return (input, init) => this.#fetch(input, init, signal);
  }

  async #fetch(
    input: string | URL | Request,
    init: RequestInit = {},
    until?: AbortSignal,
  ): Promise<Response> {
    const request: Omit<DoorRequest, 'signal'> = {
      url: input instanceof Request ? input.url : String(input),
      method: (init.method ?? 'GET').toUpperCase() === 'GET' ? 'GET' : 'POST',
      headers: Object.fromEntries([...new Headers(init.headers)].filter(([name]) => SENT.test(name))),
      body: (init.body as string | null | undefined) ?? undefined,
    };
    const left = new Leaving([init.signal, until]);
    for (let attempt = 0; ; attempt++) {
      left.throwIfSo();
      try {
        const response = await this.#breaker.execute(() => this.#attempt(request, left));
        this.succeededAt = performance.now();
        return response;
      } catch (error) {
        left.throwIfSo();
        this.succeededAt = -Infinity;
        if (error instanceof BrokenCircuitError) throw this.#isResting();
        const delay = this.#delayAfter(error, attempt);
        if (delay === null) throw error;
        await left.sleep(delay);
      }
    }
  }

  /** Milliseconds until another attempt; null where there is to be none. */
  #delayAfter(error: unknown, attempt: number): number | null {
    if (!(error instanceof ModelError) || !error.retryable || attempt >= this.#maxRetries) return null;
    // Whoever waited for one whole timeout does not want to wait for another.
    if (error.code === 'model_timeout') return null;
    if (error.retryAfter === null) return this.#retryDelay * 2 ** attempt * (0.75 + Math.random() / 2);
    return error.retryAfter <= LONGEST_WAIT ? error.retryAfter * 1000 : null;
  }

  async #attempt(request: Omit<DoorRequest, 'signal'>, left: Leaving): Promise<Response> {
    const clock = new Clock(left);
    try {
      const streamed = asksForStream(request);
      clock.limit(streamed ? Math.min(this.#limits.first, this.#limits.whole) : this.#limits.whole);
      const started = performance.now();
      const answer = await this.#door({ ...request, signal: clock.signal });
      const { status, headers } = answer;
      if (status < 200 || status > 299) throw await this.#refusal(answer);
      if (!STREAM.test(headers['content-type'] ?? '')) {
        const body = await readAtMost(answer.body, MAX_ANSWER);
        // Whoever reads it as a stream would find nothing in it, and take that for an answer.
        if (streamed && !ENDS.test(body.subarray(-TAIL).toString('latin1'))) throw malformed(this.subject);
        clock.stop();
        return new Response(BODILESS.has(status) ? null : body, { status, headers: kept(headers) });
      }
      const pieces = answer.body[Symbol.asyncIterator]();
      // Until something has come, another attempt or another model may take over.
      const first = await pieces.next();
      const failures = new FailureWatch();
      // Also where something stands before it: nobody has been given that yet.
      if (!first.done && failures.before(first.value) !== null) {
        answer.close();
        throw brokenOff(this.subject);
      }
      clock.pause();
      const rest = this.#limits.whole - (performance.now() - started);
      const body = this.#stream(first, pieces, failures, clock, left, rest, answer.close);
      return new Response(body, { status, headers: kept(headers) });
    } catch (error) {
      clock.stop();
      left.throwIfSo();
      throw toModelError(this.subject, error);
    }
  }

  async #refusal({ status, headers, body, close }: DoorAnswer): Promise<ModelError> {
    const text = await readAtMost(body, MAX_REFUSAL).catch(() => Buffer.alloc(0));
    close();
    return faultOfAnswer(this.subject, status, headers['retry-after'], text.toString('utf8'));
  }

  /** An answer that comes in pieces, under the clock; one that breaks off is an error, however politely it does. */
  #stream(
    first: IteratorResult<Buffer>,
    pieces: AsyncIterator<Buffer>,
    failures: FailureWatch,
    clock: Clock,
    left: Leaving,
    rest: number,
    close: () => void,
  ): ReadableStream<Uint8Array> {
    const { between } = this.#limits;
    let next: IteratorResult<Buffer> | null = first;
    let size = 0;
    let waited = 0;
    let failed = false;
    let tail = '';
    const finish = () => {
      clock.stop();
      close();
    };
    return new ReadableStream<Uint8Array>(
      {
        pull: async controller => {
          try {
            if (failed) throw brokenOff(this.subject);
            clock.limit(Math.min(between, rest - waited));
            const asked = performance.now();
            const step = next ?? (await pieces.next());
            const seen = next !== null;
            // Whoever reads takes as long as it likes: it is the server that is waited for.
            clock.pause();
            waited += performance.now() - asked;
            next = null;
            if (step.done) {
              if (!ENDS.test(tail)) throw brokenOff(this.subject);
              this.#brokenOff = 0;
              finish();
              controller.close();
              return;
            }
            size += step.value.length;
            if (size > MAX_STREAM) throw endless(this.subject);
            tail = (tail + step.value.toString('latin1')).slice(-TAIL);
            const good = seen ? null : failures.before(step.value);
            if (good === 0) throw brokenOff(this.subject);
            failed = good !== null;
            controller.enqueue(good === null ? step.value : step.value.subarray(0, good));
          } catch (error) {
            // A server that was still at it when its time was over has not broken off.
            const atIt = rest - waited < between;
            const fault: unknown = left.so ? clock.signal.reason : this.#faultAmid(error, atIt);
            finish();
            controller.error(fault);
          }
        },
        cancel: finish,
      },
      { highWaterMark: 0 },
    );
  }

  #faultAmid(error: unknown, atIt: boolean): ModelError {
    const fault = toModelError(this.subject, error);
    if (fault.code === 'model_timeout' && atIt) return fault;
    this.succeededAt = -Infinity;
    if (!fault.retryable) return fault;
    // As far as the breaker knows, the request had succeeded.
    if (++this.#brokenOff >= this.#breakAfter) this.#rest();
    return fault.code === 'model_unavailable' ? brokenOff(this.subject) : fault;
  }

  #rest(): void {
    this.#brokenOff = 0;
    this.#restsUntil = performance.now() + this.#breakFor;
    const isolation = this.#breaker.isolate();
    setTimeout(() => isolation.dispose(), this.#breakFor).unref();
  }

  #isResting(): ModelError {
    return new ModelError(
      'model_unavailable',
      `${this.subject} failed several times in a row, and is left alone for a moment.`,
      true,
      { retryAfter: Math.ceil(this.#breakFor / 1000) },
    );
  }
}

/** Looks for {@link FAILURE} in a stream, whose lines may come in several pieces. */
class FailureWatch {
  /** The beginning of the line that the last piece ended in. */
  #begun = '';

  /** @returns the bytes of the piece before the server says that it failed; null where it does not */
  before(piece: Buffer): number | null {
    const text = this.#begun + piece.toString('latin1');
    const found = FAILURE.exec(text);
    const bytes = found && Math.max(0, found.index - this.#begun.length);
    this.#begun = text.slice(text.lastIndexOf('\n') + 1).slice(0, LINE_START);
    return bytes;
  }
}

/** Whether whoever asked has left: any of several signals says so. */
class Leaving {
  readonly #signals: AbortSignal[];

  constructor(signals: ReadonlyArray<AbortSignal | null | undefined>) {
    this.#signals = signals.filter(signal => signal !== null && signal !== undefined);
  }

  get so(): boolean {
    return this.#signals.some(signal => signal.aborted);
  }

  throwIfSo(): void {
    for (const signal of this.#signals) signal.throwIfAborted();
  }

  /** @returns to be called when nobody needs to know any more */
  listen(leave: (reason: unknown) => void): () => void {
    const aborts = this.#signals.map(signal => [signal, () => leave(signal.reason)] as const);
    for (const [signal, abort] of aborts) {
      if (signal.aborted) abort();
      signal.addEventListener('abort', abort, { once: true });
    }
    return () => {
      for (const [signal, abort] of aborts) signal.removeEventListener('abort', abort);
    };
  }

  async sleep(milliseconds: number): Promise<void> {
    const controller = new AbortController();
    const unlisten = this.listen(() => controller.abort());
    await sleep(milliseconds, undefined, { signal: controller.signal }).catch(() => undefined);
    unlisten();
  }
}

/**
 * The end of a request: whoever asked leaves, or a timer that is set again for each part. One controller and not
 * `AbortSignal.any` with `AbortSignal.timeout`: Node 20 collects such a signal as garbage before it fires.
 */
class Clock {
  readonly #controller = new AbortController();
  readonly #unlisten: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(left: Leaving) {
    this.#unlisten = left.listen(reason => this.#controller.abort(reason));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** @param milliseconds from now */
  limit(milliseconds: number): void {
    this.pause();
    this.#timer = setTimeout(
      () => this.#controller.abort(new DOMException('Timed out', 'TimeoutError')),
      Math.max(0, milliseconds),
    );
  }

  pause(): void {
    clearTimeout(this.#timer);
  }

  stop(): void {
    this.pause();
    this.#unlisten();
  }
}

/**
 * A body, whole.
 *
 * @throws where it is larger than `mostBytes`; no more of it is read then
 */
export async function readAtMost(body: AsyncIterable<Buffer>, mostBytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > mostBytes) throw new Error('The answer is too large.');
    parts.push(part);
  }
  return Buffer.concat(parts, length);
}

const brokenOff = (subject: string): ModelError =>
  new ModelError('model_unavailable', `${subject} broke off in the middle of its answer.`, true);

const malformed = (subject: string): ModelError =>
  new ModelError('model_rejected', `${subject} gave an answer that is not in its format.`, false);

/** Every dialect but Google's says so in the body. */
const asksForStream = ({ url, body }: Pick<DoorRequest, 'url' | 'body'>): boolean =>
  url.includes('alt=sse') || (typeof body === 'string' && /"stream"\s*:\s*true/.test(body));

/** What the libraries look at; lengths and encodings were for the way here. */
const kept = (headers: Record<string, string>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).filter(([name]) => name === 'content-type' || name.startsWith('x-')),
  );
