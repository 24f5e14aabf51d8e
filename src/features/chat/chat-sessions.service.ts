import { Injectable } from '@nestjs/common';
import { AuditService } from '../../core/audit/audit.service.js';
import { AuthorizationService } from '../../core/authorization/authorization.service.js';
import { type Permission, tenantDomain } from '../../core/authorization/permissions.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import type { Page } from '../../foundation/http/pagination.js';
import { Problem } from '../../foundation/http/problem.js';
import type { ReadableKbs } from '../knowledge-bases/knowledge-bases.repository.js';
import { ChatMessagesRepository } from './chat-messages.repository.js';
import type { ChatMessageRow, ChatOwner, ChatSession } from './chat-session.js';
import type { GiveFeedback, ListChatSessions, UpdateChatSession } from './chat-sessions.dto.js';
import { ChatSessionsRepository, type ReadableChats } from './chat-sessions.repository.js';

/** Chats of the context's tenant: one's own to read and to change, everybody's to read with `chat:read_all`. */
@Injectable()
export class ChatSessionsService {
  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly authorization: AuthorizationService,
    private readonly sessions: ChatSessionsRepository,
    private readonly messages: ChatMessagesRepository,
    private readonly audit: AuditService,
  ) {}

  async list(query: ListChatSessions): Promise<Page<ChatSession>> {
    const readable = await this.readable();
    return this.read(readable, tx => this.sessions.list(tx, query, readable));
  }

  /** @throws Problem 404 */
  async get(id: string): Promise<ChatSession> {
    const readable = await this.readable();
    return this.read(readable, tx => this.require(tx, id, readable));
  }

  /** @throws Problem 404 */
  async listMessages(id: string, page: number, pageSize: number): Promise<Page<ChatMessageRow>> {
    const readable = await this.readable();
    return this.read(readable, async tx => {
      await this.require(tx, id, readable);
      return this.messages.list(tx, id, page, pageSize);
    });
  }

  /** One's own. @throws Problem 404 */
  async update(id: string, { title, metadata }: UpdateChatSession): Promise<ChatSession> {
    const own = await this.own();
    return this.database.run(async tx => {
      const { kbId } = await this.require(tx, id, own);
      await this.sessions.update(tx, id, { title, metadata });
      // What is said in a chat, and in its title, is nobody else's.
      this.audit.record(tx, {
        action: 'chat.updated',
        resource: { type: 'chat_session', id },
        details: { kb_id: kbId },
      });
      return this.require(tx, id, own);
    });
  }

  /** One's own, with its messages. @throws Problem 404 */
  async delete(id: string): Promise<void> {
    const own = await this.own();
    await this.database.run(async tx => {
      const { kbId, messageCount } = await this.require(tx, id, own);
      await this.sessions.delete(tx, id);
      this.audit.record(tx, {
        action: 'chat.deleted',
        resource: { type: 'chat_session', id },
        details: { kb_id: kbId, message_count: messageCount },
      });
    });
  }

  /**
   * Says what one thinks of an answer that one was given, in the place of what one has said before; nothing takes it back.
   *
   * @throws Problem 404, 409 `not_an_answer`
   */
  async rate(messageId: string, { rating = null, comment = '' }: GiveFeedback): Promise<ChatMessageRow> {
    const own = await this.own();
    return this.database.run(async tx => {
      const message = await this.messages.find(tx, messageId);
      const session = message && (await this.sessions.find(tx, message.sessionId, own));
      if (!session) throw Problem.notFound('message');
      if (message.role !== 'assistant') {
        throw Problem.conflict('not_an_answer', 'This is a question; say what you think of its answer.');
      }
      if (rating === null && comment === '') await this.messages.deleteFeedback(tx, messageId);
      else await this.messages.putFeedback(tx, messageId, this.context.tenant.id, { rating, comment });
      this.audit.record(tx, {
        action: 'chat.answer_rated',
        resource: { type: 'message', id: messageId },
        details: { kb_id: session.kbId, agent_id: session.agentId, rating },
      });
      return (await this.messages.find(tx, messageId)) as ChatMessageRow;
    });
  }

  /** Whose the chats of this request are. */
  owner(): ChatOwner {
    const { principal } = this.context;
    if (principal.kind === 'api_token') return { userId: null, tokenId: principal.tokenId };
    return { userId: this.context.userId, tokenId: null };
  }

  /** Of a request that was let in for one thing, whether it may do this, too. @throws Problem 403 */
  async requireOwn(kbReference: string): Promise<void> {
    const { subject, tenant } = this.context;
    if (await this.authorization.canInKb(subject, tenant.id, kbReference, 'chat:own')) return;
    throw Problem.forbidden('This needs the permission chat:own.');
  }

  private async require(tx: Tx, id: string, readable: ReadableChats): Promise<ChatSession> {
    const session = await this.sessions.find(tx, id, readable);
    if (!session) throw Problem.notFound('chat session');
    return session;
  }

  /** Opens the transaction to others' chats for those alone who may read some. */
  private read<T>({ all }: ReadableChats, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.database.run(async tx => {
      if (all !== null) await this.sessions.readAll(tx);
      return work(tx);
    });
  }

  private async readable(): Promise<ReadableChats> {
    const [own, all] = await Promise.all([this.kbsWith('chat:own'), this.kbsWith('chat:read_all')]);
    return { owner: this.owner(), own, all };
  }

  private async own(): Promise<ReadableChats> {
    return { owner: this.owner(), own: await this.kbsWith('chat:own'), all: null };
  }

  /** A role in the tenant opens what is open, a grant its own knowledge base. */
  private async kbsWith(permission: Permission): Promise<ReadableKbs | null> {
    const { subject, tenant, access } = this.context;
    const open = await this.authorization.can(subject, tenantDomain(tenant.id), permission);
    if (open && access.all) return 'all';
    const granted = await this.authorization.kbsGranted(subject, tenant.id, permission);
    return open || granted.length > 0 ? { open, granted } : null;
  }
}
