import { Injectable, Logger } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { ModelsService } from '../../core/models/models.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { Problem } from '../../foundation/http/problem.js';
import { modeOf } from '../agents/agent.js';
import type { AnswerEvent } from '../rag-query/answer-events.js';
import { RagQueryService } from '../rag-query/rag-query.service.js';
import { AgentAnswers } from './agent-answers.service.js';
import type { AgentEvent, ChatAnswer, ChatEvent } from './chat-events.js';
import { Said } from './chat-said.js';
import type { MessageStatus } from './chat-session.js';
import { ChatSessionsService } from './chat-sessions.service.js';
import { ChatTurns, type Turn } from './chat-turns.service.js';
import type { ChatRequest } from './chat.dto.js';

/**
 * Chats: a message is answered knowing what was said before it, by the knowledge base itself or one of its agents, and both
 * are kept; also what had been said when the model failed or whoever asked went away.
 */
@Injectable()
export class ChatService {
  private readonly logger = new Logger(ChatService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly directory: TenantDirectory,
    private readonly features: FeaturesService,
    private readonly models: ModelsService,
    private readonly usage: UsageService,
    private readonly chats: ChatSessionsService,
    private readonly turns: ChatTurns,
    private readonly ragQuery: RagQueryService,
    private readonly agentAnswers: AgentAnswers,
  ) {}

  /** The whole answer. @throws Problem as {@link stream}, or what the answer ended with in its middle · ModelError */
  async ask(kbReference: string, request: ChatRequest, signal: AbortSignal): Promise<ChatAnswer> {
    for await (const event of this.stream(kbReference, request, signal)) {
      if (event.type === 'done') return event;
      if (event.type === 'error') {
        const { status, code, detail } = event.error;
        throw new Problem(status, code, detail, status === 503 ? { headers: { 'retry-after': '5' } } : {});
      }
    }
    throw new Error('An answer has ended without its end.');
  }

  /**
   * The answer step by step. Closing the generator, or aborting the signal, stops whoever answers.
   *
   * @throws Problem 402, 403, 404, 409 `session_busy`, `agent_inactive`, `other_agent`, 422, 429 · ModelError: before the
   *   first event alone, and then as if nobody had asked
   */
  async *stream(
    kbReference: string,
    request: ChatRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ChatEvent, void> {
    await this.chats.requireOwn(kbReference);
    const turn = await this.turns.begin(kbReference, request);
    this.usage.note({ kbId: turn.kb.id, ...(turn.agent && { agentId: turn.agent.id }) });
    const letGo = this.turns.hold(turn);
    const said = new Said();
    const events = this.answers(turn, request, signal);
    let told = false;
    let stored = false;
    try {
      for (let next = await events.next(); !next.done; next = await events.next()) {
        // Not before it is clear that there will be an answer: until then it can be refused as a whole.
        if (!told && request.stream) yield { type: 'session', turn };
        told = true;
        const event = next.value;
        said.hear(event);
        if (event.type === 'done' || event.type === 'error') {
          const last = await this.end(turn, said, event, request.stream);
          stored = true;
          yield last;
          return;
        }
        yield event;
      }
    } catch (error) {
      if (!stored)
        await this.giveUp(turn, said, told && request.stream, signal.aborted ? 'interrupted' : 'failed');
      stored = true;
      throw error;
    } finally {
      letGo();
      await events.return(undefined);
      // Whoever asked takes no more: what was said by now was said.
      if (!stored) await this.giveUp(turn, said, told && request.stream, 'interrupted');
    }
  }

  private async *answers(
    turn: Turn,
    { message, stream: _stream, include_text: _text, tenant_id: _tenant, ...request }: ChatRequest,
    signal: AbortSignal,
  ): AsyncGenerator<AnswerEvent | AgentEvent, void> {
    const { kb, agent, history } = turn;
    const {
      session_id: _session,
      external_id: _external,
      agent: _agent,
      metadata: _metadata,
      ...fields
    } = request;
    const { temperature, max_tokens: maxTokens, mode, top_k: topK, ...search } = fields;
    const tenant = await this.directory.find(this.context.tenant.id);
    const config = effectiveConfig(tenant?.config ?? {}, kb.config);
    if (agent && agent.enabledTools.length > 0 && (await this.features.get('generated_answers'))) {
      const chat = await this.models.chat(agent.model ?? config.llm_model);
      if (chat) {
        const asked = { kbId: kb.id, agent, chat, config, question: message, history, search };
        yield* this.agentAnswers.stream({ ...asked, temperature, maxTokens }, signal);
        return;
      }
    }
    yield* this.ragQuery.stream(
      [kb.id],
      {
        ...fields,
        query: message,
        mode: agent ? modeOf(agent) : mode,
        top_k: topK,
        response_format: 'text',
        history,
        ...(agent && {
          behaviour: {
            systemPrompt: agent.systemPrompt,
            model: agent.model,
            temperature: agent.temperature,
            maxTokens: agent.maxTokens,
          },
        }),
      },
      signal,
    );
  }

  private async end(
    turn: Turn,
    said: Said,
    event: Extract<AnswerEvent, { type: 'done' } | { type: 'error' }>,
    streams: boolean,
  ): Promise<ChatEvent> {
    if (event.type === 'error' && !streams && said.text === '') {
      await this.turns.takeBack(turn);
      return { type: 'error', error: event.error, messageId: null };
    }
    const messageId = uuidv7();
    const documentIds = [...said.documentIds];
    if (event.type === 'error') {
      const failed = { status: 'failed' as const, errorCode: event.error.code };
      const details = said.details(null);
      await this.turns.keep(turn, { id: messageId, content: said.text, ...failed, ...details }, documentIds);
      return { type: 'error', error: event.error, messageId };
    }
    const { answer } = event;
    const complete = { status: 'complete' as const, errorCode: null };
    const details = said.details(answer);
    await this.turns.keep(
      turn,
      { id: messageId, content: answer.answer, ...complete, ...details },
      documentIds,
    );
    return { type: 'done', turn, answer, messageId, toolCalls: said.toolCalls };
  }

  /** Of an answer without an end: keeps what somebody may have read, or has been said; else it is as if nobody had asked. */
  private async giveUp(turn: Turn, said: Said, told: boolean, status: MessageStatus): Promise<void> {
    if (told || said.text !== '') {
      const answer = { id: uuidv7(), content: said.text, status, errorCode: null, ...said.details(null) };
      try {
        return await this.turns.keep(turn, answer, [...said.documentIds]);
      } catch (error) {
        this.logger.warn(`What was said in a chat was not stored: ${(error as Error).message}`);
      }
    }
    // Also where nothing can be stored: the session is not to wait for its turn to end by itself.
    try {
      await this.turns.takeBack(turn);
    } catch (error) {
      this.logger.warn(`A turn in a chat was not ended: ${(error as Error).message}`);
    }
  }
}
