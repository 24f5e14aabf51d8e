import type { Reader } from './document-parts.js';
import { readText } from './text-encoding.js';

/** UTF-16 code units of a part of a long text. */
const PART_LENGTH = 1_000_000;
/** How far from the end of a part without a line end a place is looked for where it can be cut. */
const SEARCHED_FOR_CUT = 1000;

/** Text as it is, whatever it says. */
export const readPlainText: Reader = async function* (file) {
  let continues = false;
  for await (const text of inParts(readText(file.path))) {
    yield { page: null, format: 'plain', text, continues };
    continues = true;
  }
  return { title: null };
};

export const readMarkdown: Reader = async function* (file) {
  let title: string | null = null;
  let continues = false;
  for await (const part of inParts(readText(file.path))) {
    let text = part;
    if (!continues) {
      // Front matter (YAML between two lines of ---) describes the text and is none itself.
      const frontMatter = /^\uFEFF?---[ \t]*\r?\n([^]{0,10000}?)\r?\n---[ \t]*(?:\r?\n|$)/.exec(part);
      text = frontMatter ? part.slice(frontMatter[0].length) : part;
      title = /^title:[ \t]*["']?([^\r\n]{1,300}?)["']?[ \t]*$/m.exec(frontMatter?.[1] ?? '')?.[1] ?? null;
    }
    title ??= /^ {0,3}#[ \t]+([^\r\n]{1,300})/m.exec(text)?.[1] ?? null;
    yield { page: null, format: 'markdown', text, continues };
    continues = true;
  }
  return { title };
};

/**
 * Cuts a stream of text into parts of about a megabyte, at line ends where there are any: there each part can be
 * normalised by itself.
 */
export async function* inParts(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  let waiting: string[] = [];
  let length = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    length += piece.length;
    if (length < PART_LENGTH) continue;
    const text = waiting.join('');
    const cut = lastCut(text);
    yield text.slice(0, cut);
    waiting = [text.slice(cut)];
    length = text.length - cut;
  }
  if (length > 0) yield waiting.join('');
}

function lastCut(text: string): number {
  const lineEnd = text.lastIndexOf('\n') + 1;
  if (lineEnd > text.length / 2) return lineEnd;
  // Before a character that is composed with none before it (Unicode Standard Annex 15).
  for (let at = text.length - 1; at > text.length - SEARCHED_FOR_CUT; at--) {
    if (/^[\p{Lu}\p{Ll}\p{N}\p{Script=Han} ]/u.test(text.slice(at, at + 2)) && text[at - 1] !== '\r')
      return at;
  }
  return text.length - 1 - (/[\uDC00-\uDFFF]$/.test(text) ? 1 : 0);
}
