import { Injectable } from '@nestjs/common';
import { validate as isUuid } from 'uuid';
import { type PreparedStatement, type Tx, queryPrepared } from '../../foundation/database/transaction.js';
import { halfvecLiteral } from '../documents/halfvec.js';
import { CONFIG_FIELDS } from '../../core/tenancy/tenant-config.js';
import type { KnowledgeBaseConfig } from '../knowledge-bases/knowledge-base-config.js';

export type RetrievalMode = 'hybrid' | 'vector' | 'keyword';

/** Narrows a search to some documents of the kb; what is given must all hold. */
export interface DocumentFilter {
  documentIds?: readonly string[];
  /** Inclusive. */
  createdAfter?: Date;
  /** Exclusive. */
  createdBefore?: Date;
  /** Contained in the document's metadata (jsonb `@>`). */
  metadata?: Record<string, unknown>;
}

export interface SearchParameters {
  /** Id or slug. */
  kb: string;
  /** Its first 10,000 characters count: a sparsevec has an end. */
  query: string;
  /** The query's vector, of unit length. Not used in keyword mode. */
  embedding?: readonly number[];
  mode?: RetrievalMode;
  /** Share of the vector leg in the hybrid score (0-1): `EmbeddingModel.fusionWeight`. */
  fusionWeight: number;
  /** Of the kb's configuration where it is missing. */
  topK?: number;
  /** Where the kb's configuration has none either [10]. */
  defaultTopK?: number;
  filter?: DocumentFilter;
  /** Whether to say which words of the query there are, and which of them each passage has [false]. */
  withTerms?: boolean;
}

/** A lexeme of the query. */
export interface QueryTerm {
  lexeme: string;
  /** Chunks of the kb that contain it. */
  document_frequency: number;
  /** BM25's: ln(1 + (N - df + 0.5) / (df + 0.5)), N chunks in the kb. */
  idf: number;
}

export interface Passage {
  chunk_id: string;
  document_id: string;
  document_title: string;
  text: string;
  heading: string | null;
  page: number | null;
  ordinal: number;
  /**
   * Hybrid: w × cosine + (1 - w) × keyword share. Vector: the cosine. Keyword: BM25 as a share of what it could be at
   * most for this question. At most 1, comparable between questions, below 0 only where the cosine is.
   */
  score: number;
  /** Null without an embedding, and where the chunk's vector is of another dimension. */
  cosine: number | null;
  /** 0 where no word of the query stands in the chunk. */
  bm25: number;
  /** The query's lexemes that the passage contains; empty unless `withTerms`. */
  matched: string[];
}

export interface SearchResult {
  /** Best first. */
  passages: Passage[];
  /** Every lexeme of the query, known to the kb or not. Empty for stop words alone, and unless `withTerms`. */
  terms: QueryTerm[];
  /** N of the idf: chunks in the kb, whatever the filter. */
  chunk_count: number;
}

/** What a search has to know of the kb that it was in. */
export interface SearchedKnowledgeBase {
  id: string;
  /** Of the stored vectors; null until the first document is stored. */
  embedding_model: string | null;
  config: KnowledgeBaseConfig;
  /** Whether it holds documents that who asks may not read. */
  partly_hidden: boolean;
}

/** Of one search: the largest top_k that requests and configurations may ask for. */
const MOST_PASSAGES = 100;

/** A vector of the lexical index (`LEXICAL_DIMENSIONS`) from `index:value` pairs. */
const sparsevec = (elements: string) => `('{' || ${elements} || '}/268435456')::sparsevec`;

/** `$8` to `$11`: document ids, created after, created before, metadata; null where not asked for. */
const DOCUMENT_FILTER = `
    AND document_id IN (
      SELECT id FROM documents
      WHERE kb_id = (SELECT id FROM kb) AND ($8::uuid[] IS NULL OR id = ANY ($8::uuid[]))
        AND ($9::timestamptz IS NULL OR created_at >= $9::timestamptz)
        AND ($10::timestamptz IS NULL OR created_at < $10::timestamptz)
        AND ($11::jsonb IS NULL OR metadata @> $11::jsonb))` as const;

const STORED_FREQUENCY = `(SELECT document_frequency FROM kb_terms
                   WHERE kb_id = kb.id AND term = lexeme_dimension(lexeme))`;

const COUNTED_FREQUENCY = `(SELECT document_frequency FROM frequencies WHERE term = lexeme_dimension(lexeme))`;

/** In how many of the chunks that who asks may read each word of the question stands: one scan for all words. */
const FREQUENCIES = `axes AS MATERIALIZED (
  SELECT DISTINCT lexeme_dimension(lexeme) AS term, ${sparsevec(`lexeme_dimension(lexeme) || ':1'`)} AS axis
  FROM kb, unnest(to_tsvector(configuration, left($2, 10000)))
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

const MATCHED = `ARRAY(SELECT lexeme FROM question, chunk_vectors AS vector
                 WHERE vector.chunk_id = ranked.chunk_id AND vector.lexical <#> axis < 0)`;

const TERMS = `coalesce((SELECT json_agg(json_build_object('lexeme', lexeme, 'document_frequency', document_frequency, 'idf', idf))
                 FROM question), '[]')`;

/**
 * One exact scan of the kb's vectors for both legs. A shared approximate index is no option: under row-level security
 * it filters after it has found (1.8 of 10 rows for a small tenant), and `@@` is not leakproof.
 *
 * Every CTE is materialised and the question's vectors are scalar sub-selects (InitPlans): computed once whatever the
 * planner believes, and also in a generic plan, which would otherwise parse `$3` for every row.
 */
const searchStatement = (
  reference: 'id' | 'slug',
  filter: '' | typeof DOCUMENT_FILTER,
  withTerms: boolean,
  counted: boolean,
): PreparedStatement => ({
  name: `search_by_${reference}${filter && '_filtered'}${withTerms ? '_with_terms' : ''}${counted ? '_counted' : ''}`,
  text: `
WITH kb AS MATERIALIZED (
  SELECT id, embedding_model, config, text_search_configuration AS configuration,
         restricted_count > 0 AND current_setting('app.access', true) IS DISTINCT FROM 'all' AS partly_hidden,
         ${counted ? '(SELECT count(*)::integer FROM chunk_vectors WHERE kb_id = kb.id) AS chunk_count' : 'chunk_count'}
  FROM knowledge_bases AS kb WHERE ${reference} = $1
), ${counted ? FREQUENCIES : ''}known AS MATERIALIZED (
  -- A scalar sub-select: a join would be planned for more words than a question has.
  SELECT lexeme, lexeme_dimension(lexeme) AS term, chunk_count,
         coalesce(${counted ? COUNTED_FREQUENCY : STORED_FREQUENCY}, 0) AS document_frequency
  FROM kb, unnest(to_tsvector(configuration, left($2, 10000)))
), question AS MATERIALIZED (
  SELECT lexeme, term, document_frequency,
         ln(1 + (greatest(chunk_count - document_frequency, 0) + 0.5::float8) / (document_frequency + 0.5::float8)) AS idf,
         ${withTerms ? sparsevec(`term || ':1'`) : 'NULL'} AS axis
  FROM known
), weights AS MATERIALIZED (
  -- A chunk that repeated each known word of the question for ever would have the BM25 score 2.2 (k1 + 1) times their
  -- idf: as a share of that, BM25 is a number from 0 to 1 like a cosine, whatever the question.
  SELECT CASE $4 WHEN 'vector' THEN 1 WHEN 'keyword' THEN 0 ELSE $5::float8 END AS cosine,
         CASE $4 WHEN 'vector' THEN 0 WHEN 'keyword' THEN 1 ELSE 1 - $5::float8 END
           / coalesce(2.2 * sum(idf) FILTER (WHERE document_frequency > 0), 1) AS bm25
  FROM question
), best AS MATERIALIZED (
  SELECT chunk_id, cosine, bm25,
         coalesce(cosine, 0) * (SELECT cosine FROM weights) + bm25 * (SELECT bm25 FROM weights) AS score
  FROM (
    SELECT chunk_id,
           CASE WHEN vector_dims(embedding) = (SELECT vector_dims($3::halfvec))
                THEN -(embedding <#> (SELECT $3::halfvec)) END AS cosine,
           -(lexical <#> (SELECT ${sparsevec(`coalesce(string_agg(term || ':' || idf, ','), '')`)}
                          FROM (SELECT term, max(idf) AS idf FROM question GROUP BY term) AS by_term)) AS bm25
    FROM chunk_vectors
    WHERE kb_id = (SELECT id FROM kb)${filter}
    -- A fence: without it both products are worked out twice, once to show and once for the score.
    OFFSET 0
  ) AS scores
  ORDER BY score DESC, chunk_id
  -- As many as may be asked for. A limit that the planner does not know is a tenth of the kb to it, which made it plan
  -- the statement anew each time; this way it keeps one plan.
  LIMIT ${MOST_PASSAGES}
), ranked AS MATERIALIZED (
  SELECT * FROM best ORDER BY score DESC, chunk_id
  LIMIT coalesce($6, (SELECT (config->>'top_k')::integer FROM kb), $7::integer)
), passages AS MATERIALIZED (
  SELECT found.*, ranked.score, ranked.cosine, ranked.bm25
  FROM ranked
  -- Row by row: where the limit is not known yet, the planner takes it for a tenth of the kb and would read all texts.
  CROSS JOIN LATERAL (
    SELECT chunk.id AS chunk_id, chunk.document_id, document.title AS document_title, chunk.text,
           chunk.heading, chunk.page, chunk.ordinal,
           ${withTerms ? MATCHED : `'{}'::text[]`} AS matched
    FROM chunks AS chunk
    JOIN documents AS document ON document.id = chunk.document_id
    WHERE chunk.id = ranked.chunk_id LIMIT 1
  ) AS found
  -- What the asked-for leg says nothing of is ranked last, so it may be left out here.
  WHERE CASE $4 WHEN 'vector' THEN ranked.cosine IS NOT NULL WHEN 'keyword' THEN ranked.bm25 > 0 ELSE true END
)
SELECT (SELECT json_build_object('id', id, 'embedding_model', embedding_model, 'config', config,
                                 'partly_hidden', partly_hidden) FROM kb) AS kb,
       coalesce((SELECT json_agg(passages ORDER BY score DESC, chunk_id) FROM passages), '[]') AS passages,
       ${withTerms ? TERMS : `'[]'::json`} AS terms,
       coalesce((SELECT chunk_count FROM kb), 0) AS chunk_count`,
});

const statements = new Map<string, PreparedStatement>();

/** Each variant is made once: the connection knows it by its name. */
function statementFor(
  reference: 'id' | 'slug',
  filtered: boolean,
  withTerms: boolean,
  counted: boolean,
): PreparedStatement {
  const key = `${reference} ${filtered} ${withTerms} ${counted}`;
  let statement = statements.get(key);
  if (!statement) {
    statement = searchStatement(reference, filtered ? DOCUMENT_FILTER : '', withTerms, counted);
    statements.set(key, statement);
  }
  return statement;
}

/** Ranked passages of one kb, and what the kb knows of the question's words. */
@Injectable()
export class RetrievalRepository {
  /** One statement, the look-up of the kb included: null where it does not exist, or not for this tenant. */
  async search(
    tx: Tx,
    parameters: SearchParameters,
  ): Promise<SearchResult & { kb: SearchedKnowledgeBase | null }> {
    const {
      kb,
      query,
      embedding,
      mode = 'hybrid',
      fusionWeight,
      topK,
      defaultTopK = CONFIG_FIELDS.top_k.default,
      filter,
      withTerms = false,
    } = parameters;
    const values: unknown[] = [
      kb,
      // PostgreSQL text cannot hold U+0000.
      query.replaceAll('\0', ' '),
      embedding && mode !== 'keyword' ? halfvecLiteral(embedding) : null,
      mode,
      fusionWeight,
      topK ?? null,
      defaultTopK,
    ];
    if (filter) {
      values.push(
        filter.documentIds ?? null,
        filter.createdAfter ?? null,
        filter.createdBefore ?? null,
        filter.metadata ? JSON.stringify(filter.metadata) : null,
      );
    }
    const run = async (counted: boolean) => {
      const statement = statementFor(isUuid(kb) ? 'id' : 'slug', filter !== undefined, withTerms, counted);
      const [result] = await queryPrepared<SearchResult & { kb: SearchedKnowledgeBase | null }>(
        tx,
        statement,
        values,
      );
      return result as NonNullable<typeof result>;
    };
    const result = await run(false);
    // The stored frequencies are of all documents: scores made with them would tell which words stand in the hidden ones.
    return result.kb?.partly_hidden ? run(true) : result;
  }

  /** The distinct lexemes of each text under the kb's configuration, in the order of the texts. */
  async lexemes(tx: Tx, kbId: string, texts: readonly string[]): Promise<string[][]> {
    const rows = await tx.query<Array<{ lexemes: string[] }>>(
      `SELECT tsvector_to_array(to_tsvector(kb.text_search_configuration, input.text)) AS lexemes
       FROM knowledge_bases AS kb, unnest($2::text[]) WITH ORDINALITY AS input (text, position)
       WHERE kb.id = $1 ORDER BY input.position`,
      [kbId, texts.map(text => text.replaceAll('\0', ' '))],
    );
    return rows.map(row => row.lexemes);
  }
}
