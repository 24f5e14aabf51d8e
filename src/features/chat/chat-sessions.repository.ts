import { Injectable } from '@nestjs/common';
import type { Tx } from '../../foundation/database/transaction.js';
import { type Page, likePattern, orderBy } from '../../foundation/http/pagination.js';
import type { ReadableKbs } from '../knowledge-bases/knowledge-bases.repository.js';
import type { ChatOwner, ChatSession } from './chat-session.js';
import type { ListChatSessions } from './chat-sessions.dto.js';

const SORTABLE = { last_message_at: 'last_message_at', created_at: 'created_at', title: 'lower(title)' };

const SESSION = `
  id, kb_id AS "kbId", agent_id AS "agentId", user_id AS "userId", token_id AS "tokenId", external_id AS "externalId",
  title, metadata, message_count AS "messageCount", created_at AS "createdAt", updated_at AS "updatedAt",
  last_message_at AS "lastMessageAt"`;

/** Which chats somebody may read: their own in some knowledge bases, everybody's in others. Null: in none. */
export interface ReadableChats {
  owner: ChatOwner;
  own: ReadableKbs | null;
  all: ReadableKbs | null;
}

/** Gathers the parameters of a statement. */
class Parameters {
  readonly values: unknown[] = [];

  add(value: unknown): string {
    return `$${this.values.push(value)}`;
  }
}

/**
 * Chat sessions of the transaction's tenant. Whatever is asked for here, the database shows whoever acts their own, unless
 * the transaction was opened to all with {@link readAll}.
 */
@Injectable()
export class ChatSessionsRepository {
  /** Opens the rest of this transaction, which must only read, to everybody's chats. */
  async readAll(tx: Tx): Promise<void> {
    await tx.query(`SET LOCAL app.chats = 'all'`);
  }

  async find(tx: Tx, id: string, readable: ReadableChats): Promise<ChatSession | null> {
    const parameters = new Parameters();
    const rows: ChatSession[] = await tx.query(
      `SELECT ${SESSION} FROM chat_sessions WHERE id = ${parameters.add(id)} AND ${isReadable(readable, parameters)}`,
      parameters.values,
    );
    return rows[0] ?? null;
  }

  /** One's own in this knowledge base. */
  async findOwn(tx: Tx, kbId: string, owner: ChatOwner, id: string): Promise<ChatSession | null> {
    const rows: ChatSession[] = await tx.query(
      `SELECT ${SESSION} FROM chat_sessions WHERE id = $1 AND kb_id = $2 AND (user_id = $3 OR token_id = $4)`,
      [id, kbId, owner.userId, owner.tokenId],
    );
    return rows[0] ?? null;
  }

  async findByExternalId(
    tx: Tx,
    kbId: string,
    owner: ChatOwner,
    externalId: string,
  ): Promise<ChatSession | null> {
    const rows: ChatSession[] = await tx.query(
      `SELECT ${SESSION} FROM chat_sessions
       WHERE kb_id = $1 AND external_id = $2 AND (user_id = $3 OR token_id = $4)`,
      [kbId, externalId, owner.userId, owner.tokenId],
    );
    return rows[0] ?? null;
  }

  async list(tx: Tx, query: ListChatSessions, readable: ReadableChats): Promise<Page<ChatSession>> {
    const parameters = new Parameters();
    const conditions = [isReadable(readable, parameters)];
    const filters: Array<[column: string, value: string | undefined]> = [
      ['kb_id', query.kb_id],
      ['agent_id', query.agent_id],
      ['user_id', query.user_id],
      ['token_id', query.token_id],
      ['external_id', query.external_id],
    ];
    for (const [column, value] of filters) {
      if (value !== undefined) conditions.push(`${column} = ${parameters.add(value)}`);
    }
    if (query.own) conditions.push(isOwn(readable.owner, parameters));
    if (query.search) conditions.push(`title ILIKE ${parameters.add(likePattern(query.search))}`);
    const where = conditions.join(' AND ');
    const items: ChatSession[] = await tx.query(
      `SELECT ${SESSION} FROM chat_sessions WHERE ${where} ORDER BY ${orderBy(query.sort, SORTABLE)}, id
       LIMIT ${query.page_size} OFFSET ${(query.page - 1) * query.page_size}`,
      parameters.values,
    );
    const [{ total }]: [{ total: number }] = await tx.query(
      `SELECT count(*)::int AS total FROM chat_sessions WHERE ${where}`,
      parameters.values,
    );
    return { items, total };
  }

  /** @returns false where its owner has another one under this external id, perhaps since a moment ago */
  async insert(
    tx: Tx,
    session: Pick<ChatSession, 'id' | 'kbId' | 'agentId' | 'userId' | 'tokenId'> &
      Pick<ChatSession, 'externalId' | 'title' | 'metadata'> & { tenantId: string },
  ): Promise<boolean> {
    const rows: unknown[] = await tx.query(
      `INSERT INTO chat_sessions (id, tenant_id, kb_id, agent_id, user_id, token_id, external_id, title, metadata)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING id`,
      [
        session.id,
        session.tenantId,
        session.kbId,
        session.agentId,
        session.userId,
        session.tokenId,
        session.externalId,
        session.title,
        JSON.stringify(session.metadata),
      ],
    );
    return rows.length === 1;
  }

  /**
   * Makes it nobody else's turn for `seconds`, and counts the question.
   *
   * @returns false where it is somebody else's
   */
  async takeTurn(tx: Tx, id: string, turnId: string, seconds: number): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE chat_sessions
       SET turn_id = $2, turn_ends_at = now() + make_interval(secs => $3), message_count = message_count + 1,
           updated_at = now(), last_message_at = now()
       WHERE id = $1 AND (turn_id IS NULL OR turn_ends_at < now()) RETURNING id`,
      [id, turnId, seconds],
    );
    return rows.length === 1;
  }

  async renewTurn(tx: Tx, id: string, turnId: string, seconds: number): Promise<void> {
    await tx.query(
      `UPDATE chat_sessions SET turn_ends_at = now() + make_interval(secs => $3) WHERE id = $1 AND turn_id = $2`,
      [id, turnId, seconds],
    );
  }

  /**
   * Ends the turn, and counts. A turn that somebody else has by now stays theirs.
   *
   * @param messages that were added to the session; less than 0: taken from it
   * @param documentIds what the added ones were made from, each once
   * @returns false where the session is gone
   */
  async endTurn(
    tx: Tx,
    id: string,
    turnId: string,
    messages: number,
    documentIds: readonly string[] = [],
  ): Promise<boolean> {
    const [rows]: [unknown[]] = await tx.query(
      `UPDATE chat_sessions
       SET turn_id = CASE WHEN turn_id = $2 THEN NULL ELSE turn_id END,
           turn_ends_at = CASE WHEN turn_id = $2 THEN NULL ELSE turn_ends_at END,
           message_count = message_count + $3, updated_at = now(), last_message_at = now(),
           document_ids = document_ids || ARRAY(
             SELECT added FROM unnest($4::uuid[]) AS added WHERE added <> ALL (document_ids))
       WHERE id = $1 RETURNING id`,
      [id, turnId, messages, documentIds],
    );
    return rows.length === 1;
  }

  /** What is left out stays as it is. */
  async update(
    tx: Tx,
    id: string,
    changes: { title: string | undefined; metadata: Record<string, unknown> | undefined },
  ): Promise<void> {
    await tx.query(
      `UPDATE chat_sessions SET title = coalesce($2, title), metadata = coalesce($3, metadata), updated_at = now()
       WHERE id = $1`,
      [id, changes.title ?? null, changes.metadata ? JSON.stringify(changes.metadata) : null],
    );
  }

  async delete(tx: Tx, id: string): Promise<void> {
    await tx.query('DELETE FROM chat_sessions WHERE id = $1', [id]);
  }

  /** @returns false where it is not the turn of this one any more, or the session is gone */
  async deleteInTurn(tx: Tx, id: string, turnId: string): Promise<boolean> {
    const [, count]: [unknown, number] = await tx.query(
      'DELETE FROM chat_sessions WHERE id = $1 AND turn_id = $2',
      [id, turnId],
    );
    return count > 0;
  }

  /** Some of those in which nothing was said for so many days. @returns how many went */
  async deleteExpired(tx: Tx, days: number, limit: number): Promise<number> {
    const [, count]: [unknown, number] = await tx.query(
      `DELETE FROM chat_sessions WHERE id IN (
         SELECT id FROM chat_sessions WHERE last_message_at < now() - make_interval(days => $1) LIMIT $2 FOR UPDATE)`,
      [days, limit],
    );
    return count;
  }
}

function isReadable({ owner, own, all }: ReadableChats, parameters: Parameters): string {
  return `(${isIn(all, parameters)} OR (${isIn(own, parameters)} AND ${isOwn(owner, parameters)}))`;
}

const isOwn = ({ userId, tokenId }: ChatOwner, parameters: Parameters): string =>
  tokenId ? `token_id = ${parameters.add(tokenId)}` : `user_id = ${parameters.add(userId)}`;

function isIn(kbs: ReadableKbs | null, parameters: Parameters): string {
  if (kbs === null) return 'false';
  if (kbs === 'all') return 'true';
  const granted = `id = ANY (${parameters.add(kbs.granted)}::uuid[])`;
  return `kb_id IN (SELECT id FROM knowledge_bases WHERE ${kbs.open ? `visibility = 'tenant' OR ` : ''}${granted})`;
}
