import { coverage, isAnswerable, termWeights } from '../retrieval/ranking.js';
import type { Passage, SearchResult } from '../retrieval/retrieval.repository.js';
import { sentences } from './sentences.js';

/** Where a quoted sentence stands; named as on the wire. */
export interface Citation {
  /** Number of the `[n]` marker, from 1. */
  index: number;
  chunk_id: string;
  document_id: string;
  title: string;
  /** Verbatim from the chunk's text. */
  quote: string;
  page: number | null;
}

export interface ExtractiveAnswer {
  answered: boolean;
  /** Quoted sentences, each followed by its marker; or a sentence that says that there is no answer. */
  answer: string;
  citations: Citation[];
}

/** A sentence of a passage that may be quoted. */
export interface Candidate {
  passage: Passage;
  quote: string;
}

const MOST_SENTENCES = 3;

export const NOT_FOUND = 'The documents of this knowledge base do not seem to answer this question.';

/** What the passage's score, as a share of the best one's, adds to the coverage of a sentence. */
const PASSAGE_WEIGHT = 0.5;

/** A further sentence is worth quoting down to this share of the best one's score. */
const WORTH_QUOTING = 0.5;

/** Sentences after which the next one is of a passage that was not quoted yet. */
const OF_ANY_PASSAGE = 2;

/** What the cosine of its passage adds for that one: it is there for what the words have missed. */
const COSINE_WEIGHT = 2;

/** Every sentence of the passages, each once: chunks of a document overlap. */
export function candidateSentences(passages: readonly Passage[]): Candidate[] {
  const seen = new Set<string>();
  return passages.flatMap(passage =>
    sentences(passage.text)
      .map(({ start, end }) => ({ passage, quote: passage.text.slice(start, end) }))
      .filter(({ quote }) => !seen.has(quote) && seen.add(quote)),
  );
}

/**
 * The best one to three sentences, quoted and never rephrased, best first: ranked by the weighted share of the
 * question's words that they contain, and by the score of their passage. The third one is of another passage than the
 * first two, where there is one: the one that the embedding model holds for the best.
 *
 * On three articles of SQuAD 2.0 (a kb each, 473 questions with an answer, bundled model) a gold answer stands in the
 * first sentence for 77 %, in all of them for 90 %, in the cited passages for 98 %.
 *
 * @param candidates {@link candidateSentences} of the result's passages
 * @param lexemes of each candidate, by `RetrievalRepository.lexemes`, so that words match as PostgreSQL stems them
 * @param embeddingModel name of the model behind the passages' cosines; of several knowledge bases by their ids
 */
export function extractiveAnswer(
  result: SearchResult,
  candidates: readonly Candidate[],
  lexemes: readonly string[][],
  embeddingModel: string | ReadonlyMap<string, string>,
): ExtractiveAnswer {
  if (!isAnswerable(result, embeddingModel)) {
    return { answered: false, answer: NOT_FOUND, citations: [] };
  }
  const weights = termWeights(result);
  const best = Math.max(...result.passages.map(passage => passage.score));
  const ranked = candidates
    .map((candidate, i) => ({
      ...candidate,
      score: coverage(weights, lexemes[i] ?? []) + PASSAGE_WEIGHT * (candidate.passage.score / best),
    }))
    .toSorted((a, b) => b.score - a.score);
  const quoted = chosen(ranked.filter(({ score }) => score >= WORTH_QUOTING * (ranked[0]?.score ?? 0)));
  if (quoted.length === 0) {
    return { answered: false, answer: NOT_FOUND, citations: [] };
  }
  return {
    answered: true,
    answer: quoted.map(({ quote }, i) => `${quote.replaceAll(/\s+/g, ' ')} [${i + 1}]`).join(' '),
    citations: quoted.map(({ passage, quote }, i) => ({
      index: i + 1,
      chunk_id: passage.chunk_id,
      document_id: passage.document_id,
      title: passage.document_title,
      quote,
      page: passage.page,
    })),
  };
}

/** @param ranked sentences that are worth quoting, best first */
function chosen<Ranked extends Candidate & { score: number }>(ranked: readonly Ranked[]): Ranked[] {
  const quoted = ranked.slice(0, OF_ANY_PASSAGE);
  const left = ranked.slice(OF_ANY_PASSAGE);
  const value = ({ score, passage }: Ranked) => score + COSINE_WEIGHT * (passage.cosine ?? 0);
  const others = left.filter(({ passage }) => quoted.every(other => other.passage !== passage));
  quoted.push(...others.toSorted((a, b) => value(b) - value(a)), ...left);
  return quoted.slice(0, MOST_SENTENCES);
}
