import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from './foundation/http/problem.js';

/** Of one request that gets no answer, or one that passes. */
const MOST_ATTEMPTS = 3;
/** Of one attempt, to the end of its answer, in milliseconds: twice what a server gives a request by itself. */
const LONGEST_REQUEST_MS = 120_000;
/** Seconds that a server may ask to be waited for, and how often in a row. */
const LONGEST_WAIT = 120;
const MOST_WAITS = 5;
/** Of everything that is done after the run was stopped, in milliseconds. */
const LONGEST_CLEARANCE_MS = 300_000;
/** Seconds of an access token's life at its end in which it is not used any more. */
const SPARED_LIFE = 20;

export interface VerifyAnswer {
  status: number;
  headers: Headers;
  /** As it came, whatever it is. */
  text: string;
  /** An object where it is JSON; else empty. */
  body: Record<string, unknown>;
}

export interface Sent {
  body?: unknown;
  headers?: Record<string, string>;
  /** Behind the path. */
  query?: Record<string, string>;
  /** It is not cut off where the run is stopped: what it makes would be there, and nobody would know. */
  whole?: boolean;
}

/** A running server, asked as anybody. Waits where it says so. */
export class VerifyServer {
  /** @param url without `/api/v1` */
  constructor(
    readonly url: string,
    readonly signal: AbortSignal,
    private readonly longestRequestMs = LONGEST_REQUEST_MS,
  ) {}

  /** The same server for what must be done although the run was stopped; from now on, and not for ever. */
  unstoppable(): VerifyServer {
    return new VerifyServer(this.url, AbortSignal.timeout(LONGEST_CLEARANCE_MS), this.longestRequestMs);
  }

  /** @param path whole. @throws Problem where nobody answers; the signal's reason */
  async send(method: string, path: string, sent: Sent = {}): Promise<VerifyAnswer> {
    for (let attempt = 0, waits = 0; ;) {
      this.signal.throwIfAborted();
      const outcome = await this.attempt(method, path, sent).catch((error: unknown) => error as Error);
      this.signal.throwIfAborted();
      if (outcome instanceof Error) {
        if (++attempt >= MOST_ATTEMPTS) throw this.unreachable(outcome);
        await this.pause(attempt / 2);
      } else if (outcome.status === 429 && ++waits <= MOST_WAITS) {
        await this.pause(Math.min(Number(outcome.headers.get('retry-after')) || 1, LONGEST_WAIT));
      } else if (isPassing(outcome) && ++attempt < MOST_ATTEMPTS) {
        await this.pause(Math.min(Number(outcome.headers.get('retry-after')) || attempt, LONGEST_WAIT));
      } else {
        return outcome;
      }
    }
  }

  private async attempt(method: string, path: string, sent: Sent): Promise<VerifyAnswer> {
    const { body, headers = {}, query = {}, whole = false } = sent;
    const search = new URLSearchParams(query).toString();
    // One for each request: what listens to the run's own would stay until it ends.
    const request = new AbortController();
    const abort = () => request.abort();
    if (!whole) this.signal.addEventListener('abort', abort);
    const seconds = this.longestRequestMs / 1000;
    const limit = setTimeout(
      () => request.abort(new Error(`no answer within ${seconds} s`)),
      this.longestRequestMs,
    );
    try {
      return await answerOf(
        fetch(`${this.url}${path}${search && `?${search}`}`, {
          method,
          headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
          body: body === undefined ? null : JSON.stringify(body),
          // A redirect would send credentials to whoever it names.
          redirect: 'manual',
          signal: request.signal,
        }),
      );
    } finally {
      clearTimeout(limit);
      this.signal.removeEventListener('abort', abort);
    }
  }

  private pause(seconds: number): Promise<void> {
    return sleep(seconds * 1000, undefined, { signal: this.signal });
  }

  private unreachable(error: Error): Problem {
    const { cause } = error as { cause?: Error };
    return new Problem(503, 'unreachable', `${this.url} does not answer: ${cause?.message || error.message}`);
  }
}

const isPassing = ({ status }: VerifyAnswer) => status === 502 || status === 503 || status === 504;

async function answerOf(pending: Promise<Response>): Promise<VerifyAnswer> {
  const response = await pending;
  const text = await response.text();
  const isJson = /\bjson\b/.test(response.headers.get('content-type') ?? '');
  return { status: response.status, headers: response.headers, text, body: isJson ? parsed(text) : {} };
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Somebody who asks, with one credential. */
export class Caller {
  constructor(
    readonly server: VerifyServer,
    /** For reports. */
    readonly name: string,
    private readonly credential: () => Promise<Record<string, string>> = () => Promise.resolve({}),
  ) {}

  /** With a fixed bearer. */
  static bearer(server: VerifyServer, name: string, secret: string): Caller {
    return new Caller(server, name, () => Promise.resolve({ authorization: `Bearer ${secret}` }));
  }

  /** @param path below `/api/v1` */
  async send(method: string, path: string, sent: Sent = {}): Promise<VerifyAnswer> {
    const headers = { ...(await this.credential()), ...sent.headers };
    return this.server.send(method, `/api/v1${path}`, { ...sent, headers });
  }

  get(path: string, query?: Record<string, string>): Promise<VerifyAnswer> {
    return this.send('GET', path, query && { query });
  }

  /** Of what the run itself needs. @throws Problem where it is refused */
  async must(
    method: string,
    path: string,
    body?: unknown,
    more: Pick<Sent, 'whole'> = {},
  ): Promise<Record<string, unknown>> {
    const answer = await this.send(method, path, { body, ...more });
    if (answer.status < 300) return answer.body;
    const { code = 'unexpected_answer', detail = '' } = answer.body as { code?: string; detail?: string };
    throw new Problem(
      answer.status,
      code,
      `${this.server.url} refuses ${method} ${path} (${answer.status}): ${detail}`,
    );
  }
}

interface Tokens {
  access_token: string;
  refresh_token: string;
  expires_in: number;
}

/** An account that signs in with its password, and stays signed in. */
export class Account {
  private tokens: Tokens | null = null;
  private until = 0;
  private pending: Promise<string> | null = null;
  readonly caller: Caller;

  constructor(
    private readonly server: VerifyServer,
    readonly name: string,
    private readonly email: string,
    private readonly password: string,
  ) {
    this.caller = new Caller(server, name, async () => ({
      authorization: `Bearer ${await this.accessToken()}`,
    }));
  }

  /** @throws Problem 401 where e-mail and password do not fit */
  accessToken(): Promise<string> {
    if (this.tokens && Date.now() < this.until) return Promise.resolve(this.tokens.access_token);
    // Of several requests at once, one signs in: a refresh token is good once.
    this.pending ??= this.renew().finally(() => {
      this.pending = null;
    });
    return this.pending;
  }

  /** In a session of its own. @returns its access token */
  async signInAgain(): Promise<string> {
    const { email, password } = this;
    const answer = await new Caller(this.server, this.name).must('POST', '/auth/login', { email, password });
    return answer['access_token'] as string;
  }

  /** Of the session that is used now. */
  async refreshToken(): Promise<string> {
    await this.accessToken();
    return (this.tokens as Tokens).refresh_token;
  }

  private async renew(): Promise<string> {
    const anybody = new Caller(this.server, this.name);
    const { email, password, tokens } = this;
    const renewed =
      tokens &&
      (await anybody.send('POST', '/auth/refresh', { body: { refresh_token: tokens.refresh_token } }));
    const answer =
      renewed?.status === 200
        ? renewed
        : await anybody.send('POST', '/auth/login', { body: { email, password } });
    if (answer.status !== 200) {
      const { code = 'unexpected_answer', detail } = answer.body as { code?: string; detail?: string };
      const what = detail ?? `It answered with the status ${answer.status}.`;
      throw new Problem(answer.status, code, `${this.server.url} does not let ${email} sign in: ${what}`);
    }
    this.tokens = answer.body as unknown as Tokens;
    const life = this.tokens.expires_in;
    this.until = Date.now() + (life - Math.min(SPARED_LIFE, life / 2)) * 1000;
    return this.tokens.access_token;
  }
}
