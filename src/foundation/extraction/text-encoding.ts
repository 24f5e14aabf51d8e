import { createReadStream } from 'node:fs';

/** Bytes at the start of a text by which its encoding is told, where it is not UTF-8. */
const SAMPLE_BYTES = 64 * 1024;
/** Shorter texts in UTF-16 without a mark cannot be told from binary data. */
const MIN_UNMARKED_UTF16_BYTES = 16;
const ESC = 0x1b;

/**
 * The encoding of a text, as a label of the Encoding Standard: by its byte order mark, else UTF-16 where the
 * bytes make sense as such, else ISO-2022-JP where it is declared and escapes occur, else UTF-8 where it is valid or only broken here and there, else by an HTML
 * `<meta charset>`, else windows-1252, the superset of Latin-1 that the standard prescribes for both names.
 *
 * @param options.truncated a character may be cut in two at the end
 */
export function encodingOf(bytes: Uint8Array, { truncated = false } = {}): string {
  const found =
    markedEncoding(bytes) ?? unmarkedUtf16(bytes) ?? (bytes.includes(ESC) ? escaped(bytes) : null);
  if (found) return found;
  const counts = new Utf8Counter();
  counts.add(bytes);
  return counts.looksRight(truncated) ? 'utf-8' : declaredCharset(bytes);
}

/** The encoding of the text in a file, all of which is looked at. */
export async function encodingOfFile(path: string): Promise<string> {
  const counts = new Utf8Counter();
  let head: Uint8Array | null = null;
  let escapes = false;
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 })) {
    const bytes = chunk as Buffer;
    if (head === null) {
      head = bytes.subarray(0, SAMPLE_BYTES);
      const found = markedEncoding(head) ?? unmarkedUtf16(head);
      if (found) return found;
    }
    escapes ||= bytes.includes(ESC);
    counts.add(bytes);
  }
  const found = escapes && head ? escaped(head) : null;
  if (found) return found;
  return counts.looksRight(false) ? 'utf-8' : declaredCharset(head ?? new Uint8Array());
}

/** Decodes a text by `encodingOf` it. The byte order mark is no part of it; what is broken becomes U+FFFD. */
export const decodeText = (bytes: Uint8Array, options: { truncated?: boolean } = {}): string =>
  decodeAs(encodingOf(bytes, options), bytes, options.truncated);

/** Decodes chunk by chunk, with no character cut in two. */
export async function* decodeStream(
  chunks: AsyncIterable<Uint8Array>,
  encoding: string,
): AsyncGenerator<string> {
  const decoder = new TextDecoder(encoding);
  for await (const chunk of chunks) {
    const text = decoder.decode(chunk, { stream: true });
    if (text !== '') yield text;
  }
  const rest = decoder.decode();
  if (rest !== '') yield rest;
}

/** The text of a file, in pieces of about 256 kB. */
export async function* readText(path: string): AsyncGenerator<string> {
  const encoding = await encodingOfFile(path);
  yield* decodeStream(createReadStream(path, { highWaterMark: 256 * 1024 }), encoding);
}

/** UTF-16 or UTF-8 by its byte order mark. */
export function markedEncoding(bytes: Uint8Array): string | null {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return 'utf-16le';
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return 'utf-16be';
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 'utf-8' : null;
}

/**
 * Text in UTF-16 without a byte order mark. It has a NUL byte in every blank and line end, as text in no other
 * encoding has; the higher byte of a character varies less than the lower one; and text holds no control
 * characters, halves of surrogate pairs or characters that do not exist.
 */
export function unmarkedUtf16(bytes: Uint8Array): string | null {
  const sample = bytes.subarray(0, Math.min(bytes.length, SAMPLE_BYTES) & ~1);
  const odd = bytes.length % 2 === 1 && bytes.length < SAMPLE_BYTES;
  if (sample.length < MIN_UNMARKED_UTF16_BYTES || odd || !sample.includes(0)) return null;
  const [even, uneven] = [new Set<number>(), new Set<number>()];
  for (let at = 0; at < sample.length; at += 2) {
    even.add(sample[at]!);
    uneven.add(sample[at + 1]!);
  }
  const encoding = uneven.size < even.size ? 'utf-16le' : 'utf-16be';
  const text = new TextDecoder(encoding).decode(sample, { stream: true });
  const strange =
    text.match(/[\p{Cn}\p{Co}\p{Cs}\p{Cc}\uFFFD]/gu)?.filter(char => !/\s/.test(char)).length ?? 0;
  return strange * 100 <= text.length && !text.includes('\0') ? encoding : null;
}

/** Counts whole and broken characters of UTF-8 (RFC 3629) over any number of chunks. */
class Utf8Counter {
  private whole = 0;
  private broken = 0;
  /** Bytes that are yet to come of the character that has begun. */
  private missing = 0;
  private lowest = 0x80;
  private highest = 0xbf;

  add(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at]!;
      if (this.missing > 0) {
        if (byte >= this.lowest && byte <= this.highest) {
          this.missing--;
          this.lowest = 0x80;
          this.highest = 0xbf;
          if (this.missing === 0) this.whole++;
          continue;
        }
        this.missing = 0;
        this.broken++;
      }
      if (byte >= 0x80) this.begin(byte);
    }
  }

  /** One broken character among many whole ones is damage; in another encoding hardly any is whole. */
  looksRight(truncated: boolean): boolean {
    const broken = this.broken + (this.missing > 0 && !truncated ? 1 : 0);
    return broken === 0 || this.whole > broken;
  }

  private begin(byte: number): void {
    [this.lowest, this.highest] = [0x80, 0xbf];
    if (byte >= 0xc2 && byte <= 0xdf) this.missing = 1;
    else if (byte >= 0xe0 && byte <= 0xef) this.missing = 2;
    else if (byte >= 0xf0 && byte <= 0xf4) this.missing = 3;
    else this.broken++;
    // Overlong forms, surrogates and what lies beyond U+10FFFF are no characters.
    if (byte === 0xe0) this.lowest = 0xa0;
    else if (byte === 0xed) this.highest = 0x9f;
    else if (byte === 0xf0) this.lowest = 0x90;
    else if (byte === 0xf4) this.highest = 0x8f;
  }
}

/** All of ISO-2022-JP is ASCII, and with it valid UTF-8; its Japanese stands between escapes. */
function escaped(head: Uint8Array): string | null {
  const declared = declaredCharset(head);
  return declared === 'iso-2022-jp' ? declared : null;
}

function declaredCharset(head: Uint8Array): string {
  const start = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, 4096)).toString('latin1');
  const charset = /<meta[^>]{0,200}charset\s*=\s*["']?([\w-]{1,40})/i.exec(start)?.[1] ?? 'windows-1252';
  try {
    const { encoding } = new TextDecoder(charset);
    // It was read as eight-bit characters, and is no valid UTF-8.
    return encoding.startsWith('utf-') ? 'windows-1252' : encoding;
  } catch {
    return 'windows-1252';
  }
}

function decodeAs(encoding: string, bytes: Uint8Array, truncated = false): string {
  const decoder = new TextDecoder(encoding);
  // Node 20 and 22 take windows-1252 for ISO-8859-1 unless they decode a stream (nodejs/node#56542).
  const text = decoder.decode(bytes, { stream: true });
  return truncated ? text : text + decoder.decode();
}
