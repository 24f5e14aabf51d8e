import { request } from 'undici';
import type { ModelEndpoint } from '../../foundation/config/env.js';
import { ModelError } from './model.js';
import { beforeRetry, toModelError } from './model-fault.js';
import { readAtMost } from './remote-service.js';

const PROBE_TIMEOUT = 3_000;

/** Milliseconds for which a call that succeeded proves that the endpoint is up. */
const SUCCESS_VALID_FOR = 30_000;

/** Bytes of the largest answer that is read: more than any batch of vectors takes. */
const MAX_ANSWER = 64 * 1024 * 1024;

/** An OpenAI-compatible server: how langchain's clients reach it, what its failures mean, whether it is up. */
export class Endpoint {
  readonly #subject: string;
  #succeededAt = -Infinity;

  constructor(
    kind: 'embedding' | 'chat' | 'vision',
    private readonly settings: ModelEndpoint,
  ) {
    this.#subject = `The ${kind} endpoint`;
  }

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
      onFailedAttempt: (error: unknown) => beforeRetry(this.#subject, error),
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
      throw toModelError(this.#subject, error);
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
    return new ModelError('model_rejected', `${this.#subject} ${what}.`, false);
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
    const body = await readAtMost(answer.body, MAX_ANSWER);
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
