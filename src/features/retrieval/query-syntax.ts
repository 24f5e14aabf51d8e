/** What the signs in a query ask for, where they are asked to count. */
export interface QuerySyntax {
  /** The query without its signs. */
  text: string;
  /** Words that must stand together, in this order. */
  phrases: string[];
  /** Beginnings of words, in small letters. */
  prefixes: string[];
}

const MOST_PHRASES = 10;
const MOST_PREFIXES = 10;
/** With fewer letters half of the dictionary begins so. */
const SHORTEST_PREFIX = 2;

const PHRASE = /["“”„«»]([^"“”„«»]+)["“”„«»]/gu;
const PREFIX = /([\p{L}\p{N}]+)\*/gu;

/**
 * Reads "phrases" and beginnings* out of a query. A beginning of one letter is taken for a word; so is what goes past ten
 * phrases or ten beginnings.
 */
export function readQuery(query: string, signs: { phrase?: boolean; prefix?: boolean }): QuerySyntax {
  const phrases: string[] = [];
  const prefixes: string[] = [];
  let text = query;
  if (signs.phrase) {
    text = text.replaceAll(PHRASE, (_, words: string) => {
      const phrase = words.trim();
      if (phrase !== '' && phrases.length < MOST_PHRASES) phrases.push(phrase);
      return ` ${words} `;
    });
  }
  if (signs.prefix) {
    text = text.replaceAll(PREFIX, (_, beginning: string) => {
      if (beginning.length < SHORTEST_PREFIX || prefixes.length >= MOST_PREFIXES) return beginning;
      prefixes.push(beginning.toLowerCase());
      return ' ';
    });
  }
  return { text: text.trim(), phrases, prefixes };
}
