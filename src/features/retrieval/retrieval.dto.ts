import { z } from 'zod';
import { freeJson } from '../../foundation/http/free-json.js';
import type { Passage } from './retrieval.repository.js';

const LONGEST_QUERY = 10_000;

const filterSchema = z
  .strictObject({
    document_ids: z.array(z.uuid()).min(1).max(1000).optional(),
    created_after: z.iso.datetime({ offset: true }).optional().describe('Inclusive'),
    created_before: z.iso.datetime({ offset: true }).optional().describe('Exclusive'),
    metadata: freeJson
      .optional()
      .describe('Contained in the document’s metadata')
      .meta({ example: { department: 'support' } }),
  })
  .meta({ id: 'SearchFilter' });

export const searchFields = {
  query: z
    .string()
    .max(LONGEST_QUERY)
    .refine(query => query.trim() !== '', 'must not be empty')
    .meta({ example: 'How long is the warranty on frames?' }),
  mode: z.enum(['hybrid', 'vector', 'keyword']).default('hybrid'),
  top_k: z
    .int()
    .min(1)
    .max(100)
    .optional()
    .describe('Of the knowledge base’s configuration where it is missing [10]'),
  filter: filterSchema.optional(),
  threshold: z.number().min(0).max(1).optional().describe('Least score of a passage'),
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
    }),
    page: z.int().nullable(),
    heading: z.string().nullable(),
    position: z.int().describe('Ordinal of the chunk in its document, from 0'),
  })
  .meta({ id: 'Passage' });

export const searchResultSchema = z
  .object({
    passages: z.array(passageSchema).describe('Best first'),
    mode: z.enum(['hybrid', 'vector', 'keyword']),
    usage: z.object({ credits: z.int().describe('Micro-credits that it cost') }),
    latency_ms: z.number(),
  })
  .meta({ id: 'SearchResult' });

export type SearchRequest = z.infer<typeof searchSchema>;
export type SearchFields = z.infer<z.ZodObject<typeof searchFields>>;
export type WirePassage = z.infer<typeof passageSchema>;

export function toPassage(passage: Passage, kbId: string, includeText: boolean): WirePassage {
  return {
    chunk_id: passage.chunk_id,
    document_id: passage.document_id,
    document_title: passage.document_title,
    kb_id: kbId,
    text: includeText ? passage.text : null,
    score: shownScore(Math.max(passage.score, 0)),
    scores: {
      vector: passage.cosine === null ? null : shownScore(passage.cosine),
      keyword: shownScore(passage.bm25),
    },
    page: passage.page,
    heading: passage.heading,
    position: passage.ordinal,
  };
}

/**
 * A score as it is shown, and as thresholds are compared with. Beyond six decimals is noise of halfvec arithmetic;
 * adding 0 makes -0 a plain 0.
 */
export const shownScore = (value: number): number => Math.round(value * 1e6) / 1e6 + 0;
