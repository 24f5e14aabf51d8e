import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { characterMeasure, type TextMeasure } from './text-measure.js';

/** About a word with the blanks before it; words of other scripts are cut, for they may be as long as the text. */
const WORD = /\s{0,32}[^\s]{1,32}|\s{1,32}/gu;
/** Characters in which a run without a boundary is counted; the encoder's time grows with the square of it. */
const RUN = 256;
const LONG_RUN = /[\p{L}\p{M}]{257,}|[^\s\p{L}\p{N}]{257,}|\s{257,}/gu;
const MOST_REMEMBERED_WORDS = 50_000;
// "<|endoftext|>" in a text is text.
const ALL_IS_TEXT = { disallowedSpecial: new Set<string>() };

/** Tokens of the vocabulary o200k_base. */
class TokenMeasure implements TextMeasure {
  private words = new Map<string, number>();

  /** Runs of more than 256 letters, marks or blanks are counted in pieces, which may find a few tokens more. */
  size(text: string): number {
    let total = 0;
    let counted = 0;
    for (const { index, 0: run } of text.matchAll(LONG_RUN)) {
      total += countTokens(text.slice(counted, index), ALL_IS_TEXT);
      for (let at = 0; at < run.length;) {
        const end = characterMeasure.reach(run, at, run.length, RUN);
        total += countTokens(run.slice(at, end), ALL_IS_TEXT);
        at = end;
      }
      counted = index + run.length;
    }
    return total + countTokens(text.slice(counted), ALL_IS_TEXT);
  }

  tokens(_: string, size: number): number {
    return size;
  }

  reach(text: string, start: number, end: number, budget: number): number {
    let left = budget;
    for (let at = start; at < end;) {
      const word = this.wordAt(text, at, end);
      const size = this.sizeOfWord(word);
      if (size > left) return at === start ? start + this.reachInWord(word, budget) : at;
      left -= size;
      at += word.length;
    }
    return end;
  }

  reachBack(text: string, start: number, end: number, budget: number): number {
    if (budget === 0) return end;
    const earliest = characterMeasure.reachBack(text, start, end, this.charactersOf(budget));
    const words = text.slice(earliest, end).match(WORD) ?? [];
    let left = budget;
    let at = end;
    for (const word of words.toReversed()) {
      left -= this.sizeOfWord(word);
      if (left < 0) break;
      at -= word.length;
    }
    return at;
  }

  charactersOf(size: number): number {
    return size * 16;
  }

  private wordAt(text: string, at: number, end: number): string {
    WORD.lastIndex = at;
    const word = WORD.exec(text)?.[0] ?? text.slice(at, end);
    return word.length > end - at ? text.slice(at, end) : word;
  }

  /** Of a word that is too long by itself: some characters, at least one. */
  private reachInWord(word: string, budget: number): number {
    let length = 0;
    for (const character of word) {
      if (length > 0 && this.size(word.slice(0, length + character.length)) > budget) break;
      length += character.length;
    }
    return length;
  }

  private sizeOfWord(word: string): number {
    const known = this.words.get(word);
    if (known !== undefined) return known;
    const size = countTokens(word, ALL_IS_TEXT);
    if (this.words.size >= MOST_REMEMBERED_WORDS) this.words = new Map();
    // A copy: a slice would keep the text that it was cut from.
    this.words.set(Buffer.from(word).toString(), size);
    return size;
  }
}

export const tokenMeasure: TextMeasure = new TokenMeasure();
