import { coverage } from '../retrieval/ranking.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import type { Candidate } from './extractive-answer.js';
import type { Citation } from './rag-query.dto.js';

/**
 * Quotes each cited passage by the sentence of it that has most of the question's words.
 *
 * @param candidates sentences of the passages
 * @param lexemes of each candidate
 * @param weights of the question's lexemes
 */
export function citationOf(
  passage: Passage,
  index: number,
  candidates: readonly Candidate[],
  lexemes: readonly string[][],
  weights: ReadonlyMap<string, number>,
): Citation {
  return {
    index,
    chunk_id: passage.chunk_id,
    document_id: passage.document_id,
    title: passage.document_title,
    quote: bestSentence(passage, candidates, lexemes, weights),
    page: passage.page,
  };
}

function bestSentence(
  passage: Passage,
  candidates: readonly Candidate[],
  lexemes: readonly string[][],
  weights: ReadonlyMap<string, number>,
): string {
  let best: { quote: string; covered: number } | null = null;
  for (const [index, candidate] of candidates.entries()) {
    if (candidate.passage !== passage) continue;
    const covered = coverage(weights, lexemes[index] ?? []);
    if (!best || covered > best.covered) best = { quote: candidate.quote, covered };
  }
  return best?.quote ?? passage.text;
}
