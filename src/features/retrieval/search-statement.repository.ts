import type { PreparedStatement } from '../../foundation/database/transaction.js';
import {
  AMONG_CANDIDATES,
  INDEX_STATE,
  type IndexState,
  largeCandidates,
} from './large-candidates.repository.js';

/** What is asked of one search beyond a plain one; each combination is a statement of its own. */
export interface SearchVariant {
  /** What the kb is named by. */
  reference: 'id' | 'slug';
  /** Only some documents. */
  filtered: boolean;
  /** Which words of the query each passage has. */
  withTerms: boolean;
  /** Document frequencies of what the caller may read, not the stored ones of all documents. */
  counted: boolean;
  fusion: 'score' | 'rank';
  /** Widens the query by words of the best passages. */
  feedback: boolean;
  /** Phrases must stand in what is found. */
  phrases: boolean;
  /** Ranks some chunks that are named, whether a leg has found them or not; not large. */
  chosen: boolean;
  /** Ranks what the index of a large kb finds, not all chunks; neither filtered, counted nor with phrases. */
  index: IndexState | null;
}

/** Values of a search, by name; a statement takes those that its variant needs. */
export interface SearchValues {
  kb: string;
  query: string;
  embedding: string | null;
  mode: string;
  fusionWeight: number;
  topK: number | null;
  defaultTopK: number;
  cosineThreshold: number | null;
  defaultCosineThreshold: number;
  documentIds: readonly string[] | null;
  createdAfter: Date | null;
  createdBefore: Date | null;
  contained: string | null;
  path: string | null;
  variables: string | null;
  phrases: readonly string[];
  chunkIds: readonly string[] | null;
}

/** What {@link documentFilter} compares with. */
export type FilterValueName =
  'documentIds' | 'createdAfter' | 'createdBefore' | 'contained' | 'path' | 'variables';

type ValueName = keyof SearchValues;

/** A statement, and what its parameters are. */
export interface SearchStatement extends PreparedStatement {
  parameters: ValueName[];
}

/** Of one search: the largest top_k that requests and configurations may ask for. */
export const MOST_PASSAGES = 100;

/** Of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009). */
const RANK_CONSTANT = 60;

/** Pseudo-relevance feedback: passages that are taken for relevant, and words that are taken from them. */
const FEEDBACK = { passages: 10, terms: 20, weight: 0.5 };

/** A vector of the lexical index (`LEXICAL_DIMENSIONS`) from `index:value` pairs. */
const sparsevec = (elements: string) => `('{' || ${elements} || '}/268435456')::sparsevec`;
const sparsevecOf = (
  weights: string,
  value: string,
) => `(SELECT ${sparsevec(`coalesce(string_agg(term || ':' || ${value}, ','), '')`)}
                          FROM (SELECT term, max(${value}) AS ${value} FROM ${weights} GROUP BY term) AS by_term)`;
/**
 * BM25's idf, as if the kb had 100 more chunks in which each word stood twice: among a few dozen chunks it is chance
 * whether a word stands in one or in three of them. In a kb of thousands it changes nothing.
 */
const bm25Idf = (chunks: string, frequency: string) =>
  `ln(1 + (greatest(${chunks} - ${frequency}, 0) + 98.5::float8) / (${frequency} + 2.5::float8))`;

const MATCHED = `(SELECT coalesce(array_agg(lexeme ORDER BY lexeme), '{}')
                 FROM question, chunk_vectors AS vector
                 WHERE vector.chunk_id = ranked.chunk_id AND vector.lexical <#> axis < 0) AS matched,
                (SELECT coalesce(array_agg(-(vector.lexical <#> axis) ORDER BY lexeme), '{}')
                 FROM question, chunk_vectors AS vector
                 WHERE vector.chunk_id = ranked.chunk_id AND vector.lexical <#> axis < 0) AS weights`;

const TERMS = `coalesce((SELECT json_agg(json_build_object('lexeme', lexeme, 'document_frequency', document_frequency, 'idf', idf))
                 FROM question), '[]')`;

/** Gives each value that a statement names the next parameter. */
export class Parameters<Name extends string = ValueName> {
  readonly names: Name[] = [];

  readonly $ = (name: Name): string => {
    if (!this.names.includes(name)) this.names.push(name);
    return `$${this.names.indexOf(name) + 1}`;
  };
}

/**
 * One exact scan of the kb's vectors for both legs. A shared approximate index is no option: under row-level security
 * it filters after it has found (1.8 of 10 rows for a small tenant), and `@@` is not leakproof.
 *
 * Every CTE is materialised and the question's vectors are scalar sub-selects (InitPlans): computed once whatever the
 * planner believes, and also in a generic plan, which would otherwise parse the embedding for every row.
 */
function searchStatement(variant: SearchVariant): SearchStatement {
  const parameters = new Parameters();
  const { $ } = parameters;
  const { counted, withTerms, feedback } = variant;
  // In the order of the commonest statement.
  for (const name of ['kb', 'query', 'embedding', 'mode', 'fusionWeight'] as const) $(name);
  const asked = `left(${$('query')}, 10000)`;
  // The function is planned anew with each statement that calls it.
  const words = `unnest(to_tsvector(configuration, CASE WHEN holds_cjk(${asked}) THEN lexical_text(${asked}, false) ELSE ${asked} END))`;
  const condition = `${variant.index ? AMONG_CANDIDATES : ''}${variant.filtered ? documentFilter($) : ''}${
    variant.phrases ? '\n      AND chunk_id IN (SELECT chunk_id FROM phrased)' : ''
  }${variant.chosen ? `\n      AND chunk_id = ANY (${$('chunkIds')}::uuid[])` : ''}`;
  const wanted = `coalesce(${$('topK')}, (SELECT (config->>'top_k')::integer FROM kb), ${$('defaultTopK')}::integer)`;
  const text = `
WITH kb AS MATERIALIZED (
  SELECT id, embedding_model, config, updated_at, text_search_configuration AS configuration, large_generation, last_chunk_number,
         restricted_count > 0 AND current_setting('app.access', true) IS DISTINCT FROM 'all' AS partly_hidden,
         ${counted ? '(SELECT count(*)::integer FROM chunk_vectors WHERE kb_id = kb.id) AS chunk_count' : 'chunk_count'}
  FROM knowledge_bases AS kb WHERE ${variant.reference} = ${$('kb')}
), ${counted ? frequencies(words) : ''}known AS MATERIALIZED (
  -- A scalar sub-select: a join would be planned for more words than a question has.
  SELECT lexeme, lexeme_dimension(lexeme) AS term, chunk_count,
         coalesce(${
           counted
             ? '(SELECT document_frequency FROM frequencies WHERE term = lexeme_dimension(lexeme))'
             : '(SELECT document_frequency FROM kb_terms WHERE kb_id = kb.id AND term = lexeme_dimension(lexeme))'
         }, 0) AS document_frequency
  FROM kb, ${words}
), question AS MATERIALIZED (
  SELECT lexeme, term, document_frequency, ${bm25Idf('chunk_count', 'document_frequency')} AS idf,
         ${withTerms ? sparsevec(`term || ':1'`) : 'NULL'} AS axis
  FROM known
), weights AS MATERIALIZED (
  -- A chunk that repeated each known word of the question for ever would have the BM25 score 2.2 (k1 + 1) times their
  -- idf: as a share of that, BM25 is a number from 0 to 1 like a cosine, whatever the question.
  SELECT CASE ${$('mode')} WHEN 'vector' THEN 1 WHEN 'keyword' THEN 0 ELSE ${$('fusionWeight')}::float8 END AS cosine,
         CASE ${$('mode')} WHEN 'vector' THEN 0 WHEN 'keyword' THEN 1 ELSE 1 - ${$('fusionWeight')}::float8 END AS keyword,
         coalesce(2.2 * sum(idf) FILTER (WHERE document_frequency > 0), 1) AS most_bm25,
         -- What the vector leg has found; an empty query of it has found nothing.
         coalesce(${$('cosineThreshold')}::float8, (SELECT (config->>'cosine_threshold')::float8 FROM kb),
                  ${$('defaultCosineThreshold')}::float8) AS least_cosine
  FROM question
), ${variant.index ? largeCandidates(variant.index, $('embedding'), $('mode'), wanted) : ''}${variant.phrases ? phrased($) : ''}${feedback ? expansion(condition) : ''}scores AS NOT MATERIALIZED (
    SELECT chunk_id,
           CASE WHEN vector_dims(embedding) = (SELECT vector_dims(${$('embedding')}::halfvec))
                THEN -(embedding <#> (SELECT ${$('embedding')}::halfvec)) END AS cosine,
           -(lexical <#> ${sparsevecOf('question', 'idf')}) AS bm25${
             feedback ? `,\n           -(lexical <#> ${sparsevecOf('expanded', 'weight')}) AS widened` : ''
           }
    FROM chunk_vectors
    WHERE kb_id = (SELECT id FROM kb)${condition}
    -- A fence: without it both products are worked out twice, once to show and once for the score.
    OFFSET 0
), best AS MATERIALIZED (
  SELECT chunk_id, cosine, bm25, ${fusedScore(variant)} AS score
  FROM ${legs(variant)}
  ${
    variant.chosen
      ? ''
      : `-- Found by one leg at least, of those that were asked for.
  WHERE ${$('mode')} <> 'keyword' AND cosine >= (SELECT least_cosine FROM weights)
     OR ${$('mode')} <> 'vector' AND ${feedback ? 'widened' : 'bm25'} > 0`
  }
  ORDER BY score DESC, chunk_id
  -- As many as may be asked for. A limit that the planner does not know is a tenth of the kb to it, which made it plan
  -- the statement anew each time; this way it keeps one plan.
  LIMIT ${MOST_PASSAGES}
), ranked AS MATERIALIZED (
  SELECT * FROM best ORDER BY score DESC, chunk_id
  LIMIT ${wanted}
), passages AS MATERIALIZED (
  SELECT found.*, ranked.score, ranked.cosine, ranked.bm25
  FROM ranked
  -- Row by row: where the limit is not known yet, the planner takes it for a tenth of the kb and would read all texts.
  CROSS JOIN LATERAL (
    SELECT chunk.id AS chunk_id, chunk.kb_id, chunk.document_id,
           -- Joined, the documents of the whole tenant are gone through for each passage where they seem to be few.
           (SELECT title FROM documents WHERE id = chunk.document_id) AS document_title, chunk.text, chunk.heading,
           chunk.page, chunk.ordinal,
           ${withTerms ? MATCHED : `'{}'::text[] AS matched, '{}'::float8[] AS weights`}
    FROM chunks AS chunk
    WHERE chunk.id = ranked.chunk_id LIMIT 1
  ) AS found
)
SELECT (SELECT json_build_object('id', id, 'embedding_model', embedding_model, 'config', config, 'version', updated_at,
                                 'partly_hidden', partly_hidden, 'index', ${
                                   variant.index
                                     ? INDEX_STATE
                                     : `CASE WHEN large_generation IS NOT NULL THEN 'changing' END`
                                 }) FROM kb) AS kb,
       coalesce((SELECT json_agg(passages ORDER BY score DESC, chunk_id) FROM passages), '[]') AS passages,
       ${TERMS} AS terms,
       coalesce((SELECT chunk_count FROM kb), 0) AS chunk_count`;
  return { name: nameOf(variant), text, parameters: parameters.names };
}

/**
 * A condition on `document_id`, for statements with a CTE `kb (id)`.
 *
 * @param $ gives a value of the filter its parameter
 */
export const documentFilter = ($: (name: FilterValueName) => string): string => `
      AND document_id IN (
        SELECT id FROM documents
        WHERE kb_id = (SELECT id FROM kb)
          AND (${$('documentIds')}::uuid[] IS NULL OR id = ANY (${$('documentIds')}::uuid[]))
          AND (${$('createdAfter')}::timestamptz IS NULL OR created_at >= ${$('createdAfter')}::timestamptz)
          AND (${$('createdBefore')}::timestamptz IS NULL OR created_at < ${$('createdBefore')}::timestamptz)
          AND (${$('contained')}::jsonb IS NULL OR metadata @> ${$('contained')}::jsonb)
          AND (${$('path')}::jsonpath IS NULL
               OR coalesce(jsonb_path_match(metadata, ${$('path')}::jsonpath, ${$('variables')}::jsonb, true), false)))`;

/** In how many of the chunks that who asks may read each word of the question stands: one scan for all words. */
const frequencies = (words: string) => `axes AS MATERIALIZED (
  SELECT DISTINCT lexeme_dimension(lexeme) AS term, ${sparsevec(`lexeme_dimension(lexeme) || ':1'`)} AS axis
  FROM kb, ${words}
), frequencies AS MATERIALIZED (
  SELECT axes.term, count(*)::integer AS document_frequency
  FROM (
    SELECT lexical FROM chunk_vectors
    WHERE kb_id = (SELECT id FROM kb)
      AND lexical <#> (SELECT ${sparsevec(`coalesce(string_agg(term || ':1', ','), '')`)} FROM axes) < 0
    OFFSET 0
  ) AS containing
  JOIN axes ON containing.lexical <#> axes.axis < 0
  GROUP BY axes.term
), `;

/**
 * Chunks in which every phrase stands. Those that lack one of its words are left out first, for a text is read only then.
 * A phrase without words, or in a script that does not part them, is looked for letter by letter.
 */
const phrased = ($: Parameters['$']) => `phrases AS MATERIALIZED (
  SELECT phrase, holds_cjk(phrase) OR numnode(phraseto_tsquery(configuration, phrase)) = 0 AS by_letter,
         phraseto_tsquery(configuration, phrase) AS by_word
  FROM kb, unnest(${$('phrases')}::text[]) AS phrase
), phrase_axes AS MATERIALIZED (
  SELECT ${sparsevec(`lexeme_dimension(lexeme) || ':1'`)} AS axis
  FROM kb, phrases, unnest(to_tsvector(configuration, lexical_text(phrase, false)))
), containing AS MATERIALIZED (
  SELECT chunk_id FROM chunk_vectors AS vector
  WHERE kb_id = (SELECT id FROM kb) AND NOT EXISTS (SELECT FROM phrase_axes WHERE NOT vector.lexical <#> axis < 0)
), phrased AS MATERIALIZED (
  SELECT chunk.id AS chunk_id
  FROM kb, containing JOIN chunks AS chunk ON chunk.id = containing.chunk_id
  WHERE NOT EXISTS (
    SELECT FROM phrases
    WHERE NOT CASE WHEN by_letter THEN strpos(lower(concat_ws(E'\\n', chunk.heading, chunk.text)), lower(phrase)) > 0
                   ELSE to_tsvector(configuration, concat_ws(E'\\n', chunk.heading, chunk.text)) @@ by_word END)
), `;

/**
 * The query of a second pass, as in RM3 (Abdul-Jaleel et al. 2004) with BM25 for the language model: to the words of the
 * question come those that weigh most in the best passages, by their share in these passages' scores and their idf.
 */
const expansion = (condition: string) => `first_pass AS MATERIALIZED (
  SELECT lexical, bm25 / sum(bm25) OVER () AS share
  FROM (
    SELECT lexical, -(lexical <#> ${sparsevecOf('question', 'idf')}) AS bm25
    FROM chunk_vectors
    WHERE kb_id = (SELECT id FROM kb)${condition}
    OFFSET 0
  ) AS pass
  WHERE bm25 > 0 ORDER BY bm25 DESC LIMIT ${FEEDBACK.passages}
), feedback_terms AS MATERIALIZED (
  SELECT term, sum(share * weight) AS weight
  FROM (
    SELECT share, split_part(element, ':', 1)::integer AS term, split_part(element, ':', 2)::float8 AS weight
    FROM first_pass, string_to_table(split_part(ltrim(lexical::text, '{'), '}', 1), ',') AS element
    WHERE element <> ''
  ) AS elements
  GROUP BY term
), expansion_terms AS MATERIALIZED (
  SELECT term, weight * ${bm25Idf('chunk_count', 'document_frequency')} AS weight
  FROM feedback_terms, kb, LATERAL (
    SELECT coalesce((SELECT document_frequency FROM kb_terms
                     WHERE kb_id = kb.id AND kb_terms.term = feedback_terms.term), 1) AS document_frequency
  ) AS known
  ORDER BY weight DESC LIMIT ${FEEDBACK.terms}
), expanded AS MATERIALIZED (
  SELECT term, sum(weight) AS weight
  FROM (
    SELECT term, idf / (SELECT nullif(sum(idf), 0) FROM question) * ${1 - FEEDBACK.weight} AS weight FROM question
    UNION ALL
    SELECT term, weight / (SELECT nullif(sum(weight), 0) FROM expansion_terms) * ${FEEDBACK.weight} FROM expansion_terms
  ) AS parts
  GROUP BY term
), `;

/** The scan, with what else a way of fusing needs to know of all its rows. */
function legs({ fusion, feedback }: SearchVariant): string {
  const keyword = feedback ? 'widened' : 'bm25';
  const windows = [
    // The widened score says how to rank, the plain one how well the best passage does.
    feedback ? `max(widened) OVER () AS most_widened, max(bm25) OVER () AS best_bm25` : '',
    fusion === 'rank'
      ? `rank() OVER (ORDER BY cosine DESC NULLS LAST) AS vector_rank, rank() OVER (ORDER BY ${keyword} DESC) AS keyword_rank`
      : '',
  ].filter(Boolean);
  return windows.length > 0 ? `(SELECT *, ${windows.join(',\n    ')} FROM scores) AS scores` : 'scores';
}

const WEIGHT = { cosine: '(SELECT cosine FROM weights)', keyword: '(SELECT keyword FROM weights)' };

function fusedScore({ fusion, feedback }: SearchVariant): string {
  if (fusion === 'rank') {
    // 1 for what is the first of both legs.
    const share = (rank: string) => `${RANK_CONSTANT + 1}::float8 / (${RANK_CONSTANT} + ${rank})`;
    return `CASE WHEN cosine >= (SELECT least_cosine FROM weights) THEN ${WEIGHT.cosine} * ${share('vector_rank')} ELSE 0 END
      + CASE WHEN ${feedback ? 'widened' : 'bm25'} > 0 THEN ${WEIGHT.keyword} * ${share('keyword_rank')} ELSE 0 END`;
  }
  const most = '(SELECT most_bm25 FROM weights)';
  const keyword = feedback
    ? `coalesce(widened / nullif(most_widened, 0) * best_bm25, 0) / ${most}`
    : `bm25 / ${most}`;
  return `coalesce(cosine, 0) * ${WEIGHT.cosine} + ${keyword} * ${WEIGHT.keyword}`;
}

function nameOf(variant: SearchVariant): string {
  const { reference, fusion, index } = variant;
  const more = (['filtered', 'withTerms', 'counted', 'feedback', 'phrases', 'chosen'] as const).filter(
    part => variant[part],
  );
  return ['search', reference, fusion, ...more, ...(index ? [index] : [])].join('_').toLowerCase();
}

const statements = new Map<string, SearchStatement>();

/** Each variant is made once: a connection knows it by its name. */
export function searchStatementFor(variant: SearchVariant): SearchStatement {
  const name = nameOf(variant);
  let statement = statements.get(name);
  if (!statement) {
    statement = searchStatement(variant);
    statements.set(name, statement);
  }
  return statement;
}
