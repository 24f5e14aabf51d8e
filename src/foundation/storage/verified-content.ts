import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';

/**
 * Passes a stream on, and breaks off before its last piece where it is not what it should be: what arrives whole is
 * whole.
 *
 * @param expected.sha256 hexadecimal; null: only the size is checked, as for a part of a file
 * @param damaged the error with which the stream breaks off
 */
export function verified(
  content: Readable,
  expected: { sizeBytes: number; sha256: string | null },
  damaged: () => Error,
): Readable {
  const checked = Readable.from(check(content, expected, damaged), { objectMode: false });
  // A generator that was never begun has no end in which it could let go of the file.
  checked.once('close', () => content.destroy());
  return checked;
}

async function* check(
  content: Readable,
  { sizeBytes, sha256 }: { sizeBytes: number; sha256: string | null },
  damaged: () => Error,
): AsyncGenerator<Buffer> {
  const hash = sha256 === null ? null : createHash('sha256');
  let received = 0;
  let held: Buffer | null = null;
  for await (const chunk of content as AsyncIterable<Buffer>) {
    if (chunk.length === 0) continue;
    received += chunk.length;
    if (received > sizeBytes) break;
    hash?.update(chunk);
    if (held) yield held;
    held = chunk;
  }
  if (received !== sizeBytes || (hash && hash.digest('hex') !== sha256)) throw damaged();
  if (held) yield held;
}
