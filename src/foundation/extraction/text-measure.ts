import { estimateTokens } from './token-estimate.js';

/** Counts text in the unit of which chunks may have so many. */
export interface TextMeasure {
  /** In the unit. */
  size(text: string): number;
  /** Tokens, or what comes close; `size` is the text's in the unit. */
  tokens(text: string, size: number): number;
  /** The furthest end of a text from `start` on, at most `end`, of which the size is within `budget`; past `start`. */
  reach(text: string, start: number, end: number, budget: number): number;
  /** The earliest start of a text up to `end`, at least `start`, of which the size is within `budget`. */
  reachBack(text: string, start: number, end: number, budget: number): number;
  /** How long a text of so many units is at most, nearly always. */
  charactersOf(size: number): number;
}

export const characterMeasure: TextMeasure = {
  size: text => text.length,
  tokens: estimateTokens,
  reach: (text, start, end, budget) => {
    if (end - start <= budget) return end;
    const reached = start + budget;
    return cutsPair(text, reached) ? reached - 1 : reached;
  },
  reachBack: (text, start, end, budget) => {
    const reached = Math.max(start, end - budget);
    return cutsPair(text, reached) ? reached + 1 : reached;
  },
  charactersOf: size => size,
};

const cutsPair = (text: string, offset: number): boolean =>
  offset > 0 && offset < text.length && (text.codePointAt(offset - 1) ?? 0) > 0xffff;
