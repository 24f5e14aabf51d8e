import { z } from 'zod';
import { metadataCondition, metadataFilterSchema } from './metadata-filter.js';
import type { DocumentFilter, Passage } from './retrieval.repository.js';
import { SEARCH_MODES } from './search-mode.js';

const LONGEST_QUERY = 10_000;

const filterSchema = z
  .strictObject({
    document_ids: z.array(z.uuid()).min(1).max(1000).optional(),
    created_after: z.iso.datetime({ offset: true }).optional().describe('Inclusive'),
    created_before: z.iso.datetime({ offset: true }).optional().describe('Exclusive'),
    metadata: metadataFilterSchema.optional(),
  })
  .meta({ id: 'SearchFilter' });

export const searchFields = {
  query: z
    .string()
    .max(LONGEST_QUERY)
    .refine(query => query.trim() !== '', 'must not be empty')
    .meta({ example: 'How long is the warranty on frames?' }),
  mode: z
    .enum(SEARCH_MODES)
    .default('hybrid')
    .describe(
      'By words and meaning together (`hybrid`), or by one of them (`keyword`, `vector`; `naive` is another name of ' +
        '`vector`). Through the graph: from the entities that the query names (`local`), from relations that are about ' +
        'its themes (`global`), from both (`graph`), or from both and hybrid as well (`mix`, which is `hybrid` where ' +
        'the knowledge base has no graph)',
    ),
  top_k: z
    .int()
    .min(1)
    .max(100)
    .optional()
    .describe('Of the knowledge base’s configuration where it is missing [10]'),
  filter: filterSchema.optional(),
  threshold: z.number().min(0).max(1).optional().describe('Least score of a passage'),
  phrase: z.boolean().optional().describe('Whether "quoted words" of the query must stand together [false]'),
  prefix: z
    .boolean()
    .optional()
    .describe('Whether `word*` stands for every word that begins so; it reads all texts [false]'),
  feedback: z
    .boolean()
    .optional()
    .describe(
      'Whether the query is widened by words of the best passages (pseudo-relevance feedback) [false]. Not done where ' +
        'documents are hidden from the caller.',
    ),
  fusion: z
    .enum(['score', 'rank'])
    .optional()
    .describe('How the legs of a hybrid search are put together [score]'),
  fusion_weight: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe('Share of the vector leg in a hybrid search [that of the embedding model]'),
  mmr: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      'Lambda of maximal marginal relevance: 1 looks at scores alone, less than that keeps passages apart that say the same',
    ),
  rerank: z
    .union([z.boolean(), z.string().trim().min(1).max(200)])
    .optional()
    .describe('Whether a rerank model orders the passages anew, or which one [as configured]'),
  neighbours: z
    .int()
    .min(0)
    .max(10)
    .optional()
    .describe(
      'Chunks before and after each hit that are joined to its passage; hits that touch become one. Chunks stay single where it is missing.',
    ),
};

export const searchSchema = z
  .strictObject({
    ...searchFields,
    include_text: z.boolean().default(true),
    tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
  })
  .meta({ id: 'SearchRequest', example: { query: 'How long is the warranty on frames?', top_k: 5 } });

export const passageSchema = z
  .object({
    chunk_id: z.uuid(),
    document_id: z.uuid(),
    document_title: z.string(),
    kb_id: z.uuid(),
    text: z.string().nullable().describe('Null where `include_text` is false'),
    score: z.number().describe('0 to 1'),
    scores: z.object({
      vector: z.number().nullable().describe('Cosine'),
      keyword: z.number().describe('BM25'),
      graph: z
        .number()
        .nullable()
        .describe('How close the graph brings it to what the query names, 0 to 1; null where none was used'),
      rerank: z.number().nullable().describe('Relevance by the rerank model; null where none was asked'),
    }),
    page: z.int().nullable(),
    heading: z.string().nullable(),
    position: z.int().describe('Ordinal of the chunk in its document, from 0'),
    positions: z.array(z.int()).describe('Ordinals of all chunks that the text is joined from'),
  })
  .meta({ id: 'Passage' });

const graphEntitySchema = z.object({ id: z.uuid(), name: z.string(), type: z.string() }).meta({
  id: 'UsedEntity',
  example: { id: '019aa5b0-6c1c-7c3a-9d0e-3a2f5d2b7c11', name: 'Acme Corp', type: 'organization' },
});

export const searchResultSchema = z
  .object({
    passages: z.array(passageSchema).describe('Best first'),
    mode: z.enum(SEARCH_MODES),
    graph: z
      .object({
        entities: z.array(graphEntitySchema),
        relations: z.array(
          z.object({ source: graphEntitySchema, target: graphEntitySchema, type: z.string() }),
        ),
      })
      .nullable()
      .describe(
        'Entities and relations that led to passages, the most important first; null where no graph was used',
      ),
    reranked: z
      .boolean()
      .describe('Whether a rerank model has ordered the passages; where it failed it has not'),
    usage: z.object({ credits: z.int().describe('Micro-credits that it cost') }),
    latency_ms: z.number(),
  })
  .meta({ id: 'SearchResult' });

export type SearchRequest = z.infer<typeof searchSchema>;
export type SearchFields = z.infer<z.ZodObject<typeof searchFields>>;
export type WirePassage = z.infer<typeof passageSchema>;

export function toPassage(passage: Passage, includeText: boolean): WirePassage {
  return {
    chunk_id: passage.chunk_id,
    document_id: passage.document_id,
    document_title: passage.document_title,
    kb_id: passage.kb_id,
    text: includeText ? passage.text : null,
    score: shownScore(Math.max(passage.score, 0)),
    scores: {
      vector: shownOrNull(passage.cosine),
      keyword: shownScore(passage.bm25),
      graph: shownOrNull(passage.graph),
      rerank: shownOrNull(passage.rerank),
    },
    page: passage.page,
    heading: passage.heading,
    position: passage.ordinal,
    positions: passage.ordinals,
  };
}

/**
 * A score as it is shown, and as thresholds are compared with. Beyond six decimals is noise of halfvec arithmetic;
 * adding 0 makes -0 a plain 0.
 */
export const shownScore = (value: number): number => Math.round(value * 1e6) / 1e6 + 0;

/** Passages of answers that were kept before there were graphs say nothing of them. */
const shownOrNull = (value: number | null | undefined): number | null =>
  value === null || value === undefined ? null : shownScore(value);

export const toFilter = (filter: NonNullable<SearchFields['filter']>): DocumentFilter => ({
  documentIds: filter.document_ids,
  createdAfter: filter.created_after ? new Date(filter.created_after) : undefined,
  createdBefore: filter.created_before ? new Date(filter.created_before) : undefined,
  metadata: filter.metadata && metadataCondition(filter.metadata),
});
