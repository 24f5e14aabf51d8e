import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { verified } from './verified-content.js';

const content = randomBytes(200_000);
const sha256 = createHash('sha256').update(content).digest('hex');
const damaged = () => new Error('damaged');
const cut = (bytes: Buffer, size = 64 * 1024): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));

/** What arrives of a stream until it ends or breaks. */
async function arriving(stream: Readable): Promise<{ bytes: number; error: unknown }> {
  let bytes = 0;
  try {
    for await (const chunk of stream) bytes += (chunk as Buffer).length;
    return { bytes, error: null };
  } catch (error) {
    return { bytes, error };
  }
}

describe('verified', () => {
  it('passes on what is whole', async () => {
    const stream = verified(Readable.from(cut(content)), { sizeBytes: content.length, sha256 }, damaged);
    expect((await buffer(stream)).equals(content)).toBe(true);
    const empty = { sizeBytes: 0, sha256: createHash('sha256').digest('hex') };
    expect(await buffer(verified(Readable.from([]), empty, damaged))).toHaveLength(0);
  });

  const changed = Buffer.from(content);
  changed.writeUInt8(255 - changed.readUInt8(7), 7);
  it.each([
    ['changed', changed, sha256],
    ['cut off', content.subarray(0, -1), sha256],
    ['cut off at the end of a piece', content.subarray(0, 131_072), sha256],
    ['longer', Buffer.concat([content, content]), sha256],
    ['cut off, as a part', content.subarray(0, -1), null],
    ['longer by whole pieces, as a part', Buffer.concat([content, content]), null],
  ])('never lets the last byte out of what is %s', async (_, bytes, hash) => {
    const expected = { sizeBytes: content.length, sha256: hash };
    for (const size of [64 * 1024, 100_000, 1_000_000]) {
      const arrived = await arriving(verified(Readable.from(cut(bytes, size)), expected, damaged));
      expect(arrived.error).toMatchObject({ message: 'damaged' });
      expect(arrived.bytes).toBeLessThan(content.length);
    }
  });

  it('lets go of the file where nobody reads on, or ever began', async () => {
    for (const begin of [true, false]) {
      const source = Readable.from(cut(content));
      const stream = verified(source, { sizeBytes: content.length, sha256 }, damaged);
      if (begin) await stream[Symbol.asyncIterator]().next();
      stream.destroy();
      await new Promise(done => setImmediate(done));
      expect(source.destroyed).toBe(true);
    }
  });
});
