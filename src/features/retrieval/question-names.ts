import { entityKey } from '../graph/entity-key.js';
import { stopWordsOf } from '../graph/stop-words.js';

/** What a question may call the entities of a graph by. */
export interface QuestionNames {
  /** Keys of everything in it that could be a name. */
  keys: string[];
  /** Single words that say something, of which the name of an entity may have more: "Curie" for Marie Curie. */
  words: string[];
}

/** Of the question. One as long as a page names what it is about in its beginning. */
const MOST_WORDS = 120;
/** Words of a name. */
const LONGEST_NAME = 6;
/** Letters of a word that may stand for a longer name. */
const SHORTEST_WORD = 3;
/** Characters of a name in scripts that do not part words. */
const LONGEST_CJK_NAME = 8;

/** Of every language: which one a question is in cannot be told. */
const isStopWord = stopWordsOf('any');

const WORD = /[\p{L}\p{N}][\p{L}\p{N}\p{M}'’.&+#/_-]*/gu;
const CJK_RUN = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}ー]+/gu;

/**
 * Every run of words that could be a name, whatever its letters look like: a question is seldom written with care, and
 * the graph itself says which of them are names.
 */
export function namesIn(question: string): QuestionNames {
  const keys = new Set<string>();
  const words = new Set<string>();
  const found = [...question.matchAll(WORD)].slice(0, MOST_WORDS);
  for (const [first, { 0: word, index: start }] of found.entries()) {
    const key = entityKey(word);
    if (key.length >= SHORTEST_WORD && !key.includes(' ') && !isStopWord(key)) words.add(key);
    for (const { 0: last, index } of found.slice(first, first + LONGEST_NAME)) {
      keys.add(entityKey(question.slice(start, index + last.length)));
    }
  }
  for (const run of cjkRuns(question)) {
    for (let start = 0; start < run.length; start++) {
      for (let length = 2; length <= Math.min(LONGEST_CJK_NAME, run.length - start); length++) {
        keys.add(entityKey(run.slice(start, start + length).join('')));
      }
    }
  }
  keys.delete('');
  return { keys: [...keys], words: [...words] };
}

/** As their characters; all of them together no more than {@link MOST_WORDS}. */
function cjkRuns(question: string): string[][] {
  const runs: string[][] = [];
  let left = MOST_WORDS;
  for (const [run] of question.matchAll(CJK_RUN)) {
    if (left <= 0) break;
    const characters = Array.from(run).slice(0, left);
    left -= characters.length;
    runs.push(characters);
  }
  return runs;
}
