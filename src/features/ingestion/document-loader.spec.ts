import { readFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';
import JSZip from 'jszip';
import { afterAll, describe, expect, it } from 'vitest';
import { DocumentError } from '../documents/document-error.js';
import { DocumentLoader, type LoadOptions } from './document-loader.js';

const loader = new DocumentLoader({ threads: 2 });
afterAll(() => loader.close());

const codeOf = (content: Uint8Array, options?: LoadOptions, by = loader) =>
  by.loadDocument(content, options).then(
    document => `read as ${document.mimeType}: ${document.pages[0]?.text}`,
    (error: unknown) => (error instanceof DocumentError ? error.code : error),
  );

/** A PDF (ISO 32000-1) with one content stream a page. */
function pdf(
  contents: (string | Buffer)[],
  { trailer = '', info = '', filter = [] as string[] } = {},
): Buffer {
  const pageIds = contents.map((_, index) => 5 + index * 2);
  const objects: Buffer[] = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    `<< /Type /Pages /Kids [${pageIds.map(id => `${id} 0 R`).join(' ')}] /Count ${contents.length} >>`,
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>',
    `<< ${info} >>`,
  ].map(object => Buffer.from(object));
  for (const [index, content] of contents.entries()) {
    const bytes = Buffer.from(content);
    objects.push(
      Buffer.from(
        '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] ' +
          `/Resources << /Font << /F1 3 0 R >> >> /Contents ${pageIds[index]! + 1} 0 R >>`,
      ),
      Buffer.concat([
        Buffer.from(`<< /Length ${bytes.length} ${filter[index] ?? ''} >>\nstream\n`),
        bytes,
        Buffer.from('\nendstream'),
      ]),
    );
  }
  const parts = [Buffer.from('%PDF-1.4\n%\xe2\xe3\xcf\xd3\n', 'latin1')];
  const offsets: number[] = [];
  let length = parts[0]!.length;
  for (const [index, object] of objects.entries()) {
    offsets.push(length);
    const part = Buffer.concat([Buffer.from(`${index + 1} 0 obj\n`), object, Buffer.from('\nendobj\n')]);
    parts.push(part);
    length += part.length;
  }
  const xref = offsets.map(offset => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
  const size = objects.length + 1;
  parts.push(
    Buffer.from(
      `xref\n0 ${size}\n0000000000 65535 f \n${xref}` +
        `trailer\n<< /Size ${size} /Root 1 0 R /Info 4 0 R ${trailer} >>\nstartxref\n${length}\n%%EOF\n`,
    ),
  );
  return Buffer.concat(parts);
}

const lines = (...texts: string[]) =>
  `BT /F1 12 Tf 14 TL 72 720 Td ${texts.map(text => `(${text}) Tj T*`).join(' ')} ET`;

const WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"';

function docxArchive(body: string): JSZip {
  const main = 'application/vnd.openxmlformats-officedocument.wordprocessingml';
  const relationships = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships';
  const zip = new JSZip();
  zip.file(
    '[Content_Types].xml',
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">' +
      '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>' +
      '<Default Extension="xml" ContentType="application/xml"/>' +
      `<Override PartName="/word/document.xml" ContentType="${main}.document.main+xml"/></Types>`,
  );
  zip.file(
    '_rels/.rels',
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">' +
      `<Relationship Id="rId1" Type="${relationships}/officeDocument" Target="word/document.xml"/></Relationships>`,
  );
  zip.file(
    'word/_rels/document.xml.rels',
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">' +
      `<Relationship Id="rId1" Type="${relationships}/numbering" Target="numbering.xml"/></Relationships>`,
  );
  zip.file(
    'word/numbering.xml',
    `<w:numbering ${WORD}><w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl>` +
      '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num></w:numbering>',
  );
  zip.file(
    'word/document.xml',
    `<?xml version="1.0"?><w:document ${WORD}><w:body>${body}</w:body></w:document>`,
  );
  return zip;
}

const run = (text: string) => `<w:r><w:t xml:space="preserve">${text}</w:t></w:r>`;
const paragraph = (text: string, properties = '') => `<w:p><w:pPr>${properties}</w:pPr>${run(text)}</w:p>`;
const heading = (level: number, text: string) => paragraph(text, `<w:pStyle w:val="Heading${level}"/>`);
const item = (text: string) => paragraph(text, '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>');
const row = (...cells: string[]) =>
  `<w:tr>${cells.map(cell => `<w:tc>${paragraph(cell)}</w:tc>`).join('')}</w:tr>`;
const docx = (body: string, compression: 'STORE' | 'DEFLATE' = 'DEFLATE') =>
  docxArchive(body).generateAsync({ type: 'nodebuffer', compression });

describe('a PDF', () => {
  it('is read page by page, and empty pages are left out', async () => {
    const content = pdf([lines('The first page.', 'Its second line.'), '', lines('The third page.')], {
      info: '/Title (Annual report)',
    });
    expect(await loader.loadDocument(content, { fileName: 'report.pdf' })).toEqual({
      mimeType: 'application/pdf',
      title: 'Annual report',
      format: 'plain',
      pages: [
        { page: 1, text: 'The first page.\nIts second line.' },
        { page: 3, text: 'The third page.' },
      ],
    });
  });

  it('without text is a scan', async () => {
    expect(await codeOf(pdf(['0 0 612 792 re f', '']))).toBe('no_text');
  });

  it('with a password is refused', async () => {
    const key = 'ab'.repeat(32);
    const trailer = `/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /O <${key}> /U <${key}> /P -44 >>`;
    expect(await codeOf(pdf([lines('Secret')], { trailer }))).toBe('encrypted');
  });

  it('that is cut off or garbage is damaged', async () => {
    const content = pdf([lines('One'), lines('Two')]);
    expect(await codeOf(content.subarray(0, content.length / 2))).toBe('damaged');
    expect(await codeOf(Buffer.from('%PDF-1.7\nnothing that a PDF is made of\n%%EOF'))).toBe('damaged');
  });

  it('whose streams unpack without end is refused before it takes the memory of the process', async () => {
    const bomb = deflateSync(deflateSync(Buffer.alloc(400 * 1024 * 1024, ' '), { level: 1 }));
    const content = pdf([lines('Fine'), bomb], { filter: ['', '/Filter [/FlateDecode /FlateDecode]'] });
    expect(content.length).toBeLessThan(100_000);
    const before = process.memoryUsage.rss();
    expect(await codeOf(content)).toBe('too_large');
    expect(process.memoryUsage.rss() - before).toBeLessThan(1024 ** 3);
    expect(await codeOf(pdf([lines('Fine')]))).toBe('read as application/pdf: Fine');
  });
});

describe('a Word document', () => {
  it('becomes Markdown with its headings, lists and tables', async () => {
    const body =
      heading(1, 'Handbook') +
      paragraph('The snake_case of 1. everything * here.') +
      heading(2, 'Tools') +
      item('Hammer') +
      item('Saw') +
      `<w:tbl>${row('Tool', 'Price')}${row('Saw', '12 | 13')}</w:tbl>`;
    const { title, format, pages } = await loader.loadDocument(await docx(body), {
      fileName: 'handbook.docx',
    });
    expect({ title, format }).toEqual({ title: 'Handbook', format: 'markdown' });
    expect(pages).toEqual([
      {
        page: null,
        text: [
          '# Handbook',
          'The snake_case of 1. everything * here.',
          '## Tools',
          '-   Hammer\n-   Saw',
          '| Tool | Price |\n| --- | --- |\n| Saw | 12 \\| 13 |',
        ].join('\n\n'),
      },
    ]);
  });

  it('without words has no text', async () => {
    expect(await codeOf(await docx(paragraph('')))).toBe('no_text');
  });

  it('that is damaged is refused', async () => {
    const content = await docx(paragraph('Hello'));
    expect(await codeOf(content.subarray(0, content.length - 60), { fileName: 'a.docx' })).toBe('damaged');
    expect(await codeOf(await docx('<w:p><unclosed'), { fileName: 'a.docx' })).toBe('damaged');
  });

  it('that unpacks to hundreds of megabytes is refused, whatever size it declares', async () => {
    const zip = docxArchive(paragraph('Hello'));
    zip.file('word/media/image1.bmp', Buffer.alloc(300 * 1024 * 1024));
    const bomb = await zip.generateAsync({
      type: 'nodebuffer',
      compression: 'DEFLATE',
      compressionOptions: { level: 1 },
    });
    expect(bomb.length).toBeLessThan(3 * 1024 * 1024);
    const liar = Buffer.from(bomb);
    const declared = Buffer.alloc(4);
    declared.writeUInt32LE(300 * 1024 * 1024);
    for (let at = liar.indexOf(declared); at !== -1; at = liar.indexOf(declared))
      liar.writeUInt32LE(1000, at);
    expect(await codeOf(bomb)).toBe('too_large');
    expect(await codeOf(liar)).toBe('too_large');
  });

  it('whose text takes more memory than a file may is refused, and the process lives on', async () => {
    const small = new DocumentLoader({ threads: 1, heapLimit: 64 });
    try {
      expect(await codeOf(await docx(paragraph('x').repeat(400_000)), {}, small)).toBe('too_large');
      expect(await codeOf(Buffer.from('Fine'), {}, small)).toBe('read as text/plain: Fine');
    } finally {
      await small.close();
    }
  });
});

describe('a web page', () => {
  it('becomes Markdown without scripts and navigation', async () => {
    const html = `<!DOCTYPE html><html><head><title>Prices &amp;
      terms</title><style>p { color: red }</style></head><body>
      <nav><a href="/">Home</a></nav><script>alert('no')</script>
      <main><h1>Prices</h1><p>See <a href="/faq">the FAQ</a> or <a href="https://example.org/a">the shop</a>.</p>
      <img src="x.png" alt="A chart"><ol><li>One<ul><li>Inner</li></ul></li><li>Two</li></ol>
      <table><caption>All prices</caption><thead><tr><th>Item</th><th>Price</th></tr></thead>
      <tbody><tr><td>Saw</td><td>12</td></tr></tbody></table>
      <pre><code>let a;\n# no heading\n</code></pre></main><footer>Imprint</footer></body></html>`;
    const { mimeType, title, pages } = await loader.loadDocument(Buffer.from(html), {
      fileName: 'prices.html',
    });
    expect({ mimeType, title }).toEqual({ mimeType: 'text/html', title: 'Prices & terms' });
    expect(pages[0]?.text).toBe(
      [
        '# Prices',
        'See the FAQ or [the shop](https://example.org/a).',
        'A chart',
        '1.  One\n    -   Inner\n2.  Two',
        'All prices\n\n| Item | Price |\n| --- | --- |\n| Saw | 12 |',
        '```\nlet a;\n# no heading\n```',
      ].join('\n\n'),
    );
  });

  it('of scripts alone has no text', async () => {
    expect(await codeOf(Buffer.from('<html><script>1</script></html>'))).toBe('no_text');
  });

  it('nested twenty thousand deep fails alone', async () => {
    const html = `<html><body>${'<div>'.repeat(20_000)}deep${'</div>'.repeat(20_000)}</body></html>`;
    expect(await codeOf(Buffer.from(html))).toBe('damaged');
  });
});

describe('text', () => {
  it('is decoded and normalised', async () => {
    const text = '\uFEFFU\u0308ber\r\nuns\u0000\u0007\rhier\u2028da \uFEFFund';
    const content = Buffer.from(text.replace('\u0000', ''), 'utf16le');
    const { pages } = await loader.loadDocument(content);
    expect(pages).toEqual([{ page: null, text: 'Über\nuns\nhier\nda und' }]);
    const loneSurrogate = Buffer.concat([Buffer.from('\uFEFFa', 'utf16le'), Buffer.from([0x00, 0xd8])]);
    expect((await loader.loadDocument(loneSurrogate)).pages[0]?.text).toMatch(/^a\uFFFD?$/);
    expect((await loader.loadDocument(Buffer.from('Gr\xfc\xdfe', 'latin1'))).pages[0]?.text).toBe('Grüße');
  });

  it('of Markdown gives up its front matter and its title', async () => {
    const content = Buffer.from('---\ntitle: "The guide"\ntags: [a]\n---\n# Other\n\nText');
    expect(await loader.loadDocument(content, { fileName: 'guide.md' })).toMatchObject({
      title: 'The guide',
      format: 'markdown',
      pages: [{ page: null, text: '# Other\n\nText' }],
    });
  });

  it('of more than 20 million characters is refused', async () => {
    expect(await codeOf(Buffer.alloc(20_000_001, 'text '))).toBe('too_large');
  });

  it('that contradicts its name is refused', async () => {
    expect(await codeOf(Buffer.from('Just text'), { fileName: 'a.pdf' })).toBe('type_mismatch');
    expect(await codeOf(Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'), { fileName: 'a.txt' })).toBe(
      'type_mismatch',
    );
    expect(await codeOf(Buffer.from('a\0b'))).toBe('unsupported_type');
    expect(await codeOf(Buffer.alloc(0))).toBe('empty');
  });
});

describe('DocumentLoader', () => {
  it('splits in the same breath', async () => {
    const text = `# Guide\n\n${'A sentence about something. '.repeat(100)}`;
    const split = await loader.loadAndSplit(Buffer.from(text), {
      fileName: 'guide.md',
      chunkSize: 500,
      chunkOverlap: 50,
    });
    expect(split).toMatchObject({
      mimeType: 'text/markdown',
      title: 'Guide',
      pageCount: 1,
      characterCount: text.trim().length,
    });
    expect(split.chunks.length).toBeGreaterThan(5);
    for (const chunk of split.chunks) {
      expect(chunk.heading).toBe('Guide');
      expect(text.slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
    }
  });

  it('moves a buffer of its own and leaves the pool of small ones alone', async () => {
    const own = new Uint8Array(Buffer.from('x'.repeat(10_000)));
    await loader.loadDocument(own);
    expect(own.byteLength).toBe(0);
    const [first, second] = [Buffer.from('first'), Buffer.from('second')];
    await loader.loadDocument(first);
    expect(second.toString()).toBe('second');
  });

  it('keeps the time limit, and the time of waiting does not count', async () => {
    // Far more than the limit takes, however fast the machine; and the limit far more than a thread takes to start.
    const slow = '<html><body>' + '<p>word</p>'.repeat(1_000_000);
    const single = new DocumentLoader({ threads: 1, timeLimit: 6_000, heapLimit: 4_096 });
    try {
      const results = await Promise.all([
        codeOf(Buffer.from(slow), {}, single),
        codeOf(Buffer.from('Waited'), {}, single),
      ]);
      expect(results).toEqual(['timeout', 'read as text/plain: Waited']);
    } finally {
      await single.close();
    }
  });

  it('ends at its signal', async () => {
    const reason = new Error('cancelled');
    const waiting = loader.loadDocument(Buffer.from('text'), { signal: AbortSignal.abort(reason) });
    await expect(waiting).rejects.toBe(reason);
    const controller = new AbortController();
    const working = loader.loadDocument(
      Buffer.from('<html><body>' + '<p>word</p>'.repeat(300_000)),
      controller,
    );
    setTimeout(() => controller.abort(reason), 300);
    await expect(working).rejects.toBe(reason);
  });

  it('rejects what runs and what waits when it is closed', async () => {
    const single = new DocumentLoader({ threads: 1 });
    const slow = Buffer.from('<html><body>' + '<p>word</p>'.repeat(300_000));
    const results = Promise.allSettled([
      single.loadDocument(slow),
      single.loadDocument(Buffer.from('Waits')),
    ]);
    await single.close();
    for (const result of await results) {
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { message: 'The document loader was closed.' },
      });
    }
  });

  it('starts anew after it was closed', async () => {
    const again = new DocumentLoader();
    await again.close();
    expect(await codeOf(Buffer.from('One'), {}, again)).toBe('read as text/plain: One');
    await again.close();
    expect(await codeOf(Buffer.from('Two'), {}, again)).toBe('read as text/plain: Two');
    await again.close();
  });

  it('reads this very file', async () => {
    const content = readFileSync(new URL(import.meta.url));
    expect((await loader.loadDocument(content, { fileName: 'document-loader.spec.ts' })).mimeType).toBe(
      'text/plain',
    );
  });
});
