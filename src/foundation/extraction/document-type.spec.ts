import { randomBytes } from 'node:crypto';
import JSZip from 'jszip';
import { describe, expect, it } from 'vitest';
import { DocumentError } from './document-error.js';
import { detectType, type DocumentSource } from './document-type.js';
import { decodeText } from './text-encoding.js';
import { DOCX, EPUB, ODT, PPTX, XLSX, ZIP } from './zip-type.js';

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
/** MPEG-1 layer 3, 128 kbit/s, 44.1 kHz: two frames of silence. */
const MP3 = Buffer.concat(
  Array.from({ length: 2 }, () => Buffer.concat([Buffer.from('fffb9064', 'hex'), Buffer.alloc(413)])),
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
    ['a table by its name', Buffer.from('a,b\n1,2\n'), { fileName: 'a.csv' }, 'text/csv'],
    ['a table by its declaration', Buffer.from('a\n1\n'), { declaredMimeType: 'text/csv' }, 'text/csv'],
    ['a table by its content', Buffer.from('a;b;c\n'.repeat(6)), { fileName: 'a.txt' }, 'text/csv'],
    [
      'a table with tabs',
      Buffer.from('a\tb'),
      { fileName: 'a.TSV', declaredMimeType: 'application/octet-stream' },
      'text/tab-separated-values',
    ],
    ['a log with commas', Buffer.from('a,b,c\n'.repeat(6)), { fileName: 'a.log' }, 'text/plain'],
    ['JSON by its content', Buffer.from(' {"a": [1, {"b": null}]}'), {}, 'application/json'],
    ['the beginning of JSON', Buffer.from(`[${'{"a": 1}, '.repeat(1000)}`), {}, 'application/json'],
    ['broken JSON by its name', Buffer.from('{"a": '), { fileName: 'a.json' }, 'application/json'],
    ['broken JSON without a name', Buffer.from('{"a": '), {}, 'text/plain'],
    [
      'JSON Lines by their content',
      Buffer.from('{"a": 1}\n{"a": 2}'),
      { fileName: 'a.json' },
      'application/x-ndjson',
    ],
    ['JSON Lines by their name', Buffer.from('{"a": 1}\n'), { fileName: 'a.ndjson' }, 'application/x-ndjson'],
    ['JSON in a script', Buffer.from('{"a": 1}'), { fileName: 'a.js' }, 'text/plain'],
    ['UTF-16 without a mark', utf16('Hello everyone').subarray(2), { fileName: 'a.txt' }, 'text/plain'],
    ['an empty archive', Buffer.from(`504b0506${'00'.repeat(18)}`, 'hex'), { fileName: 'a.zip' }, ZIP],
    ['an archive', Buffer.from('504b0304140000000000', 'hex'), { fileName: 'a.zip' }, ZIP],
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
    ['a recording', MP3, { fileName: 'a.mp3' }, 'unsupported_type'],
    ['a recording named .txt', MP3, { fileName: 'a.txt' }, 'type_mismatch'],
    ['text named .zip', Buffer.from('Not an archive'), { fileName: 'a.zip' }, 'type_mismatch'],
    ['text named .mp3', Buffer.from('Not a recording'), { fileName: 'a.mp3' }, 'type_mismatch'],
    ['an old .xls', OLE, { fileName: 'a.xls' }, 'unsupported_type'],
    ['an OLE container named .xlsx', OLE, { fileName: 'a.xlsx' }, 'encrypted'],
    ['an OLE container named .odt', OLE, { fileName: 'a.odt' }, 'type_mismatch'],
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

  it.each<[string, string[], string | null]>([
    ['docx', ['[Content_Types].xml', '_rels/.rels', 'word/document.xml'], DOCX],
    ['pptx', ['[Content_Types].xml', 'docProps/app.xml', 'ppt/presentation.xml'], PPTX],
    ['xlsx', ['_rels/.rels', 'xl/workbook.xml', '[Content_Types].xml'], XLSX],
    ['docx of which the sign comes last', ['word/numbering.xml', 'word/document.xml'], DOCX],
    ['epub without its sign', ['META-INF/container.xml', 'OEBPS/content.opf'], EPUB],
    ['zip', ['notes.txt', 'words/list.txt'], ZIP],
    ['xlsb', ['[Content_Types].xml', 'xl/workbook.bin'], null],
  ])('knows what a zip file is by its entries: %s', async (_, names, expected) => {
    const zip = new JSZip();
    for (const name of names) zip.file(name, randomBytes(300), { createFolders: false });
    for (const streamFiles of [false, true]) {
      const content = await zip.generateAsync({ type: 'nodebuffer', compression: 'DEFLATE', streamFiles });
      if (expected) expect(await detectType(content)).toBe(expected);
      else expect(await codeOf(content)).toBe('unsupported_type');
    }
  });

  it.each([
    ['application/vnd.oasis.opendocument.text', ODT],
    ['application/epub+zip', EPUB],
    ['application/vnd.oasis.opendocument.spreadsheet', null],
  ])('knows a zip file by what it calls itself: %s', async (type, expected) => {
    const zip = new JSZip().file('mimetype', type, { compression: 'STORE' }).file('content.xml', '<a/>');
    const content = await zip.generateAsync({ type: 'nodebuffer', compression: 'DEFLATE' });
    if (expected) expect(await detectType(content)).toBe(expected);
    else expect(await codeOf(content, { fileName: 'a.ods' })).toBe('unsupported_type');
  });

  it('lets pictures and recordings through where somebody reads them', async () => {
    const asked: string[] = [];
    const alsoReadable = (mimeType: string) => {
      asked.push(mimeType);
      return mimeType === 'audio/mpeg';
    };
    expect(await detectType(MP3, { fileName: 'a.mp3' }, { alsoReadable })).toBe('audio/mpeg');
    await expect(detectType(PNG, { fileName: 'a.png' }, { alsoReadable })).rejects.toThrow(/VISION_BASE_URL/);
    await expect(detectType(MP3, {}, {})).rejects.toThrow(/TRANSCRIPTION_BASE_URL/);
    expect(asked).toEqual(['audio/mpeg', 'image/png']);
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
