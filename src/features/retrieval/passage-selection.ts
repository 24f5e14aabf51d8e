import type { ChunkSpan, Passage, StoredChunk } from './retrieval.repository.js';

/**
 * Maximal marginal relevance (Carbonell & Goldstein 1998): the passage comes next whose
 * lambda × score - (1 - lambda) × largest cosine with one that came before is the largest. Scores count as a share of the
 * best one, so that lambda means the same whatever they are.
 *
 * @param similarities of pairs; two passages that are in none have nothing in common
 * @param lambda 0 to 1
 */
export function diversified(
  passages: readonly Passage[],
  similarities: ReadonlyArray<{ a: string; b: string; cosine: number }>,
  lambda: number,
  count: number,
): Passage[] {
  const cosines = new Map<string, Map<string, number>>();
  const note = (from: string, to: string, cosine: number) => {
    const known = cosines.get(from) ?? new Map<string, number>();
    cosines.set(from, known.set(to, cosine));
  };
  for (const { a, b, cosine } of similarities) {
    note(a, b, cosine);
    note(b, a, cosine);
  }
  const best = Math.max(...passages.map(({ score }) => score), Number.EPSILON);
  const left = new Set(passages);
  const nearest = new Map<Passage, number>();
  const chosen: Passage[] = [];
  while (chosen.length < count && left.size > 0) {
    let next: { passage: Passage; gain: number } | null = null;
    for (const passage of left) {
      const gain = lambda * (passage.score / best) - (1 - lambda) * (nearest.get(passage) ?? 0);
      if (!next || gain > next.gain) next = { passage, gain };
    }
    const { passage } = next as { passage: Passage };
    left.delete(passage);
    chosen.push(passage);
    const near = cosines.get(passage.chunk_id);
    for (const other of left) {
      nearest.set(other, Math.max(nearest.get(other) ?? 0, near?.get(other.chunk_id) ?? 0));
    }
  }
  return chosen;
}

/** Hits that become one passage. */
interface Group {
  /** Best first. */
  hits: Passage[];
  span: ChunkSpan;
}

/**
 * Groups hits with `neighbours` chunks before and after each, so that those which touch or overlap are one. In the order of
 * the best hit of each.
 */
function groupsOf(passages: readonly Passage[], neighbours: number): Group[] {
  const rank = new Map(passages.map((passage, index) => [passage, index]));
  const groups: Group[] = [];
  const inOrder = passages.toSorted((a, b) => compare(a.document_id, b.document_id) || a.ordinal - b.ordinal);
  for (const passage of inOrder) {
    const first = Math.max(0, passage.ordinal - neighbours);
    const last = passage.ordinal + neighbours;
    const before = groups.at(-1);
    if (before && before.span.documentId === passage.document_id && first <= before.span.last + 1) {
      before.hits.push(passage);
      before.span.last = last;
    } else {
      groups.push({ hits: [passage], span: { documentId: passage.document_id, first, last } });
    }
  }
  const rankOf = (passage: Passage | undefined) => rank.get(passage as Passage) as number;
  for (const { hits } of groups) hits.sort((a, b) => rankOf(a) - rankOf(b));
  return groups.toSorted((a, b) => rankOf(a.hits[0]) - rankOf(b.hits[0]));
}

/** What has to be read for {@link joined}. */
export const spansOf = (passages: readonly Passage[], neighbours: number): ChunkSpan[] =>
  groupsOf(passages, neighbours).map(({ span }) => span);

/**
 * Passages with their neighbours' texts, each character of the document once. A passage keeps the ids, place and scores of
 * the best hit in it, and has the words of all.
 *
 * @param chunks those of {@link spansOf}; a hit whose chunk is not there any more stays as it is
 */
export function joined(
  passages: readonly Passage[],
  neighbours: number,
  chunks: readonly StoredChunk[],
): Passage[] {
  return groupsOf(passages, neighbours).map(({ hits, span }) => {
    const [best] = hits as [Passage];
    const pieces = chunks
      .filter(
        ({ document_id, ordinal }) =>
          document_id === span.documentId && ordinal >= span.first && ordinal <= span.last,
      )
      .toSorted((a, b) => a.ordinal - b.ordinal);
    if (pieces.length === 0) return best;
    const weights = new Map<string, number>();
    for (const { matched, weights: ofHit } of hits) {
      matched.forEach((lexeme, i) => weights.set(lexeme, Math.max(weights.get(lexeme) ?? 0, ofHit[i] ?? 0)));
    }
    return {
      ...best,
      text: joinedText(pieces),
      ordinals: pieces.map(({ ordinal }) => ordinal),
      matched: [...weights.keys()],
      weights: [...weights.values()],
    };
  });
}

/** @param pieces of one document, in their order */
function joinedText(pieces: readonly StoredChunk[]): string {
  let text = '';
  let end: number | null = null;
  for (const piece of pieces) {
    const { start_offset: start, end_offset } = piece;
    // A piece of a table begins with its header, which stands elsewhere in the document.
    const verbatim = piece.text.length === end_offset - start;
    if (end === null) text = piece.text;
    else if (!verbatim) text += `\n\n${piece.text}`;
    else if (start <= end) text += piece.text.slice(end - start);
    // What stood between was white space.
    else text += (start - end === 1 ? ' ' : '\n\n') + piece.text;
    end = Math.max(end ?? 0, end_offset);
  }
  return text;
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
