import type { AskRequest } from '../rag-query/answer-events.js';

export const EVALUATION_STATUSES = ['queued', 'running', 'done', 'failed', 'cancelled'] as const;
export type EvaluationStatus = (typeof EVALUATION_STATUSES)[number];

/** What answers a question: a document, by one of its names, or a text that stands in a passage. Exactly one is given. */
export interface RelevantItem {
  document_id?: string | undefined;
  title?: string | undefined;
  /** The document's `source_id` or address. */
  source?: string | undefined;
  text?: string | undefined;
}

/** A question, and what is known of its answer. */
export interface EvaluationQuestion {
  question: string;
  relevant: RelevantItem[];
  /** Any of them is right. */
  answers: string[];
  /** Whether the documents answer it; null: not known. */
  answerable: boolean | null;
}

/** A way of asking: the fields of a search or question that differ from what holds in the knowledge base. */
export type EvaluationVariant = Omit<AskRequest, 'query' | 'history' | 'behaviour' | 'uncached'> & {
  name: string;
  /** Whether an answer is made, or passages are only looked for. */
  answer: boolean;
};

/** A row of `evaluations`. */
export interface Evaluation {
  id: string;
  kbId: string;
  name: string;
  startedAs: 'user' | 'api_token' | 'system';
  userId: string | null;
  tokenId: string | null;
  jobId: string;
  status: EvaluationStatus;
  questionCount: number;
  questionSet: string;
  variants: EvaluationVariant[];
  settings: Record<string, unknown>;
  /** Questions in variants that have been asked. */
  resultCount: number;
  figures: VariantFigures[] | null;
  errorCode: string | null;
  errorMessage: string | null;
  createdAt: Date;
  updatedAt: Date;
  startedAt: Date | null;
  finishedAt: Date | null;
}

/** What came of one question in one variant: ids and figures, no text of any document. */
export interface Outcome {
  /** The best passages, best first. */
  passages: Array<{ document_id: string; chunk_id: string }>;
  /** Null where nothing says what is relevant. */
  ranking: {
    recall_at_5: number;
    recall_at_10: number;
    recall: number;
    mrr_at_10: number;
    ndcg_at_10: number;
  } | null;
  /** Null where passages were only looked for. */
  answer: {
    answered: boolean;
    /** Whether a right answer stands in it; null where none is known. */
    holds_gold: boolean | null;
    citations: number;
    /** Null where nothing says what is right. */
    right_citations: number | null;
    model: string;
  } | null;
  /** Milliseconds. */
  latency: number;
  /** Micro-credits. */
  credits: number;
  /** Why there is none; everything else is empty then. */
  error: { code: string; message: string } | null;
}

/** The outcomes of one variant, put together. Null: nothing to make the figure of. Questions that failed count in `failed` alone. */
export interface VariantFigures {
  variant: string;
  questions: number;
  failed: number;
  /** Questions of which it is known what is relevant. */
  judged: number;
  recall_at_5: number | null;
  recall_at_10: number | null;
  recall: number | null;
  mrr_at_10: number | null;
  ndcg_at_10: number | null;
  answered: number | null;
  answered_answerable: number | null;
  answered_unanswerable: number | null;
  gold_in_answer: number | null;
  citation_precision: number | null;
  latency_p50: number | null;
  latency_p95: number | null;
  credits: number;
  models: string[];
}

/** Where the `step`-th of all questions in all variants stands. */
export interface Step {
  question: number;
  variant: number;
}

/**
 * Questions come one after the other, each in all variants. What a question's first variant has paid for, such as its vector,
 * the others find remembered: each variant is the first as often as the others.
 */
export function stepOf(step: number, variants: number): Step {
  const question = Math.floor(step / variants);
  return { question, variant: (question + step) % variants };
}
