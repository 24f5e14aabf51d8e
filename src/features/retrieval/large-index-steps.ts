/** What is in an index of a large knowledge base; chunks are numbered in the order in which they were stored. */
export interface LargeIndex {
  generation: number;
  dimensions: number;
  /** Chunks up to these numbers are in it; searches read later ones one by one. */
  vectorsUpTo: number;
  termsUpTo: number;
  /** Vectors that are in it, and chunks whose terms are, those included that are gone since. */
  vectorCount: number;
  chunkCount: number;
  /** Whether its vectors have their index; it is not used before. */
  indexed: boolean;
  /** None of it holds any more. */
  stale: boolean;
}

/** What decides about a knowledge base's indexes. */
export interface LargeIndexState {
  chunkCount: number;
  lastChunkNumber: number;
  /** The one that searches use. */
  servedGeneration: number | null;
  /** Newest first. */
  indexes: readonly LargeIndex[];
}

/** What is to be done next, in a transaction of its own. */
export type LargeIndexStep =
  | { do: 'make' }
  | { do: 'drop'; generations: readonly number[] }
  | { do: 'addVectors' | 'addTerms' | 'removeVectors' | 'index' | 'serve'; index: LargeIndex };

/** Whether a step changes which indexes there are, or are used: the knowledge base's row says so, too. */
export const changesKb = (step: LargeIndexStep | null): boolean =>
  step?.do === 'make' || step?.do === 'serve' || step?.do === 'drop';

export interface LargeIndexOptions {
  /** Chunks from which a knowledge base gets an index. */
  from: number;
  /**
   * Never for longer than a moment at a time, for a database that does nothing else meanwhile: the index of the vectors
   * grows one by one, which takes 15 times as long as to build it of all of them.
   */
  gradually: boolean;
}

/** A knowledge base loses its index below this share of the size from which it gets one: not at the same size twice. */
const KEPT_FROM = 0.5;
/** Chunks, or a hundredth of the knowledge base, that searches read one by one (about 1 µs each) before they are added. */
const FEWEST_NEW = 512;
/** Vectors of chunks that are gone, or a hundredth, which take places among the nearest before they are removed. */
const FEWEST_GONE = 64;
/** Lists of terms keep what is gone: beyond this share of what is there, a new index is built beside the old one. */
const MOST_GONE = 0.5;
/** The same where so much is new that building takes less time than adding one by one. */
const MOST_NEW = 0.1;

/**
 * The next step towards an index that searches may use, or null where there is nothing to do. What has begun goes on to
 * the end; what is up to date waits until it is worth beginning.
 *
 * @param begun whether steps are being taken already
 */
export function nextStep(
  state: LargeIndexState,
  { from, gradually }: LargeIndexOptions,
  begun: boolean,
): LargeIndexStep | null {
  const { chunkCount, lastChunkNumber, servedGeneration, indexes } = state;
  const [newest] = indexes;
  if (chunkCount < (newest ? from * KEPT_FROM : from)) return dropping(indexes);
  // Two at most: the one that is in use, and the one that is being built to be used instead.
  const superfluous = indexes.filter(
    index =>
      index.stale ||
      index.generation < (servedGeneration ?? 0) ||
      (index !== newest && index.generation !== servedGeneration),
  );
  if (superfluous.length > 0) return dropping(superfluous);
  if (!newest || newest.chunkCount - chunkCount > chunkCount * MOST_GONE) return { do: 'make' };

  const served = newest.generation === servedGeneration;
  const newVectors = lastChunkNumber - newest.vectorsUpTo;
  const newTerms = lastChunkNumber - newest.termsUpTo;
  if (!newest.indexed && (gradually || newVectors === 0)) return { do: 'index', index: newest };
  if (served && !gradually && newVectors > Math.max(FEWEST_NEW, chunkCount * MOST_NEW)) return { do: 'make' };

  // Chunks that are gone before they were added count here, too, until the index has caught up.
  const tooManyGone = newest.vectorCount + newVectors - chunkCount >= Math.max(FEWEST_GONE, chunkCount / 100);
  const enough = served ? Math.max(FEWEST_NEW, chunkCount / 100) : chunkCount / 100;
  const due = !newest.indexed || tooManyGone || (served && begun) || Math.max(newVectors, newTerms) >= enough;
  if (due && newVectors > 0) return { do: 'addVectors', index: newest };
  if (due && newTerms > 0) return { do: 'addTerms', index: newest };
  if (tooManyGone) return { do: 'removeVectors', index: newest };
  return served ? null : { do: 'serve', index: newest };
}

function dropping(indexes: readonly LargeIndex[]): LargeIndexStep | null {
  return indexes.length > 0 ? { do: 'drop', generations: indexes.map(({ generation }) => generation) } : null;
}
