type Decoder = InstanceType<typeof TextDecoder>;

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

async function* transcoded(body: AsyncIterable<Buffer>, decoder: Decoder): AsyncGenerator<Buffer> {
  for await (const chunk of body) {
    const text = decoder.decode(chunk, { stream: true });
    if (text !== '') yield Buffer.from(text);
  }
  const rest = decoder.decode();
  if (rest !== '') yield Buffer.from(rest);
}

function decoderOf(label: string): Decoder | null {
  try {
    return new TextDecoder(label);
  } catch {
    return null;
  }
}
