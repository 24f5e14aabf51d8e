import { lookup } from 'node:dns';
import { isIP } from 'node:net';
import { Client, type Dispatcher, buildConnector } from 'undici';
import type { HostAndPort } from '../config/env.js';
import { type Resolve, guardedConnector } from './guarded-connector.js';
import { OutboundError, type OutboundFault } from './outbound-error.js';
import { isPublicAddress } from './public-address.js';

export interface OutboundRequest {
  url: string;
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  headers?: Record<string, string>;
  body?: string | Buffer;
  /** Milliseconds for everything, from the look-up of the name to the end of the answer, redirects included. */
  timeout: number;
  /** Bytes of the answer's body; what is compressed counts, and comes, as it is. */
  mostBytes: number;
  /** What becomes of an answer that is larger, or does not end in time: refused, or cut where it is [refuse]. */
  overflow?: 'refuse' | 'cut';
  /** How many redirects are followed, each checked like the first address. [0: a redirect is the answer] */
  redirects?: number;
  /** Whether only https will do, but for hosts that the settings allow [false]. */
  httpsOnly?: boolean;
  signal?: AbortSignal;
}

export interface OutboundAnswer {
  status: number;
  /** Names in lower case. */
  headers: Record<string, string>;
  body: Buffer;
  /** Whether there was more of the body. */
  cut: boolean;
  /** Where it came from, after redirects. */
  url: string;
}

/** Milliseconds until a connection stands; the whole request may have less. */
const CONNECT_MS = 5_000;
const MOST_HEADER_BYTES = 16 * 1024;
/** Below it live mail, files, remote shells and the like, which could take an HTTP request for something of theirs. */
const FIRST_FREE_PORT = 1024;

/** Headers that a redirect to somebody else may see. */
const HARMLESS_HEADERS = ['accept', 'accept-language', 'user-agent'];

/**
 * Sends requests to addresses that tenants give, and that must lead nowhere but into the public internet: into no private
 * network, not to this machine, not to a cloud's metadata. Hosts that the settings allow are excepted. Each request has a
 * connection of its own, through no proxy.
 */
export class OutboundClient {
  constructor(
    private readonly options: {
      allowedHosts: readonly HostAndPort[];
      /** [dns.lookup] */
      resolve?: Resolve;
    },
  ) {}

  /**
   * Whether an address may be asked at all, as far as it shows by itself; names are resolved when they are connected to.
   *
   * @throws OutboundError
   */
  check(address: string, { httpsOnly = false } = {}): URL {
    if (!URL.canParse(address)) throw new OutboundError('invalid_url');
    const url = new URL(address);
    if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new OutboundError('unsupported_scheme');
    if (url.username !== '' || url.password !== '') throw new OutboundError('credentials_in_url');
    if (this.isAllowed(url)) return url;
    if (httpsOnly && url.protocol !== 'https:') throw new OutboundError('https_required');
    const port = portOf(url);
    if (port < FIRST_FREE_PORT && port !== 80 && port !== 443) throw new OutboundError('port_refused');
    const host = hostOf(url);
    // The parser has brought every spelling of an IPv4 address into the one with four parts.
    if (isIP(host) !== 0 && !isPublicAddress(host)) throw new OutboundError('address_refused');
    if (host === 'localhost' || host.endsWith('.localhost')) throw new OutboundError('address_refused');
    return url;
  }

  /**
   * @throws OutboundError; the reason of `signal` where that aborts
   */
  async send(request: OutboundRequest): Promise<OutboundAnswer> {
    const { signal, redirects = 0, httpsOnly } = request;
    const deadline = AbortSignal.timeout(request.timeout);
    let current = request;
    try {
      for (let followed = 0; ; followed++) {
        const url = this.check(current.url, { httpsOnly });
        const answer = await this.exchange(url, current, signal ? [deadline, signal] : [deadline], signal);
        const next = redirects > 0 ? redirected(current, url, answer) : null;
        if (!next) return answer;
        if (followed >= redirects) throw new OutboundError('too_many_redirects');
        current = next;
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof OutboundError ? error : new OutboundError(faultOf(error), { cause: error });
    }
  }

  private async exchange(
    url: URL,
    request: OutboundRequest,
    ends: AbortSignal[],
    stop: AbortSignal | undefined,
  ): Promise<OutboundAnswer> {
    const timeout = Math.min(CONNECT_MS, request.timeout);
    const client = new Client(url.origin, {
      connect: this.isAllowed(url)
        ? buildConnector({ timeout, maxCachedSessions: 0 })
        : guardedConnector(this.options.resolve ?? lookup, timeout),
      headersTimeout: request.timeout,
      bodyTimeout: request.timeout,
      maxHeaderSize: MOST_HEADER_BYTES,
      pipelining: 0,
    });
    try {
      const answer = await client.request({
        path: `${url.pathname}${url.search}`,
        method: request.method,
        headers: { 'accept-encoding': 'identity', ...request.headers },
        body: request.body ?? null,
        signal: AbortSignal.any(ends),
      });
      const { body, cut } = await read(answer, request, stop);
      return { status: answer.statusCode, headers: flat(answer.headers), body, cut, url: url.href };
    } finally {
      void client.destroy().catch(() => undefined);
    }
  }

  private isAllowed(url: URL): boolean {
    const [host, port] = [hostOf(url), portOf(url)];
    return this.options.allowedHosts.some(
      allowed => bare(allowed.host) === host && (allowed.port === null || allowed.port === port),
    );
  }
}

async function read(
  { body }: Dispatcher.ResponseData,
  { mostBytes, overflow = 'refuse' }: OutboundRequest,
  stop: AbortSignal | undefined,
): Promise<{ body: Buffer; cut: boolean }> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > mostBytes) break;
    }
  } catch (error) {
    stop?.throwIfAborted();
    if (overflow === 'refuse') throw error;
    return { body: Buffer.concat(chunks).subarray(0, mostBytes), cut: true };
  }
  const cut = size > mostBytes;
  if (cut && overflow === 'refuse') throw new OutboundError('answer_too_large');
  return { body: Buffer.concat(chunks).subarray(0, mostBytes), cut };
}

/** The request that a redirect asks for (RFC 9110, 15.4); null where the answer is none. */
function redirected(request: OutboundRequest, url: URL, answer: OutboundAnswer): OutboundRequest | null {
  const { location } = answer.headers;
  if (![301, 302, 303, 307, 308].includes(answer.status) || location === undefined) return null;
  if (!URL.canParse(location, url.href)) throw new OutboundError('invalid_answer');
  const next = new URL(location, url.href);
  const keepsMethod = answer.status === 307 || answer.status === 308 || request.method === 'HEAD';
  const headers = Object.fromEntries(
    Object.entries(request.headers ?? {}).filter(
      ([name]) =>
        (next.origin === url.origin || HARMLESS_HEADERS.includes(name.toLowerCase())) &&
        (keepsMethod || !name.toLowerCase().startsWith('content-')),
    ),
  );
  // What was written for one server is not shown to another.
  if (keepsMethod && request.body !== undefined && next.origin !== url.origin)
    throw new OutboundError('invalid_answer');
  return {
    ...request,
    url: next.href,
    headers,
    ...(!keepsMethod && { method: 'GET' as const, body: undefined }),
  };
}

/** Without brackets, and without the dot that may end a name. */
const hostOf = (url: URL): string => bare(url.hostname);
const bare = (host: string): string => host.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '');
const portOf = (url: URL): number =>
  url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);

function flat(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      value === undefined ? [] : [[name.toLowerCase(), Array.isArray(value) ? value.join(', ') : value]],
    ),
  );
}

function faultOf(error: unknown): OutboundFault {
  const { name, code = '' } = error as { name?: string; code?: string };
  if (name === 'TimeoutError' || /^UND_ERR_(CONNECT|HEADERS|BODY)_TIMEOUT$/.test(code)) return 'timeout';
  if (code === 'ETIMEDOUT') return 'timeout';
  if (/^(ERR_TLS|ERR_SSL|CERT_|EPROTO|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH)/.test(code))
    return 'tls_failed';
  if (name === 'HTTPParserError' || /^UND_ERR_(HEADERS_OVERFLOW|RES_)/.test(code)) return 'invalid_answer';
  if (code === 'UND_ERR_INVALID_ARG') return 'invalid_request';
  return 'connection_failed';
}
