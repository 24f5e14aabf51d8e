import { Parser } from 'htmlparser2';
import { DocumentError } from './document-error.js';
import { decodeStream, markedEncoding, unmarkedUtf16 } from './text-encoding.js';

/** Elements within elements; documents of people stay below a hundred. */
const MAX_DEPTH = 1000;
/** UTF-16 code units of one element's attributes. */
const MAX_ATTRIBUTE_LENGTH = 1024 * 1024;

export interface XmlHandler {
  open?(name: string, attributes: Record<string, string>): void;
  close?(name: string): void;
  text?(text: string): void;
}

export interface XmlOptions {
  /** Names keep their prefix (`text:p`); otherwise an element is known by its local name (`p`) [false]. */
  prefixed?: boolean;
}

/**
 * Reads XML of any size and tells the handler what is in it. Yields after every piece that was fed, so that
 * the caller can hand on what the handler has gathered. Entities that a document defines for itself are
 * never expanded: nothing that is read here needs any, and bombs are made of them.
 *
 * @throws DocumentError `damaged` where elements are left open, nested too deeply or define entities
 */
export async function* xmlEvents(
  chunks: AsyncIterable<Uint8Array>,
  handler: XmlHandler,
  { prefixed = false }: XmlOptions = {},
): AsyncGenerator<void> {
  let depth = 0;
  let openedAt = -1;
  let ended = false;
  const nameOf = (name: string) => (prefixed ? name : name.slice(name.indexOf(':') + 1));
  const parser = new Parser(
    {
      onopentag(name, attributes) {
        if (++depth > MAX_DEPTH)
          throw new DocumentError('damaged', 'The file is nested too deeply to be read.');
        openedAt = parser.startIndex;
        handler.open?.(nameOf(name), attributes);
      },
      onclosetag(name, implied) {
        // An element that closes itself is "implied" too, at the place where it was opened.
        if (implied && (ended || parser.startIndex !== openedAt)) throw malformed();
        depth--;
        handler.close?.(nameOf(name));
      },
      ontext(text) {
        handler.text?.(text);
      },
      onattribute(_, value) {
        if (value.length > MAX_ATTRIBUTE_LENGTH) throw malformed();
      },
      onprocessinginstruction(name, data) {
        if (/^!doctype$/i.test(name) && /\[|<!/.test(data)) {
          throw new DocumentError('damaged', 'The file defines XML entities of its own and is not read.');
        }
      },
    },
    { xmlMode: true },
  );
  for await (const text of decodeXml(chunks)) {
    parser.write(text);
    yield;
  }
  ended = true;
  parser.end();
  yield;
}

/** Reads a piece of XML as a whole. */
export async function readXml(
  chunks: AsyncIterable<Uint8Array>,
  handler: XmlHandler,
  options?: XmlOptions,
): Promise<void> {
  for await (const _ of xmlEvents(chunks, handler, options)) {
    // What it holds goes to the handler.
  }
}

/** The value of an attribute by its local name, whatever prefix it has: `r:id` by `id`, but not `id` itself. */
export const prefixedAttribute = (attributes: Record<string, string>, name: string): string | null =>
  Object.entries(attributes).find(([key]) => key.endsWith(`:${name}`))?.[1] ?? null;

const malformed = () => new DocumentError('damaged', 'The file is damaged: its XML is not well-formed.');

async function* decodeXml(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const source = chunks[Symbol.asyncIterator]();
  const first = await source.next();
  if (first.done) return;
  const encoding = markedEncoding(first.value) ?? unmarkedUtf16(first.value) ?? 'utf-8';
  const all = async function* () {
    yield first.value;
    for (let next = await source.next(); !next.done; next = await source.next()) yield next.value;
  };
  try {
    yield* decodeStream(all(), encoding);
  } finally {
    await source.return?.();
  }
}
