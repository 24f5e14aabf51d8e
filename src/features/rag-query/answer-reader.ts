import type { CitationSupport } from './citation-support.js';

/** What the model is told to say, and nothing else, where the passages hold no answer. */
export const NO_ANSWER = 'NOT_FOUND';

/** In the place of an address that stands nowhere in what the model was given. */
export const REMOVED_LINK = '[link removed]';

export interface CitedPassage {
  /** Number of the marker as it is shown, from 1. */
  index: number;
  /** Position of the passage among those in the prompt, from 0. */
  passage: number;
}

/** A piece of an answer as it is shown, or a passage whose first marker stands in the text that follows. */
export type AnswerPiece = { text: string } | { cites: CitedPassage };

/** Numbers citations in the order in which they appear, and counts markers that are none. */
export class CitationNumbers {
  readonly cited: CitedPassage[] = [];
  removed = 0;

  /** @param passages how many stand in the prompt, or those themselves where more may come */
  constructor(
    private readonly passages: number | readonly unknown[],
    private readonly support?: Pick<CitationSupport, 'isBorrowed'>,
  ) {}

  /**
   * @param number as the model has written it
   * @param text up to the marker
   * @returns null where there is no such passage, or where another one says it
   */
  take(number: number, text: string): { citation: CitedPassage; isNew: boolean } | null {
    const { passages } = this;
    const last = typeof passages === 'number' ? passages : passages.length;
    if (number < 1 || number > last || this.support?.isBorrowed(text, number - 1)) {
      this.removed++;
      return null;
    }
    const known = this.cited.find(({ passage }) => passage === number - 1);
    if (known) return { citation: known, isNew: false };
    const citation = { index: this.cited.length + 1, passage: number - 1 };
    this.cited.push(citation);
    return { citation, isNew: true };
  }
}

export interface ReaderOptions {
  /** What addresses may be taken from: the passages, the question, the system prompt. */
  sources: readonly string[];
  /** What separates the passages in the prompt: nobody's to see. */
  mark: string;
}

/** Characters that are waited for at most, until it is clear what they are. */
const LONGEST_WAIT = 4096;
/** What is longer stands in no document. */
const LONGEST_ADDRESS = 2048;
const REPLACEMENT = '\uFFFD';
/** White space in a row; the rest of it is left out. */
const MOST_SPACE = 64;

const NUMBERS = String.raw`\d{1,3}(?: ?[,;] ?\d{1,3}){0,9}`;
const IN_ADDRESS = String.raw`[^\s<>"'\x60)\]}]`;

/** Browsers take one slash, or backslashes, for two slashes. */
const SCHEME = String.raw`(?:https?|ftps?|wss?|file):[\\/]+`;
/** Where a link leads, what is no address elsewhere is one: some run in the page, and web addresses need no slash. */
const IN_LINK = String.raw`(?:[a-z][a-z0-9+.-]{1,9}:[\\/]{2}|(?:javascript|vbscript|data|https?|ftps?|wss?|file):)`;
/** What stands before a link's address. */
const BEFORE_LINK = String.raw`[("'=<]\s*`;
const MARKER = String.raw`(?:passages? )?${NUMBERS}[\]】]`;

/** What is looked at in an answer, apart from the prompt's mark. */
const SPECIAL = [
  String.raw`(?<ticks>\x60+)`,
  String.raw`(?<line>\n)`,
  String.raw`[[【](?:passages? )?(?<numbers>${NUMBERS})[\]】]`,
  String.raw`(?<picture>!)(?=\[(?!${MARKER}))`,
  String.raw`(?<tag><)(?=[a-z][^\s<>/]{0,60}[\s/])`,
  // With a scheme; beginning with www.; without a scheme where one is expected: `](//…`, `src="//…`; what runs in a link.
  String.raw`(?<address>(?:${SCHEME}|www\.|(?=[\\/]{2})(?<=${BEFORE_LINK})[\\/]+|(?=${IN_LINK})(?<=${BEFORE_LINK}|\(<)${IN_LINK})${IN_ADDRESS}+)`,
].join('|');

/** The end of what has come so far, where it may become, or go on as, something of these. */
const OPEN_END = new RegExp(
  '(?:' +
    [
      String.raw`\x60+`,
      String.raw`!(?:\[[a-z\d ,;]{0,60})?`,
      String.raw`<[a-z][^\s<>/]{0,60}`,
      String.raw`[[【][a-z\d ,;]{0,60}`,
      String.raw`(?:${BEFORE_LINK}|\(<)(?:${IN_ADDRESS}{0,11}|(?:${IN_LINK}|[\\/]{2})${IN_ADDRESS}*)`,
      String.raw`(?:h|ht|htt|https?|f|ft|ftps?|fi|fil|file|w|wss?):?`,
      String.raw`www?`,
      String.raw`(?:${SCHEME}|www\.)${IN_ADDRESS}*`,
      String.raw`\n[ \t]{0,8}[*_"'\x60(]{0,3}(?:${NO_ANSWER}\W{0,8}|N?O?T?_?F?O?U?N?)`,
    ].join('|') +
    ')$',
  'i',
);

const DECLINING_LAST_LINE = new RegExp(String.raw`\n[ \t]{0,8}[*_"'\x60(]{0,3}${NO_ANSWER}\W*$`);

/**
 * Checks an answer while it comes, piece by piece: markers that name no passage, or one of which another says it, are taken
 * out, also where they are cut between two pieces, and the others numbered in the order of their appearance; the word for
 * "no answer" is never shown; addresses that stand in none of the sources are taken out, so that no document can have
 * others' text sent away by a link; pictures, which clients load by themselves, become links, and tags of HTML with attributes text. What stands in
 * code is no citation.
 *
 * However the answer is cut, the pieces together are the same text.
 */
export class AnswerReader {
  /** As it is shown, so far. */
  text = '';
  /** Addresses that were taken out. */
  removedLinks = 0;
  readonly #special: RegExp;
  /** What has come, and may become something else yet. */
  #buffer = '';
  #half = '';
  /** The last of what has been read. */
  #before = '';
  /** White space that is shown once something comes after it. */
  #space = '';
  /** Whether something was taken out right here: what stands around it must not become one word. */
  #gap = false;
  #state: 'beginning' | 'answer' | 'declined' = 'beginning';
  #code: 'none' | 'span' | 'block' = 'none';
  #pieces: AnswerPiece[] = [];

  constructor(
    readonly numbers: CitationNumbers,
    private readonly options: ReaderOptions,
  ) {
    this.#special = new RegExp(`${SPECIAL}|${options.mark}`, 'gi');
  }

  /** Whether the model has said that there is no answer, or nothing at all. Known after {@link end}. */
  get declined(): boolean {
    return this.#state !== 'answer';
  }

  push(delta: string): AnswerPiece[] {
    if (this.#state === 'declined') return [];
    this.#take(delta);
    if (!this.#begin(false)) return [];
    this.#read(this.#firstOpen());
    return this.#taken();
  }

  end(): AnswerPiece[] {
    if (this.#half !== '') this.#buffer += REPLACEMENT;
    if (this.#state === 'declined' || !this.#begin(true)) return [];
    const declining = DECLINING_LAST_LINE.exec(this.#buffer);
    this.#read(declining?.index ?? this.#buffer.length);
    if (this.text === '' || (declining && this.numbers.cited.length === 0)) this.#state = 'declined';
    return this.#taken();
  }

  /** What no text of a database can hold is none; a character may come in halves. */
  #take(delta: string): void {
    const text = this.#half + delta;
    this.#half = /[\uD800-\uDBFF]$/.exec(text)?.[0] ?? '';
    this.#buffer += text
      .slice(0, text.length - this.#half.length)
      .replaceAll('\0', '')
      .toWellFormed();
  }

  /** @returns whether it is clear that there is an answer */
  #begin(final: boolean): boolean {
    if (this.#state !== 'beginning') return true;
    this.#buffer = this.#buffer.trimStart();
    const beginning = beginningOf(this.#buffer, final);
    if (beginning === 'unclear') return false;
    this.#state = beginning;
    return beginning === 'answer';
  }

  #firstOpen(): number {
    const offset = Math.max(0, this.#buffer.length - LONGEST_WAIT);
    const tail = this.#buffer.slice(offset);
    const open = OPEN_END.exec(tail)?.index ?? tail.length;
    const { mark } = this.options;
    for (let length = Math.min(mark.length - 1, tail.length); length > 0; length--)
      if (tail.endsWith(mark.slice(0, length))) return offset + Math.min(open, tail.length - length);
    return offset + open;
  }

  /** @param end what stands behind it is still open, and what reaches past it */
  #read(end: number): void {
    // An address is told by what stands before it, too.
    const before = this.#before.length;
    const text = this.#before + this.#buffer;
    let from = before;
    let to = before + end;
    this.#special.lastIndex = before;
    for (const match of text.matchAll(this.#special)) {
      if (match.index >= to) break;
      const until = match.index + match[0].length;
      if (until > to) {
        to = match.index;
        break;
      }
      this.#show(text.slice(from, match.index));
      from = until;
      const { ticks, line, numbers, picture, tag, address } = match.groups as Record<
        string,
        string | undefined
      >;
      if (ticks !== undefined) this.#readTicks(ticks);
      else if (line !== undefined) this.#readLine();
      else if (numbers !== undefined) this.#readMarker(match[0], numbers);
      else if (picture !== undefined) this.#show(this.#code === 'none' ? '' : picture);
      else if (tag !== undefined) this.#show(this.#code === 'none' ? '< ' : tag);
      else if (address !== undefined) this.#readAddress(address);
      // What is left is the mark, which is not shown.
      else this.#gap = true;
    }
    this.#show(text.slice(from, to));
    // Of white space one is as good as many.
    const read = text.slice(0, to);
    const words = read.trimEnd();
    this.#before = words.slice(-2) + read.slice(words.length, words.length + 1);
    this.#buffer = text.slice(to);
  }

  #readTicks(ticks: string): void {
    this.#show(ticks);
    if (ticks.length >= 3) this.#code = this.#code === 'block' ? 'none' : 'block';
    else if (this.#code !== 'block') this.#code = this.#code === 'span' ? 'none' : 'span';
  }

  #readLine(): void {
    this.#show('\n');
    if (this.#code === 'span') this.#code = 'none';
  }

  #readMarker(whole: string, numbers: string): void {
    if (this.#code !== 'none') return this.#show(whole);
    // One space before each, whatever the model has written; none where one was taken out.
    this.#space = this.#space.replace(/[ \t]+$/, '');
    for (const digits of numbers.split(/[,;]/)) {
      const taken = this.numbers.take(Number(digits), this.text);
      if (!taken) {
        this.#gap = true;
        continue;
      }
      if (taken.isNew) this.#pieces.push({ cites: taken.citation });
      const separator = this.text === '' || this.#space !== '' ? '' : ' ';
      this.#show(`${separator}[${taken.citation.index}]`);
    }
  }

  #readAddress(address: string): void {
    const end = /[.,;:!?*_~]*$/.exec(address) as RegExpExecArray;
    const bare = address.slice(0, end.index);
    const known = bare.length <= LONGEST_ADDRESS && isKnown(bare, this.options.sources);
    if (!known) this.removedLinks++;
    this.#show((known ? bare : REMOVED_LINK) + end[0]);
  }

  #show(text: string): void {
    const words = text.trimEnd();
    if (words === '') {
      this.#space = (this.#space + text).slice(0, MOST_SPACE);
      return;
    }
    if (this.#gap) this.#space ||= gapBefore(words, this.text);
    this.#gap = false;
    const shown = this.text === '' ? words.trimStart() : this.#space + words;
    this.#space = text.slice(words.length).slice(0, MOST_SPACE);
    this.text += shown;
    const last = this.#pieces.at(-1);
    if (last && 'text' in last) last.text += shown;
    else this.#pieces.push({ text: shown });
  }

  #taken(): AnswerPiece[] {
    const pieces = this.#pieces;
    this.#pieces = [];
    return pieces;
  }
}

/** Between two texts that something stood between: without it they might be an address, or a picture, together. */
function gapBefore(text: string, before: string): string {
  if (/^[\\/]/.test(text)) return ' - ';
  return /^[\s,;!?)\]}"'*_~]/.test(text) || (text.startsWith('.') && !/www$/i.test(before)) ? '' : ' ';
}

/** Whether an answer begins by saying that there is none. `NOT_FOUND is the status …` answers a question about it. */
function beginningOf(text: string, final: boolean): 'unclear' | 'answer' | 'declined' {
  const bare = text.replace(/^[*_"'`(#>\s]+/, '');
  if (!bare.startsWith(NO_ANSWER)) {
    if (final) return bare === '' ? 'declined' : 'answer';
    return NO_ANSWER.startsWith(bare) ? 'unclear' : 'answer';
  }
  const rest = bare.slice(NO_ANSWER.length);
  if (!final && /^[ \t]*$/.test(rest)) return 'unclear';
  return /^(?:\w|-\w|[ \t]+\p{Ll})/u.test(rest) ? 'answer' : 'declined';
}

/** Whether a document names this address, with or without its scheme; not only one that begins so. */
function isKnown(address: string, sources: readonly string[]): boolean {
  const named = [address, address.replace(/^(?:[a-z][a-z0-9+.-]*:)?[\\/]+/i, '')];
  return named
    .flatMap(name => [name, name.replace(/\/$/, '')])
    .some(name => name !== '' && sources.some(source => standsIn(source, name)));
}

function standsIn(source: string, address: string): boolean {
  for (let at = source.indexOf(address); at >= 0; at = source.indexOf(address, at + 1)) {
    const before = source.slice(Math.max(0, at - 1), at);
    const after = source.slice(at + address.length, at + address.length + 2);
    if (
      !/[\w.@-]/.test(before) &&
      /^(?:$|[\s<>"'`)\]}|\\]|\/?[.,;:!?*_~/]?(?:$|[\s<>"'`)\]}*_]))/.test(after)
    )
      return true;
  }
  return false;
}
