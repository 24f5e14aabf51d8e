import { z } from 'zod';
import { listQuery, pageSchema } from '../../foundation/http/pagination.js';
import { askFields } from '../rag-query/rag-query.dto.js';
import { EVALUATION_STATUSES, type Evaluation, type EvaluationQuestion, type Outcome } from './evaluation.js';

export const MOST_QUESTIONS = 5_000;
export const MOST_VARIANTS = 8;

const relevantSchema = z
  .strictObject({
    document_id: z.uuid().optional(),
    title: z.string().trim().min(1).max(500).optional().describe('Of the document'),
    source: z.string().min(1).max(2000).optional().describe('The document’s `source_id`, or its address'),
    text: z.string().trim().min(1).max(20_000).optional().describe('What stands in a passage'),
  })
  .refine(item => Object.values(item).filter(value => value !== undefined).length === 1, {
    message: 'names exactly one of document_id, title, source and text',
  })
  .meta({ id: 'RelevantItem' });

export const evaluationQuestionSchema = z
  .strictObject({
    question: z
      .string()
      .max(10_000)
      .refine(question => question.trim() !== '', 'must not be empty'),
    relevant: z
      .array(relevantSchema)
      .max(100)
      .default([])
      .describe('What answers it. Where it is missing, every passage that holds one of the answers'),
    answers: z
      .array(z.string().trim().min(1).max(2000))
      .max(50)
      .default([])
      .describe('Any of them is right: it stands in the answer, in whatever case'),
    answerable: z
      .boolean()
      .nullable()
      .default(null)
      .describe(
        'Whether the documents answer it; null: where something is named that does, and else it is not known',
      ),
  })
  .meta({ id: 'EvaluationQuestion' });

const { query: _query, stream: _stream, include_text: _text, tenant_id: _tenant, ...askSettings } = askFields;

export const variantSchema = z
  .strictObject({
    name: z.string().trim().min(1).max(100),
    answer: z
      .boolean()
      .default(true)
      .describe('Whether an answer is made; otherwise passages are only looked for'),
    ...askSettings,
  })
  .meta({ id: 'EvaluationVariant' });

export const createEvaluationSchema = z
  .strictObject({
    name: z.string().trim().min(1).max(200).optional(),
    questions: z.array(evaluationQuestionSchema).min(1).max(MOST_QUESTIONS),
    variants: z
      .array(variantSchema)
      .min(1)
      .max(MOST_VARIANTS)
      .refine(
        variants => new Set(variants.map(({ name }) => name)).size === variants.length,
        'must have different names',
      )
      .default(() => [variantSchema.parse({ name: 'default' })])
      .describe('Ways of asking, side by side; one that asks as configured where it is missing'),
    tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
  })
  .meta({
    id: 'CreateEvaluation',
    example: {
      name: 'Before the new embedding model',
      questions: [
        {
          question: 'How long is the warranty on frames?',
          relevant: [{ title: 'Warranty' }],
          answers: ['ten years'],
        },
        { question: 'Who won the cup in 1950?', answerable: false },
      ],
      variants: [
        { name: 'hybrid', mode: 'hybrid' },
        { name: 'keyword', mode: 'keyword', answer: false },
      ],
    },
  });

export const listEvaluationsQuery = listQuery(['created_at', 'name'], {
  status: z.enum(EVALUATION_STATUSES).optional(),
  question_set: z
    .string()
    .max(64)
    .optional()
    .describe('Those that asked the same questions, and can be compared'),
});

export const listResultsQuery = listQuery(['question'], {
  variant: z.string().max(100).optional().describe('Name of the variant'),
}).omit({ search: true });

const shareField = (description: string) => z.number().nullable().describe(description);

export const figuresSchema = z
  .object({
    variant: z.string(),
    questions: z.int().describe('That were asked'),
    failed: z.int().describe('That could not be asked; they count in no other figure'),
    judged: z.int().describe('Of which it is known what is relevant: of these the next five are means'),
    recall_at_5: shareField('Share of what is relevant among the first five'),
    recall_at_10: shareField('The same among the first ten'),
    recall: shareField('The same among all that were found'),
    mrr_at_10: shareField('Mean reciprocal rank'),
    ndcg_at_10: shareField('Normalised discounted cumulative gain'),
    answered: shareField('Share of the questions that were answered'),
    answered_answerable: shareField('The same of those that the documents answer'),
    answered_unanswerable: shareField('The same of those that they do not answer'),
    gold_in_answer: shareField('Share of the answers that hold a right one, of those to questions with one'),
    citation_precision: shareField(
      'Share of citations whose passage holds a right answer, or is of what is relevant',
    ),
    latency_ms: z.object({ p50: z.number().nullable(), p95: z.number().nullable() }),
    credits: z.int().describe('Micro-credits'),
    models: z.array(z.string()).describe('Which answered'),
  })
  .meta({ id: 'EvaluationFigures' });

export const evaluationSchema = z
  .object({
    id: z.uuid(),
    kb_id: z.uuid(),
    name: z.string(),
    status: z.enum(EVALUATION_STATUSES),
    progress: z.number().describe('0 to 1'),
    question_count: z.int(),
    question_set: z.string().describe('The same for the same questions'),
    variants: z
      .array(z.record(z.string(), z.json()))
      .describe(
        'As they were asked for; filters and system prompts for whoever has started it and those who see everything',
      ),
    settings: z
      .record(z.string(), z.json())
      .describe(
        'What held in the knowledge base when it began, but for its system prompt; how large it was for those who see ' +
          'everything',
      ),
    figures: z
      .array(figuresSchema)
      .nullable()
      .describe(
        'In the order of the variants; of what was asked where it has ended early. Null until it has ended.',
      ),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    job_id: z.uuid().describe('How far it is can be followed at `/jobs/{job}/events`, too'),
    created_by: z
      .uuid()
      .nullable()
      .describe('The user with whose rights it asks; null where an API token does'),
    token_id: z.uuid().nullable(),
    created_at: z.iso.datetime(),
    started_at: z.iso.datetime().nullable(),
    finished_at: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Evaluation' });

export const evaluationPageSchema = pageSchema(evaluationSchema, 'EvaluationPage');

export const evaluationResultSchema = z
  .object({
    question: z.string(),
    position: z.int().describe('Of the question, from 0'),
    variant: z.string(),
    passages: z
      .array(z.object({ document_id: z.uuid(), chunk_id: z.uuid() }))
      .describe('The first ten, best first'),
    ranking: z
      .object({
        recall_at_5: z.number(),
        recall_at_10: z.number(),
        recall: z.number(),
        mrr_at_10: z.number(),
        ndcg_at_10: z.number(),
      })
      .nullable()
      .describe('Null where it is not known what is relevant'),
    answer: z
      .object({
        answered: z.boolean(),
        holds_gold: z.boolean().nullable(),
        citations: z.int(),
        right_citations: z.int().nullable(),
        model: z.string(),
      })
      .nullable()
      .describe('Null where passages were only looked for'),
    latency_ms: z.number(),
    credits: z.int(),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
  })
  .meta({ id: 'EvaluationResult' });

export const evaluationResultPageSchema = pageSchema(evaluationResultSchema, 'EvaluationResultPage');

export type CreateEvaluation = z.infer<typeof createEvaluationSchema>;
export type ListEvaluations = z.infer<typeof listEvaluationsQuery>;
export type ListResults = z.infer<typeof listResultsQuery>;
export type WireEvaluation = z.infer<typeof evaluationSchema>;

type WireFields = Record<string, z.infer<ReturnType<typeof z.json>>>;

export function toEvaluation(evaluation: Evaluation): WireEvaluation {
  const { questionCount, resultCount, variants, figures } = evaluation;
  return {
    id: evaluation.id,
    kb_id: evaluation.kbId,
    name: evaluation.name,
    status: evaluation.status,
    progress: Math.round((resultCount / (questionCount * variants.length)) * 1000) / 1000,
    question_count: questionCount,
    question_set: evaluation.questionSet,
    variants,
    settings: evaluation.settings as WireFields,
    figures:
      figures?.map(({ latency_p50: p50, latency_p95: p95, ...rest }) => ({
        ...rest,
        latency_ms: { p50, p95 },
      })) ?? null,
    error: evaluation.errorCode
      ? { code: evaluation.errorCode, message: evaluation.errorMessage ?? '' }
      : null,
    job_id: evaluation.jobId,
    created_by: evaluation.userId,
    token_id: evaluation.tokenId,
    created_at: evaluation.createdAt.toISOString(),
    started_at: evaluation.startedAt?.toISOString() ?? null,
    finished_at: evaluation.finishedAt?.toISOString() ?? null,
  };
}

/** An outcome with what it is of. */
export interface ListedOutcome {
  outcome: Outcome;
  position: number;
  question: EvaluationQuestion;
  variant: string;
}

export function toResult({
  outcome,
  position,
  question,
  variant,
}: ListedOutcome): z.infer<typeof evaluationResultSchema> {
  const { passages, ranking, answer, latency, credits, error } = outcome;
  return {
    question: question.question,
    position,
    variant,
    passages,
    ranking,
    answer,
    latency_ms: Math.round(latency * 10) / 10,
    credits,
    error,
  };
}
