import type { QueryTerm, SearchResult } from './retrieval.repository.js';

/** Passages that may answer a question; the rest is for whoever asked for more results. */
export const ANSWER_PASSAGES = 5;

/**
 * What a question's words are worth when the kb is asked whether it has an answer: the idf of a kb that has, besides
 * its own chunks, 400 in which every word stands 8 times. In a kb of one or a dozen documents, plain idf is flat for
 * all words it knows and huge for those it does not, so that one unknown word ("located") outweighs all others.
 */
const PRIOR_CHUNKS = 400;
const PRIOR_FREQUENCY = 8;

/** Weight of every lexeme of the query. */
export function termWeights({
  terms,
  chunk_count,
}: Pick<SearchResult, 'terms' | 'chunk_count'>): Map<string, number> {
  return new Map(terms.map(term => [term.lexeme, smoothedIdf(term, chunk_count)]));
}

/** Weighted share (0-1) of the query's words among `lexemes`; 0 where the query has no words. */
export function coverage(weights: ReadonlyMap<string, number>, lexemes: Iterable<string>): number {
  let total = 0;
  for (const weight of weights.values()) total += weight;
  let covered = 0;
  for (const lexeme of new Set(lexemes)) covered += weights.get(lexeme) ?? 0;
  return total === 0 ? 0 : covered / total;
}

/** What must be there before a question counts as answerable. */
interface AnswerThreshold {
  /** Best coverage among the best passages. */
  coverage: number;
  /** Best coverage + best cosine; null where the model's cosines say nothing certain. */
  evidence: number | null;
}

const COVERAGE_ALONE: AnswerThreshold = { coverage: 0.4, evidence: null };

/** Cosines of different models are not comparable: a model stands here once it was calibrated. */
const CALIBRATED: Record<string, AnswerThreshold> = {
  'bundled/universal-sentence-encoder-lite': { coverage: 0.25, evidence: 0.85 },
};

/**
 * Whether the passages are about the question at all: the best weighted coverage of its words by one of them and,
 * for a model that was calibrated, the best cosine on top. A question without words (stop words alone) is not
 * answerable.
 *
 * Calibrated on three articles of SQuAD 2.0 (126 paragraphs, 950 questions, 473 of them with an answer). Answered:
 * the 473, then all of a kb's own questions; declined: questions about the other articles.
 *
 * | kbs | words alone | bundled model |
 * | --- | --- | --- |
 * | 3 of 39-48 paragraphs | 92.6 %, 92.9 %, declined 96.3 % | 96.4 %, 95.5 %, declined 99.6 % |
 * | 10 of 12 paragraphs | 93.8 %, 93.6 %, declined 98.7 % | 95.6 %, 94.9 %, declined 99.8 % |
 * | 32 of one paragraph | 92.4 %, 93.2 %, declined 99.7 % | 94.1 %, 94.9 %, declined 100 % |
 */
export function isAnswerable(result: SearchResult, embeddingModel: string): boolean {
  const best = result.passages.slice(0, ANSWER_PASSAGES);
  const weights = termWeights(result);
  const covered = Math.max(0, ...best.map(passage => coverage(weights, passage.matched)));
  const cosines = best.map(passage => passage.cosine).filter(cosine => cosine !== null);
  const threshold = (cosines.length > 0 && CALIBRATED[embeddingModel]) || COVERAGE_ALONE;
  return (
    covered >= threshold.coverage &&
    (threshold.evidence === null || covered + Math.max(...cosines) >= threshold.evidence)
  );
}

function smoothedIdf({ document_frequency }: QueryTerm, chunkCount: number): number {
  const chunks = chunkCount + PRIOR_CHUNKS;
  const frequency = document_frequency + PRIOR_FREQUENCY;
  return Math.log(1 + (chunks - frequency + 0.5) / (frequency + 0.5));
}
