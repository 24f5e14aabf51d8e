import { Injectable } from '@nestjs/common';
import { validate as isUuid } from 'uuid';
import { CONFIG_FIELDS } from '../../core/tenancy/tenant-config.js';
import { type Tx, queryLast, queryPrepared } from '../../foundation/database/transaction.js';
import { halfvecLiteral } from '../documents/halfvec.js';
import type { KnowledgeBaseConfig } from '../knowledge-bases/knowledge-base-config.js';
import type { IndexState } from './large-candidates.repository.js';
import type { MetadataCondition } from './metadata-filter.js';
import {
  type FilterValueName,
  MOST_PASSAGES,
  type SearchValues,
  searchStatementFor,
} from './search-statement.repository.js';

export type RetrievalMode = 'hybrid' | 'vector' | 'keyword';

/** Narrows a search to some documents of the kb; what is given must all hold. */
export interface DocumentFilter {
  documentIds?: readonly string[];
  /** Inclusive. */
  createdAfter?: Date;
  /** Exclusive. */
  createdBefore?: Date;
  metadata?: MetadataCondition;
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
  /** Least cosine of what the vector leg finds. Of the kb's configuration where it is missing. */
  cosineThreshold?: number;
  /** Where the kb's configuration has none either [0.2]. */
  defaultCosineThreshold?: number;
  filter?: DocumentFilter;
  /** How both legs become one score [score]. */
  fusion?: 'score' | 'rank';
  /** Whether the query is widened by words of the best passages; never where documents are hidden [false]. */
  feedback?: boolean;
  /** Words that must stand together in a passage. */
  phrases?: readonly string[];
  /** Whether to say which words of the query each passage has [false]. */
  withTerms?: boolean;
  /** What the last search in the kb said of it. Where it is wrong, other statements are tried [null]. */
  index?: IndexState | null;
  /** Nothing else is asked in this transaction, which ends with the first ranking [false]. */
  alone?: boolean;
  /** Ranks these chunks alone, each of them, whether a leg has found it or not. */
  chunkIds?: readonly string[];
}

/** A lexeme of the query. */
export interface QueryTerm {
  lexeme: string;
  /** Chunks of the kb that contain it. */
  document_frequency: number;
  /** BM25's, smoothed: ln(1 + (N + 100 - (df + 2) + 0.5) / (df + 2 + 0.5)), N chunks in the kb. */
  idf: number;
}

export interface Passage {
  chunk_id: string;
  kb_id: string;
  document_id: string;
  document_title: string;
  text: string;
  heading: string | null;
  page: number | null;
  ordinal: number;
  /**
   * Hybrid: w × cosine + (1 - w) × keyword share; fused by rank: the same of 61 / (60 + rank). Vector: the cosine.
   * Keyword: BM25 as a share of what it could be at most for this question. At most 1, comparable between questions
   * unless fused by rank, below 0 only where the cosine is.
   */
  score: number;
  /** Null without an embedding, and where the chunk's vector is of another dimension. */
  cosine: number | null;
  /** 0 where no word of the query stands in the chunk. */
  bm25: number;
  /** How close the graph of the kb brings it to what the question names (0-1); null where no graph was used. */
  graph: number | null;
  /** What a rerank model made of it (0-1), which is its score then; null where none was asked. */
  rerank: number | null;
  /** The query's lexemes that the passage contains; empty unless `withTerms`. */
  matched: string[];
  /** BM25 weight of each of them: its share of `bm25` without the idf. */
  weights: number[];
  /** Ordinals of the chunks that the text is joined from; `ordinal` is the one that was found. */
  ordinals: number[];
}

export interface SearchResult {
  /** Best first. */
  passages: Passage[];
  /** Every lexeme of the query, known to the kb or not. Empty for stop words alone. */
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
  /** Changes with its configuration. */
  version: string;
  /** Whether it holds documents that who asks may not read. */
  partly_hidden: boolean;
  /** Of the index that it may have, where that could be used: for {@link SearchParameters.index} of the next search. */
  index: IndexState | null;
}

/** A piece of a document, as it stands beside its neighbours. */
export interface StoredChunk {
  document_id: string;
  ordinal: number;
  text: string;
  /** Where it stands in the document's text, in UTF-16 code units. */
  start_offset: number;
  end_offset: number;
}

/** Chunks of a document, by their ordinals. */
export interface ChunkSpan {
  documentId: string;
  first: number;
  last: number;
}

/** PostgreSQL text cannot hold U+0000. */
export const storable = (text: string): string => text.replaceAll('\0', ' ');

/** Words that one beginning stands for, the shortest first. */
const MOST_WORDS = 50;

/** Ranked passages of one kb, and what the kb knows of the question's words. */
@Injectable()
export class RetrievalRepository {
  /**
   * One statement, the look-up of the kb included: null where it does not exist, or not for this tenant.
   *
   * @returns `unfinished` where another ranking would have been needed, and there is no transaction for it any more
   */
  async search(
    tx: Tx,
    parameters: SearchParameters,
  ): Promise<SearchResult & { kb: SearchedKnowledgeBase | null; unfinished: boolean }> {
    const {
      kb,
      filter,
      phrases = [],
      feedback = false,
      fusion = 'score',
      withTerms = false,
      alone = false,
    } = parameters;
    const chosen = parameters.chunkIds !== undefined;
    const values = valuesOf(parameters);
    const run = async (counted: boolean, index: IndexState | null) => {
      const statement = searchStatementFor({
        reference: isUuid(kb) ? 'id' : 'slug',
        filtered: filter !== undefined,
        withTerms,
        counted,
        fusion,
        // The words of passages are weighed by frequencies of all documents.
        feedback: feedback && !counted,
        phrases: phrases.length > 0,
        chosen,
        index,
      });
      const [result] = await (alone ? queryLast : queryPrepared)<
        SearchResult & { kb: SearchedKnowledgeBase | null }
      >(
        tx,
        statement,
        statement.parameters.map(name => values[name]),
      );
      return result as NonNullable<typeof result>;
    };
    const unindexed = filter !== undefined || phrases.length > 0 || chosen;
    let index = unindexed ? null : (parameters.index ?? null);
    let result = await run(false, index);
    // The stored frequencies are of all documents: scores made with them would tell which words stand in the hidden ones.
    const hidden = result.kb?.partly_hidden ?? false;
    if (hidden && !alone) result = await run(true, null);
    let unfinished = hidden && alone;
    if (!hidden) {
      // An index that is not what it was taken for.
      while (!unfinished && index && result.kb?.index === null) {
        index = index === 'settled' ? 'changing' : null;
        if (alone) result.kb.index = index;
        else result = await run(false, index);
        unfinished = alone;
      }
    }
    for (const passage of result.passages) {
      passage.graph = null;
      passage.rerank = null;
      passage.ordinals = [passage.ordinal];
    }
    return { ...result, unfinished };
  }

  /** The distinct lexemes of each text under the kb's configuration, in the order of the texts. */
  async lexemes(tx: Tx, kbId: string, texts: readonly string[]): Promise<string[][]> {
    return this.lexemesOf(
      tx,
      texts.map(text => ({ kbId, text })),
    );
  }

  /** The same of texts of several kbs, each under its own configuration; none for a kb that is not there. */
  async lexemesOf(tx: Tx, texts: ReadonlyArray<{ kbId: string; text: string }>): Promise<string[][]> {
    const rows = await tx.query<Array<{ lexemes: string[] }>>(
      `SELECT coalesce((SELECT tsvector_to_array(to_tsvector(kb.text_search_configuration,
                                                             lexical_text(input.text, true)))
                        FROM knowledge_bases AS kb WHERE kb.id = input.kb_id), '{}') AS lexemes
       FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS input (kb_id, text, position)
       ORDER BY input.position`,
      [texts.map(({ kbId }) => kbId), texts.map(({ text }) => storable(text))],
    );
    return rows.map(row => row.lexemes);
  }

  /**
   * Words of a kb that begin with one of these; at most 50 for each. Reads every text that the transaction sees there.
   *
   * @param kb id or slug
   * @param beginnings letters and digits alone, in small letters
   */
  async wordsBeginning(tx: Tx, kb: string, beginnings: readonly string[]): Promise<string[]> {
    const rows = await tx.query<Array<{ words: string[] }>>(
      `SELECT ARRAY(
         SELECT word FROM (
           SELECT DISTINCT lower(found[1]) AS word
           FROM chunks, regexp_matches(concat_ws(E'\\n', heading, text), '\\m' || beginning || '[[:alnum:]]*', 'gi') AS found
           WHERE kb_id = (SELECT id FROM knowledge_bases WHERE ${isUuid(kb) ? 'id' : 'slug'} = $1)
         ) AS words
         ORDER BY length(word), word LIMIT ${MOST_WORDS}) AS words
       FROM unnest($2::text[]) AS beginning`,
      [kb, beginnings],
    );
    return rows.flatMap(row => row.words);
  }

  /** Cosines of all pairs of these chunks: of `a` before `b`; none where their vectors cannot be compared. */
  similarities(
    tx: Tx,
    chunkIds: readonly string[],
  ): Promise<Array<{ a: string; b: string; cosine: number }>> {
    return tx.query(
      `SELECT a.chunk_id AS a, b.chunk_id AS b, -(a.embedding <#> b.embedding) AS cosine
       FROM chunk_vectors AS a JOIN chunk_vectors AS b ON a.chunk_id < b.chunk_id
       WHERE a.chunk_id = ANY ($1::uuid[]) AND b.chunk_id = ANY ($1::uuid[])
         AND vector_dims(a.embedding) = vector_dims(b.embedding)`,
      [chunkIds],
    );
  }

  /** Each once, in the order of their documents. */
  chunksIn(tx: Tx, spans: readonly ChunkSpan[]): Promise<StoredChunk[]> {
    return tx.query(
      `SELECT DISTINCT ON (chunk.document_id, chunk.ordinal)
              chunk.document_id, chunk.ordinal, chunk.text, chunk.start_offset, chunk.end_offset
       FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS span (document_id, first, last)
       JOIN chunks AS chunk ON chunk.document_id = span.document_id AND chunk.ordinal BETWEEN span.first AND span.last
       ORDER BY chunk.document_id, chunk.ordinal`,
      [
        spans.map(({ documentId }) => documentId),
        spans.map(({ first }) => first),
        spans.map(({ last }) => last),
      ],
    );
  }
}

function valuesOf({
  kb,
  query,
  embedding,
  mode = 'hybrid',
  fusionWeight,
  topK,
  defaultTopK = CONFIG_FIELDS.top_k.default,
  cosineThreshold,
  defaultCosineThreshold = CONFIG_FIELDS.cosine_threshold.default,
  filter = {},
  phrases = [],
  chunkIds,
}: SearchParameters): SearchValues {
  return {
    kb,
    query: storable(query),
    embedding: embedding && mode !== 'keyword' ? halfvecLiteral(embedding) : null,
    mode,
    fusionWeight,
    topK: topK === undefined ? null : Math.min(topK, MOST_PASSAGES),
    defaultTopK,
    cosineThreshold: cosineThreshold ?? null,
    defaultCosineThreshold,
    ...filterValuesOf(filter),
    phrases: phrases.map(storable),
    chunkIds: chunkIds ?? null,
  };
}

/** For statements with a {@link documentFilter}. */
export function filterValuesOf(filter: DocumentFilter): Pick<SearchValues, FilterValueName> {
  const { contained, path, variables } = filter.metadata ?? {};
  return {
    documentIds: filter.documentIds ?? null,
    createdAfter: filter.createdAfter ?? null,
    createdBefore: filter.createdBefore ?? null,
    contained: contained ? JSON.stringify(contained) : null,
    path: path ?? null,
    variables: variables ? JSON.stringify(variables) : '{}',
  };
}
