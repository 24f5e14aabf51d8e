import { z } from 'zod';
import { passageSchema, searchFields } from '../retrieval/retrieval.dto.js';

export const askFields = {
  ...searchFields,
  model: z
    .string()
    .trim()
    .min(1)
    .max(200)
    .optional()
    .describe('Id or name of the chat model that answers [as configured]'),
  temperature: z.number().min(0).max(2).optional(),
  max_tokens: z
    .int()
    .min(1)
    .max(100_000)
    .optional()
    .describe('Of the answer at most, and no more than half of the model’s context'),
  system_prompt: z.string().max(20_000).optional().describe('Instead of the knowledge base’s own'),
  response_format: z
    .enum(['text', 'json'])
    .default('text')
    .describe(
      'With `json` the answer is a JSON object, as the question or the system prompt describes it, or else {"answer": …}',
    ),
  stream: z.boolean().default(false).describe('Whether to answer with server-sent events'),
  include_text: z.boolean().default(true).describe('Whether passages carry their text'),
  tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
};

export const querySchema = z
  .strictObject(askFields)
  .meta({ id: 'QueryRequest', example: { query: 'How long is the warranty on frames?' } });

export const MOST_KBS = 50;

export const tenantQuerySchema = z
  .strictObject({
    ...askFields,
    kbs: z
      .array(z.string().min(1).max(200))
      .min(1)
      .max(MOST_KBS)
      .nullable()
      .default(null)
      .describe('Ids or slugs of knowledge bases; null: all active ones that the caller may ask'),
  })
  .meta({
    id: 'TenantQueryRequest',
    example: { query: 'How long is the warranty on frames?', kbs: ['products', 'support'] },
  });

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
    removed_citations: z
      .int()
      .describe(
        'Markers of the model that named no passage, or one of which another says it, and were taken out',
      ),
    passages: z.array(passageSchema),
    usage: z.object({
      prompt_tokens: z.int(),
      completion_tokens: z.int(),
      credits: z.int().describe('Micro-credits that it cost'),
    }),
    model: z.string().describe('Which one answered; "extractive" where no chat model is set'),
    cached: z
      .boolean()
      .describe('Whether the answer was kept from an equal question; it cost no call of a model then'),
    latency_ms: z.object({ retrieval: z.number(), generation: z.number() }),
  })
  .meta({ id: 'Answer' });

export type QueryRequest = z.infer<typeof querySchema>;
export type TenantQueryRequest = z.infer<typeof tenantQuerySchema>;
export type Citation = z.infer<typeof citationSchema>;
export type WireAnswer = z.infer<typeof answerSchema>;
