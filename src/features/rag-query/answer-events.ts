import type { ChatMessage } from '../../core/models/model.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import type { Citation, QueryRequest } from './rag-query.dto.js';

/** How an agent answers: over the knowledge base's configuration, under the request's own fields. */
export interface AnswerBehaviour {
  systemPrompt?: string | null;
  /** Id or name of a chat model. */
  model?: string | null;
  temperature?: number | null;
  maxTokens?: number | null;
}

/** A question, with what was said before it and how it is to be answered. */
export type AskRequest = Omit<QueryRequest, 'stream' | 'include_text' | 'tenant_id' | 'response_format'> & {
  response_format?: QueryRequest['response_format'];
  /** What was said before, the oldest first, without the question itself. */
  history?: readonly ChatMessage[];
  behaviour?: AnswerBehaviour;
  /** Whether it is answered anew in any case: no answer is taken from those that are kept, and none is kept. */
  uncached?: boolean;
};

/** What stands for a model where the answer is quotes. */
export const EXTRACTIVE = 'extractive';

/** Tokens, and micro-credits. */
export interface AnswerUsage {
  promptTokens: number;
  completionTokens: number;
  credits: number;
}

export interface Answer {
  /** False where the documents, or the model, do not answer the question; `answer` says so then. */
  answered: boolean;
  answer: string;
  citations: Citation[];
  /** Everything that was found, best first. */
  passages: Passage[];
  usage: AnswerUsage;
  /** Which model answered; `extractive` where none did. */
  model: string;
  /** Milliseconds. */
  latency: { retrieval: number; generation: number };
  /** Whether it was kept from an earlier, equal question. */
  cached: boolean;
  /** Markers of the model that named no passage, or one of which another says it, and were taken out. */
  removedCitations: number;
}

/** Why an answer ended before its end; as a problem document words it. */
export interface AnswerFailure {
  status: number;
  code: string;
  detail: string;
}

/**
 * An answer as it comes about: `passages` first, then `token` and `citation` as they come, at the end `usage` and `done`.
 * The tokens together are `answer` of `done`, unless that is not `answered`: then there may have been none. A citation
 * comes right before the token with its marker.
 *
 * `error`, in the place of `usage` and `done`: the model failed after `passages`; `answer` is what had been said by then.
 * A failure before `passages` is thrown, and so is the signal's reason once it aborts.
 */
export type AnswerEvent =
  | { type: 'passages'; passages: Passage[] }
  | { type: 'token'; text: string }
  | { type: 'citation'; citation: Citation }
  | { type: 'usage'; usage: AnswerUsage }
  | { type: 'done'; answer: Answer }
  | { type: 'error'; error: AnswerFailure; answer: Answer };
