import { z } from 'zod';
import { passageSchema, searchFields } from '../retrieval/retrieval.dto.js';

export const querySchema = z
  .strictObject({
    ...searchFields,
    temperature: z.number().min(0).max(2).optional(),
    max_tokens: z.int().min(1).max(100_000).optional(),
    system_prompt: z.string().max(20_000).optional().describe('Instead of the knowledge base’s own'),
    include_text: z.boolean().default(true).describe('Whether passages carry their text'),
    tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
  })
  .meta({ id: 'QueryRequest', example: { query: 'How long is the warranty on frames?' } });

export const citationSchema = z
  .object({
    index: z.int().describe('The n of [n] in the answer, from 1'),
    chunk_id: z.uuid(),
    document_id: z.uuid(),
    title: z.string(),
    quote: z.string().describe('Verbatim from the document'),
    page: z.int().nullable(),
  })
  .meta({ id: 'Citation' });

export const answerSchema = z
  .object({
    answer: z
      .string()
      .meta({ example: 'Frames carry a warranty of ten years from the day of purchase. [1]' }),
    answered: z.boolean().describe('False where the documents do not answer the question'),
    citations: z.array(citationSchema),
    passages: z.array(passageSchema),
    usage: z.object({
      prompt_tokens: z.int(),
      completion_tokens: z.int(),
      credits: z.int().describe('Micro-credits that it cost'),
    }),
    model: z.string().describe('"extractive" where no chat model is set'),
    latency_ms: z.object({ retrieval: z.number(), generation: z.number() }),
  })
  .meta({ id: 'Answer' });

export type QueryRequest = z.infer<typeof querySchema>;
export type Citation = z.infer<typeof citationSchema>;
