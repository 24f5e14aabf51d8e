/** Words of a statement below which nothing is said about it. */
const LEAST_WORDS = 3;
/** Share of a statement's words in a passage: at most this much in the cited one, at least this much in another. */
const FOREIGN = 0.2;
const OWN = 0.8;

/**
 * Finds citations that lend a statement somebody else's name: its words stand in another passage, and hardly any of them in
 * the one that it cites. A document can make a model write what it says; it cannot make another document answer for that.
 * What stands in no passage word for word (another language, a conclusion) is not judged.
 */
export class CitationSupport {
  readonly #passages: ReadonlyArray<ReadonlySet<string>>;

  /** @param passages texts, as they are numbered in the prompt */
  constructor(passages: readonly string[]) {
    this.#passages = passages.map(text => new Set(wordsOf(text)));
  }

  /**
   * @param text up to the marker, with the markers before it
   * @param passage position of the cited one, from 0
   */
  isBorrowed(text: string, passage: number): boolean {
    const words = [...new Set(wordsOf(lastStatement(text)))];
    if (words.length < LEAST_WORDS) return false;
    const shares = this.#passages.map(known => words.filter(word => known.has(word)).length / words.length);
    return (shares[passage] ?? 0) <= FOREIGN && Math.max(...shares) >= OWN;
  }
}

/** Short words stand everywhere. */
const wordsOf = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{N}]{4,}/gu) ?? [];

/** Characters in which a statement is looked for. */
const LONGEST_STATEMENT = 600;

/** What a marker at the end of the text is for: from the end of a sentence, or the marker before, on. */
function lastStatement(text: string): string {
  const end = text
    .slice(-LONGEST_STATEMENT)
    .replace(/(?:\s*\[\d{1,3}\])+\s*$/, '')
    .replace(/[\s.!?:;,。]+$/, '');
  return end.split(/[.!?。]\s|\n|\[\d{1,3}\]/).at(-1) ?? '';
}
