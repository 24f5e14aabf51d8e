import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import JSZip from 'jszip';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  epubParts,
  odtParts,
  pptxParts,
  sheetRows,
  slideParagraph,
  slideShape,
  xlsxParts,
  zipOf,
  type ZipParts,
} from '../../../test/setup/document-corpus.js';
import { docxOf, encryptedPdfOf, pdfOf, PNG } from '../../../test/setup/files.js';
import {
  BILLION_LAUGHS,
  bombEntry,
  directoryOf,
  encryptedOfficeFile,
  entryOf,
  overlappingZip,
  rawZip,
  type RawEntry,
  storedEntryOf,
} from '../../../test/setup/hostile-files.js';
import { DocumentError } from './document-error.js';
import { DocumentLoader } from './document-loader.js';
import { readDocument } from './document-reader.js';
import { ZipContainer } from './zip-container.js';

let folder: string;
let scratchFolder: string;
let loader: DocumentLoader;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hostile-'));
  scratchFolder = join(folder, 'scratch');
  loader = new DocumentLoader({ threads: 1, timeLimit: 20_000, heapLimit: 256, scratchFolder });
});
afterAll(async () => {
  await loader.close();
  await rm(folder, { recursive: true });
});

/** Of the tests that change files at random. */
const RUNS = 150;
/** Of files that were changed: never `timeout`, and nothing that is no fault of the file. */
const FATES = /^(?:read|damaged|empty|encrypted|no_text|too_large|type_mismatch|unsupported_type)$/;

let count = 0;

/** The text and the messages of the warnings, or the code of the error, as the worker thread gives them. */
async function outcome(content: string | Buffer, fileName?: string): Promise<string> {
  const path = join(folder, String(count++));
  await writeFile(path, content);
  try {
    const loading = loader.load({ path, fileName });
    const texts: string[] = [];
    let step = await loading.next();
    for (; !step.done; step = await loading.next()) texts.push(...step.value.map(({ text }) => text));
    return [...texts, ...step.value.warnings.map(({ message }) => message)].join('\n');
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error;
    expect(error.message).toMatch(/^[A-Z].{10,}[.!]$/s);
    return error.code;
  } finally {
    await rm(path);
  }
}

const words = sheetRows([
  ['a', 'b'],
  ['1', '2'],
]);
const parts: Record<string, () => Promise<Buffer>> = {
  docx: () => docxOf('Heading', ['Text of a paragraph.']),
  pptx: () => zipOf(pptxParts([{ shapes: slideShape(slideParagraph('Text of a slide.')) }])),
  xlsx: () => zipOf(xlsxParts([{ name: 'S', xml: words }])),
  odt: () => zipOf(odtParts('<text:p>Text of a paragraph.</text:p>')),
  epub: () => zipOf(epubParts([['a.xhtml', '<p>Text of a chapter.</p>']], { title: 'T' })),
  zip: () => zipOf({ 'a.txt': 'Text of a file.', 'b.csv': 'a,b\n1,2\n' }),
};
const textual: Record<string, string> = {
  json: '{"a": {"b": [1, 2, "three"]}}',
  jsonl: '{"a": 1}\n{"a": 2}\n',
  csv: 'a,b\n1,"two"\n',
  html: '<!doctype html><title>T</title><p>Text of a page.</p>',
  md: '# Heading\n\nText.',
};

describe('an archive that unpacks to more than it should', () => {
  it('is refused, whatever size it declares', async () => {
    const before = process.memoryUsage.rss();
    expect(await outcome(rawZip([bombEntry('bomb.txt', 100)]), 'a.zip')).toBe('too_large');
    expect(await outcome(rawZip([bombEntry('bomb.txt', 50, 1000)]), 'a.zip')).toBe('too_large');
    // More than 512 MB by its own account.
    expect(await outcome(rawZip([bombEntry('bomb.txt', 1, 600 * 1024 ** 2)]), 'a.zip')).toBe('too_large');
    const workbook = xlsxParts([{ name: 'S', xml: words }]);
    const entries = Object.entries(workbook).filter(([name]) => name !== 'xl/sharedStrings.xml');
    const all = [
      ...entries.map(([name, text]) => entryOf(name, Buffer.from(text))),
      bombEntry('xl/sharedStrings.xml', 50),
    ];
    expect(await outcome(rawZip(all), 'a.xlsx')).toBe('too_large');
    expect(process.memoryUsage.rss() - before).toBeLessThan(700 * 1024 ** 2);
  });

  it('spoils no other file of the archive', async () => {
    const text = await outcome(rawZip([bombEntry('bomb.txt', 50), entryOf('fine.txt', 'Fine.')]), 'a.zip');
    expect(text).toBe(
      'Fine.\nbomb.txt was left out: The archive unpacks to more than 32 MB and is not opened.',
    );
  });

  it('is not opened where its files share their bytes', async () => {
    expect(await outcome(overlappingZip(1000), 'a.zip')).toBe('damaged');
  });

  it('shows no parser another directory than the one that is counted', async () => {
    const harmless = await JSZip.loadAsync(await docxOf('Heading', ['Harmless']));
    const entries: RawEntry[] = [];
    for (const [name, part] of Object.entries(harmless.files)) {
      if (!part.dir) entries.push(storedEntryOf(name, await part.async('nodebuffer')));
    }
    const bomb = bombEntry('word/document.xml', 300);
    const counted = rawZip([...entries, storedEntryOf('word/media/pad.bin', Buffer.alloc(1024 * 1024, 7))]);
    const seen = counted.subarray(0, counted.length - 22);
    const start = seen.indexOf('PK\x01\x02', 0, 'latin1');
    // A second directory before the end record, which says where the first one is.
    const hidden = rawZip([bomb]);
    const hiddenStart = hidden.indexOf('PK\x01\x02', 0, 'latin1');
    const shift = seen.length + hiddenStart - start;
    const directory = directoryOf([bomb], [seen.length - shift], start);
    directory.writeUInt16LE(entries.length + 1, directory.length - 14);
    directory.writeUInt16LE(entries.length + 1, directory.length - 12);
    const both = Buffer.concat([seen, hidden.subarray(0, hiddenStart), directory]);
    expect(await outcome(both, 'a.docx')).toBe('damaged');
    expect(await outcome(counted, 'a.docx')).toBe('# Heading\n\nHarmless');
  });

  it('may be of the large format', async () => {
    const small = rawZip([entryOf('a.txt', 'Text')]);
    const start = small.indexOf('PK\x01\x02', 0, 'latin1');
    const end = small.length - 22;
    const record = Buffer.alloc(56);
    record.write('PK\x06\x06', 'latin1');
    record.writeBigUInt64LE(44n, 4);
    record.writeBigUInt64LE(1n, 24);
    record.writeBigUInt64LE(1n, 32);
    record.writeBigUInt64LE(BigInt(end - start), 40);
    record.writeBigUInt64LE(BigInt(start), 48);
    const locator = Buffer.alloc(20);
    locator.write('PK\x06\x07', 'latin1');
    locator.writeBigUInt64LE(BigInt(end), 8);
    locator.writeUInt32LE(1, 16);
    const large = (...between: Buffer[]) =>
      Buffer.concat([small.subarray(0, end), record, ...between, locator, small.subarray(end)]);
    expect(await outcome(large(), 'a.zip')).toBe('Text');
    expect(await outcome(large(Buffer.from('between')), 'a.zip')).toBe('damaged');
  });

  it('is not unpacked within another one', async () => {
    let inner = rawZip([bombEntry('bomb.txt', 10)]);
    for (let depth = 0; depth < 3; depth++) inner = rawZip([entryOf(`${depth}.zip`, inner)]);
    expect(await outcome(inner, 'a.zip')).toBe('unsupported_type');
    // Nor under another name.
    expect(await outcome(rawZip([entryOf('a.txt', inner)]), 'a.zip')).toBe('type_mismatch');
  });

  it('has no more than 10,000 entries', async () => {
    const entries = Array.from({ length: 10_001 }, (_, index) => entryOf(`${index}.txt`, 'x'));
    expect(await outcome(rawZip(entries), 'a.zip')).toBe('too_large');
  });

  it('is counted over all of its entries', async () => {
    const path = join(folder, 'total.zip');
    await writeFile(path, rawZip(['a', 'b', 'c'].map(name => entryOf(name, 'x'.repeat(1000)))));
    const zip = await ZipContainer.open(path, 'archive', { totalBytes: 2500, entryBytes: 1500 });
    const read = async (name: string) => {
      let length = 0;
      for await (const bytes of zip.read(zip.find(name)!)) length += bytes.length;
      return length;
    };
    expect([await read('a'), await read('B')]).toEqual([1000, 1000]);
    await expect(read('c')).rejects.toThrow(DocumentError);
    expect(zip.exhausted).toBe(true);
    zip.close();
  });
});

describe('names within an archive', () => {
  it('lead nowhere', async () => {
    const names = [
      '../../evil.txt',
      '/evil.txt',
      'C:\\evil.txt',
      '..\\evil.txt',
      'a/../../evil.txt',
      'evil\0.txt',
    ];
    const entries = [...names.map(name => entryOf(name, 'evil')), entryOf('good.txt', 'Good.')];
    const text = await outcome(rawZip(entries), 'a.zip');
    expect(text.split('\n')[0]).toBe('Good.');
    expect(text.match(/was left out: Its name leads out of the archive/g)).toHaveLength(names.length);
    expect(text).toContain('evil\uFFFD.txt was left out');
    for (const place of [folder, dirname(folder), process.cwd(), '/']) {
      expect(existsSync(join(place, 'evil.txt'))).toBe(false);
    }
    expect(await readdir(scratchFolder).catch(() => [])).toEqual([]);
    expect(await outcome(rawZip(names.map(name => entryOf(name, 'evil'))), 'a.zip')).toBe('damaged');
  });

  it('are read in the encodings that programs write them in', async () => {
    const utf8 = rawZip([entryOf(Buffer.from('Größe.png'), PNG), entryOf('a.txt', 'Text')]);
    expect(await outcome(utf8, 'a.zip')).toContain('Größe.png was left out');
    const dos = rawZip([entryOf(Buffer.from('Gr\x94\xe1e.png', 'latin1'), PNG), entryOf('a.txt', 'Text')]);
    expect(await outcome(dos, 'a.zip')).toContain('Größe.png was left out');
  });
});

describe('XML', () => {
  const cell = '<sheetData><row><c t="inlineStr"><is><t>&a9;</t></is></c></row></sheetData>';
  const nested = (open: string, close: string) => open.repeat(100_000) + close.repeat(100_000);

  it.each<[string, ZipParts]>([
    ['a workbook', withDoctype(xlsxParts([{ name: 'S', xml: cell }]), 'xl/worksheets/sheet1.xml')],
    [
      'a presentation',
      withDoctype(pptxParts([{ shapes: slideShape(slideParagraph('&a9;')) }]), 'ppt/slides/slide1.xml'),
    ],
    ['an OpenDocument text', withDoctype(odtParts('<text:p>&a9;</text:p>'), 'content.xml')],
    ['a book', withDoctype(epubParts([['a.xhtml', 'x']], { title: '&a9;' }), 'OEBPS/book.opf')],
  ])('that defines entities is not read: %s', async (_, archive) => {
    expect(await outcome(await zipOf(archive))).toBe('damaged');
  });

  it('that defines entities stays small in a Word document and in a chapter', async () => {
    const word = await JSZip.loadAsync(await docxOf('&a9;', ['Text']));
    const document = await word.file('word/document.xml')!.async('string');
    word.file('word/document.xml', document.replace('?>', `?>${BILLION_LAUGHS}`));
    const text = await outcome(await word.generateAsync({ type: 'nodebuffer' }), 'a.docx');
    expect(text.length).toBeLessThan(1000);
    const chapter = withDoctype(epubParts([['a.xhtml', '<p>Text &a9;</p>']]), 'OEBPS/text/a.xhtml');
    expect((await outcome(await zipOf(chapter), 'a.epub')).length).toBeLessThan(1000);
  });

  it.each<[string, ZipParts]>([
    ['a workbook', xlsxParts([{ name: 'S', xml: nested('<a>', '</a>') }])],
    ['a presentation', pptxParts([{ shapes: nested('<p:grpSp>', '</p:grpSp>') }])],
    ['an OpenDocument text', odtParts(nested('<text:section>', '</text:section>'))],
    ['a book', epubParts([['a.xhtml', nested('<div>', '</div>')]])],
  ])('that is nested a hundred thousand deep is not read: %s', async (_, archive) => {
    expect(await outcome(await zipOf(archive))).toBe('damaged');
  });

  it('that does not close what it opens is damaged', async () => {
    expect(await outcome(await zipOf(xlsxParts([{ name: 'S', xml: '<sheetData><row>' }])))).toBe('damaged');
    expect(await outcome(await zipOf(odtParts('<text:p>Text</text:h>')))).toBe('damaged');
  });
});

describe('a table', () => {
  it('of a million columns or with a cell of megabytes is refused', async () => {
    expect(await outcome('a,'.repeat(1_000_000), 'a.csv')).toBe('too_large');
    expect(await outcome('a,'.repeat(20_000), 'a.csv')).toBe('too_large');
    expect(await outcome(`a,b\n1,"${'x'.repeat(2_000_000)}"\n`, 'a.csv')).toBe('too_large');
    expect(await outcome(`a,b\n1,"not closed\n${'x,y\n'.repeat(300_000)}`, 'a.csv')).toBe('too_large');
    expect(await outcome('a,b\n1,"not closed\n', 'a.csv')).toBe('damaged');
  });

  it('may declare more rows and columns than there are', async () => {
    const xml =
      '<dimension ref="A1:XFD1048576"/><cols><col min="1" max="16384"/></cols><sheetData><row r="1"><c r="A1"><v>1</v></c></row>' +
      '<row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>';
    expect(await outcome(await zipOf(xlsxParts([{ name: 'S', xml }])))).toBe('1\n1; 2');
    const wide = '<c><v>1</v></c>'.repeat(20_000);
    expect(
      await outcome(
        await zipOf(xlsxParts([{ name: 'S', xml: `<sheetData><row>${wide}</row></sheetData>` }])),
      ),
    ).toBe('too_large');
    const cells =
      '<table:table-row><table:table-cell table:number-columns-repeated="999999999"><text:p>x</text:p></table:table-cell></table:table-row>';
    expect((await outcome(await zipOf(odtParts(`<table:table>${cells}</table:table>`)))).length).toBeLessThan(
      2000,
    );
  });
});

describe('a web page', () => {
  it('runs no scripts and may be nested as deep as it likes', async () => {
    const html =
      '<html><body onload="process.exit(1)"><script>process.exit(1)</script><p>Text</p></body></html>';
    expect(await outcome(html)).toBe('Text');
    expect(await outcome(`<html><body>${'<div>'.repeat(100_000)}deep`)).toBe('damaged');
    expect(await outcome(`<html><body>${'<b><i>'.repeat(20_000)}deep`)).toBe('damaged');
  });
});

describe('JSON', () => {
  it('that is nested without end or broken off is damaged', async () => {
    expect(await outcome('['.repeat(100_000), 'a.json')).toBe('damaged');
    expect(await outcome('{"a":'.repeat(100_000), 'a.json')).toBe('damaged');
    expect(await outcome('{"a": 1} trailing', 'a.json')).toBe('damaged');
    expect(await outcome('{"a": 1}\n{"a": }\n', 'a.jsonl')).toBe('damaged');
    expect(await outcome(`{"a": "${'x'.repeat(20_000_000)}"}`, 'a.json')).toBe('damaged');
  });
});

describe('a file with a password', () => {
  it('says so', async () => {
    expect(await outcome(encryptedOfficeFile(), 'a.docx')).toBe('encrypted');
    expect(await outcome(encryptedOfficeFile(), 'a.xlsx')).toBe('encrypted');
    expect(await outcome(encryptedOfficeFile())).toBe('encrypted');
    expect(await outcome(encryptedPdfOf(['Secret']), 'a.pdf')).toBe('encrypted');
    const locked = { ...entryOf('secret.txt', 'secret'), flags: 1 };
    expect(await outcome(rawZip([locked]), 'a.zip')).toBe('encrypted');
    expect(await outcome(rawZip([{ ...locked, flags: 0x41 }]), 'a.zip')).toBe('encrypted');
    expect(await outcome(rawZip([locked, entryOf('open.txt', 'Open.')]), 'a.zip')).toMatch(
      /^Open\.\nsecret\.txt was left out: .*password/,
    );
    const odt = odtParts('<text:p>Text</text:p>');
    const manifest = String(odt['META-INF/manifest.xml']).replace(
      '/></',
      '><manifest:encryption-data/></manifest:file-entry></',
    );
    expect(await outcome(await zipOf({ ...odt, 'META-INF/manifest.xml': manifest }), 'a.odt')).toBe(
      'encrypted',
    );
    const epub = epubParts([['a.xhtml', '<p>Text</p>']]);
    const encryption = '<encryption><CipherReference URI="OEBPS/text/a.xhtml"/></encryption>';
    expect(await outcome(await zipOf({ ...epub, 'META-INF/encryption.xml': encryption }), 'a.epub')).toBe(
      'encrypted',
    );
  });
});

describe('a file that is cut off or changed', () => {
  it.each(Object.entries(parts))('%s is damaged', async (extension, make) => {
    const content = await make();
    for (const share of [0.3, 0.6, 0.95]) {
      expect(await outcome(content.subarray(0, content.length * share), `a.${extension}`)).toBe('damaged');
    }
  });

  it('has its check sums looked at', async () => {
    const stored = await new JSZip().file('a.txt', 'Text of a file.').generateAsync({ type: 'nodebuffer' });
    stored[stored.indexOf('Text')] = 0x74;
    expect(await outcome(stored, 'a.zip')).toBe('damaged');
  });

  it('and is text is damaged or what is left of it', async () => {
    expect(await outcome('{"a": [1, 2', 'a.json')).toBe('damaged');
    expect(await outcome('{"a": 1}\n{"a', 'a.jsonl')).toBe('damaged');
    expect(await outcome('a,b\n1,2\n3', 'a.csv')).toBe('a: 1; b: 2\na: 3');
    expect(await outcome('<html><body><p>Text <b>of', 'a.html')).toBe('Text **of**');
    expect(await outcome(pdfOf(['Text']).subarray(0, 300), 'a.pdf')).toBe('damaged');
  });

  const changes = fc.array(
    fc.tuple(
      fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      fc.constantFrom(...'<>/"&=:; \0xé}]#'),
    ),
    { minLength: 1, maxLength: 6 },
  );
  const changed = (content: Buffer, by: [number, string][]): Buffer => {
    const bytes = Buffer.from(content);
    for (const [place, char] of by) bytes[Math.floor(place * bytes.length)] = char.charCodeAt(0);
    return bytes;
  };
  /** 'read' or the code of the error; anything but a DocumentError fails the test. */
  const fateOf = async (content: Buffer, fileName?: string): Promise<string> => {
    const path = join(folder, 'changed');
    await writeFile(path, content);
    const context = { readable: true, recognize: null, scratch: async () => folder };
    try {
      for await (const _ of readDocument(path, { fileName }, context));
      return 'read';
    } catch (error) {
      if (error instanceof DocumentError) return error.code;
      throw error;
    }
  };

  it('never fails in another way than with a clear error', async () => {
    const made = Object.entries(parts).map(async ([name, make]) => [name, await make()] as const);
    const texts = Object.entries(textual).map(([name, text]) => [name, Buffer.from(text)] as const);
    const files = fc.constantFrom(...(await Promise.all(made)), ...texts);
    await fc.assert(
      fc.asyncProperty(files, fc.boolean(), changes, async ([extension, content], named, by) => {
        const fate = await fateOf(changed(content, by), named ? `a.${extension}` : undefined);
        expect(fate).toMatch(FATES);
      }),
      { numRuns: RUNS },
    );
  });

  it('never does so where what is packed was changed', async () => {
    const archives = await Promise.all(
      Object.values(parts).map(async make => {
        const zip = await JSZip.loadAsync(await make());
        const names = Object.keys(zip.files).filter(name => !name.endsWith('/'));
        return Promise.all(
          names.map(async name => ({ name, content: await zip.file(name)!.async('nodebuffer') })),
        );
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...archives), fc.nat(), changes, async (entries, at, by) => {
        const target = entries[at % entries.length]!.name;
        const all = entries.map(({ name, content }) =>
          entryOf(name, name === target ? changed(content, by) : content),
        );
        // Stored, as those have it that are known by it.
        const stored = all.map(entry =>
          entry.name === 'mimetype' ? storedEntryOf('mimetype', entries[0]!.content) : entry,
        );
        expect(await fateOf(rawZip(stored))).toMatch(FATES);
      }),
      { numRuns: RUNS },
    );
  });
});

describe('a file whose name lies', () => {
  it.each([
    ['a workbook named .docx', 'xlsx', 'a.docx'],
    ['a Word document named .xlsx', 'docx', 'a.xlsx'],
    ['an OpenDocument text named .docx', 'odt', 'a.docx'],
    ['a book named .txt', 'epub', 'a.txt'],
    ['an archive named .pptx', 'zip', 'a.pptx'],
    ['an archive named .pdf', 'zip', 'a.pdf'],
    ['a presentation named .json', 'pptx', 'a.json'],
  ])('is found out: %s', async (_, kind, fileName) => {
    expect(await outcome(await parts[kind]!(), fileName)).toBe('type_mismatch');
  });

  it('is found out: text and pictures', async () => {
    for (const name of ['a.xlsx', 'a.zip', 'a.epub', 'a.odt', 'a.pptx']) {
      expect(await outcome('Only text.', name)).toBe('type_mismatch');
    }
    for (const name of ['a.csv', 'a.json', 'a.md']) expect(await outcome(PNG, name)).toBe('type_mismatch');
    expect(await outcome('<!doctype html><p>Text', 'a.csv')).toBe('Text');
  });

  it('is no matter where it is empty', async () => {
    for (const extension of ['txt', 'csv', 'json', 'docx', 'xlsx', 'zip', 'epub', 'html', 'pdf']) {
      expect(await outcome('', `a.${extension}`)).toBe('empty');
      expect(await outcome(' \n\t', `a.txt`)).toBe('empty');
    }
    expect(await outcome(rawZip([]), 'a.zip')).toBe('empty');
    expect(await outcome(await zipOf(xlsxParts([{ name: 'S', xml: '<sheetData/>' }])), 'a.xlsx')).toBe(
      'no_text',
    );
    expect(await outcome(await zipOf(pptxParts([])), 'a.pptx')).toBe('no_text');
  });
});

describe('text in whatever script and encoding', () => {
  it.each([
    [
      'broken UTF-8',
      Buffer.concat([
        Buffer.from('Grüße aus Köln, '),
        Buffer.from([0xc3, 0x28, 0xff]),
        Buffer.from(' schöne'),
      ]),
      'Grüße aus Köln, \uFFFD(\uFFFD schöne',
    ],
    ['Latin-1', Buffer.from('Grüße aus Köln', 'latin1'), 'Grüße aus Köln'],
    [
      'UTF-16 without a mark',
      Buffer.from('日本語のテキスト。\nもう一行 with English', 'utf16le'),
      '日本語のテキスト。\nもう一行 with English',
    ],
    [
      'Arabic in UTF-16, big end first',
      Buffer.from('مرحبا بالعالم\nשלום', 'utf16le').swap16(),
      'مرحبا بالعالم\nשלום',
    ],
    ['Hebrew', Buffer.from('שלום עולם'), 'שלום עולם'],
    ['Chinese beyond the first plane', Buffer.from('𠮷野家 𝄞'), '𠮷野家 𝄞'],
  ])('is read: %s', async (_, content, expected) => {
    expect(await outcome(content, 'a.txt')).toBe(expected);
  });
});

function withDoctype(archive: ZipParts, part: string): ZipParts {
  return {
    ...archive,
    [part]: String(archive[part])
      .replace(/<!DOCTYPE html>/, '')
      .replace('?>', `?>${BILLION_LAUGHS}`),
  };
}
