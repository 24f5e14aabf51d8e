/** A stretch of a text: `text.slice(start, end)`. */
export interface Sentence {
  start: number;
  end: number;
}

const HEADING = /^\s{0,3}#{1,6}\s/;
/** Below a heading of two lines, between two parts, under a table's head, around code. */
const RULE = /^\s*(?:[-=*_]{3,}|`{3,}.*|~{3,}.*|\|?(?:\s*:?-+:?\s*\|)+\s*:?-*:?\s*)$/;
const LIST_MARKER = /^\s*(?:[-*+•]|\d{1,3}[.)])\s+/;
const TABLE_ROW = /^\s*\|.*\|\s*$/;

/**
 * A full stop that ends an abbreviation or an initial, after which the Unicode rules (UAX #29) see the end of a
 * sentence where a capital follows.
 */
const ABBREVIATION =
  /(?:^|[\s("'“‘[])(?:\p{Lu}|Dr|Drs|Mr|Mrs|Ms|Prof|Rev|Hon|Gen|Col|Lt|Capt|Sgt|Gov|Sen|Rep|St|Mt|Jr|Sr|vs|cf|ca|c|al|approx|e\.g|i\.e|etc|viz|No|Nos|Art|Fig|Figs|Eq|Sec|Ch|Vol|pp?|ed|eds|Inc|Ltd|Co|Corp|Ave|dept|est|z\.\s?B|bzw|d\.\s?h|Nr|(?:\p{Lu}\.)+\p{Lu})\.\s*$/u;

/** Longest sentence in characters; a longer one (a dump without punctuation) is cut at white space. */
const LONGEST = 500;

const segmenter = new Intl.Segmenter('en', { granularity: 'sentence' });

/**
 * The sentences of a plain or Markdown text, in order and without the white space around them. A list item and a row
 * of a table is at least a sentence of its own, without its marker; headings and rules are none. A line break
 * inside of a paragraph does not end a sentence.
 */
export function sentences(text: string): Sentence[] {
  return blocks(text)
    .flatMap(block => split(text, block))
    .flatMap(sentence => cut(text, sentence));
}

/** Paragraphs, list items and table rows. */
function blocks(text: string): Sentence[] {
  const found: Sentence[] = [];
  let open: Sentence | null = null;
  let start = 0;
  for (const line of text.split('\n')) {
    const end = start + line.length;
    const marker = LIST_MARKER.exec(line);
    if (line.trim() === '' || HEADING.test(line) || RULE.test(line)) {
      open = null;
    } else if (TABLE_ROW.test(line)) {
      found.push({ start: start + line.indexOf('|') + 1, end: start + line.lastIndexOf('|') });
      open = null;
    } else if (marker || !open) {
      open = { start: start + (marker?.[0].length ?? 0), end };
      found.push(open);
    } else {
      open.end = end;
    }
    start = end + 1;
  }
  return found;
}

function split(text: string, block: Sentence): Sentence[] {
  // Same length, so that offsets stay; the segmenter would end a sentence at every line break.
  const line = text.slice(block.start, block.end).replaceAll(/[\r\n]/g, ' ');
  const found: Sentence[] = [];
  let start = 0;
  for (const { segment, index } of segmenter.segment(line)) {
    const end = index + segment.length;
    if (end < line.length && ABBREVIATION.test(line.slice(start, end))) continue;
    found.push({ start: block.start + start, end: block.start + end });
    start = end;
  }
  return found;
}

function cut(text: string, { start, end }: Sentence): Sentence[] {
  const found: Sentence[] = [];
  let from = start;
  while (end - from > LONGEST) {
    const space = text.lastIndexOf(' ', from + LONGEST);
    const to = space > from ? space : from + LONGEST;
    found.push({ start: from, end: to });
    from = to;
  }
  found.push({ start: from, end });
  return found.map(piece => trim(text, piece)).filter(piece => piece.end > piece.start);
}

function trim(text: string, { start, end }: Sentence): Sentence {
  const piece = text.slice(start, end);
  return {
    start: start + piece.length - piece.trimStart().length,
    end: end - piece.length + piece.trimEnd().length,
  };
}
