import { randomBytes } from 'node:crypto';
import { createWriteStream, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const CORPUS = join(import.meta.dirname, '../scripts/demo/corpus');
const MEGABYTE = 2 ** 20;
const SENTENCES_A_PARAGRAPH = 8;
const PARAGRAPHS_A_SECTION = 12;
const LINES_A_PAGE = 45;

const sentences = readdirSync(CORPUS, { recursive: true, encoding: 'utf8' })
  .filter(path => /\.(md|txt)$/.test(path))
  .flatMap(path => readFileSync(join(CORPUS, path), 'utf8').match(/[A-Z][^.!?#|\n]{30,}[.!?]/g) ?? []);

const sentence = (): string => sentences[Math.floor(Math.random() * sentences.length)] as string;

const paragraph = (): string => Array.from({ length: SENTENCES_A_PARAGRAPH }, sentence).join(' ');

/** Markdown of sections with headings, of at least as many characters, like no other. */
export function textOf(title: string, characters: number): string {
  const parts = [`# ${title}`];
  for (let length = 0; length < characters; length += parts.at(-1)?.length ?? 0) {
    if (parts.length % PARAGRAPHS_A_SECTION === 0) parts.push(`## Part ${parts.length}`);
    parts.push(paragraph());
  }
  return parts.join('\n\n');
}

/** Writes plain text of so many megabytes. */
export async function writeText(path: string, megabytes: number): Promise<void> {
  async function* content() {
    for (let written = 0; written < megabytes * MEGABYTE;) {
      const block = Array.from({ length: 400 }, paragraph).join('\n\n') + '\n\n';
      written += Buffer.byteLength(block);
      yield block;
    }
  }
  await pipeline(Readable.from(content()), createWriteStream(path));
}

/**
 * Writes a PDF (ISO 32000-1) of so many megabytes, as large ones are: on each page some text and a picture, which makes
 * up most of it.
 *
 * @param picture kilobytes of each page's
 * @returns how many pages it has
 */
export async function writePdf(path: string, megabytes: number, picture = 96): Promise<number> {
  const pages = Math.ceil((megabytes * 1024) / (picture + 4));
  const offsets: number[] = [];
  let position = 0;
  const object = (id: number, body: Buffer) => {
    const whole = Buffer.concat([Buffer.from(`${id} 0 obj\n`), body, Buffer.from('\nendobj\n')]);
    offsets[id] = position;
    position += whole.length;
    return whole;
  };
  const stream = (entries: string, content: Buffer) =>
    Buffer.concat([
      Buffer.from(`<< ${entries} /Length ${content.length} >>\nstream\n`),
      content,
      Buffer.from('\nendstream'),
    ]);
  const dictionary = (text: string) => Buffer.from(`<< ${text} >>`);
  function* objects() {
    const header = Buffer.from('%PDF-1.4\n%\xe2\xe3\xcf\xd3\n', 'latin1');
    position = header.length;
    yield header;
    yield object(1, dictionary('/Type /Catalog /Pages 2 0 R'));
    yield object(
      3,
      dictionary('/Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding'),
    );
    for (let page = 0; page < pages; page++) {
      const [own, text, image] = [4, 5, 6].map(id => id + page * 3) as [number, number, number];
      const resources = `/Resources << /Font << /F1 3 0 R >> /XObject << /P ${image} 0 R >> >>`;
      yield object(
        own,
        dictionary(`/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] ${resources} /Contents ${text} 0 R`),
      );
      yield object(text, stream('', Buffer.from(pageText(page), 'latin1')));
      const [width, height] = [256, picture * 4];
      yield object(
        image,
        stream(
          `/Type /XObject /Subtype /Image /Width ${width} /Height ${height} /ColorSpace /DeviceGray /BitsPerComponent 8`,
          randomBytes(width * height),
        ),
      );
    }
    const kids = Array.from({ length: pages }, (_, page) => `${4 + page * 3} 0 R`).join(' ');
    yield object(2, dictionary(`/Type /Pages /Kids [${kids}] /Count ${pages}`));
    const entries = offsets.slice(1).map(offset => `${String(offset).padStart(10, '0')} 00000 n \n`);
    const size = entries.length + 1;
    yield Buffer.from(
      `xref\n0 ${size}\n0000000000 65535 f \n${entries.join('')}` +
        `trailer\n<< /Size ${size} /Root 1 0 R >>\nstartxref\n${position}\n%%EOF\n`,
    );
  }
  await pipeline(Readable.from(objects()), createWriteStream(path));
  return pages;
}

/** Lines of text, and a small picture below. */
function pageText(page: number): string {
  const words = `Page ${page + 1}. ${Array.from({ length: 24 }, sentence).join(' ')}`;
  const lines = words.replaceAll(/[^\x20-\x7e]/g, '').match(/.{1,90}(?:\s|$)/g) ?? [];
  const shown = lines
    .slice(0, LINES_A_PAGE)
    .map(line => `(${line.trim().replaceAll(/[\\()]/g, '\\$&')}) Tj T*`);
  return `BT /F1 9 Tf 12 TL 48 740 Td\n${shown.join('\n')}\nET\nq 100 0 0 100 48 48 cm /P Do Q`;
}
