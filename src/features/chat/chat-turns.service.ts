import { Injectable, Logger } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { ChatMessage } from '../../core/models/model.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import type { Tx } from '../../foundation/database/transaction.js';
import { Problem } from '../../foundation/http/problem.js';
import type { Agent } from '../agents/agent.js';
import { AgentsService } from '../agents/agents.service.js';
import type { KnowledgeBase } from '../knowledge-bases/knowledge-base.entity.js';
import { KnowledgeBasesService } from '../knowledge-bases/knowledge-bases.service.js';
import { HISTORY_MESSAGES, historyOf } from './chat-history.js';
import { ChatMessagesRepository, type NewAnswer } from './chat-messages.repository.js';
import type { ChatSession } from './chat-session.js';
import { ChatSessionsRepository } from './chat-sessions.repository.js';
import { ChatSessionsService } from './chat-sessions.service.js';
import { titleOf } from './chat-title.js';

/** What is said, where, and to whom. With both ids the second is for where the first is none of the caller's chats. */
export interface NewMessage {
  message: string;
  session_id?: string | undefined;
  external_id?: string | undefined;
  agent?: string | undefined;
  metadata?: Record<string, unknown> | undefined;
}

/** A question that has been stored, until its answer is, too. */
export interface Turn {
  id: string;
  kb: KnowledgeBase;
  /** Null: the knowledge base itself answers. */
  agent: Agent | null;
  session: ChatSession;
  /** Whether the session began with this question. */
  isNew: boolean;
  questionId: string;
  /** What was said before, the oldest first. */
  history: ChatMessage[];
}

/** Seconds after which the turn of a process that died is somebody else's. */
const LEASE = 60;
const RENEW_EVERY_MS = 20_000;

/** Takes turns: in a session one message is answered at a time, so that each is answered knowing those before it. */
@Injectable()
export class ChatTurns {
  private readonly logger = new Logger(ChatTurns.name);

  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly knowledgeBases: KnowledgeBasesService,
    private readonly agents: AgentsService,
    private readonly chats: ChatSessionsService,
    private readonly sessions: ChatSessionsRepository,
    private readonly messages: ChatMessagesRepository,
  ) {}

  /**
   * Stores the question in its session, which is made where there is none yet.
   *
   * @throws Problem 404; 409 `session_busy`, `agent_inactive`, `other_agent`; 422 `agent_required`
   */
  begin(kbReference: string, input: NewMessage): Promise<Turn> {
    return this.database.run(async tx => {
      const kb = await this.knowledgeBases.require(tx, kbReference);
      const known = await this.knownById(tx, kb.id, input);
      const asked = await this.agentAsked(tx, kb.id, input.agent, known);
      const { session, isNew } = known
        ? { session: known, isNew: false }
        : await this.session(tx, kb, asked, input);
      requireSameAgent(session, asked);
      const agent = asked ?? (await this.agentOf(tx, session));
      requireActive(agent);
      const turn = { id: uuidv7(), kb, agent, session, isNew, questionId: uuidv7() };
      if (!(await this.sessions.takeTurn(tx, session.id, turn.id, LEASE))) throw busy();
      const before = isNew ? [] : await this.messages.latest(tx, session.id, HISTORY_MESSAGES);
      await this.messages.insertQuestion(tx, {
        id: turn.questionId,
        tenantId: this.context.tenant.id,
        sessionId: session.id,
        content: input.message,
      });
      return { ...turn, history: historyOf(before) };
    });
  }

  /** Keeps the turn until what is returned is called. */
  hold({ session, id }: Turn): () => void {
    const timer = setInterval(() => {
      const renewed = this.database.run(tx => this.sessions.renewTurn(tx, session.id, id, LEASE));
      renewed.catch((error: Error) => this.logger.warn(`A turn was not renewed: ${error.message}`));
    }, RENEW_EVERY_MS);
    timer.unref();
    return () => clearInterval(timer);
  }

  /**
   * Stores what was said, and ends the turn. A session that was deleted meanwhile stays so.
   *
   * @param documentIds what the answer was made from, each once
   */
  async keep(
    turn: Turn,
    answer: Omit<NewAnswer, 'tenantId' | 'sessionId' | 'questionId'>,
    documentIds: readonly string[],
  ): Promise<void> {
    const { session, questionId } = turn;
    await this.database.run(async tx => {
      if (!(await this.sessions.endTurn(tx, session.id, turn.id, 1, documentIds))) return;
      await this.messages.insertAnswer(tx, {
        ...answer,
        questionId,
        tenantId: this.context.tenant.id,
        sessionId: session.id,
      });
    });
  }

  /**
   * As if nobody had asked: nothing was said to it, and whoever asked may ask again. A session that began with it stays
   * where somebody has had a turn there since.
   */
  async takeBack({ id, session, isNew, questionId }: Turn): Promise<void> {
    await this.database.run(async tx => {
      if (isNew && (await this.sessions.deleteInTurn(tx, session.id, id))) return;
      await this.messages.delete(tx, questionId);
      await this.sessions.endTurn(tx, session.id, id, -1);
    });
  }

  /** A token that is kept to one agent asks that one. */
  private agentAsked(
    tx: Tx,
    kbId: string,
    agent: string | undefined,
    known: ChatSession | null,
  ): Promise<Agent | null> {
    if (agent !== undefined) return this.agents.require(tx, kbId, agent);
    const { principal } = this.context;
    if (principal.kind !== 'api_token' || !principal.agentIds || known) return Promise.resolve(null);
    const [only, ...others] = principal.agentIds;
    if (only !== undefined && others.length === 0) return this.agents.require(tx, kbId, only);
    throw Problem.invalid([
      { path: 'agent', code: 'agent_required', message: 'says which of the agents of this token is asked' },
    ]);
  }

  private async agentOf(tx: Tx, { agentId, kbId }: ChatSession): Promise<Agent | null> {
    return agentId === null ? null : this.agents.require(tx, kbId, agentId);
  }

  private async knownById(
    tx: Tx,
    kbId: string,
    { session_id: id, external_id: externalId }: NewMessage,
  ): Promise<ChatSession | null> {
    const found = id ? await this.sessions.findOwn(tx, kbId, this.chats.owner(), id) : null;
    if (id && !found && externalId === undefined) throw Problem.notFound('chat session');
    return found;
  }

  private async session(
    tx: Tx,
    kb: KnowledgeBase,
    agent: Agent | null,
    input: NewMessage,
  ): Promise<{ session: ChatSession; isNew: boolean }> {
    const owner = this.chats.owner();
    const { external_id: externalId = null } = input;
    const made = {
      id: uuidv7(),
      tenantId: kb.tenantId,
      kbId: kb.id,
      agentId: agent?.id ?? null,
      ...owner,
      externalId,
      title: titleOf(input.message),
      metadata: input.metadata ?? {},
    };
    const known = externalId && (await this.sessions.findByExternalId(tx, kb.id, owner, externalId));
    if (!known && (await this.sessions.insert(tx, made))) {
      const session = await this.sessions.findOwn(tx, kb.id, owner, made.id);
      if (session) return { session, isNew: true };
    }
    // Whoever makes it at the same moment has its first turn.
    const found =
      known || (externalId && (await this.sessions.findByExternalId(tx, kb.id, owner, externalId)));
    if (!found) throw busy();
    return { session: found, isNew: false };
  }
}

function requireActive(agent: Agent | null): void {
  if (agent && !agent.isActive) throw Problem.conflict('agent_inactive', 'This agent is not active.');
}

/** What was said so far was said by another one, with other instructions. */
function requireSameAgent(session: ChatSession, agent: Agent | null): void {
  if (!agent || session.agentId === agent.id) return;
  throw Problem.conflict('other_agent', 'This chat is with another agent. Begin a new one.', {
    agent_id: session.agentId,
  });
}

const busy = (): Problem =>
  new Problem(
    409,
    'session_busy',
    'A message of this session is still being answered. Try again after that.',
    {
      headers: { 'retry-after': '1' },
    },
  );
