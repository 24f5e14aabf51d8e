import type { Citation } from '../rag-query/rag-query.dto.js';

/** Whose a chat is: a user's or an API token's. Neither: the token is gone. */
export interface ChatOwner {
  userId: string | null;
  tokenId: string | null;
}

/** What somebody and a knowledge base, or one of its agents, have said to each other. */
export interface ChatSession extends ChatOwner {
  id: string;
  kbId: string;
  /** Null: the knowledge base itself, or an agent that is gone. */
  agentId: string | null;
  /** Under which its owner knows it. */
  externalId: string | null;
  title: string;
  metadata: Record<string, unknown>;
  messageCount: number;
  createdAt: Date;
  updatedAt: Date;
  lastMessageAt: Date;
}

/** - `interrupted`: whoever asked went away. `failed`: whoever answered did. What had been said by then is kept. */
export const MESSAGE_STATUSES = ['complete', 'interrupted', 'failed'] as const;
export type MessageStatus = (typeof MESSAGE_STATUSES)[number];

/** A search that an agent made for an answer. */
export interface ToolCall {
  tool: string;
  query: string;
  /** Passages; null where the search failed. */
  found: number | null;
}

/** What somebody thinks of an answer. */
export interface Feedback {
  rating: 1 | -1 | null;
  comment: string;
  updatedAt: Date;
}

/** What is kept of an answer beside its text. */
export interface AnswerDetails {
  answered: boolean | null;
  citations: Citation[];
  toolCalls: ToolCall[];
  /** Null where the answer did not come to its end. */
  model: string | null;
  promptTokens: number | null;
  completionTokens: number | null;
  /** Micro-credits. */
  credits: number | null;
  /** Milliseconds. */
  retrievalMs: number | null;
  generationMs: number | null;
}

export interface ChatMessageRow extends Partial<AnswerDetails> {
  id: string;
  sessionId: string;
  role: 'user' | 'assistant';
  content: string;
  status: MessageStatus;
  errorCode: string | null;
  feedback: Feedback | null;
  createdAt: Date;
}
