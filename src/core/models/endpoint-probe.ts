import type { ModelEndpoint } from '../../foundation/config/env.js';
import type { ModelTransport } from './model-transport.js';

const PROBE_TIMEOUT = 3_000;

/** Milliseconds for which a call that succeeded proves that the endpoint is up. */
const SUCCESS_VALID_FOR = 30_000;

/** Whether an OpenAI-compatible server is there. */
export class EndpointProbe {
  readonly #transports: readonly ModelTransport[];

  constructor(
    private readonly settings: ModelEndpoint,
    ...transports: ModelTransport[]
  ) {
    this.#transports = transports;
  }

  /** Up when the last call succeeded and is no older than 30 s, or when the list of models answers within 3 s. */
  async isUp(): Promise<boolean> {
    const now = performance.now();
    if (this.#transports.some(({ succeededAt }) => now - succeededAt < SUCCESS_VALID_FOR)) return true;
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
}
