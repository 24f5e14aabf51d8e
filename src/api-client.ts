import { setTimeout as sleep } from 'node:timers/promises';
import { type FieldError, Problem } from './foundation/http/problem.js';

/** Of one request: a fault that passes is waited for, one that stays ends the run. */
const MOST_ATTEMPTS = 5;
/** Seconds that a server may ask to be waited for, and how often. */
const LONGEST_WAIT = 120;
const MOST_WAITS = 100;

export interface HttpEndpoint {
  /** Without `/api/v1`. */
  url: string;
  token: string;
  signal: AbortSignal;
}

export interface ApiAnswer {
  status: number;
  /** JSON; null where it is none. */
  body: unknown;
}

/** A problem document, as far as it is needed here. */
interface WireProblem {
  code?: string;
  detail?: string;
  errors?: FieldError[];
  document_id?: string;
}

/** A body that can be sent again: a stream can be read once. */
export type ApiBody = () => { body: RequestInit['body']; headers: Record<string, string> };

/** What a command works on, and what is said where it is not there. */
export interface Place {
  tenant: string;
  missing: string;
}

/** The API of a running server, for commands. Waits where it is busy, or asks to be asked later. */
export class ApiClient {
  constructor(
    private readonly endpoint: HttpEndpoint,
    private readonly place: Place,
  ) {}

  /**
   * @param path below `/api/v1`
   * @throws Problem where no answer comes; the signal's reason
   */
  async send(method: string, path: string, bodyOf?: ApiBody, attempts = MOST_ATTEMPTS): Promise<ApiAnswer> {
    const { url, token, signal } = this.endpoint;
    for (let attempt = 0, waits = 0; ;) {
      const { body = null, headers = {} } = bodyOf?.() ?? {};
      const outcome = await fetch(`${url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, ...headers },
        body,
        signal,
        // A redirect would send the token to whoever it names.
        redirect: 'manual',
        ...(body && { duplex: 'half' }),
      })
        // An answer may break off in the middle, too.
        .then(answerOf)
        .catch((error: unknown) => error as Error);
      signal.throwIfAborted();
      if (!(outcome instanceof Error) && outcome.status !== 429 && outcome.status < 502) return outcome;
      const limited = !(outcome instanceof Error) && outcome.status === 429;
      // To be let in later is no failed attempt.
      if (limited ? ++waits > MOST_WAITS : ++attempt >= attempts) throw this.faultOf(outcome);
      const asked = outcome instanceof Error ? 0 : outcome.retryAfter;
      const seconds = Math.min(Math.max(2 ** attempt / 2, asked, limited ? 1 : 0), LONGEST_WAIT);
      await sleep(seconds * 1000, undefined, { signal });
    }
  }

  /** What is wrong with the whole run, in a sentence. */
  faultOf(outcome: ApiAnswer | Error): Problem {
    const { url } = this.endpoint;
    if (outcome instanceof Error) {
      const { cause } = outcome as { cause?: Error };
      return new Problem(503, 'unreachable', `${url} does not answer: ${cause?.message || outcome.message}`);
    }
    const { status } = outcome;
    const { code, detail = `It answered with the status ${status}.`, errors } = problemOf(outcome);
    const { tenant, missing } = this.place;
    if (code === undefined)
      return new Problem(502, 'unexpected_answer', `${url} does not answer as this API does (${status}).`);
    if (status === 401) return new Problem(401, code, `${url} does not accept the token: ${detail}`);
    if (code === 'not_found' && detail.includes('tenant'))
      return new Problem(404, code, `There is no tenant "${tenant}" at ${url}, or none for this token.`);
    if (code === 'not_found') return new Problem(404, code, missing);
    return new Problem(status, code, `${url} refuses: ${detail}`, errors && { errors });
  }
}

async function answerOf(response: Response): Promise<ApiAnswer & { retryAfter: number }> {
  const text = await response.text();
  const isJson = /\bjson\b/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    body: isJson ? (JSON.parse(text) as unknown) : null,
    retryAfter: Number(response.headers.get('retry-after')) || 0,
  };
}

export const problemOf = ({ body }: ApiAnswer): WireProblem => body ?? {};

export const jsonBody =
  (value: unknown, headers: Record<string, string> = {}): ApiBody =>
  () => ({ body: JSON.stringify(value), headers: { 'content-type': 'application/json', ...headers } });
