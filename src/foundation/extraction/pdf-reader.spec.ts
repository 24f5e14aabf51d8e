import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { decode } from 'fast-png';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encryptedPdfOf, scannedPdfOf } from '../../../test/setup/files.js';
import { DocumentError } from './document-error.js';
import { DocumentLoader } from './document-loader.js';
import type { LoadSummary, ReadContext, TextPart } from './document-parts.js';
import { readDocument } from './document-reader.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pdf-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(
  content: Buffer,
  recognize: ReadContext['recognize'] = null,
): Promise<LoadSummary & { parts: TextPart[] }> {
  const path = join(folder, 'file');
  await writeFile(path, content);
  const context = { readable: false, recognize, scratch: async () => folder };
  const reading = readDocument(path, { fileName: 'a.pdf' }, context);
  const parts: TextPart[] = [];
  let step = await reading.next();
  for (; !step.done; step = await reading.next()) parts.push(step.value);
  return { ...step.value, parts };
}

const codeOf = (content: Buffer) =>
  read(content).then(
    ({ parts }) => `read: ${parts.map(({ text }) => text).join('|')}`,
    (error: unknown) => (error instanceof DocumentError ? error.code : error),
  );

/** A PDF (ISO 32000-1) of objects, numbered from 1; the first is the catalog. */
function pdfOfObjects(objects: (string | Buffer)[], trailer = ''): Buffer {
  const parts = [Buffer.from('%PDF-1.4\n%\xe2\xe3\xcf\xd3\n', 'latin1')];
  let length = parts[0]!.length;
  let xref = '';
  for (const [index, object] of objects.entries()) {
    xref += `${String(length).padStart(10, '0')} 00000 n \n`;
    const part = Buffer.concat([
      Buffer.from(`${index + 1} 0 obj\n`),
      Buffer.from(object),
      Buffer.from('\nendobj\n'),
    ]);
    parts.push(part);
    length += part.length;
  }
  const size = objects.length + 1;
  parts.push(
    Buffer.from(
      `xref\n0 ${size}\n0000000000 65535 f \n${xref}` +
        `trailer\n<< /Size ${size} /Root 1 0 R ${trailer} >>\nstartxref\n${length}\n%%EOF\n`,
    ),
  );
  return Buffer.concat(parts);
}

const FONT = '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>';
const pages = (kids: string, count: number) => `<< /Type /Pages /Kids [${kids}] /Count ${count} >>`;
const stream = (dictionary: string, content: string | Buffer): Buffer =>
  Buffer.concat([
    Buffer.from(`<< /Length ${Buffer.byteLength(content)} ${dictionary} >>\nstream\n`),
    Buffer.from(content),
    Buffer.from('\nendstream'),
  ]);
const page = (contents: string, xobjects = '') =>
  `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents ${contents} ` +
  `/Resources << /Font << /F1 3 0 R >> ${xobjects && `/XObject << ${xobjects} >>`} >> >>`;

/** With one content stream a page. */
function pdf(contents: (string | Buffer)[], { info = '', filter = [] as string[] } = {}): Buffer {
  const ids = contents.map((_, index) => 5 + index * 2);
  return pdfOfObjects(
    [
      '<< /Type /Catalog /Pages 2 0 R >>',
      pages(ids.map(id => `${id} 0 R`).join(' '), contents.length),
      FONT,
      `<< ${info} >>`,
      ...contents.flatMap((content, index) => [
        page(`${ids[index]! + 1} 0 R`),
        stream(filter[index] ?? '', content),
      ]),
    ],
    '/Info 4 0 R',
  );
}

/** Of one page that shows nothing but pictures. */
const pictures = (...images: Buffer[]): Buffer =>
  pdfOfObjects([
    '<< /Type /Catalog /Pages 2 0 R >>',
    pages('4 0 R', 1),
    FONT,
    page('5 0 R', images.map((_, index) => `/I${index} ${index + 6} 0 R`).join(' ')),
    stream('', images.map((_, index) => `q 600 0 0 700 0 0 cm /I${index} Do Q`).join('\n')),
    ...images,
  ]);
const image = (width: number, height: number, kind: string, pixels: Buffer): Buffer =>
  stream(
    `/Type /XObject /Subtype /Image /Width ${width} /Height ${height} ${kind} /Filter /FlateDecode`,
    deflateSync(pixels),
  );

const lines = (...texts: string[]) =>
  `BT /F1 12 Tf 14 TL 72 720 Td ${texts.map(text => `(${text}) Tj T*`).join(' ')} ET`;

describe('a PDF', () => {
  it('is read page by page, and empty pages are left out', async () => {
    const content = pdf([lines('The first page.', 'Its second line.'), '', lines('The third page.')], {
      info: '/Title (Annual report)',
    });
    expect(await read(content)).toEqual({
      mimeType: 'application/pdf',
      title: 'Annual report',
      canonicalUrl: null,
      pageCount: 2,
      characterCount: 47,
      warnings: [],
      parts: [
        { page: 1, text: 'The first page.\nIts second line.', format: 'plain', continues: false },
        { page: 3, text: 'The third page.', format: 'plain', continues: false },
      ],
    });
  });

  it('of many pages is read to its end', async () => {
    const { parts } = await read(pdf(Array.from({ length: 300 }, (_, index) => lines(`Page ${index + 1}`))));
    expect(parts.map(({ page: number, text }) => [number, text])).toEqual(
      Array.from({ length: 300 }, (_, index) => [index + 1, `Page ${index + 1}`]),
    );
  });

  it('without text is a scan', async () => {
    await expect(read(pdf(['0 0 612 792 re f', '']))).rejects.toMatchObject({
      code: 'no_text',
      message: expect.stringContaining('text recognition (OCR)') as string,
    });
    expect(await codeOf(scannedPdfOf([null, null]))).toBe('no_text');
  });

  it('with scanned pages among others names them', async () => {
    const { parts, warnings, pageCount } = await read(scannedPdfOf([null, 'Typed', null, 'Also typed']));
    expect(parts.map(({ text }) => text)).toEqual(['Typed', 'Also typed']);
    expect(pageCount).toBe(2);
    expect(warnings).toEqual([
      {
        code: 'scanned_pages',
        message: '2 pages are pictures without text; text recognition (OCR) would be needed for them.',
        pages: [1, 3],
      },
    ]);
  });

  it('that is cut off or garbage is damaged', async () => {
    const content = pdf([lines('One'), lines('Two')]);
    expect(await codeOf(content.subarray(0, content.length / 2))).toBe('damaged');
    expect(await codeOf(Buffer.from('%PDF-1.7\nnothing that a PDF is made of\n%%EOF'))).toBe('damaged');
  });

  it('with a password is refused', async () => {
    expect(await codeOf(encryptedPdfOf(['Secret']))).toBe('encrypted');
  });

  it('of too many pages is refused before they are read', async () => {
    const many = (count: number, kids = count) =>
      pdfOfObjects([
        '<< /Type /Catalog /Pages 2 0 R >>',
        pages('4 0 R '.repeat(kids), count),
        FONT,
        page('5 0 R'),
        stream('', lines('Again')),
      ]);
    const started = performance.now();
    expect(await codeOf(many(100_000))).toBe('too_large');
    expect(await codeOf(many(20_001))).toBe('too_large');
    // What it says of itself is no more than a claim.
    expect(await codeOf(many(2_000_000_000, 1))).toMatch(/^(?:read: Again|too_large|damaged)$/);
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  it('whose pages lead back to themselves is damaged', async () => {
    const loop = (root: string, inner: string) =>
      pdfOfObjects(['<< /Type /Catalog /Pages 2 0 R >>', root, FONT, inner, stream('', lines('Never'))]);
    expect(await codeOf(loop(pages('2 0 R', 5), ''))).toBe('damaged');
    expect(await codeOf(loop(pages('4 0 R', 3), pages('2 0 R', 3)))).toBe('damaged');
    const self = page('5 0 R').replace('/Parent 2 0 R', '/Parent 4 0 R');
    expect(await codeOf(loop(pages('4 0 R', 1), self))).toBe('read: Never');
    // A form that draws itself.
    const form = stream(
      '/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /Me 6 0 R >> >>',
      '/Me Do',
    );
    const drawn = pdfOfObjects([
      '<< /Type /Catalog /Pages 2 0 R >>',
      pages('4 0 R', 1),
      FONT,
      page('5 0 R', '/Me 6 0 R'),
      stream('', `/Me Do ${lines('Text')}`),
      form,
    ]);
    expect(await codeOf(drawn)).toMatch(/^(?:read: Text|damaged)$/);
  });

  it('whose streams unpack without end is refused before it takes the memory of the process', async () => {
    const bomb = deflateSync(deflateSync(Buffer.alloc(300 * 1024 * 1024, ' '), { level: 1 }));
    const content = pdf([lines('Fine'), bomb], { filter: ['', '/Filter [/FlateDecode /FlateDecode]'] });
    expect(content.length).toBeLessThan(100_000);
    const path = join(folder, 'bomb');
    await writeFile(path, content);
    const loader = new DocumentLoader({ threads: 1 });
    try {
      const before = process.memoryUsage.rss();
      const failed = (async () => {
        for await (const _ of loader.load({ path }));
      })();
      await expect(failed).rejects.toMatchObject({ code: 'too_large' });
      expect(process.memoryUsage.rss() - before).toBeLessThan(1024 ** 3);
      await writeFile(path, pdf([lines('Fine')]));
      for await (const [chunk] of loader.load({ path })) expect(chunk?.text).toBe('Fine');
    } finally {
      await loader.close();
    }
  });
});

describe('a scanned page', () => {
  const shown = async (content: Buffer) => {
    const seen: { page: number | null; png: Uint8Array }[] = [];
    const result = await read(content, async picture => {
      seen.push(picture);
      return '## Heading\n\nText';
    });
    expect(result.parts).toEqual([
      { page: 1, text: '## Heading\n\nText', format: 'markdown', continues: false },
    ]);
    expect(result.warnings).toEqual([]);
    expect(seen).toHaveLength(1);
    expect(seen[0]!.page).toBe(1);
    return decode(seen[0]!.png);
  };
  const at =
    ({ data, width, channels }: { data: ArrayLike<number>; width: number; channels: number }) =>
    (x: number, y: number) =>
      Array.from({ length: channels }, (_, channel) => data[(y * width + x) * channels + channel]);

  it('in colour is shown as PNG, the largest picture of it', async () => {
    const [width, height] = [300, 400];
    const pixels = Buffer.alloc(width * height * 3, 255);
    pixels.set([200, 100, 50], (10 * width + 20) * 3);
    const png = await shown(
      pictures(
        image(250, 250, '/ColorSpace /DeviceGray /BitsPerComponent 8', Buffer.alloc(250 * 250)),
        image(width, height, '/ColorSpace /DeviceRGB /BitsPerComponent 8', pixels),
      ),
    );
    expect([png.width, png.height, png.channels]).toEqual([300, 400, 3]);
    expect(at(png)(20, 10)).toEqual([200, 100, 50]);
    expect(at(png)(21, 10)).toEqual([255, 255, 255]);
  });

  it.each([
    ['one bit a pixel', '/ColorSpace /DeviceGray /BitsPerComponent 1'],
    ['a mask', '/ImageMask true /BitsPerComponent 1'],
  ])('of %s is black on white, and made smaller where it is large', async (_, kind) => {
    const [width, height] = [4960, 7016];
    const pixels = Buffer.alloc((width / 8) * height, 255);
    // Rows 300-599 are black.
    pixels.fill(0, (width / 8) * 300, (width / 8) * 600);
    const png = await shown(pictures(image(width, height, kind, pixels)));
    expect([png.width, png.height, png.channels]).toEqual([1653, 2338, 1]);
    expect(at(png)(800, 50)).toEqual([255]);
    expect(at(png)(800, 150)).toEqual([0]);
    expect(at(png)(800, 250)).toEqual([255]);
  });

  it('that is transparent lies on white', async () => {
    const side = 250;
    const colour = image(
      side,
      side,
      '/ColorSpace /DeviceRGB /BitsPerComponent 8 /SMask 7 0 R',
      Buffer.alloc(side * side * 3),
    );
    const alpha = Buffer.alloc(side * side);
    alpha[5 * side + 5] = 255;
    const content = pdfOfObjects([
      '<< /Type /Catalog /Pages 2 0 R >>',
      pages('4 0 R', 1),
      FONT,
      page('5 0 R', '/I0 6 0 R'),
      stream('', 'q 600 0 0 700 0 0 cm /I0 Do Q'),
      colour,
      image(side, side, '/ColorSpace /DeviceGray /BitsPerComponent 8', alpha),
    ]);
    const png = await shown(content);
    // And grey needs no three channels.
    expect(at(png)(5, 5)).toEqual([0]);
    expect(at(png)(100, 100)).toEqual([255]);
  });

  it('is named where nothing was found in it, or it is too large or broken', async () => {
    const none = async () => '';
    const { warnings } = await read(scannedPdfOf(['Typed', null]), none);
    expect(warnings).toEqual([
      {
        code: 'scanned_pages',
        message: 'One page is a picture without text, and no text was found in it.',
        pages: [2],
      },
    ]);
    const huge = pictures(
      stream(
        '/Type /XObject /Subtype /Image /Width 50000 /Height 50000 /ColorSpace /DeviceGray /BitsPerComponent 8',
        '',
      ),
    );
    await expect(read(huge, none)).rejects.toMatchObject({ code: 'no_text' });
    const broken = pictures(
      stream(
        '/Type /XObject /Subtype /Image /Width 800 /Height 800 /ColorSpace /DeviceGray /BitsPerComponent 8 /Filter /DCTDecode',
        'no JPEG',
      ),
    );
    await expect(read(broken, none)).rejects.toMatchObject({ code: 'no_text' });
  });

  const grey = (width: number, height: number) =>
    image(width, height, '/ColorSpace /DeviceGray /BitsPerComponent 8', Buffer.alloc(width * height, 200));
  const placed = (contents: string, ...images: Buffer[]): Buffer =>
    pdfOfObjects([
      '<< /Type /Catalog /Pages 2 0 R >>',
      pages('4 0 R', 1),
      FONT,
      page('5 0 R', images.map((_, index) => `/I${index} ${index + 6} 0 R`).join(' ')),
      stream('', contents),
      ...images,
    ]);

  it('may bear a stamp', async () => {
    const scan = placed(`q 612 0 0 792 0 0 cm /I0 Do Q ${lines('Page 1 of 9')}`, grey(620, 800));
    const one = async (recognize: ReadContext['recognize']) => {
      const { parts, warnings } = await read(scan, recognize);
      return { text: parts.map(({ text }) => text), warnings: warnings.map(({ message }) => message) };
    };
    expect(await one(async () => '# Letter')).toEqual({ text: ['Page 1 of 9\n\n# Letter'], warnings: [] });
    expect(await one(async () => '# Letter\n\nPage 1\nof 9')).toMatchObject({
      text: ['# Letter\n\nPage 1\nof 9'],
    });
    expect(await one(async () => '')).toEqual({
      text: ['Page 1 of 9'],
      warnings: ['One page is a picture with hardly any text, and no text was found in it.'],
    });
    expect(await one(null)).toEqual({
      text: ['Page 1 of 9'],
      warnings: [
        'One page is a picture with hardly any text; text recognition (OCR) would be needed for it.',
      ],
    });
  });

  it('is none where a picture illustrates a little text, or much text lies over a picture', async () => {
    const asked = () => Promise.reject(new Error('Asked'));
    const picture = grey(620, 800);
    for (const recognize of [asked, null]) {
      const beside = await read(
        placed(`q 300 0 0 300 0 0 cm /I0 Do Q ${lines('A title')}`, picture),
        recognize,
      );
      expect(beside).toMatchObject({ parts: [{ text: 'A title' }], warnings: [] });
      const text = Array.from({ length: 3 }, () => 'A sentence that says what the page is about.');
      const over = await read(placed(`q 612 0 0 792 0 0 cm /I0 Do Q ${lines(...text)}`, picture), recognize);
      expect(over).toMatchObject({ parts: [{ text: text.join('\n') }], warnings: [] });
    }
  });

  it('that is stored in strips is shown strip by strip, from the top', async () => {
    const strips = placed(
      'q 612 0 0 264 0 0 cm /I0 Do Q q 1 0 0 1 0 528 cm q 612 0 0 264 0 0 cm /I1 Do Q Q q 612 0 0 264 0 264 cm /I2 Do Q',
      grey(500, 203),
      grey(500, 201),
      grey(500, 202),
    );
    const { parts, warnings } = await read(strips, async ({ png }) => `Height ${decode(png).height}`);
    expect(parts.map(({ text }) => text)).toEqual(['Height 201\n\nHeight 202\n\nHeight 203']);
    expect(warnings).toEqual([]);
  });

  it('of more pictures than are looked at is named', async () => {
    const contents = Array.from(
      { length: 12 },
      (_, index) => `q 600 0 0 60 0 ${index * 62} cm /I${index} Do Q`,
    ).join(' ');
    const album = placed(contents, ...Array.from({ length: 12 }, () => grey(250, 250)));
    let asked = 0;
    const { warnings } = await read(album, async () => `Picture ${++asked}`);
    expect(asked).toBe(10);
    expect(warnings).toEqual([
      {
        code: 'pictures_left_out',
        message: 'One page has more than 10 pictures; the others were not looked at.',
        pages: [1],
      },
    ]);
  });

  it('is nothing to show where its pictures are ornaments', async () => {
    const small = pictures(image(50, 50, '/ColorSpace /DeviceGray /BitsPerComponent 8', Buffer.alloc(2500)));
    await expect(read(small, () => Promise.reject(new Error('Asked')))).rejects.toMatchObject({
      code: 'no_text',
    });
  });

  it('fails with the fault of whoever reads it', async () => {
    const fault = new Error('The model is away.');
    await expect(read(scannedPdfOf([null]), () => Promise.reject(fault))).rejects.toBe(fault);
  });
});
