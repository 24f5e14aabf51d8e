import { z } from 'zod';
import { serverSentEvent } from '../../foundation/http/event-stream.js';
import { freeJson } from '../../foundation/http/free-json.js';
import { toAnswer, toUsage } from '../rag-query/answer-wire.js';
import { answerSchema } from '../rag-query/rag-query.dto.js';
import { searchFields, toPassage } from '../retrieval/retrieval.dto.js';
import type { ChatAnswer, ChatEvent } from './chat-events.js';
import { toolCallSchema } from './chat-sessions.dto.js';
import type { Turn } from './chat-turns.service.js';

const { query: messageField, mode, ...searching } = searchFields;

const nameOfChat = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .refine(id => !/\p{Cc}/u.test(id), 'must not hold control characters')
  .optional()
  .describe('A name of the caller’s own for the chat: the first message under it begins it')
  .meta({ example: 'user_123' });

const chatFields = {
  message: messageField.meta({ example: 'How long is the warranty on frames?' }),
  agent: z
    .string()
    .min(1)
    .max(63)
    .optional()
    .describe('Id or slug of the agent that answers a new chat; without one the knowledge base itself does')
    .meta({ example: 'support-bot' }),
  metadata: freeJson.optional().describe('Of a new chat'),
  mode: mode.describe('How it is searched where no agent answers'),
  ...searching,
  temperature: z.number().min(0).max(2).optional(),
  max_tokens: z.int().min(1).max(100_000).optional().describe('Of the answer at most'),
  stream: z.boolean().default(false).describe('Whether to answer with server-sent events'),
  include_text: z.boolean().default(true).describe('Whether passages carry their text'),
  tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
};

export const chatSchema = z
  .strictObject({
    ...chatFields,
    session_id: z
      .uuid()
      .transform(id => id.toLowerCase())
      .optional()
      .describe('The chat that goes on; a new one begins where neither this nor external_id names one'),
    external_id: nameOfChat,
  })
  .refine(({ session_id, external_id }) => session_id === undefined || external_id === undefined, {
    path: ['external_id'],
    message: 'names the chat beside session_id: one of them will do',
  })
  .meta({
    id: 'ChatRequest',
    example: { message: 'How long is the warranty on frames?', agent: 'support-bot' },
  });

/** Of clients that know no more than one address, and name a chat as they like. */
export const chatByAddressSchema = z
  .strictObject({
    ...chatFields,
    session_id: nameOfChat.describe('A name of the caller’s own for the chat, or its id'),
    tenant_id: z.string().max(63).optional().describe('The tenant, where nothing else names it'),
  })
  .meta({
    id: 'ChatByAddressRequest',
    example: { tenant_id: 'acme-corp', session_id: 'user_123', message: 'What are the quarterly results?' },
  });

export const chatAnswerSchema = answerSchema
  .extend({
    session_id: z.uuid().describe('Of the chat, to go on with'),
    message_id: z.uuid().describe('Of the answer, to say what one thinks of it'),
    agent_id: z.uuid().nullable(),
    tool_calls: z.array(toolCallSchema).describe('Searches of the agent'),
  })
  .meta({ id: 'ChatAnswer' });

export type ChatRequest = z.infer<typeof chatSchema>;
export type ChatByAddressRequest = z.infer<typeof chatByAddressSchema>;

/** What looks like an id may be a client's own name for a chat, too: it is where no chat of the caller has that id. */
export function toChatRequest({ session_id: name, ...request }: ChatByAddressRequest): ChatRequest {
  const isId = name !== undefined && z.uuid().safeParse(name).success;
  return { ...request, external_id: name, ...(isId && { session_id: name.toLowerCase() }) };
}

export function toChatAnswer(
  { turn, answer, messageId, toolCalls }: ChatAnswer,
  includeText: boolean,
): z.infer<typeof chatAnswerSchema> {
  return {
    ...toAnswer(answer, includeText),
    session_id: turn.session.id,
    message_id: messageId,
    agent_id: turn.agent?.id ?? null,
    tool_calls: [...toolCalls],
  };
}

/** As they are written: each event under its type, with its data as the API document describes them. */
export async function* toServerSentEvents(
  events: AsyncIterable<ChatEvent>,
  about: { includeText: boolean; requestId: string | null },
): AsyncGenerator<string, void> {
  for await (const event of events) yield serverSentEvent(event.type, JSON.stringify(dataOf(event, about)));
}

function dataOf(
  event: ChatEvent,
  { includeText, requestId }: { includeText: boolean; requestId: string | null },
): object {
  switch (event.type) {
    case 'session':
      return toSession(event.turn);
    case 'tool_call':
      return { id: event.id, tool: event.tool, arguments: { query: event.query } };
    case 'tool_result':
      return {
        id: event.id,
        tool: event.tool,
        found: event.passages?.length ?? null,
        passages: (event.passages ?? []).map(({ number, passage }) => ({
          number,
          ...toPassage(passage, includeText),
        })),
      };
    case 'passages':
      return { passages: event.passages.map(passage => toPassage(passage, includeText)) };
    case 'token':
      return { text: event.text };
    case 'citation':
      return event.citation;
    case 'usage':
      return toUsage(event.usage);
    case 'done':
      return toChatAnswer(event, includeText);
    case 'error':
      return { ...event.error, request_id: requestId, message_id: event.messageId };
  }
}

const toSession = ({ session, agent, isNew, questionId }: Turn) => ({
  session_id: session.id,
  question_id: questionId,
  agent_id: agent?.id ?? null,
  title: session.title,
  is_new: isNew,
});
