import { markedEncoding } from '../../foundation/extraction/text-encoding.js';

type Decoder = InstanceType<typeof TextDecoder>;

/** Bytes of the byte order mark of UTF-8. */
const LONGEST_MARK = 3;

/** Types whose content is text in the charset that their parameter names. */
const TEXT = /^\s*(?:text\/|application\/(?:[\w.+-]*\+)?(?:xml|json|xhtml)\b)/i;

/**
 * Text that a server sends in another charset than UTF-8, and whose content may not say so, in UTF-8. Everything else as
 * it is.
 *
 * @param contentType the header of this name (RFC 9110, 8.3)
 */
export function inUtf8(body: AsyncIterable<Buffer>, contentType: string): AsyncIterable<Buffer> {
  const charset = TEXT.test(contentType)
    ? /;\s*charset\s*=\s*"?([\w:.+-]{1,40})/i.exec(contentType)?.[1]
    : undefined;
  const decoder = charset === undefined ? null : decoderOf(charset);
  return decoder === null || decoder.encoding === 'utf-8' ? body : transcoded(body, decoder);
}

/** A byte order mark knows better than what the server has declared (Encoding Standard, 6, "decode"). */
async function* transcoded(body: AsyncIterable<Buffer>, declared: Decoder): AsyncGenerator<Buffer> {
  let decoder: Decoder | null = null;
  let head: Buffer = Buffer.alloc(0);
  for await (const chunk of body) {
    let content = chunk;
    if (!decoder) {
      content = head = Buffer.concat([head, chunk]);
      if (head.length < LONGEST_MARK) continue;
      decoder = decoderFor(head, declared);
    }
    const text: string = decoder.decode(content, { stream: true });
    if (text !== '') yield Buffer.from(text);
  }
  const rest = decoder ? decoder.decode() : decoderFor(head, declared).decode(head);
  if (rest !== '') yield Buffer.from(rest);
}

function decoderFor(head: Buffer, declared: Decoder): Decoder {
  const marked = markedEncoding(head);
  return marked === null ? declared : new TextDecoder(marked);
}

function decoderOf(label: string): Decoder | null {
  try {
    return new TextDecoder(label);
  } catch {
    return null;
  }
}
