import { randomBytes } from 'node:crypto';
import JSZip from 'jszip';
import { describe, expect, it } from 'vitest';
import { DocumentError } from './document-error.js';
import { decodeText, detectType, DOCX, type DocumentSource } from './document-type.js';

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
const OLE = Buffer.concat([Buffer.from('d0cf11e0a1b11ae1', 'hex'), Buffer.alloc(1024)]);
const utf16 = (text: string) => Buffer.from(`\uFEFF${text}`, 'utf16le');

const codeOf = (content: Buffer, source?: DocumentSource) =>
  detectType(content, source).then(
    type => `accepted as ${type}`,
    (error: unknown) => (error instanceof DocumentError ? error.code : error),
  );

async function docx(): Promise<Buffer> {
  const zip = new JSZip();
  zip.file(
    '[Content_Types].xml',
    `<Types><Override PartName="/word/document.xml" ContentType="${DOCX}.main+xml"/></Types>`,
  );
  zip.file('word/document.xml', '<w:document/>');
  // Incompressible, so that the head ends in the middle of the archive.
  zip.file('word/media/image1.png', randomBytes(20_000));
  return zip.generateAsync({ type: 'nodebuffer', compression: 'DEFLATE' });
}

describe('detectType', () => {
  it.each<[string, Buffer, DocumentSource, string]>([
    ['a PDF without a name', Buffer.from('%PDF-1.7\n%âãÏÓ\n'), {}, 'application/pdf'],
    ['a PDF behind other bytes', Buffer.from('\0\0junk\n%PDF-1.4\n\0\0'), {}, 'application/pdf'],
    [
      'a PDF of an unknown extension',
      Buffer.from('%PDF-1.7\n'),
      { fileName: 'report.v2' },
      'application/pdf',
    ],
    [
      'HTML by its content',
      Buffer.from('\n<!-- saved -->\n<!DOCTYPE html><p>x'),
      { fileName: 'page.txt' },
      'text/html',
    ],
    ['XHTML', Buffer.from('<?xml version="1.0"?>\n<html xmlns="x"><body/></html>'), {}, 'text/html'],
    ['a fragment of HTML by its name', Buffer.from('<p>Hello</p>'), { fileName: 'a.HTM' }, 'text/html'],
    ['Markdown by its name', Buffer.from('Just words.'), { fileName: 'readme.md' }, 'text/markdown'],
    [
      'Markdown by its declaration',
      Buffer.from('Words.'),
      { declaredMimeType: 'text/markdown; charset=utf-8' },
      'text/markdown',
    ],
    [
      'Markdown by its content',
      Buffer.from('# A\n\nText\n\n## B\n\nText'),
      { fileName: 'notes.txt' },
      'text/markdown',
    ],
    ['a script with comments', Buffer.from('# A\n## B\nls'), { fileName: 'run.sh' }, 'text/plain'],
    [
      'text that starts like a bitmap',
      Buffer.from('BMW builds cars.'),
      { fileName: 'cars.txt' },
      'text/plain',
    ],
    ['UTF-16', utf16('Grüße'), { fileName: 'a.txt' }, 'text/plain'],
    ['Latin-1', Buffer.from('Gr\xfc\xdfe aus K\xf6ln', 'latin1'), { fileName: 'a.txt' }, 'text/plain'],
    ['a character cut in two', Buffer.from('Zürich').subarray(0, 2), {}, 'text/plain'],
    [
      'a vague declaration',
      Buffer.from('%PDF-1.7\n'),
      { declaredMimeType: 'application/octet-stream' },
      'application/pdf',
    ],
    ['a CSV', Buffer.from('a,b\n1,2\n'), { fileName: 'a.csv', declaredMimeType: 'text/csv' }, 'text/plain'],
  ])('accepts %s', async (_, content, source, expected) => {
    expect(await detectType(content, source)).toBe(expected);
  });

  it('knows a Word document by its first 4 kB', async () => {
    const content = await docx();
    expect(content.length).toBeGreaterThan(8192);
    expect(await detectType(content.subarray(0, 4096), { fileName: 'a.docx' })).toBe(DOCX);
    expect(await detectType(content, { declaredMimeType: 'application/zip' })).toBe(DOCX);
    expect(await codeOf(content, { fileName: 'a.pdf' })).toBe('type_mismatch');
  });

  it.each<[string, Buffer, DocumentSource, string]>([
    ['nothing', Buffer.alloc(0), {}, 'empty'],
    ['blanks alone', Buffer.from(' \r\n\t'), { fileName: 'a.txt' }, 'empty'],
    ['a byte order mark alone', utf16(''), {}, 'empty'],
    ['text named .pdf', Buffer.from('Not a PDF'), { fileName: 'a.pdf' }, 'type_mismatch'],
    ['text named .docx', Buffer.from('Not a document'), { fileName: 'a.docx' }, 'type_mismatch'],
    [
      'text declared a PDF',
      Buffer.from('Not a PDF'),
      { declaredMimeType: 'application/pdf' },
      'type_mismatch',
    ],
    ['a PNG named .txt', PNG, { fileName: 'a.txt' }, 'type_mismatch'],
    ['a PNG declared text', PNG, { declaredMimeType: 'text/plain' }, 'type_mismatch'],
    ['a PDF named .png', Buffer.from('%PDF-1.7\n'), { fileName: 'a.png' }, 'type_mismatch'],
    ['a PDF named .md', Buffer.from('%PDF-1.7\n'), { fileName: 'a.md' }, 'type_mismatch'],
    ['NUL bytes named .txt', Buffer.from('a\0b\0c\0'), { fileName: 'a.txt' }, 'type_mismatch'],
    ['NUL bytes without a name', Buffer.from('a\0b\0c\0'), {}, 'unsupported_type'],
    ['a PNG', PNG, { fileName: 'a.png', declaredMimeType: 'image/png' }, 'unsupported_type'],
    ['a zip', Buffer.from('504b0304140000000000', 'hex'), { fileName: 'a.zip' }, 'unsupported_type'],
    ['RTF', Buffer.from('{\\rtf1 Hello}'), { fileName: 'a.rtf' }, 'unsupported_type'],
    ['an old .doc', OLE, { fileName: 'a.doc' }, 'unsupported_type'],
    ['an OLE container named .docx', OLE, { fileName: 'a.docx' }, 'encrypted'],
    [
      'an encrypted package',
      Buffer.concat([OLE, Buffer.from('EncryptedPackage', 'utf16le')]),
      {},
      'encrypted',
    ],
  ])('refuses %s', async (_, content, source, expected) => {
    expect(await codeOf(content, source)).toBe(expected);
  });

  it('says what is wrong in a sentence', async () => {
    await expect(detectType(PNG, { fileName: 'a.txt' })).rejects.toThrow(
      'The file is named .txt, but its content is a .png file.',
    );
  });
});

describe('decodeText', () => {
  it.each([
    ['UTF-8 with its mark', Buffer.from('\uFEFFnaïve'), 'naïve'],
    ['UTF-16 LE', utf16('naïve'), 'naïve'],
    ['UTF-16 BE', utf16('naïve').swap16(), 'naïve'],
    ['Latin-1', Buffer.from('na\xefve', 'latin1'), 'naïve'],
    ['windows-1252', Buffer.from('\x93na\xefve\x94', 'latin1'), '“naïve”'],
    [
      'a declared charset',
      Buffer.from('<meta charset="windows-1251">\xcf\xf0\xe8', 'latin1'),
      '<meta charset="windows-1251">При',
    ],
  ])('reads %s', (_, bytes, expected) => {
    expect(decodeText(bytes)).toBe(expected);
  });
});
