import type { RetrievalMode, SearchResult } from './retrieval.repository.js';

/** What one of several knowledge bases has found. */
export interface PartialResult {
  result: SearchResult;
  /** The model behind the cosines. */
  embeddingModel: string;
  /** Share of the vector leg in its hybrid scores. */
  fusionWeight: number;
}

/** k1 + 1 of the stored BM25 weights: a word that a chunk repeats for ever weighs this times its idf. */
const MOST_WEIGHT = 2.2;

/**
 * One ranking of several knowledge bases, as if they were one: a word is as rare as in all of them together. Of one
 * knowledge base's own idf a word that it alone does not know would weigh nothing there, and its passages would seem to
 * say all that was asked for.
 *
 * Cosines of one model are taken as they are. Those of different models cannot be compared: where there are several, each
 * counts as its share of its model's best. Scores by rank are compared as they are.
 *
 * @param parts searched with terms
 */
export function mergedResult(
  parts: readonly PartialResult[],
  { mode, byRank }: { mode: RetrievalMode; byRank: boolean },
): SearchResult {
  const [only] = parts;
  if (only && parts.length === 1) return only.result;
  const chunkCount = sum(parts.map(({ result }) => result.chunk_count));
  const frequencies = new Map<string, number>();
  for (const { lexeme, document_frequency } of parts.flatMap(({ result }) => result.terms)) {
    frequencies.set(lexeme, (frequencies.get(lexeme) ?? 0) + document_frequency);
  }
  const terms = [...frequencies].map(([lexeme, document_frequency]) => ({
    lexeme,
    document_frequency,
    // As in one knowledge base.
    idf: Math.log(1 + (Math.max(chunkCount - document_frequency, 0) + 98.5) / (document_frequency + 2.5)),
  }));
  const idf = new Map(terms.map(term => [term.lexeme, term.idf]));
  const known = terms.filter(({ document_frequency }) => document_frequency > 0);
  const most = MOST_WEIGHT * sum(known.map(term => term.idf)) || 1;
  const bestCosines = bestOfModels(parts);
  const passages = parts.flatMap(({ result, embeddingModel, fusionWeight }) =>
    result.passages.map(passage => {
      const bm25 = sum(
        passage.matched.map((lexeme, i) => (passage.weights[i] ?? 0) * (idf.get(lexeme) ?? 0)),
      );
      if (byRank) return { ...passage, bm25 };
      const weight = mode === 'vector' ? 1 : mode === 'keyword' ? 0 : fusionWeight;
      const scale = bestCosines.size > 1 ? (bestCosines.get(embeddingModel) ?? 1) : 1;
      const cosine = Math.min(1, (passage.cosine ?? 0) / scale);
      return { ...passage, bm25, score: weight * cosine + (1 - weight) * (bm25 / most) };
    }),
  );
  return {
    passages: passages.toSorted((a, b) => b.score - a.score || (a.chunk_id < b.chunk_id ? -1 : 1)),
    terms,
    chunk_count: chunkCount,
  };
}

/** Of models that have found something by vector. */
function bestOfModels(parts: readonly PartialResult[]): Map<string, number> {
  const best = new Map<string, number>();
  for (const { result, embeddingModel } of parts) {
    const cosines = result.passages.map(({ cosine }) => cosine).filter(cosine => cosine !== null);
    const largest = Math.max(best.get(embeddingModel) ?? 0, ...cosines);
    if (largest > 0) best.set(embeddingModel, largest);
  }
  return best;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
