/**
 * SQL functions of the lexical index. BM25 (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework",
 * eq. 3.15; k1 = 1.2, b = 0.75) is kept as one `sparsevec` a chunk, so that the inner product with the question's
 * idf vector is the BM25 score and needs no extension but pgvector.
 *
 * The bodies are parsed when the functions are made (SQL-standard bodies), which fixes what every name in them
 * means: no caller's `search_path` can change it.
 */

/** Number of dimensions of a lexical vector: lexemes are hashed to 28 bits. */
export const LEXICAL_DIMENSIONS = 268_435_456;

/**
 * `lexeme_dimension(lexeme text) -> int`: 1 to 2^28, the sparsevec index of a lexeme. md5, because its value is
 * the same on every version and platform, which `hashtext` does not promise.
 */
const lexemeDimension = `
CREATE FUNCTION lexeme_dimension(lexeme text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ('x' || substr(md5(lexeme), 1, 7))::bit(28)::integer + 1`;

/**
 * `bm25_weights(configuration regconfig, content text, reference_length real) -> (weights sparsevec, length int)`:
 * the document side of BM25 (everything but idf) and the length in lexeme occurrences, stop words left out.
 *
 * `reference_length` is the average length that the kb is weighed with; 0 takes every text as average.
 * Only the first 100,000 characters count (a tsvector ends at 1 MB), and of their lexemes the 16,000 most frequent
 * (a sparsevec holds no more). A text without lexemes has an empty vector and the length 0.
 * Lexemes with the same hash are counted as one.
 */
const bm25Weights = `
CREATE FUNCTION bm25_weights(configuration regconfig, content text, reference_length real,
                             OUT weights sparsevec, OUT length integer)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  WITH terms AS MATERIALIZED (
    SELECT lexeme_dimension(lexeme) AS term, sum(cardinality(positions))::float8 AS frequency
    FROM unnest(to_tsvector(configuration, left(content, 100000)))
    GROUP BY 1
  ), total AS MATERIALIZED (
    SELECT coalesce(sum(frequency), 0) AS occurrences FROM terms
  ), kept AS (
    SELECT term, frequency FROM terms ORDER BY frequency DESC, term LIMIT 16000
  )
  SELECT ('{' || coalesce((
           SELECT string_agg(
             term || ':' || (frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * coalesce(
               occurrences / nullif(reference_length, 0), 1))))::real, ',')
           FROM kept), '') || '}/${LEXICAL_DIMENSIONS}')::sparsevec,
         occurrences::integer
  FROM total;
END`;

/** `sparsevec_indices(vector sparsevec) -> setof int`: where a vector is not zero; for a lexical vector, its terms. */
const sparsevecIndices = `
CREATE FUNCTION sparsevec_indices(vector sparsevec) RETURNS SETOF integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
  SELECT split_part(element, ':', 1)::integer
  FROM string_to_table(split_part(ltrim(vector::text, '{'), '}', 1), ',') AS element;
END`;

/** In the order in which they must be made; `CREATE EXTENSION vector` comes before. */
export const lexicalFunctions: readonly string[] = [lexemeDimension, bm25Weights, sparsevecIndices];

/** For a migration's `down` and for tests. */
export const lexicalFunctionSignatures: readonly string[] = [
  'sparsevec_indices(sparsevec)',
  'bm25_weights(regconfig, text, real)',
  'lexeme_dimension(text)',
];
