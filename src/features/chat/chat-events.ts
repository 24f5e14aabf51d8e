import type { Passage } from '../retrieval/retrieval.repository.js';
import type { Answer, AnswerEvent, AnswerFailure } from '../rag-query/answer-events.js';
import type { ToolCall } from './chat-session.js';
import type { Turn } from './chat-turns.service.js';

/** What an agent does for an answer: a search that it makes, and what came of it. */
export type AgentEvent =
  | { type: 'tool_call'; id: string; tool: string; query: string }
  /** `passages` with the numbers that the agent knows them by; null where the search failed. */
  | {
      type: 'tool_result';
      id: string;
      tool: string;
      passages: ReadonlyArray<{ number: number; passage: Passage }> | null;
    };

/** An answer with where it is kept. */
export interface ChatAnswer {
  turn: Turn;
  answer: Answer;
  messageId: string;
  toolCalls: readonly ToolCall[];
}

/**
 * A chat as it goes on: `session` first, then what the answer's own events tell. `done` and `error` come once what was said
 * has been stored; `messageId` is null where there was nothing to store.
 */
export type ChatEvent =
  | { type: 'session'; turn: Turn }
  | Exclude<AnswerEvent, { type: 'done' } | { type: 'error' }>
  | AgentEvent
  | ({ type: 'done' } & ChatAnswer)
  | { type: 'error'; error: AnswerFailure; messageId: string | null };
