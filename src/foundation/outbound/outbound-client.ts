import { lookup } from 'node:dns';
import { isIP } from 'node:net';
import { type Duplex, Readable, pipeline } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import { Agent, Client, type Dispatcher, buildConnector, request as exchange } from 'undici';
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

/** A request whose answer's body is read as it comes. */
export interface OutboundStreamRequest extends Omit<OutboundRequest, 'overflow'> {
  /** Whether the answer may come compressed, and is unpacked; `mostBytes` hold for both then [false]. */
  unpack?: boolean;
  /** Asked before each address, the first one and those of redirects; what it throws ends the request. */
  before?: (url: URL) => Promise<void>;
}

export interface OutboundStream extends Pick<OutboundAnswer, 'status' | 'headers' | 'url'> {
  /** To be read once. @throws OutboundError; the reason of the request's signal */
  body: AsyncIterable<Buffer>;
  /** Ends the connection; whoever reads the body to its end, or breaks off, need not. */
  close(): void;
}

/** A request without limits of its own: whoever sends it watches the clock, and how much comes. */
export interface OutboundExchange extends Pick<OutboundRequest, 'url' | 'method' | 'headers' | 'httpsOnly'> {
  body?: string | Buffer | Readable;
  signal: AbortSignal;
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
 * connection of its own, through no proxy; exchanges keep theirs for the next one.
 */
export class OutboundClient {
  private pools: { guarded: Agent; open: Agent } | null = null;

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

  /** @throws OutboundError; the reason of `signal` where that aborts */
  async send(request: OutboundRequest): Promise<OutboundAnswer> {
    const { status, headers, url, body } = await this.open(request);
    return { status, headers, url, ...(await read(body, request)) };
  }

  /**
   * The same, with a body that nobody holds in memory.
   *
   * @throws OutboundError; the reason of `signal` where that aborts; what `before` throws
   */
  async open(request: OutboundStreamRequest): Promise<OutboundStream> {
    const { signal, redirects = 0, httpsOnly } = request;
    const end = endOf(request);
    let current = request;
    try {
      for (let followed = 0; ; followed++) {
        const url = this.check(current.url, { httpsOnly });
        if (request.before) {
          await request.before(url).catch((error: unknown) => {
            throw new RefusedBefore(error);
          });
        }
        end.signal.throwIfAborted();
        const { answer, disconnect } = await this.begin(url, current, end);
        const next = redirects > 0 ? redirected(current, url, answer) : null;
        if (!next) return answer;
        disconnect();
        if (followed >= redirects) throw new OutboundError('too_many_redirects');
        current = next;
      }
    } catch (error) {
      end.clear();
      if (error instanceof RefusedBefore) throw error.cause;
      throw this.faultOf(error, signal);
    }
  }

  /**
   * Sends a request over a connection that stays for the next one to the same server: what was checked when it was made is
   * what it leads to. A redirect is an answer.
   *
   * @throws OutboundError; the reason of the request's signal
   */
  async exchange(request: OutboundExchange): Promise<OutboundStream> {
    const { signal, body: sent } = request;
    try {
      const url = this.check(request.url, request);
      this.pools ??= this.connect();
      const received = await exchange(url, {
        dispatcher: this.isAllowed(url) ? this.pools.open : this.pools.guarded,
        method: request.method,
        headers: { ...request.headers, 'accept-encoding': 'identity' },
        body: sent ?? null,
        signal,
      });
      const { body } = received;
      body.on('error', () => undefined);
      return {
        status: received.statusCode,
        headers: flat(received.headers),
        url: url.href,
        body,
        close: () => void body.destroy(),
      };
    } catch (error) {
      throw this.faultOf(error, signal);
    }
  }

  private connect(): { guarded: Agent; open: Agent } {
    // The caller watches the clock: models think for longer than undici would wait.
    const limits = { headersTimeout: 0, bodyTimeout: 0, maxHeaderSize: MOST_HEADER_BYTES };
    return {
      guarded: new Agent({
        ...limits,
        connect: guardedConnector(this.options.resolve ?? lookup, CONNECT_MS),
      }),
      open: new Agent({ ...limits, connect: buildConnector({ timeout: CONNECT_MS, maxCachedSessions: 0 }) }),
    };
  }

  private async begin(
    url: URL,
    request: OutboundStreamRequest,
    end: End,
  ): Promise<{ answer: OutboundStream; disconnect: () => void }> {
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
    const disconnect = () => void client.destroy().catch(() => undefined);
    const close = () => {
      end.clear();
      disconnect();
    };
    try {
      const received = await client.request({
        path: `${url.pathname}${url.search}`,
        method: request.method,
        headers: { 'accept-encoding': request.unpack ? 'gzip, br' : 'identity', ...request.headers },
        body: request.body ?? null,
        signal: end.signal,
      });
      // Nobody listens to a body that is not read.
      received.body.on('error', () => undefined);
      const headers = flat(received.headers);
      const body = this.read(received, headers, request, close);
      return {
        answer: { status: received.statusCode, headers, url: url.href, body, close },
        disconnect,
      };
    } catch (error) {
      disconnect();
      throw error;
    }
  }

  private async *read(
    { body }: Dispatcher.ResponseData,
    headers: Record<string, string>,
    { unpack, mostBytes, signal }: OutboundStreamRequest,
    close: () => void,
  ): AsyncGenerator<Buffer> {
    try {
      const coding = unpack ? (headers['content-encoding'] ?? '') : '';
      yield* atMost(unpacked(body, coding, mostBytes), mostBytes);
    } catch (error) {
      throw this.faultOf(error, signal);
    } finally {
      close();
    }
  }

  private faultOf(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason;
    return error instanceof OutboundError ? error : new OutboundError(faultOf(error), { cause: error });
  }

  private isAllowed(url: URL): boolean {
    const [host, port] = [hostOf(url), portOf(url)];
    return this.options.allowedHosts.some(
      allowed => bare(allowed.host) === host && (allowed.port === null || allowed.port === port),
    );
  }
}

/** When a request has to have ended, its answer's body included. */
interface End {
  signal: AbortSignal;
  clear(): void;
}

/** One controller, and not `AbortSignal.any` with `AbortSignal.timeout`: Node 20 collects such a signal before it fires. */
function endOf({ timeout, signal }: OutboundStreamRequest): End {
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  const timer = setTimeout(() => controller.abort(new DOMException('Timed out', 'TimeoutError')), timeout);
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  return {
    signal: controller.signal,
    clear() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    },
  };
}

/** Carries what `before` threw past the faults of the exchange. */
class RefusedBefore extends Error {
  constructor(cause: unknown) {
    super('Refused before it was sent.', { cause });
  }
}

/** @throws OutboundError `answer_too_large`, after as much as there may be */
async function* atMost(body: AsyncIterable<Buffer>, mostBytes: number): AsyncGenerator<Buffer> {
  let left = mostBytes;
  for await (const chunk of body) {
    yield chunk.length > left ? chunk.subarray(0, left) : chunk;
    left -= chunk.length;
    if (left < 0) throw new OutboundError('answer_too_large');
  }
}

/** Undoes a content coding (RFC 9110, 8.4.1), bit by bit: what unpacks to more than somebody reads is never held. */
function unpacked(body: Readable, coding: string, mostBytes: number): AsyncIterable<Buffer> {
  const through = (decoder: Duplex): AsyncIterable<Buffer> =>
    // Of what unpacks to nothing, there could be any amount.
    pipeline(Readable.from(atMost(body, mostBytes), { objectMode: false }), decoder, () => undefined);
  switch (coding.trim().toLowerCase()) {
    case '':
    case 'identity':
      return body;
    case 'gzip':
    case 'x-gzip':
      return through(createGunzip());
    case 'br':
      return through(createBrotliDecompress());
    case 'deflate':
      return through(createInflate());
    default:
      throw new OutboundError('invalid_answer');
  }
}

async function read(
  body: AsyncIterable<Buffer>,
  { overflow = 'refuse', signal }: OutboundRequest,
): Promise<{ body: Buffer; cut: boolean }> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of body) chunks.push(chunk);
    return { body: Buffer.concat(chunks), cut: false };
  } catch (error) {
    if (overflow === 'refuse' || signal?.aborted) throw error;
    return { body: Buffer.concat(chunks), cut: true };
  }
}

/** The request that a redirect asks for (RFC 9110, 15.4); null where the answer is none. */
function redirected<Request extends OutboundRequest>(
  request: Request,
  url: URL,
  answer: OutboundStream,
): Request | null {
  const {
    status,
    headers: { location },
  } = answer;
  if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return null;
  if (!URL.canParse(location, url.href)) {
    answer.close();
    throw new OutboundError('invalid_answer');
  }
  const next = new URL(location, url.href);
  const keepsMethod = status === 307 || status === 308 || request.method === 'HEAD';
  const headers = Object.fromEntries(
    Object.entries(request.headers ?? {}).filter(
      ([name]) =>
        (next.origin === url.origin || HARMLESS_HEADERS.includes(name.toLowerCase())) &&
        (keepsMethod || !name.toLowerCase().startsWith('content-')),
    ),
  );
  // What was written for one server is not shown to another.
  if (keepsMethod && request.body !== undefined && next.origin !== url.origin) {
    answer.close();
    throw new OutboundError('invalid_answer');
  }
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
  // Of zlib: it is not what its header says.
  if (/^(Z_|ERR_(BROTLI|_ERROR|PADDING)|BROTLI)/.test(code)) return 'invalid_answer';
  if (code === 'UND_ERR_INVALID_ARG') return 'invalid_request';
  return 'connection_failed';
}
