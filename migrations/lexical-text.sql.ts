/**
 * What words are for the lexical index in scripts that do not part them: runs of Chinese, Japanese and Korean characters
 * become overlapping pairs, as in Lucene's CJKBigramFilter. Everything else stays as it is, so that mixed texts work in
 * every language.
 */

/** Kana, ideographs with their extensions, and Hangul: as the inside of a bracket expression. */
const CJK =
  '\\u1100-\\u11ff\\u3005-\\u3007\\u3041-\\u3096\\u309d-\\u309f\\u30a1-\\u30fa\\u30fc-\\u30ff\\u3131-\\u318e\\u31f0-\\u31ff' +
  '\\u3400-\\u4dbf\\u4e00-\\u9fff\\uac00-\\ud7a3\\uf900-\\ufaff\\uff66-\\uff9d\\U00020000-\\U0003ffff';

/** `holds_cjk(content text) -> bool`: whether a character of such a script stands in a text. */
const holdsCjk = `
CREATE FUNCTION holds_cjk(content text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN content ~ '[${CJK}]'`;

/**
 * `lexical_text(content text, indexed boolean) -> text`: the text with a space around each pair of such characters that
 * stand side by side. What is indexed also has each of them by itself, so that a question of one character finds the
 * runs that it stands in; a question has only those that stand alone. Half-width and full-width forms become one (NFKC).
 * Of a text with such characters the first 40,000 characters count: a tsvector ends at 1 MB.
 */
const lexicalText = `
CREATE FUNCTION lexical_text(content text, indexed boolean) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
  SELECT CASE WHEN content !~ '[${CJK}]' THEN content ELSE (
    SELECT string_agg(
             CASE WHEN NOT cjk THEN letter
                  ELSE concat(' ', CASE WHEN indexed OR NOT (goes_on OR went_on) THEN letter || ' ' END,
                              CASE WHEN goes_on THEN letter || next_letter || ' ' END)
             END, '' ORDER BY position)
    FROM (
      SELECT letter, position, cjk, lead(letter) OVER run AS next_letter,
             lead(cjk, 1, false) OVER run AS goes_on, lag(cjk, 1, false) OVER run AS went_on
      FROM (
        SELECT letter, position, letter ~ '[${CJK}]' AS cjk
        FROM string_to_table(normalize(left(content, 40000), NFKC), NULL)
             WITH ORDINALITY AS letters (letter, position)
      ) AS letters
      WINDOW run AS (ORDER BY position)
    ) AS neighbours
  ) END;
END`;

/** As before, of `lexical_text(content)`. */
const bm25Weights = `
CREATE OR REPLACE FUNCTION bm25_weights(configuration regconfig, content text, reference_length real,
                                        OUT weights sparsevec, OUT length integer)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  WITH terms AS MATERIALIZED (
    SELECT lexeme_dimension(lexeme) AS term, sum(cardinality(positions))::float8 AS frequency
    FROM unnest(to_tsvector(configuration, lexical_text(left(content, 100000), true)))
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
           FROM kept), '') || '}/268435456')::sparsevec,
         occurrences::integer
  FROM total;
END`;

/** Like English; for knowledge bases whose language is one without spaces. */
const cjkConfiguration = 'CREATE TEXT SEARCH CONFIGURATION cjk (COPY = pg_catalog.english)';

/** In the order in which they must be made; those of `lexical-functions.sql.ts` come before. */
export const lexicalTextFunctions: readonly string[] = [holdsCjk, lexicalText, bm25Weights, cjkConfiguration];
