/** How a search in a large knowledge base finds candidates, instead of reading all of its chunks. */

/**
 * What the last search in a large kb has found of its index: that it holds all chunks and nothing else, or that chunks
 * were added or taken away since.
 */
export type IndexState = 'settled' | 'changing';

/** Candidates of a leg, and entries of posting lists that are read, but for the end of the last list; of one leg alone. */
const MOST = { nearest: 200, heaviest: 200, postings: 12_000 };
/**
 * The same of each of two, which make up for each other. A candidate costs less than ten entries of a list, and an entry
 * of the HNSW index more than ten candidates: measured with 50,000 chunks.
 */
const MOST_OF_BOTH = { nearest: 40, heaviest: 250, postings: 4_500 };
/** Share of the candidates that may be gone already. */
const MOST_GONE = 0.25;

/**
 * CTEs that end in `large_candidates (numbers integer[], complete boolean)`: the numbers of the chunks to rank, and
 * whether they may stand for all; where not, the knowledge base has no index that is of use now, and all chunks must be
 * read. They want the CTEs `kb (id, chunk_count, last_chunk_number, large_generation)` and `question (term, idf,
 * document_frequency)` before them.
 *
 * Vectors: the nearest of an HNSW index that holds this knowledge base alone. Words: lists of chunks by term and rounded
 * weight, in the order of idf × weight, until enough entries have been read (score-at-a-time with a budget: Lin &
 * Trotman 2015, "Anytime Ranking for Impact-Ordered Indexes"); through a btree, because under row-level security
 * `tsvector @@ tsquery` cannot use an index. All are ranked exactly afterwards, by what `chunk_vectors` says, where what
 * is gone is not found any more.
 *
 * Where the index is changing, what was stored after it was last added to is a candidate as it is, and what is gone is
 * counted. A settled one needs neither, nor the policies of two more scans: a tenth of the time.
 *
 * @param state a settled index that is none any more has no candidates, and `complete` is null
 * @param embedding parameter with the question's vector, null where there is none
 * @param mode parameter: hybrid, vector or keyword
 * @param wanted expression: how many passages are asked for
 */
export function largeCandidates(state: IndexState, embedding: string, mode: string, wanted: string): string {
  const most = (what: keyof typeof MOST) =>
    `CASE ${mode} WHEN 'hybrid' THEN ${MOST_OF_BOTH[what]} ELSE ${MOST[what]} END`;
  const nearest = `(SELECT greatest(${most('nearest')}, ${wanted} * 5 / 4))`;
  const upTo = 'least(index.vectors_up_to, index.terms_up_to)';
  const settled = state === 'settled';
  return `large AS MATERIALIZED (
  SELECT kb.id, index.generation, index.dimensions, index.vector_count, kb.chunk_count, ${upTo} AS up_to,
         index.chunk_count AS indexed, ${isSettled(upTo)} AS settled
  FROM kb JOIN large_indexes AS index ON index.kb_id = kb.id AND index.generation = kb.large_generation
  ${
    settled
      ? `WHERE ${isSettled(upTo)}`
      : `-- While it catches up, reading all of it costs less.
  WHERE (kb.last_chunk_number - ${upTo}) * 4 <= kb.chunk_count`
  }
), nearest AS MATERIALIZED (
  SELECT number FROM nearest_in_large(
    (SELECT id FROM large), (SELECT generation FROM large WHERE dimensions = vector_dims(${embedding}::halfvec)),
    ${embedding}::halfvec, ${nearest}) AS number
), heaviest AS MATERIALIZED (
  SELECT number FROM (
    SELECT unnest(numbers) AS number, impact
    FROM (
      SELECT numbers, impact, sum(size) OVER (ORDER BY impact DESC, term, block ROWS UNBOUNDED PRECEDING) - size AS before
      FROM (
        SELECT term, max(idf) AS idf FROM question
        WHERE document_frequency > 0 AND ${mode} <> 'vector' GROUP BY term
      ) AS word CROSS JOIN LATERAL (
        SELECT block, size, numbers, (word.idf * weight)::real AS impact FROM large_postings
        WHERE kb_id = (SELECT id FROM large) AND generation = (SELECT generation FROM large) AND term = word.term
        OFFSET 0
      ) AS list
    ) AS lists WHERE before < ${most('postings')}
  ) AS postings
  GROUP BY number ORDER BY sum(impact) DESC, number LIMIT ${most('heaviest')}
), ${settled ? '' : NEWER}found AS MATERIALIZED (
  SELECT array_agg(number) AS numbers
  FROM (${
    settled
      ? `SELECT number FROM nearest UNION ALL SELECT number FROM heaviest`
      : `SELECT number FROM nearest UNION SELECT number FROM heaviest UNION SELECT number FROM newer`
  }) AS united
), large_candidates AS MATERIALIZED (
  SELECT numbers, settled,
         (${embedding}::halfvec IS NULL OR (SELECT count(*) FROM nearest) >= (1 - ${MOST_GONE}) * least(${nearest}, large.vector_count))
         ${settled ? '' : FEW_GONE}AS complete
  FROM large, found
), `;
}

/** Of a row of `large_indexes`, and its `kb`. */
const isSettled = (upTo: string) =>
  `(kb.last_chunk_number <= ${upTo} AND index.chunk_count <= kb.chunk_count)`;

const NEWER = `newer AS MATERIALIZED (
  -- Between two bounds the planner takes for few, above one for a third of all.
  SELECT number FROM chunk_vectors
  WHERE kb_id = (SELECT id FROM large) AND number BETWEEN (SELECT up_to + 1 FROM large) AND 2147483647
), `;

const FEW_GONE = `-- Only where something is gone has it to be counted what is there.
         AND (large.indexed + (SELECT count(*) FROM newer) <= large.chunk_count OR coalesce((
           SELECT count(*) FROM chunk_vectors WHERE kb_id = large.id AND number = ANY (numbers)
         ) >= (1 - ${MOST_GONE}) * cardinality(numbers), true)) `;

/** Keeps a scan of `chunk_vectors` to the candidates. */
export const AMONG_CANDIDATES = ' AND number = ANY ((SELECT numbers FROM large_candidates)::integer[])';

/** What is known of the index now; null where the candidates may not stand for all chunks. */
export const INDEX_STATE = `(SELECT CASE WHEN complete THEN CASE WHEN settled THEN 'settled' ELSE 'changing' END END
                                  FROM large_candidates)`;
