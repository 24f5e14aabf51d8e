import { request } from 'undici';
import type { ModelEndpoint } from '../../foundation/config/env.js';
import { ModelError } from './model.js';

const PROBE_TIMEOUT = 3_000;

/** Milliseconds for which a call that succeeded proves that the endpoint is up. */
const SUCCESS_VALID_FOR = 30_000;

/** The longest `Retry-After` that is waited for here; a caller that can wait longer tries again itself. */
const MAX_RETRY_AFTER = 20_000;

/** An OpenAI-compatible server: how langchain's clients reach it, what its failures mean, whether it is up. */
export class Endpoint {
  #succeededAt = -Infinity;

  constructor(
    private readonly kind: 'embedding' | 'chat',
    private readonly settings: ModelEndpoint,
  ) {}

  /**
   * Fields that langchain's OpenAI classes have in common.
   *
   * @param timeout milliseconds of one attempt, from the request to the last byte of the answer
   */
  clientFields(timeout: number) {
    return {
      model: this.settings.model,
      // The client refuses to be made without a key; servers that need none ignore it.
      apiKey: this.settings.apiKey || 'none',
      onFailedAttempt: (error: unknown) => this.#onFailedAttempt(error),
      configuration: {
        baseURL: this.settings.baseUrl,
        // Null keeps the client from reading OPENAI_ORG_ID and OPENAI_PROJECT_ID, `off` from printing bodies.
        organization: null,
        project: null,
        logLevel: 'off' as const,
        fetch: (input: string | URL | Request, init?: RequestInit) => fetchWhole(input, init, timeout),
      },
    };
  }

  /** Runs a call, remembers its success and translates its failure. */
  async call<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    try {
      const result = await work();
      this.#succeededAt = performance.now();
      return result;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      // The next health check asks again.
      this.#succeededAt = -Infinity;
      throw this.#translate(error);
    }
  }

  /** Up when the last call succeeded and is no older than 30 s, or when the list of models answers within 3 s. */
  async isUp(): Promise<boolean> {
    if (performance.now() - this.#succeededAt < SUCCESS_VALID_FOR) return true;
    try {
      const response = await fetch(`${this.settings.baseUrl.replace(/\/+$/, '')}/models`, {
        headers: { authorization: `Bearer ${this.settings.apiKey || 'none'}` },
        signal: AbortSignal.timeout(PROBE_TIMEOUT),
      });
      await response.body?.cancel();
      // Not every compatible server lists its models: a 404 answers too.
      return response.ok || response.status === 404 || response.status === 405;
    } catch {
      return false;
    }
  }

  /** An answer that is no answer. */
  malformed(what: string): ModelError {
    return new ModelError('model_rejected', `The ${this.kind} endpoint ${what}.`, false);
  }

  /** Called by langchain's retry loop, which goes on (1 s, 2 s … with jitter) unless this throws. */
  async #onFailedAttempt(error: unknown): Promise<void> {
    const { code, retryable } = this.#translate(error);
    // Whoever waited for one whole timeout does not want to wait for another.
    if (!retryable || code === 'model_timeout') throw error;
    const retryAfter = header(error, 'retry-after');
    if (retryAfter === null) return;
    const { parseRetryAfterMs } = await import('@langchain/core/utils/async_caller');
    const delay = parseRetryAfterMs(retryAfter);
    if (delay === undefined) return;
    if (delay > MAX_RETRY_AFTER) throw error;
    Object.assign(error as Error, { retryAfterMs: delay });
  }

  /** What langchain, the OpenAI client or fetch threw, without its text: it may quote the key or the request. */
  #translate(error: unknown): ModelError {
    if (error instanceof ModelError) return error;
    const subject = `The ${this.kind} endpoint`;
    const status = property(error, 'status');
    if (typeof status === 'number') {
      // OpenAI says 429 also when the account is out of money, which waiting does not mend.
      const exhausted = property(error, 'code') === 'insufficient_quota';
      const passing = !exhausted && (status === 408 || status === 429 || status >= 500);
      return new ModelError(
        passing ? 'model_unavailable' : 'model_rejected',
        `${subject} answered ${status}${HINTS[status] ?? ''}.`,
        passing,
      );
    }
    if (error instanceof Error && error.name === 'TimeoutError') {
      return new ModelError('model_timeout', `${subject} did not answer in time.`, true);
    }
    const code = connectionCode(error);
    if (code) return new ModelError('model_unavailable', `${subject} could not be reached (${code}).`, true);
    return this.malformed('gave an answer that is not in the OpenAI format');
  }
}

/**
 * Fetches an answer with its body. The client's own timeout ends with the headers, and a body that never ends
 * would hang the call. One controller and not `AbortSignal.any` with `AbortSignal.timeout`: Node 20 collects
 * such a signal as garbage before it fires. Undici's request and not fetch: without web streams it takes a third
 * of the CPU, of a search that costs little else.
 */
async function fetchWhole(
  input: string | URL | Request,
  init: RequestInit = {},
  timeout: number,
): Promise<Response> {
  const controller = new AbortController();
  const abort = () => controller.abort(init.signal?.reason);
  const timer = setTimeout(() => controller.abort(new DOMException('Timed out', 'TimeoutError')), timeout);
  init.signal?.addEventListener('abort', abort, { once: true });
  try {
    const answer = await request(input instanceof Request ? input.url : input, {
      method: init.method ?? 'GET',
      headers: Object.fromEntries(new Headers(init.headers)),
      body: init.body as string | null | undefined,
      signal: controller.signal,
    });
    const body = await answer.body.arrayBuffer();
    return new Response(BODILESS.has(answer.statusCode) ? null : body, {
      status: answer.statusCode,
      headers: Object.entries(answer.headers).map(([name, value]): [string, string] => [name, String(value)]),
    });
  } finally {
    clearTimeout(timer);
    init.signal?.removeEventListener('abort', abort);
  }
}

/** Statuses with which a `Response` refuses a body. */
const BODILESS = new Set([204, 205, 304]);

const HINTS: Record<number, string> = {
  401: ': its API key is missing or wrong',
  403: ': its API key may not use the model',
  404: ': the base URL or the name of the model is wrong',
  413: ': the text is too long for the model',
  429: ': too many requests',
};

function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function header(error: unknown, name: string): string | null {
  const headers = property(error, 'headers');
  return headers instanceof Headers ? headers.get(name) : null;
}

/** The system's or undici's code (`ECONNREFUSED`, `UND_ERR_SOCKET`), which stands some causes deep. */
function connectionCode(error: unknown): string | null {
  for (
    let cause = error, depth = 0;
    cause !== undefined && depth < 5;
    cause = property(cause, 'cause'), depth++
  ) {
    const code = property(cause, 'code');
    if (typeof code === 'string' && /^(E[A-Z]|UND_ERR_|CERT_|DEPTH_|SELF_SIGNED)/.test(code)) return code;
  }
  return null;
}
