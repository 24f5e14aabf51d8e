import { Readable, pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import { decodeStream } from '../../foundation/extraction/text-encoding.js';
import { type XmlHandler, xmlEvents } from '../../foundation/extraction/xml-events.js';
import type { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import { WebFault, refusedBy, webFaultOf } from './web-fault.js';

/** Bytes of one sitemap, unpacked, and addresses in it (sitemaps.org protocol 0.9). */
const MOST_BYTES = 50 * 1024 * 1024;
const MOST_ENTRIES = 50_000;
/** With which a file packed with gzip begins (RFC 1952, 2.3.1). */
const MAGIC = Buffer.from([0x1f, 0x8b]);
const REDIRECTS = 5;
/** An index leads to sitemaps, and should not to other indexes; some do. */
const DEEPEST = 3;
const MOST_SITEMAPS = 1_000;
/** Characters of an address, and then some. */
const LONGEST_LINE = 4_000;

/** What stands in a sitemap: an address of a page, or of another sitemap. */
interface Entry {
  kind: 'page' | 'sitemap';
  url: string;
}

/** Reads sitemaps (https://www.sitemaps.org/protocol.html): XML, indexes of others, and plain text, packed with gzip or not. */
export class WebSitemaps {
  constructor(
    private readonly outbound: OutboundClient,
    private readonly options: { userAgent: string; timeout: number },
  ) {}

  /**
   * Addresses of pages, in their order and as they stand there, sitemap by sitemap as somebody asks for more: none is
   * being read while its addresses are taken. One of an index that cannot be read is told of, and the others are read all
   * the same.
   *
   * @throws WebFault where the sitemap itself cannot be read; the reason of `signal` where that aborts
   */
  async *addresses(
    url: string,
    signal: AbortSignal,
  ): AsyncGenerator<string | { url: string; fault: WebFault }> {
    const seen = new Set([url]);
    let level = [url];
    for (let depth = 0; depth < DEEPEST && level.length > 0; depth++) {
      const next: string[] = [];
      for (const sitemap of level) {
        try {
          const { entries, fault } = await this.read(sitemap, signal);
          for (const entry of entries) {
            if (entry.kind === 'page') yield entry.url;
            else if (!seen.has(entry.url) && seen.size < MOST_SITEMAPS) {
              seen.add(entry.url);
              next.push(entry.url);
            }
          }
          if (fault) throw fault.reason;
        } catch (error) {
          if (depth === 0 || !(error instanceof WebFault)) throw error;
          yield { url: sitemap, fault: error };
        }
      }
      level = next;
    }
  }

  /** @returns what stands in it as far as it could be read, and why no further */
  private async read(
    url: string,
    signal: AbortSignal,
  ): Promise<{ entries: Entry[]; fault: { reason: unknown } | null }> {
    const entries: Entry[] = [];
    try {
      const { userAgent, timeout } = this.options;
      const answer = await this.outbound.open({
        url,
        method: 'GET',
        headers: { 'user-agent': userAgent, accept: 'application/xml, text/xml, text/plain, */*;q=0.5' },
        timeout,
        mostBytes: MOST_BYTES,
        redirects: REDIRECTS,
        unpack: true,
        signal,
      });
      try {
        if (answer.status < 200 || answer.status > 299)
          throw refusedBy(answer.status, answer.headers['retry-after']);
        for await (const entry of entriesIn(watched(answer.body, signal))) {
          entries.push(entry);
          if (entries.length === MOST_ENTRIES) break;
        }
        return { entries, fault: null };
      } finally {
        answer.close();
      }
    } catch (error) {
      signal.throwIfAborted();
      const wrong = error instanceof DocumentError || isPackedWrongly(error);
      const reason = wrong
        ? new WebFault('fetch_failed', 'This is no sitemap.', { cause: error })
        : webFaultOf(error);
      return { entries, fault: { reason } };
    }
  }
}

async function* entriesIn(body: AsyncIterable<Buffer>): AsyncGenerator<Entry> {
  const outer = await begun(body);
  if (!isPacked(outer.head)) return yield* entriesOf(outer);
  const packed = Readable.from(outer.content, { objectMode: false });
  const unpacked = pipeline(packed, createGunzip(), () => undefined);
  const inner = await begun(atMost(unpacked as AsyncIterable<Buffer>));
  // Packed in packed in packed is how bombs are made.
  if (isPacked(inner.head)) throw new DocumentError('damaged', 'It is packed several times.');
  yield* entriesOf(inner);
}

interface Begun {
  /** The first piece. */
  head: Buffer;
  /** All of it. */
  content: AsyncIterable<Buffer>;
}

async function begun(body: AsyncIterable<Buffer>): Promise<Begun> {
  const source = body[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  while (head.length < MAGIC.length) {
    const next = await source.next();
    if (next.done) break;
    head = Buffer.concat([head, next.value]);
  }
  return { head, content: rejoined(head, source) };
}

const isPacked = (head: Buffer): boolean => head.subarray(0, MAGIC.length).equals(MAGIC);

const entriesOf = ({ head, content }: Begun): AsyncGenerator<Entry> =>
  /^(?:\ufeff|\s)*</.test(head.toString('utf8')) ? inXml(content) : inText(content);

async function* inXml(body: AsyncIterable<Buffer>): AsyncGenerator<Entry> {
  const found: Entry[] = [];
  const path: string[] = [];
  let text: string | null = null;
  const handler: XmlHandler = {
    open(name) {
      path.push(name);
      // An image's address stands in a `loc`, too.
      const parent = path.at(-2);
      text = name === 'loc' && (parent === 'url' || parent === 'sitemap') ? '' : null;
    },
    text(piece) {
      if (text !== null && text.length < LONGEST_LINE) text += piece;
    },
    close() {
      path.pop();
      if (text?.trim()) found.push({ kind: path.at(-1) === 'url' ? 'page' : 'sitemap', url: text.trim() });
      text = null;
    },
  };
  for await (const _ of xmlEvents(body, handler)) yield* found.splice(0);
}

/** An address a line. */
async function* inText(body: AsyncIterable<Buffer>): AsyncGenerator<Entry> {
  let open = '';
  for await (const piece of decodeStream(body, 'utf-8')) {
    const lines = (open + piece).split(/\r\n|\r|\n/);
    open = lines.pop() as string;
    if (open.length > LONGEST_LINE) throw new DocumentError('damaged', 'This is no list of addresses.');
    for (const line of lines) if (line.trim() !== '') yield { kind: 'page', url: line.trim() };
  }
  if (open.trim() !== '') yield { kind: 'page', url: open.trim() };
}

async function* rejoined(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield first;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** Looks at the signal with every piece: what is read fast is not waited for. */
async function* watched(body: AsyncIterable<Buffer>, signal: AbortSignal): AsyncGenerator<Buffer> {
  for await (const piece of body) {
    signal.throwIfAborted();
    yield piece;
  }
}

async function* atMost(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let left = MOST_BYTES;
  for await (const chunk of body) {
    left -= chunk.length;
    if (left < 0) throw new OutboundError('answer_too_large');
    yield chunk;
  }
}

const isPackedWrongly = (error: unknown): boolean =>
  String((error as { code?: unknown } | null)?.code).startsWith('Z_');
