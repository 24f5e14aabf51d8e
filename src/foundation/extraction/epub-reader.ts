import { posix } from 'node:path';
import { DocumentError } from './document-error.js';
import type { ReadSummary, SourceFile, TextPart } from './document-parts.js';
import { xhtmlToMarkdown } from './html-reader.js';
import { oneLine } from './markdown-blocks.js';
import { decodeText } from './text-encoding.js';
import { readXml } from './xml-events.js';
import { ZipContainer, type ZipEntry } from './zip-container.js';

const WHAT = 'EPUB book';
/** Bytes of one chapter, which is read as a whole. */
const MAX_CHAPTER_BYTES = 32 * 1024 * 1024;

interface Book {
  title: string | null;
  authors: string[];
  /** Paths within the archive, in reading order. */
  chapters: string[];
  /** Where the table of contents is, of either edition. */
  contents: string | null;
}

/** A book (EPUB 2 and 3): its chapters in the order of the spine, as Markdown. */
export async function* readEpub(file: SourceFile): AsyncGenerator<TextPart, ReadSummary> {
  const zip = await ZipContainer.open(file.path, WHAT);
  try {
    const locked = await encryptedParts(zip);
    const book = await readBook(zip);
    const labels = book.contents ? await readLabels(zip, book.contents) : new Map<string, string>();
    if (book.authors.length > 0) {
      const text = `${book.title ?? 'This book'} by ${book.authors.join(', ')}`;
      yield { page: null, text, format: 'plain' };
    }
    for (const path of book.chapters) {
      const entry = zip.find(path);
      if (!entry) continue;
      if (locked.has(path)) throw rightsManaged();
      const text = xhtmlToMarkdown(decodeText(await whole(zip, entry)));
      const label = labels.get(path);
      const headings = label && !/^#{1,6} /m.test(text) ? [label] : [];
      yield { page: null, text, format: 'markdown', headings };
    }
    return { title: book.title };
  } finally {
    zip.close();
  }
}

/** Fonts are often scrambled, which locks nobody out. */
async function encryptedParts(zip: ZipContainer): Promise<Set<string>> {
  const parts = new Set<string>();
  const entry = zip.find('META-INF/encryption.xml');
  if (!entry) return parts;
  await readXml(zip.read(entry), {
    open: (name, { URI }) => {
      if (name === 'CipherReference' && URI) parts.add(resolve('', URI));
    },
  });
  return parts;
}

async function readBook(zip: ZipContainer): Promise<Book> {
  const packagePath = await readPackagePath(zip);
  const entry = zip.find(packagePath);
  if (!entry) throw damaged();
  const folder = posix.dirname(packagePath);
  const items = new Map<string, string>();
  const spine: string[] = [];
  const [titles, authors]: [string[], string[]] = [[], []];
  let [contents, ncx]: [string | null, string | null] = [null, null];
  let target: string[] | null = null;
  await readXml(zip.read(entry), {
    open: (name, attributes) => {
      target = name === 'title' ? titles : name === 'creator' ? authors : null;
      target?.push('');
      if (name === 'itemref' && attributes['idref']) spine.push(attributes['idref']);
      if (name !== 'item' || !attributes['href'] || !attributes['id']) return;
      const path = resolve(folder, attributes['href']);
      items.set(attributes['id'], path);
      if (attributes['properties']?.split(' ').includes('nav')) contents = path;
      if (attributes['media-type'] === 'application/x-dtbncx+xml') ncx = path;
    },
    close: () => (target = null),
    text: text => {
      if (target) target[target.length - 1] += text;
    },
  });
  const nav: string | null = contents;
  return {
    title: named(titles)[0] ?? null,
    authors: named(authors),
    // The table of contents says nothing that the chapters do not.
    chapters: spine.flatMap(id => items.get(id) ?? []).filter(path => path !== nav),
    contents: nav ?? ncx,
  };
}

const named = (texts: string[]): string[] => texts.map(oneLine).filter(text => text !== '');

async function readPackagePath(zip: ZipContainer): Promise<string> {
  const entry = zip.find('META-INF/container.xml');
  if (!entry) throw damaged();
  const paths: string[] = [];
  await readXml(zip.read(entry), {
    open: (name, attributes) => {
      if (name === 'rootfile' && attributes['full-path']) paths.push(resolve('', attributes['full-path']));
    },
  });
  if (paths[0] === undefined) throw damaged();
  return paths[0];
}

/** What the table of contents calls the chapters: links of XHTML (EPUB 3), or points of NCX (EPUB 2). */
async function readLabels(zip: ZipContainer, contents: string): Promise<Map<string, string>> {
  const labels = new Map<string, string>();
  const entry = zip.find(contents);
  if (!entry) return labels;
  const folder = posix.dirname(contents);
  let text = '';
  let href = '';
  const add = (address: string) => {
    const path = resolve(folder, address);
    if (oneLine(text) !== '' && !labels.has(path)) labels.set(path, oneLine(text));
    text = '';
  };
  await readXml(zip.read(entry), {
    open: (name, attributes) => {
      if (name === 'a') [href, text] = [attributes['href'] ?? '', ''];
      if (name === 'navLabel') text = '';
      if (name === 'content' && attributes['src']) add(attributes['src']);
    },
    close: name => {
      if (name === 'a' && href !== '') add(href);
    },
    text: piece => (text += piece),
  });
  return labels;
}

async function whole(zip: ZipContainer, entry: ZipEntry): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of zip.read(entry)) {
    length += piece.length;
    if (length > MAX_CHAPTER_BYTES) {
      throw new DocumentError(
        'too_large',
        `The ${WHAT} has a chapter of more than ${MAX_CHAPTER_BYTES / 1024 ** 2} MB.`,
      );
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** A reference within the book as the name of an entry; it is looked up among the entries and nowhere else. */
function resolve(folder: string, reference: string): string {
  const path = reference.split(/[?#]/, 1)[0]!;
  let decoded = path;
  try {
    decoded = decodeURIComponent(path);
  } catch {
    // A stray percent sign is part of the name.
  }
  return posix.join('/', folder, decoded).slice(1);
}

const damaged = () => new DocumentError('damaged', `The ${WHAT} is damaged and cannot be opened.`);

const rightsManaged = () =>
  new DocumentError('encrypted', `The ${WHAT} is protected by digital rights management and cannot be read.`);
