/** How a word is written. `inner`: small, with a capital behind (iPhone). */
export type WordShape = 'capital' | 'acronym' | 'inner' | 'number' | 'word';

export interface NameToken {
  /** Without a possessive, or an article that has grown together with it (`l’Italie`). */
  text: string;
  lower: string;
  shape: WordShape;
  /** In the text. */
  start: number;
  end: number;
  /** Whether its capital may come from where it stands: at the beginning of a sentence, a quote or an item of a list. */
  first: boolean;
  /** Whether it is the first of its sentence. */
  begins: boolean;
  /** What stands between it and the one before. */
  gap: string;
  possessive: boolean;
}

export interface TokenizedText {
  tokens: NameToken[];
  /** Where sentences end, ascending. */
  ends: number[];
}

const CJK = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー]/u;
const ALL_CJK = new RegExp(CJK, 'gu');
const WORD = /[\p{L}\p{M}\p{N}]+(?:[’'.&+\-\u2010\u2011][\p{L}\p{M}\p{N}]+)*[+#]*/gu;
const SENTENCE_END = /[!?…;][)"'”’»\]]*(?:\s|$)|\n\s*\n|\n\s*[-*•#|>]/u;
const FULL_STOP = /\.[)"'”’»\]]*(?:\s|$)/u;
const OPENING = /[:"“„«‹•|]/u;
const CJK_END = /[。！？\n]/gu;
const POSSESSIVE = /['’]s$|(?<=s)['’]$/u;
const ELISION = /^(?:[ldjmtsnc]|qu|dell|all|nell|sull|un)['’](?=\p{Lu})/iu;
/** Longest word that is looked at: what is longer is no word. */
const LONGEST_WORD = 40;

/** With a full stop behind them sentences go on. */
const ABBREVIATIONS = new Set(
  `dr mr mrs ms prof st inc corp ltd co jr sr vs no vol fig dept etc gen col lt sen rep gov rev hon capt ca bzw nr abs mme
   mlle sra srta dott ing`.split(/\s+/),
);

/** Words and sentences of a text, in a single pass; characters of Chinese and Japanese are none of them. */
export function tokenize(text: string): TokenizedText {
  const tokens: NameToken[] = [];
  const ends: number[] = [];
  // Of equal length, so that places stay what they are.
  const spaced = CJK.test(text) ? text.replace(ALL_CJK, character => ' '.repeat(character.length)) : text;
  let before: NameToken | null = null;
  for (const match of spaced.matchAll(WORD)) {
    const start = match.index;
    const gap: string = spaced.slice(before?.end ?? 0, start);
    const ended = before === null || endsSentence(gap, before);
    if (ended) ends.push(start);
    const token = tokenOf(match[0], start, gap, ended);
    tokens.push(token);
    before = token;
  }
  if (spaced !== text) {
    for (const { index } of text.matchAll(CJK_END)) ends.push(index + 1);
    ends.sort((a, b) => a - b);
  }
  return { tokens, ends };
}

/** @returns the number of the sentence at a place of the text */
export function sentenceAt(ends: readonly number[], place: number): number {
  let [low, high] = [0, ends.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] as number) <= place) low = middle + 1;
    else high = middle;
  }
  return low;
}

function tokenOf(word: string, start: number, gap: string, begins: boolean): NameToken {
  const bare = word.length > LONGEST_WORD ? word : word.replace(POSSESSIVE, '').replace(ELISION, '');
  return {
    text: bare,
    lower: bare.toLowerCase(),
    shape: shapeOf(bare),
    start,
    end: start + word.length,
    first: begins || OPENING.test(gap),
    begins,
    gap,
    possessive: POSSESSIVE.test(word),
  };
}

function endsSentence(gap: string, before: NameToken): boolean {
  if (SENTENCE_END.test(gap)) return true;
  return FULL_STOP.test(gap) && !abbreviates(before);
}

/** Initials, acronyms with dots, and what is known as an abbreviation. */
const abbreviates = ({ text, lower, shape }: NameToken): boolean =>
  (text.length === 1 && shape === 'capital') ||
  /^\p{Lu}(?:\.\p{Lu})+$/u.test(text) ||
  ABBREVIATIONS.has(lower);

function shapeOf(word: string): WordShape {
  if (word.length > LONGEST_WORD) return 'word';
  let [capitals, smalls, digits] = [0, 0, 0];
  let firstCapital = -1;
  let index = 0;
  for (const character of word) {
    if (/\p{Lu}|\p{Lt}/u.test(character)) {
      capitals++;
      if (firstCapital < 0) firstCapital = index;
    } else if (/\p{Ll}/u.test(character)) smalls++;
    else if (/\p{N}/u.test(character)) digits++;
    index++;
  }
  if (capitals + smalls === 0) return digits > 0 ? 'number' : 'word';
  if (/^\p{N}/u.test(word)) return 'word';
  if (capitals >= 2 && smalls === 0) return 'acronym';
  if (firstCapital === 0) return 'capital';
  return firstCapital > 0 && firstCapital <= 2 ? 'inner' : 'word';
}
