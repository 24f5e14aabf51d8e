import { Readable, pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { DocumentError } from '../../foundation/extraction/document-error.js';
import { decodeStream } from '../../foundation/extraction/text-encoding.js';
import { type XmlHandler, xmlEvents } from '../../foundation/extraction/xml-events.js';
import type { OutboundClient } from '../../foundation/outbound/outbound-client.js';
import { OutboundError } from '../../foundation/outbound/outbound-error.js';
import { WebFault, refusedBy, webFaultOf } from './web-fault.js';

/** Bytes of one sitemap, unpacked (sitemaps.org protocol 0.9). */
const MOST_BYTES = 50 * 1024 * 1024;
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
   * Addresses of pages, in their order and as they stand there; read as far as somebody asks for more. A sitemap of an
   * index that cannot be read is told of, and the others are read all the same.
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
          for await (const entry of this.read(sitemap, signal)) {
            if (entry.kind === 'page') yield entry.url;
            else if (!seen.has(entry.url) && seen.size < MOST_SITEMAPS) {
              seen.add(entry.url);
              next.push(entry.url);
            }
          }
        } catch (error) {
          if (depth === 0 || !(error instanceof WebFault)) throw error;
          yield { url: sitemap, fault: error };
        }
      }
      level = next;
    }
  }

  private async *read(url: string, signal: AbortSignal): AsyncGenerator<Entry> {
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
        yield* entriesIn(answer.body);
      } finally {
        answer.close();
      }
    } catch (error) {
      if (error instanceof DocumentError || isPackedWrongly(error))
        throw new WebFault('fetch_failed', 'This is no sitemap.', { cause: error });
      throw webFaultOf(error);
    }
  }
}

async function* entriesIn(body: AsyncIterable<Buffer>): AsyncGenerator<Entry> {
  const source = body[Symbol.asyncIterator]();
  const first = await source.next();
  if (first.done) return;
  const rest = rejoined(first.value, source);
  if (first.value[0] === 0x1f && first.value[1] === 0x8b) {
    const unpacked = pipeline(Readable.from(rest, { objectMode: false }), createGunzip(), () => undefined);
    yield* entriesIn(atMost(unpacked as AsyncIterable<Buffer>));
  } else if (/^(?:\ufeff|\s)*</.test(first.value.toString('utf8'))) yield* inXml(rest);
  else yield* inText(rest);
}

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
