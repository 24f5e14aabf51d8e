import { describe, expect, it } from 'vitest';
import { inUtf8 } from './web-charset.js';

async function read(contentType: string, ...chunks: Buffer[]): Promise<string> {
  const body = (async function* () {
    yield* chunks;
  })();
  const pieces: Buffer[] = [];
  for await (const piece of inUtf8(body, contentType)) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

const bytes = (content: Buffer): Buffer[] => Array.from(content, (_, at) => content.subarray(at, at + 1));

describe('the charset of an answer', () => {
  it('is the one that its header names', async () => {
    expect(await read('text/html; charset=windows-1251', Buffer.from([0xcc, 0xe8, 0xf0]))).toBe('Мир');
    expect(await read('text/plain; charset="ISO-8859-1"', Buffer.from([0xe9]))).toBe('é');
    expect(await read('text/plain; charset=utf-16le', ...bytes(Buffer.from('Größe', 'utf16le')))).toBe(
      'Größe',
    );
  });

  it('is the one that a byte order mark tells, whatever the header says', async () => {
    const marked = Buffer.from('\ufeffGröße');
    expect(await read('text/html; charset=iso-8859-1', marked)).toBe('Größe');
    expect(await read('text/html; charset=iso-8859-1', ...bytes(marked))).toBe('Größe');
    const wide = Buffer.from('\ufeffGröße', 'utf16le');
    expect(await read('text/html; charset=windows-1251', ...bytes(wide))).toBe('Größe');
  });

  it('is left alone in what is no text', async () => {
    expect(await read('application/pdf; charset=windows-1251', Buffer.from('%PDF'))).toBe('%PDF');
    expect(await read('text/html; charset=windows-1251')).toBe('');
  });
});
