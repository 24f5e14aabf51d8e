import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import { ModelError } from './model.js';

const HINTS: Record<number, string> = {
  401: ': its API key is missing or wrong',
  403: ': its API key may not use the model',
  404: ': the base URL or the name of the model is wrong',
  413: ': it takes no input as large as that',
  429: ': too many requests',
};

/** How deep the libraries wrap what they were thrown. */
const DEEPEST = 6;

/**
 * What langchain, a provider's library, fetch or undici threw, without its text: it may quote the key or the request.
 *
 * @param subject who failed, as a sentence begins: `The chat endpoint`
 */
export function toModelError(subject: string, error: unknown): ModelError {
  const causes = causesOf(error);
  const told = causes.find(cause => cause instanceof ModelError);
  if (told) return told;
  const refused = causes.find(cause => cause instanceof OutboundError);
  if (refused) return ofAddress(subject, refused);
  const status = property(error, 'status') ?? property(error, 'status_code');
  if (typeof status === 'number') return ofStatus(subject, status, property(error, 'code'), null);
  if (error instanceof Error && error.name === 'TimeoutError') return timedOut(subject);
  const code = connectionCode(causes);
  if (code) return new ModelError('model_unavailable', `${subject} could not be reached (${code}).`, true);
  return new ModelError('model_rejected', `${subject} gave an answer that is not in its format.`, false);
}

/**
 * What an answer means that is no success.
 *
 * @param retryAfter the header of that name
 * @param body looked at for one code, and otherwise not told
 */
export function faultOfAnswer(
  subject: string,
  status: number,
  retryAfter: string | undefined,
  body: string,
): ModelError {
  return ofStatus(subject, status, codeIn(body), secondsOf(retryAfter));
}

/** For the attempts of `RemoteService`, of which there are more (after 1 s, 2 s … with jitter) unless this throws. */
export async function beforeRetry(subject: string, error: unknown): Promise<void> {
  const { code, retryable } = toModelError(subject, error);
  // Whoever waited for one whole timeout does not want to wait for another.
  if (!retryable || code === 'model_timeout') throw error;
  const headers = property(error, 'headers');
  const asked = headers instanceof Headers ? secondsOf(headers.get('retry-after') ?? undefined) : null;
  if (asked === null) return;
  if (asked > LONGEST_WAIT) throw error;
  Object.assign(error as Error, { retryAfterMs: asked * 1000 });
}

/** Seconds of the longest `Retry-After` that is waited for here; a caller that can wait longer tries again itself. */
export const LONGEST_WAIT = 20;

function ofStatus(subject: string, status: number, code: unknown, retryAfter: number | null): ModelError {
  // OpenAI says 429 also when the account is out of money, which waiting does not mend.
  const exhausted = code === 'insufficient_quota';
  const passing = !exhausted && (status === 408 || status === 429 || status >= 500);
  return new ModelError(
    passing ? 'model_unavailable' : 'model_rejected',
    `${subject} answered ${status}${HINTS[status] ?? ''}.`,
    passing,
    { retryAfter: passing ? retryAfter : null, limited: status === 429 },
  );
}

function ofAddress(subject: string, { code, message }: OutboundError): ModelError {
  if (code === 'timeout') return timedOut(subject);
  if (code === 'connection_failed' || code === 'tls_failed')
    return new ModelError('model_unavailable', `${subject} could not be reached. ${message}`, true);
  return new ModelError('model_rejected', `${subject} cannot be asked. ${message}`, false);
}

const timedOut = (subject: string): ModelError =>
  new ModelError('model_timeout', `${subject} did not answer in time.`, true);

/** An error and what it was caused by. */
function causesOf(error: unknown): unknown[] {
  const causes: unknown[] = [];
  for (let cause = error; cause !== undefined && causes.length < DEEPEST; cause = property(cause, 'cause'))
    causes.push(cause);
  return causes;
}

function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** The system's or undici's code (`ECONNREFUSED`, `UND_ERR_SOCKET`), which stands some causes deep. */
function connectionCode(causes: readonly unknown[]): string | null {
  for (const cause of causes) {
    const code = property(cause, 'code');
    if (typeof code === 'string' && /^(E[A-Z]|UND_ERR_|CERT_|DEPTH_|SELF_SIGNED)/.test(code)) return code;
  }
  return null;
}

function codeIn(body: string): unknown {
  try {
    return property(property(JSON.parse(body), 'error'), 'code');
  } catch {
    return undefined;
  }
}

/** `Retry-After` (RFC 9110, 10.2.3). */
function secondsOf(header: string | undefined): number | null {
  if (header === undefined || header.trim() === '') return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const moment = Date.parse(header);
  return Number.isNaN(moment) ? null : Math.max(0, (moment - Date.now()) / 1000);
}
