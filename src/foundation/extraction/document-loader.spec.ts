import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import JSZip from 'jszip';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pdfOf, scannedPdfOf } from '../../../test/setup/files.js';
import type { Chunk } from './chunk-splitter.js';
import { DocumentError } from './document-error.js';
import { DocumentLoader } from './document-loader.js';
import type { LoadRequest, LoadSummary } from './document-parts.js';
import { readDocument } from './document-reader.js';

const loader = new DocumentLoader({ threads: 2 });
let folder: string;
let files = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loader-'));
});
afterAll(async () => {
  await loader.close();
  await rm(folder, { recursive: true });
});

type Options = Omit<LoadRequest, 'path'>;

async function fileOf(content: string | Uint8Array): Promise<string> {
  const path = join(folder, String(files++));
  await writeFile(path, content);
  return path;
}

async function load(content: string | Uint8Array, options: Options = {}, by = loader) {
  const loading = by.load({ path: await fileOf(content), ...options });
  const chunks: Chunk[] = [];
  let step = await loading.next();
  for (; !step.done; step = await loading.next()) chunks.push(...step.value);
  return { ...(step.value as LoadSummary), chunks };
}

/** A document of which every section is one chunk, put together again. */
async function read(content: string | Uint8Array, options: Options = {}, by = loader) {
  const split = { chunkSize: 1e9, chunkOverlap: 0 };
  const { chunks, ...summary } = await load(content, { split, ...options }, by);
  let text = '';
  // Between chunks there is nothing but blanks: here, line ends.
  for (const chunk of chunks) text = text.padEnd(chunk.startOffset, '\n') + chunk.text;
  return { ...summary, text };
}

const codeOf = (content: string | Uint8Array, options?: Options, by = loader) =>
  read(content, options, by).then(
    ({ mimeType, text }) => `read as ${mimeType}: ${text}`,
    (error: unknown) => (error instanceof DocumentError ? error.code : error),
  );

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

describe('a Word document', () => {
  it('becomes Markdown with its headings, lists and tables', async () => {
    const body =
      heading(1, 'Handbook') +
      paragraph('The snake_case of 1. everything * here.') +
      heading(2, 'Tools') +
      item('Hammer') +
      item('Saw') +
      `<w:tbl>${row('Tool', 'Price')}${row('Saw', '12 | 13')}</w:tbl>`;
    const { title, text, pageCount } = await read(await docx(body), { fileName: 'handbook.docx' });
    expect({ title, pageCount }).toEqual({ title: 'Handbook', pageCount: 1 });
    expect(text).toBe(
      [
        '# Handbook',
        'The snake_case of 1. everything * here.',
        '## Tools',
        '-   Hammer\n-   Saw',
        '| Tool | Price |\n| --- | --- |\n| Saw | 12 \\| 13 |',
      ].join('\n\n'),
    );
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
      expect(await codeOf('Fine', {}, small)).toBe('read as text/plain: Fine');
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
    const { mimeType, title, text } = await read(html, { fileName: 'prices.html' });
    expect({ mimeType, title }).toEqual({ mimeType: 'text/html', title: 'Prices & terms' });
    expect(text).toBe(
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
    expect(await codeOf('<html><script>1</script></html>')).toBe('no_text');
  });

  it('nested twenty thousand deep fails alone', async () => {
    const html = `<html><body>${'<div>'.repeat(20_000)}deep${'</div>'.repeat(20_000)}</body></html>`;
    expect(await codeOf(html)).toBe('damaged');
  });
});

describe('text', () => {
  it('is decoded and normalised', async () => {
    const text = '\uFEFFU\u0308ber\r\nuns\u0000\u0007\rhier\u2028da \uFEFFund';
    const utf16 = Buffer.from(text.replace('\u0000', ''), 'utf16le');
    expect((await read(utf16)).text).toBe('Über\nuns\nhier\nda und');
    const loneSurrogate = Buffer.concat([Buffer.from('\uFEFFa', 'utf16le'), Buffer.from([0x00, 0xd8])]);
    expect((await read(loneSurrogate)).text).toMatch(/^a\uFFFD?$/);
    expect((await read(Buffer.from('Gr\xfc\xdfe', 'latin1'))).text).toBe('Grüße');
  });

  it('of Markdown gives up its front matter and its title', async () => {
    const content = '---\ntitle: "The guide"\ntags: [a]\n---\n# Other\n\nText';
    expect(await load(content, { fileName: 'guide.md' })).toMatchObject({
      mimeType: 'text/markdown',
      title: 'The guide',
      chunks: [{ heading: 'Other', text: '# Other\n\nText' }],
    });
  });

  it('that contradicts its name is refused', async () => {
    expect(await codeOf('Just text', { fileName: 'a.pdf' })).toBe('type_mismatch');
    expect(await codeOf(Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'), { fileName: 'a.txt' })).toBe(
      'type_mismatch',
    );
    expect(await codeOf('a\0b')).toBe('unsupported_type');
    expect(await codeOf('')).toBe('empty');
  });
});

describe('a long text', () => {
  const split = { chunkSize: 4000, chunkOverlap: 0 };
  const entry = (index: number) => `Absatz ${index}: Übung macht den Meister. مرحبا 知识库 😀 e\u0301`;
  const text = Array.from({ length: 60_000 }, (_, index) => entry(index)).join('\r\n\r\n');
  const normalized = text.normalize('NFC').replaceAll('\r\n', '\n');

  it.each([
    ['UTF-8', Buffer.from(text)],
    ['UTF-16', Buffer.from(`\uFEFF${text}`, 'utf16le')],
    ['UTF-16 without a mark', Buffer.from(text, 'utf16le')],
  ])('in %s comes whole, with the offsets of all of it', async (_, content) => {
    const { chunks, characterCount } = await load(content, { split });
    expect(characterCount).toBe(normalized.length);
    expect(normalized.length).toBeGreaterThan(3_000_000);
    let position = 0;
    for (const chunk of chunks) {
      expect(chunk.startOffset - position).toBeLessThanOrEqual(2);
      if (normalized.slice(chunk.startOffset, chunk.endOffset) !== chunk.text) throw new Error(chunk.text);
      position = chunk.endOffset;
    }
    expect(position).toBe(normalized.length);
  });

  it('in windows-1252 is told by what stands at its end', async () => {
    const content = Buffer.concat([
      Buffer.alloc(3_000_000, 'plain text. '),
      Buffer.from('Gr\xfc\xdfe', 'latin1'),
    ]);
    const { chunks } = await load(content, { split });
    expect(chunks.at(-1)!.text).toMatch(/Grüße$/);
  });

  it('in broken UTF-8 loses what is broken and no more', async () => {
    const content = Buffer.concat([
      Buffer.from('Grüße aus Köln. '.repeat(100_010)),
      Buffer.from([0xe4, 0xbd]),
      Buffer.from(' und Düren.'),
    ]);
    const { chunks } = await load(content, { split });
    expect(chunks.at(-1)!.text).toMatch(/\uFFFD und Düren\.$/);
  });

  it('of a single line is cut where no character is parted from its accents', async () => {
    const line = 'e\u0301\u0323知한'.normalize('NFD').repeat(400_000);
    const { chunks, characterCount } = await load(line, { split });
    expect(chunks.map(chunk => chunk.text).join('')).toBe(line.normalize('NFC'));
    expect(characterCount).toBe(line.normalize('NFC').length);
  });

  it('of Markdown carries its headings on, and is in no heading within code', async () => {
    const section = `## Inner\n\n${'Some words here. '.repeat(80_000)}\n\n\`\`\`\n${'# no heading\n'.repeat(200_000)}\`\`\`\n\nEnd.\n\n`;
    const { chunks, title } = await load(`# Top\n\n${section}${section}`, { fileName: 'long.md', split });
    expect(title).toBe('Top');
    expect(new Set(chunks.map(chunk => chunk.heading))).toEqual(new Set(['Top > Inner']));
  });

  it('of 60 MB passes through a small heap', async () => {
    const small = new DocumentLoader({ threads: 1, heapLimit: 64 });
    try {
      const path = join(folder, 'sixty');
      await writeFile(path, Buffer.alloc(60_000_000, 'One line of a log, as there are so many.\n'));
      let count = 0;
      let last = 0;
      for await (const chunks of small.load({ path })) {
        expect(chunks.length).toBeLessThanOrEqual(200);
        count += chunks.length;
        last = chunks.at(-1)!.endOffset;
      }
      expect(count).toBeGreaterThan(50_000);
      expect(last).toBeGreaterThan(59_999_900);
    } finally {
      await small.close();
    }
  });
});

describe('DocumentLoader', () => {
  const lines = (count: number) => Array.from({ length: count }, (_, index) => `Line ${index}.\n\n`).join('');
  const byLine = { chunkSize: 15, chunkOverlap: 0 };

  it('gives chunks in their order, a batch at a time', async () => {
    const text = `# Guide\n\n${'A sentence about something. '.repeat(5000)}`;
    const loading = loader.load({
      path: await fileOf(text),
      fileName: 'guide.md',
      split: { chunkSize: 200, chunkOverlap: 50 },
    });
    let ordinal = 0;
    let step = await loading.next();
    for (; !step.done; step = await loading.next()) {
      expect(step.value.length).toBeLessThanOrEqual(200);
      for (const chunk of step.value) {
        expect(chunk).toMatchObject({ ordinal: ordinal++, heading: 'Guide', page: null });
        expect(text.slice(chunk.startOffset, chunk.endOffset)).toBe(chunk.text);
      }
    }
    expect(ordinal).toBeGreaterThan(800);
    expect(step.value).toEqual({
      mimeType: 'text/markdown',
      title: 'Guide',
      canonicalUrl: null,
      pageCount: 1,
      characterCount: text.trim().length,
      warnings: [],
    });
  });

  it('splits by tokens where it is asked to', async () => {
    const split = { chunkSize: 50, chunkOverlap: 5, chunkUnit: 'tokens' as const };
    const { chunks } = await load('Ein Satz über <|endoftext|>. '.repeat(300), { split });
    for (const { tokenCount } of chunks) expect(tokenCount).toBeLessThanOrEqual(50);
    expect(chunks[0]!.tokenCount).toBeGreaterThan(40);
  });

  it('reads no further than a few batches ahead', async () => {
    const path = join(folder, 'ahead');
    await writeFile(path, lines(200_000));
    const single = new DocumentLoader({ threads: 1, silenceLimit: 4_000 });
    try {
      const loading = single.load({ path, split: byLine });
      const first = await loading.next();
      const before = process.memoryUsage();
      // Longer than the limit: to wait for the caller is no silence.
      await new Promise(resolve => setTimeout(resolve, 4_500));
      expect(process.memoryUsage().rss - before.rss).toBeLessThan(50 * 1024 ** 2);
      let count = first.done ? 0 : first.value.length;
      for await (const chunks of loading) count += chunks.length;
      expect(count).toBe(200_000);
    } finally {
      await single.close();
    }
  });

  it('frees the thread of whoever takes no more', async () => {
    const single = new DocumentLoader({ threads: 1 });
    try {
      for (let round = 0; round < 3; round++) {
        let count = 0;
        for await (const chunks of single.load({ path: await fileOf(lines(50_000)), split: byLine })) {
          count += chunks.length;
          if (count >= 400) break;
        }
        expect(count).toBe(400);
      }
      expect(await codeOf('Next', {}, single)).toBe('read as text/plain: Next');
    } finally {
      await single.close();
    }
  });

  it('keeps the time limit, and the time of waiting does not count', async () => {
    // Far more than the limit takes, however fast the machine; and the limit far more than a thread takes to start.
    const slow = '<html><body>' + '<p>word</p>'.repeat(1_000_000);
    const single = new DocumentLoader({ threads: 1, timeLimit: 3_000, heapLimit: 4_096 });
    try {
      const results = await Promise.all([codeOf(slow, {}, single), codeOf('Waited', {}, single)]);
      expect(results).toEqual(['timeout', 'read as text/plain: Waited']);
    } finally {
      await single.close();
    }
  });

  it('ends a thread that gives no sign of life', async () => {
    const slow = '<html><body>' + '<p>word</p>'.repeat(1_000_000);
    const single = new DocumentLoader({ threads: 1, silenceLimit: 2_000, heapLimit: 4_096 });
    try {
      await expect(load(slow, {}, single)).rejects.toMatchObject({
        code: 'timeout',
        message: 'The file could not be read within 2 seconds.',
      });
    } finally {
      await single.close();
    }
  });

  it('ends at its signal, before the work and within', async () => {
    const reason = new Error('cancelled');
    await expect(load('text', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const working = load('<html><body>' + '<p>word</p>'.repeat(1_000_000), { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 300);
    await expect(working).rejects.toBe(reason);
    const between = new AbortController();
    const loading = loader.load({ path: await fileOf(lines(50_000)), split: byLine, signal: between.signal });
    await loading.next();
    between.abort(reason);
    await expect(loading.next()).rejects.toBe(reason);
  });

  it('rejects what runs and what waits when it is closed', async () => {
    const single = new DocumentLoader({ threads: 1 });
    const slow = '<html><body>' + '<p>word</p>'.repeat(1_000_000);
    const results = Promise.allSettled([load(slow, {}, single), load(slow, {}, single)]);
    await new Promise(resolve => setTimeout(resolve, 200));
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
    expect(await codeOf('One', {}, again)).toBe('read as text/plain: One');
    await again.close();
    expect(await codeOf('Two', {}, again)).toBe('read as text/plain: Two');
    await again.close();
  });

  it('has pictures read by whoever called, for as long as that takes', async () => {
    const single = new DocumentLoader({ threads: 1, silenceLimit: 4_000 });
    try {
      const asked: (number | null)[] = [];
      const { text, warnings, pageCount } = await read(
        scannedPdfOf([null, 'Typed', null]),
        {
          recognize: async ({ page, png }) => {
            asked.push(page);
            expect(Buffer.from(png).subarray(1, 4).toString()).toBe('PNG');
            await new Promise(resolve => setTimeout(resolve, page === 1 ? 4_500 : 0));
            return page === 1 ? '# Scanned\n\nWritten by hand' : '';
          },
        },
        single,
      );
      expect(asked).toEqual([1, 3]);
      expect(text).toBe('# Scanned\n\nWritten by hand\n\nTyped');
      expect(pageCount).toBe(2);
      expect(warnings).toMatchObject([{ code: 'scanned_pages', pages: [3] }]);
    } finally {
      await single.close();
    }
  });

  it('ends with the fault of whoever reads the pictures', async () => {
    const fault = new Error('The model is away.');
    const recognize = () => Promise.reject(fault);
    await expect(load(scannedPdfOf([null]), { recognize })).rejects.toBe(fault);
  });

  it('leaves no files behind', async () => {
    const zip = new JSZip();
    for (let index = 0; index < 20; index++) zip.file(`${index}.md`, `# File ${index}\n\n${lines(2_000)}`);
    const content = await zip.generateAsync({ type: 'nodebuffer' });
    const scratchFolder = join(folder, 'scratch');
    const single = new DocumentLoader({ threads: 1, scratchFolder });
    try {
      const loading = single.load({ path: await fileOf(content), split: byLine });
      await loading.next();
      expect(await readdir(scratchFolder)).toHaveLength(1);
      await loading.return(undefined as never);
      expect(await readdir(scratchFolder)).toEqual([]);
    } finally {
      await single.close();
    }
  });

  it('leaves the globals of its thread alone, whoever takes no more of a PDF in an archive', async () => {
    const pages = Array.from({ length: 30 }, (_, index) => `Page ${index + 1}`);
    const path = await fileOf(
      await new JSZip().file('a.pdf', pdfOf(pages)).generateAsync({ type: 'nodebuffer' }),
    );
    const globals = [globalThis.Uint8Array, globalThis.console];
    const context = { readable: false, recognize: null, scratch: async () => folder };
    const reading = readDocument(path, { fileName: 'a.zip' }, context);
    expect(await reading.next()).toMatchObject({ value: { text: 'Page 1' } });
    expect(globalThis.Uint8Array).not.toBe(globals[0]);
    await reading.return(undefined as never);
    const after = [globalThis.Uint8Array, globalThis.console];
    [globalThis.Uint8Array, globalThis.console] = globals as [Uint8ArrayConstructor, Console];
    expect(after[0]).toBe(globals[0]);
    expect(after[1]).toBe(globals[1]);
  });

  it('takes what a parser trips over for the fault of the file', async () => {
    const cause = new TypeError('Cannot read properties of undefined');
    const context = { readable: false, recognize: null, scratch: () => Promise.reject(cause) };
    const path = await fileOf(await new JSZip().file('a.txt', 'Text').generateAsync({ type: 'nodebuffer' }));
    await expect(readDocument(path, { fileName: 'a.zip' }, context).next()).rejects.toMatchObject({
      name: 'DocumentError',
      code: 'damaged',
      cause,
    });
  });

  it('fails on a file that is not there', async () => {
    await expect(loader.load({ path: join(folder, 'missing') }).next()).rejects.toThrow('ENOENT');
  });

  it('reads this very file', async () => {
    const content = await readFile(new URL(import.meta.url));
    expect((await load(content, { fileName: 'document-loader.spec.ts' })).mimeType).toBe('text/plain');
  });
});
