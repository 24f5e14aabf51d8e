/**
 * Languages of the keyword index: PostgreSQL's text search configurations (Snowball stemmers with their stop words),
 * `simple`, which takes words as they are, and `cjk`, which is for Chinese, Japanese and Korean and takes other words for
 * English. Runs of these scripts are found in every language.
 */
export const LANGUAGES = [
  'simple',
  'cjk',
  'arabic',
  'armenian',
  'basque',
  'catalan',
  'danish',
  'dutch',
  'english',
  'finnish',
  'french',
  'german',
  'greek',
  'hindi',
  'hungarian',
  'indonesian',
  'irish',
  'italian',
  'lithuanian',
  'nepali',
  'norwegian',
  'portuguese',
  'romanian',
  'russian',
  'serbian',
  'spanish',
  'swedish',
  'tamil',
  'turkish',
  'yiddish',
] as const;

export type Language = (typeof LANGUAGES)[number];

/** The job that makes the keyword index of a knowledge base anew, in its language. */
export const KEYWORD_INDEX_JOB = 'keyword-index';

export interface KeywordIndexPayload {
  kbId: string;
}
