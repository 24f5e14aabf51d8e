import { z } from 'zod';
import { freeJson } from '../../foundation/http/free-json.js';
import { listQuery, pageQuery, pageSchema } from '../../foundation/http/pagination.js';
import { citationSchema } from '../rag-query/rag-query.dto.js';
import { type ChatMessageRow, type ChatSession, type Feedback, MESSAGE_STATUSES } from './chat-session.js';

const titleField = z
  .string()
  .trim()
  .min(1)
  .max(200)
  .refine(title => !/\p{Cc}/u.test(title), 'must not hold control characters')
  .meta({ example: 'How long is the warranty on frames?' });

export const updateChatSessionSchema = z
  .strictObject({
    title: titleField.optional(),
    metadata: freeJson.optional().describe('Replaced whole'),
    tenant_id: z.string().max(63).optional().describe('Only selects, and must agree with the path'),
  })
  .meta({ id: 'UpdateChatSession', example: { title: 'Warranty' } });

const idFilter = z
  .uuid()
  .transform(id => id.toLowerCase())
  .optional();

export const listChatSessionsQuery = listQuery(['last_message_at', 'created_at', 'title'], {
  own: z
    .enum(['true', 'false'])
    .transform(value => value === 'true')
    .optional()
    .describe('Whether to leave out those of others, where one may read them [false]'),
  kb_id: idFilter,
  agent_id: idFilter,
  user_id: idFilter,
  token_id: idFilter,
  external_id: z.string().max(200).optional(),
});

export const feedbackSchema = z
  .strictObject({
    rating: z
      .union([z.literal(1), z.literal(-1)])
      .nullable()
      .optional()
      .describe('1: good, -1: bad'),
    comment: z.string().trim().max(5_000).optional(),
    tenant_id: z.string().max(63).optional().describe('The tenant, where nothing else names it'),
  })
  .meta({ id: 'GiveFeedback', example: { rating: 1, comment: 'Just what I needed.' } });

export const exportQuery = z.strictObject({
  format: z.enum(['json', 'markdown']).default('json'),
  tenant: z.string().max(63).optional().describe('Only selects the tenant; must agree with the path.'),
});

export const chatSessionSchema = z
  .object({
    id: z.uuid(),
    kb_id: z.uuid(),
    agent_id: z.uuid().nullable().describe('Null: the knowledge base itself, or an agent that is gone'),
    user_id: z.uuid().nullable().describe('Whose it is'),
    token_id: z
      .uuid()
      .nullable()
      .describe('The API token whose it is; null for a user’s, and where it is gone'),
    external_id: z.string().nullable().describe('Under which its owner knows it'),
    title: z.string(),
    metadata: freeJson,
    message_count: z.int(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    last_message_at: z.iso.datetime(),
  })
  .meta({ id: 'ChatSession' });

export const chatSessionPageSchema = pageSchema(chatSessionSchema, 'ChatSessionPage');

export const toolCallSchema = z
  .object({
    tool: z.string().meta({ example: 'hybrid_search' }),
    query: z.string(),
    found: z.int().nullable().describe('Passages; null where the search failed'),
  })
  .meta({ id: 'ToolCall' });

const givenFeedbackSchema = z
  .object({
    rating: z.union([z.literal(1), z.literal(-1)]).nullable(),
    comment: z.string(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: 'MessageFeedback' });

export const chatMessageSchema = z
  .object({
    id: z.uuid(),
    session_id: z.uuid(),
    role: z.enum(['user', 'assistant']),
    content: z.string(),
    status: z
      .enum(MESSAGE_STATUSES)
      .describe(
        'interrupted: whoever asked went away; failed: whoever answered did. What was said by then is kept',
      ),
    error_code: z.string().nullable(),
    answered: z
      .boolean()
      .nullable()
      .describe('Null for questions, and answers that did not come to their end'),
    citations: z.array(citationSchema),
    tool_calls: z.array(toolCallSchema).describe('Searches of the agent'),
    model: z.string().nullable(),
    usage: z
      .object({
        prompt_tokens: z.int(),
        completion_tokens: z.int(),
        credits: z.int().describe('Micro-credits'),
      })
      .nullable(),
    latency_ms: z.object({ retrieval: z.number(), generation: z.number() }).nullable(),
    feedback: givenFeedbackSchema.nullable(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: 'ChatMessage' });

export const chatMessagePageSchema = pageSchema(chatMessageSchema, 'ChatMessagePage');
export const listMessagesQuery = pageQuery;

export const exportedChatSchema = z
  .object({ session: chatSessionSchema, messages: z.array(chatMessageSchema) })
  .meta({ id: 'ExportedChat' });

export type ListChatSessions = z.infer<typeof listChatSessionsQuery>;
export type UpdateChatSession = z.infer<typeof updateChatSessionSchema>;
export type GiveFeedback = z.infer<typeof feedbackSchema>;

export function toChatSession(session: ChatSession): z.infer<typeof chatSessionSchema> {
  return {
    id: session.id,
    kb_id: session.kbId,
    agent_id: session.agentId,
    user_id: session.userId,
    token_id: session.tokenId,
    external_id: session.externalId,
    title: session.title,
    metadata: session.metadata as z.infer<typeof freeJson>,
    message_count: session.messageCount,
    created_at: session.createdAt.toISOString(),
    updated_at: session.updatedAt.toISOString(),
    last_message_at: session.lastMessageAt.toISOString(),
  };
}

export function toChatMessage(message: ChatMessageRow): z.infer<typeof chatMessageSchema> {
  const { promptTokens, completionTokens, retrievalMs, generationMs } = message;
  return {
    id: message.id,
    session_id: message.sessionId,
    role: message.role,
    content: message.content,
    status: message.status,
    error_code: message.errorCode,
    answered: message.answered ?? null,
    citations: message.citations ?? [],
    tool_calls: message.toolCalls ?? [],
    model: message.model ?? null,
    usage:
      typeof promptTokens === 'number'
        ? {
            prompt_tokens: promptTokens,
            completion_tokens: completionTokens ?? 0,
            credits: message.credits ?? 0,
          }
        : null,
    latency_ms:
      typeof retrievalMs === 'number' ? { retrieval: retrievalMs, generation: generationMs ?? 0 } : null,
    feedback: message.feedback && toFeedback(message.feedback),
    created_at: message.createdAt.toISOString(),
  };
}

const toFeedback = ({ rating, comment, updatedAt }: Feedback): z.infer<typeof givenFeedbackSchema> => ({
  rating,
  comment,
  updated_at: updatedAt.toISOString(),
});
