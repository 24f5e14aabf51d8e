import type { MeantEntity, MentionedRelation } from './graph-search.repository.js';

/** Entities that a walk through the graph begins with, the surest first. */
const MOST_SEEDS = 16;
/** What counts of a seed that is a part of another's name: "York" beside "New York University". */
const OF_PART = 0.3;
/** What counts of one that is found by words of its name, or by its vector: it may be another than was meant. */
const OF_WORD = 0.5;
const OF_VECTOR = 0.5;
/** What counts of a relation that shares no word with the question; the rest comes with the words. */
const OF_PASSAGE = 0.4;
/** Letters by which two forms of a word may differ at their end. */
const ENDING = 2;
const SHORTEST_STEM = 4;

/**
 * How surely a question means each of these entities: 1 where it says the whole name.
 *
 * @returns weights by id, above 0
 */
export function weightsOfMeant(meant: readonly MeantEntity[]): Map<string, number> {
  const named = meant.filter(({ by }) => by === 'name').map(({ key }) => ` ${key} `);
  const weights = new Map<string, number>();
  const note = (id: string, weight: number) => weights.set(id, Math.max(weights.get(id) ?? 0, weight));
  const shared = new Map<string, { key: string; count: number }>();
  for (const { id, key, by, word, cosine } of meant) {
    if (by === 'name') {
      const isPart = named.some(name => name !== ` ${key} ` && name.includes(` ${key} `));
      note(id, isPart ? OF_PART : 1);
    } else if (by === 'vector') {
      note(id, OF_VECTOR * (cosine ?? 0));
    } else if (!named.some(name => name.includes(` ${word} `))) {
      // A word of a whole name that the question says has been understood already.
      shared.set(id, { key, count: (shared.get(id)?.count ?? 0) + 1 });
    }
  }
  for (const [id, { key, count }] of shared) note(id, (OF_WORD * count) / key.split(' ').length);
  return heaviest(weights);
}

/**
 * The entities at the ends of relations that passages mention: the more, the better the passage, the closer the relation,
 * and the more of the question's words it shares.
 *
 * @param scores of the passages (0-1), by the ids of their chunks
 * @param words of the question
 * @returns weights by id, above 0, the largest of them the score of the best passage
 */
export function weightsOfMentioned(
  mentioned: readonly MentionedRelation[],
  scores: ReadonlyMap<string, number>,
  words: readonly string[],
): Map<string, number> {
  const stems = words.map(word => word.slice(0, Math.max(SHORTEST_STEM, word.length - ENDING)));
  const weights = new Map<string, number>();
  for (const { chunk_id, source_id, target_id, text, weight } of mentioned) {
    const padded = ` ${text}`;
    const matched = stems.filter(stem => padded.includes(` ${stem}`)).length;
    const share = stems.length === 0 ? 0 : matched / stems.length;
    const value = (scores.get(chunk_id) ?? 0) * Math.min(1, weight) * (OF_PASSAGE + (1 - OF_PASSAGE) * share);
    for (const id of [source_id, target_id]) weights.set(id, (weights.get(id) ?? 0) + value);
  }
  const best = Math.max(...scores.values(), 0);
  const largest = Math.max(...weights.values(), Number.MIN_VALUE);
  return heaviest(new Map([...weights].map(([id, weight]) => [id, (best * weight) / largest])));
}

function heaviest(weights: ReadonlyMap<string, number>): Map<string, number> {
  return new Map(
    [...weights]
      .filter(([, weight]) => weight > 0)
      .toSorted(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
      .slice(0, MOST_SEEDS),
  );
}
