import { cjkNames } from './cjk-names.js';
import { entityKey, tidyName } from './entity-key.js';
import {
  type ExtractedEntity,
  type ExtractedRelation,
  type Extraction,
  MOST_ENTITIES,
  MOST_RELATIONS,
} from './extraction.js';
import { type NameToken, sentenceAt, tokenize } from './name-tokens.js';
import { type StopWords, languageOf, stopWordsOf } from './stop-words.js';

/** To be raised when the same text gives other names than before. */
export const NAMES_VERSION = 1;
/** The type of relations that say no more than that two names stand together. */
export const CO_OCCURS = 'co-occurs with';
/** Weights of two names in one sentence, and of two in one chunk. */
const SAME_SENTENCE = 1;
const SAME_CHUNK = 0.3;

/** Words of a name at most: what is longer is a heading. */
const LONGEST_RUN = 6;
/** Share of words in capitals from which a sentence is shouted, and says nothing about acronyms. */
const SHOUTED = 0.5;

const words = (text: string): Set<string> => new Set(text.split(/\s+/));

/** Stand between the words of a name. */
const CONNECTORS = words(
  'of de la le les du des del della delle di da do das dos van von der den ter ten bin ibn al el y e',
);
/** Stand before a name, and are none of it. */
const TITLES = words('mr mrs ms dr prof sir herr frau monsieur madame señor señora signor signora');
/** Written with a capital, and no part of the name that they stand behind. */
const DATES =
  words(`monday tuesday wednesday thursday friday saturday sunday january february march april may june july
  august september october november december montag dienstag mittwoch donnerstag freitag samstag sonntag januar februar
  märz mai juni juli oktober dezember`);
/** Behind the first word of a sentence they say that it is what the sentence is about. */
const VERBS =
  words(`is was has had will would can could did does became founded wrote said says won lost born died lives
  lived works worked joined built made makes acquired bought owns ist war hat hatte wurde wird kann gründete est était fut
  sera possède es era fue tiene ha è fu sarà foi tem werd heeft kan`);
const GERMAN_PLACES = words('in aus nach von bei');
const GERMAN_ARTICLES =
  words(`der die das dem den des ein eine einen einem einer eines im am zum zur beim vom ins kein keine
  dieser diese dieses jede jeder jedes sein seine ihr ihre`);
const GERMAN_NOUN =
  /(?:ung|heit|keit|schaft|tion|tät|nis|ment|ismus|tum|ling|arbeit|zeit|weise)(?:en|e|s|es)?$/;
const UNITS = words('kb mb gb tb kib mib gib hz khz mhz ghz kw kwh mw ml km cm mm kg mg am pm bc ad id ok');
const ROMAN = /^[ivxlcdm]+$/;
const QUOTED = /[“„«"]([^“”„«»"\n]{2,60})[”“»"]/gu;
const QUOTED_WORDS = 6;
/** Of one text: each name is looked for among them. */
const MOST_TITLES = 50;

interface Mention {
  name: string;
  type: string;
  sentence: number;
}

/** What is known of the words of a text as a whole. */
interface Vocabulary {
  german: boolean;
  isStopWord: StopWords;
  /** Written small somewhere. */
  small: Set<string>;
  /** Capitals where nothing but a name has one. */
  capital: Set<string>;
  /** Nouns with an article, which tells things from names in German. */
  articled: Set<string>;
}

/**
 * The names in a text, and which of them stand together: without any model, the same for the same text, in a time that grows
 * with the length of the text alone. Names are what is written like names: runs of words with capitals, acronyms, quoted titles,
 * and in Chinese and Japanese what is quoted, foreign, or ends as organisations and people do.
 *
 * @param language of the knowledge base; where the words of the text tell another one, that
 */
export function extractNames(text: string, language = 'simple'): Extraction {
  const { tokens, ends } = tokenize(text);
  const vocabulary = vocabularyOf(tokens, language);
  const titles = quotedTitles(text, vocabulary.isStopWord);
  const isInTitle = ([token]: readonly NameToken[]) =>
    titles.some(({ start, end }) => token !== undefined && token.start >= start && token.start < end);
  const mentions = [
    ...nameRuns(tokens, vocabulary)
      .filter(run => !isInTitle(run))
      .flatMap(run => mentionOf(run, ends)),
    ...titles.map(({ name, start }) => ({ name, type: 'term', sentence: sentenceAt(ends, start) })),
    ...cjkNames(text).map(({ name, place }) => ({ name, type: 'term', sentence: sentenceAt(ends, place) })),
  ];
  return relate(mentions);
}

function vocabularyOf(tokens: readonly NameToken[], language: string): Vocabulary {
  const known = languageOf(
    (function* () {
      for (const token of tokens) yield token.lower;
    })(),
    language,
  );
  const vocabulary: Vocabulary = {
    german: known === 'german',
    isStopWord: stopWordsOf(known),
    small: new Set(),
    capital: new Set(),
    articled: new Set(),
  };
  for (const [index, { lower, shape, first }] of tokens.entries()) {
    if (shape === 'word') vocabulary.small.add(lower);
    else if (shape === 'capital' && !first) vocabulary.capital.add(lower);
    const before = tokens[index - 1];
    if (before && GERMAN_ARTICLES.has(before.lower)) vocabulary.articled.add(lower);
  }
  return vocabulary;
}

const isNameLike = ({ shape }: NameToken): boolean =>
  shape === 'capital' || shape === 'acronym' || shape === 'inner';

/** Whether a token continues the name that the one before it belongs to. */
const continues = (token: NameToken, before: NameToken): boolean =>
  !before.possessive &&
  (token.gap === ' ' ||
    token.gap === '\n' ||
    token.gap === ' & ' ||
    (token.gap === '. ' && (before.text.length === 1 || TITLES.has(before.lower))));

/** Runs of words that make a name, in their order. */
function nameRuns(tokens: readonly NameToken[], vocabulary: Vocabulary): NameToken[][] {
  const shouted = shoutedTokens(tokens);
  const runs: NameToken[][] = [];
  for (let start = 0; start < tokens.length;) {
    if (shouted.has(start) || !isNameLike(tokens[start] as NameToken)) {
      start++;
      continue;
    }
    const end = endOfRun(tokens, start, shouted);
    const run = trimmed(tokens.slice(start, end), vocabulary);
    if (isName(run, tokens[start - 1], tokens[end], vocabulary)) runs.push(run);
    start = end;
  }
  return runs;
}

function endOfRun(tokens: readonly NameToken[], start: number, shouted: ReadonlySet<number>): number {
  let end = start + 1;
  for (;;) {
    const before = tokens[end - 1] as NameToken;
    const token = tokens[end];
    if (!token || shouted.has(end) || !continues(token, before)) return end;
    if (isNameLike(token)) end++;
    // Apollo 11, Boeing 747.
    else if (token.shape === 'number' && token.text.length <= 4) return end + 1;
    else {
      const length = connectorsAt(tokens, end);
      if (length === 0) return end;
      end += length;
    }
  }
}

/** How many connectors stand at a place with another word of the name behind them. */
function connectorsAt(tokens: readonly NameToken[], place: number): number {
  for (let count = 1; count <= 2; count++) {
    const [connector, next] = [tokens[place + count - 1], tokens[place + count]];
    const known =
      connector && (CONNECTORS.has(connector.lower) || (count === 2 && connector.lower === 'the'));
    if (!known || !next || next.gap !== ' ') return 0;
    if (isNameLike(next)) return count;
  }
  return 0;
}

/** Places of words in sentences that are written in capitals as a whole. */
function shoutedTokens(tokens: readonly NameToken[]): Set<number> {
  const shouted = new Set<number>();
  for (let start = 0; start < tokens.length;) {
    let end = start + 1;
    while (end < tokens.length && !tokens[end]?.begins) end++;
    const loud = tokens.slice(start, end).filter(token => token.shape === 'acronym').length;
    if (end - start >= 3 && loud > SHOUTED * (end - start))
      for (let at = start; at < end; at++) shouted.add(at);
    start = end;
  }
  return shouted;
}

/** What is left behind a first word that was none of the name. */
const isRest = ({ lower, shape }: NameToken): boolean => CONNECTORS.has(lower) || shape === 'number';

/** Without what stands around a name with a capital only because of where it stands. */
function trimmed(run: NameToken[], { isStopWord }: Vocabulary): NameToken[] {
  const isOutside = ({ lower, first }: NameToken) => TITLES.has(lower) || (first && isStopWord(lower));
  let [start, end] = [0, run.length];
  while (start < end && isOutside(run[start] as NameToken)) start++;
  if (start > 0) while (start < end && isRest(run[start] as NameToken)) start++;
  while (end - start > 1 && DATES.has(run[end - 1]?.lower ?? '')) end--;
  return run.slice(start, end);
}

function isName(
  run: readonly NameToken[],
  before: NameToken | undefined,
  after: NameToken | undefined,
  vocabulary: Vocabulary,
): boolean {
  const [token] = run;
  if (!token || run.length > LONGEST_RUN) return false;
  if (run.length > 1) {
    // A month and a year.
    const named = run.filter(({ lower, shape }) => shape !== 'number' && !vocabulary.isStopWord(lower));
    return (
      named.length > 0 &&
      (named.length > 1 ||
        named.length === run.length ||
        isNameAlone(named[0] as NameToken, before, after, vocabulary))
    );
  }
  return isNameAlone(token, before, after, vocabulary);
}

function isNameAlone(
  token: NameToken,
  before: NameToken | undefined,
  after: NameToken | undefined,
  vocabulary: Vocabulary,
): boolean {
  const { lower, text, shape } = token;
  if (text.length < 2 || vocabulary.isStopWord(lower)) return false;
  if (shape === 'acronym') return text.length <= 12 && !ROMAN.test(lower) && !UNITS.has(lower);
  if (shape === 'inner') return true;
  if (vocabulary.small.has(lower)) return false;
  if (vocabulary.german) return isGermanName(token, before, after, vocabulary);
  if (!token.first) return true;
  return vocabulary.capital.has(lower) || isSubject(token, after);
}

/** In German every noun has a capital: a name is what has no article, and stands where places and people do. */
function isGermanName(
  token: NameToken,
  before: NameToken | undefined,
  after: NameToken | undefined,
  { articled }: Vocabulary,
): boolean {
  if (articled.has(token.lower) || GERMAN_NOUN.test(token.lower)) return false;
  if (token.first) return isSubject(token, after);
  return before !== undefined && GERMAN_PLACES.has(before.lower);
}

const isSubject = (token: NameToken, after: NameToken | undefined): boolean =>
  token.possessive || (after !== undefined && after.gap === ' ' && VERBS.has(after.lower));

function mentionOf(run: readonly NameToken[], ends: readonly number[]): Mention[] {
  const [first] = run;
  if (!first) return [];
  const name = run.map(({ text, gap }, index) => (index === 0 ? '' : gap.replace('\n', ' ')) + text).join('');
  const type = run.length === 1 && first.shape === 'acronym' ? 'acronym' : 'name';
  return [{ name, type, sentence: sentenceAt(ends, first.start) }];
}

/** Titles in quotes: short, and beginning like a name. What is only one word is a word that somebody keeps away from. */
function quotedTitles(
  text: string,
  isStopWord: StopWords,
): Array<{ name: string; start: number; end: number }> {
  const titles: Array<{ name: string; start: number; end: number }> = [];
  for (const match of text.matchAll(QUOTED)) {
    if (titles.length === MOST_TITLES) break;
    const name = (match[1] as string).trim();
    const parts = name.split(/\s+/);
    const named = parts.filter(part => /^\p{Lu}/u.test(part) && !isStopWord(part.toLowerCase()));
    if (parts.length > QUOTED_WORDS || named.length < 2 || !/^\p{Lu}/u.test(name)) continue;
    titles.push({ name, start: match.index, end: match.index + match[0].length });
  }
  return titles;
}

/** Of one text: entities, those named most often first, and pairs of them, those of one sentence first. */
function relate(mentions: readonly Mention[]): Extraction {
  const found = new Map<string, ExtractedEntity & { sentences: Set<number>; count: number }>();
  for (const { name, type, sentence } of mentions) {
    const key = entityKey(name);
    if (key.length < 2) continue;
    const known = found.get(key);
    if (known) {
      known.count++;
      known.sentences.add(sentence);
    } else {
      const sentences = new Set([sentence]);
      found.set(key, { key, name: tidyName(name), type, description: null, sentences, count: 1 });
    }
  }
  // Stable: of those that are named equally often, the one that comes first.
  const kept = [...found.values()].toSorted((a, b) => b.count - a.count).slice(0, MOST_ENTITIES);
  return {
    entities: kept.map(({ key, name, type, description }) => ({ key, name, type, description })),
    relations: pairsOf(kept),
  };
}

function pairsOf(
  entities: ReadonlyArray<{ key: string; sentences: ReadonlySet<number> }>,
): ExtractedRelation[] {
  const pairs: ExtractedRelation[] = [];
  for (const [index, one] of entities.entries()) {
    for (const other of entities.slice(index + 1)) {
      const [source, target] = one.key < other.key ? [one.key, other.key] : [other.key, one.key];
      const weight = [...one.sentences].some(sentence => other.sentences.has(sentence))
        ? SAME_SENTENCE
        : SAME_CHUNK;
      pairs.push({ source, target, type: CO_OCCURS, description: null, weight });
    }
  }
  return pairs.toSorted((a, b) => b.weight - a.weight).slice(0, MOST_RELATIONS);
}
