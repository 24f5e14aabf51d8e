import { ModelError } from './model.js';

/** The longest `Retry-After` that is waited for here; a caller that can wait longer tries again itself. */
const MAX_RETRY_AFTER = 20_000;

const HINTS: Record<number, string> = {
  401: ': its API key is missing or wrong',
  403: ': its API key may not use the model',
  404: ': the base URL or the name of the model is wrong',
  413: ': it takes no input as large as that',
  429: ': too many requests',
};

/**
 * What langchain, the OpenAI client, fetch or undici threw, without its text: it may quote the key or the request.
 *
 * @param subject who failed, as a sentence begins: `The chat endpoint`
 */
export function toModelError(subject: string, error: unknown): ModelError {
  if (error instanceof ModelError) return error;
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
  return new ModelError('model_rejected', `${subject} gave an answer that is not in its format.`, false);
}

/** For langchain's retry loop, which goes on (1 s, 2 s … with jitter) unless this throws. */
export async function beforeRetry(subject: string, error: unknown): Promise<void> {
  const { code, retryable } = toModelError(subject, error);
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
