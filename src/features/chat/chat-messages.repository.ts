import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import type { AnswerDetails, ChatMessageRow, Feedback, MessageStatus } from './chat-session.js';

const MESSAGE = `
  m.id, m.session_id AS "sessionId", m.role, m.content, m.status, m.error_code AS "errorCode", m.answered, m.citations,
  m.tool_calls AS "toolCalls", m.model, m.prompt_tokens AS "promptTokens", m.completion_tokens AS "completionTokens",
  m.credits::float8 AS credits, m.retrieval_ms AS "retrievalMs", m.generation_ms AS "generationMs",
  m.created_at AS "createdAt",
  CASE WHEN f.message_id IS NOT NULL THEN
    json_build_object('rating', f.rating, 'comment', f.comment, 'updatedAt', f.updated_at) END AS feedback
  FROM chat_messages m LEFT JOIN message_feedback f ON f.message_id = m.id`;

/** Behind the last question of the session $3 and its answer, which may be still to come. */
const NEXT_POSITION =
  '(SELECT (coalesce(max(position), 0) + 1) / 2 * 2 + 1 FROM chat_messages WHERE session_id = $3)';

/** What somebody asked. */
export interface NewQuestion {
  id: string;
  tenantId: string;
  sessionId: string;
  content: string;
}

/** What was said to it. */
export interface NewAnswer extends NewQuestion, AnswerDetails {
  questionId: string;
  status: MessageStatus;
  errorCode: string | null;
}

/** How feedback comes out of JSON. */
type FeedbackRow = Omit<Feedback, 'updatedAt'> & { updatedAt: string };

/** Messages of chats of the transaction's tenant; of which chats, the database says as it does of the chats themselves. */
@Injectable()
export class ChatMessagesRepository {
  async find(tx: Tx, id: string): Promise<ChatMessageRow | null> {
    const rows: StoredMessage[] = await tx.query(`SELECT ${MESSAGE} WHERE m.id = $1`, [id]);
    return rows[0] ? toMessage(rows[0]) : null;
  }

  /** Of a session, the oldest first. */
  async list(tx: Tx, sessionId: string, page: number, pageSize: number): Promise<Page<ChatMessageRow>> {
    const items: StoredMessage[] = await tx.query(
      `SELECT ${MESSAGE} WHERE m.session_id = $1 ORDER BY m.position LIMIT $2 OFFSET $3`,
      [sessionId, pageSize, (page - 1) * pageSize],
    );
    const [{ total }]: [{ total: number }] = await tx.query(
      'SELECT count(*)::int AS total FROM chat_messages WHERE session_id = $1',
      [sessionId],
    );
    return { items: items.map(toMessage), total };
  }

  /** What was said last in a session, the oldest first. */
  async latest(
    tx: Tx,
    sessionId: string,
    limit: number,
  ): Promise<Array<Pick<ChatMessageRow, 'role' | 'content'>>> {
    const rows: Array<Pick<ChatMessageRow, 'role' | 'content'>> = await tx.query(
      'SELECT role, content FROM chat_messages WHERE session_id = $1 ORDER BY position DESC LIMIT $2',
      [sessionId, limit],
    );
    return rows.toReversed();
  }

  async insertQuestion(tx: Tx, question: NewQuestion): Promise<void> {
    await tx.query(
      `INSERT INTO chat_messages (id, tenant_id, session_id, position, role, content)
       VALUES ($1, $2, $3, ${NEXT_POSITION}, 'user', $4)`,
      [question.id, question.tenantId, question.sessionId, question.content],
    );
  }

  /** Right behind its question, whatever was said since by whoever had the next turn. */
  async insertAnswer(tx: Tx, answer: NewAnswer): Promise<void> {
    await tx.query(
      `INSERT INTO chat_messages (id, tenant_id, session_id, position, role, content, status, error_code, answered,
                                  citations, tool_calls, model, prompt_tokens, completion_tokens, credits, retrieval_ms,
                                  generation_ms)
       SELECT $1, $2, $3, position + 1, 'assistant', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
       FROM chat_messages WHERE id = $16`,
      [
        answer.id,
        answer.tenantId,
        answer.sessionId,
        answer.content,
        answer.status,
        answer.errorCode,
        answer.answered,
        JSON.stringify(answer.citations),
        JSON.stringify(answer.toolCalls),
        answer.model,
        answer.promptTokens,
        answer.completionTokens,
        answer.credits,
        answer.retrievalMs,
        answer.generationMs,
        answer.questionId,
      ],
    );
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM chat_messages WHERE id = $1', [id]);
  }

  /** In the place of what was thought before. */
  async putFeedback(
    tx: Tx,
    messageId: string,
    tenantId: string,
    { rating, comment }: Pick<Feedback, 'rating' | 'comment'>,
  ): Promise<void> {
    await tx.query(
      `INSERT INTO message_feedback (message_id, tenant_id, rating, comment) VALUES ($1, $2, $3, $4)
       ON CONFLICT (message_id) DO UPDATE
         SET rating = excluded.rating, comment = excluded.comment, updated_at = now()`,
      [messageId, tenantId, rating, comment],
    );
  }

  async deleteFeedback(tx: Tx, messageId: string): Promise<void> {
    await tx.query('DELETE FROM message_feedback WHERE message_id = $1', [messageId]);
  }

  /** Some of those that are older than so many days; their sessions stay. @returns how many went */
  async deleteExpired(tx: Tx, days: number, limit: number): Promise<number> {
    const rows: Array<{ count: number }> = await tx.query(
      `WITH gone AS (
         DELETE FROM chat_messages WHERE id IN (
           SELECT id FROM chat_messages WHERE created_at < now() - make_interval(days => $1) LIMIT $2)
         RETURNING session_id
       ), counted AS (
         UPDATE chat_sessions s SET message_count = s.message_count - g.count
         FROM (SELECT session_id, count(*)::int AS count FROM gone GROUP BY session_id) g WHERE s.id = g.session_id
       )
       SELECT count(*)::int AS count FROM gone`,
      [days, limit],
    );
    return rows[0]?.count ?? 0;
  }
}

type StoredMessage = Omit<ChatMessageRow, 'feedback'> & { feedback: FeedbackRow | null };

const toMessage = ({ feedback, ...message }: StoredMessage): ChatMessageRow => ({
  ...message,
  feedback: feedback && { ...feedback, updatedAt: new Date(feedback.updatedAt) },
});
