import type { Passage, QueryTerm, SearchResult } from './retrieval.repository.js';

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
  /** Best sum of coverage and cosine of one passage; null where the model's cosines say nothing certain. */
  evidence: number | null;
}

const COVERAGE_ALONE: AnswerThreshold = { coverage: 0.4, evidence: null };

/** Cosines of different models are not comparable: a model stands here once it was calibrated. */
const CALIBRATED: Record<string, AnswerThreshold> = {
  'bundled/universal-sentence-encoder-lite': { coverage: 0.2, evidence: 0.67 },
};

/**
 * Whether the passages are about the question at all: the best weighted coverage of its words by one of them and,
 * for a model that was calibrated, together with that passage's cosine. A question without words (stop words alone) is not
 * answerable.
 *
 * Calibrated on three articles of SQuAD 2.0, a kb each (126 paragraphs, 950 questions, 473 of them with an answer), which
 * is also where these figures are from; other texts may want other thresholds.
 *
 * | threshold | answered: the 473, all of a kb's own | declined: questions about the other articles |
 * | --- | --- | --- |
 * | words alone, 0.4 | 92.4 %, 92.8 % | 96.3 % |
 * | bundled model, 0.59 | 99.6 %, 98.8 % | 95.4 % |
 * | bundled model, 0.63 | 99.4 %, 98.5 % | 97.2 % |
 * | bundled model, 0.65 | 99.4 %, 98.3 % | 97.7 % |
 * | bundled model, 0.67 | 99.2 %, 97.8 % | 98.3 % |
 * | bundled model, 0.70 | 98.5 %, 97.5 % | 98.6 % |
 *
 * A question that is about a kb and has no answer in it (the other 477) is not told apart: 4 % of them are declined. That
 * takes a model that reads.
 *
 * @param embeddingModel name of the model behind the cosines; of several knowledge bases by their ids
 */
export function isAnswerable(
  result: SearchResult,
  embeddingModel: string | ReadonlyMap<string, string>,
): boolean {
  const best = result.passages.slice(0, ANSWER_PASSAGES);
  const weights = termWeights(result);
  const modelOf = ({ kb_id }: Passage) =>
    typeof embeddingModel === 'string' ? embeddingModel : embeddingModel.get(kb_id);
  const models = [...new Set(best.map(modelOf))];
  return models.some(model =>
    suffices(
      best.filter(passage => modelOf(passage) === model),
      weights,
      model,
    ),
  );
}

/** Whether passages with cosines of one model, or of none, are evidence enough. */
function suffices(
  passages: readonly Passage[],
  weights: ReadonlyMap<string, number>,
  model: string | undefined,
): boolean {
  const covered = passages.map(passage => coverage(weights, passage.matched));
  const cosines = passages.map(passage => passage.cosine).filter(cosine => cosine !== null);
  const threshold = (cosines.length > 0 && model && CALIBRATED[model]) || COVERAGE_ALONE;
  if (Math.max(0, ...covered) < threshold.coverage) return false;
  if (threshold.evidence === null) return true;
  const evidence = passages.map(({ cosine }, i) => (covered[i] ?? 0) + (cosine ?? 0));
  return Math.max(...evidence) >= threshold.evidence;
}

function smoothedIdf({ document_frequency }: QueryTerm, chunkCount: number): number {
  const chunks = chunkCount + PRIOR_CHUNKS;
  const frequency = document_frequency + PRIOR_FREQUENCY;
  return Math.log(1 + (chunks - frequency + 0.5) / (frequency + 0.5));
}
