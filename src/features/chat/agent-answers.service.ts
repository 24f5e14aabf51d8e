import { Injectable, Logger } from '@nestjs/common';
import { setMaxListeners } from 'node:events';
import { CreditsService } from '../../core/credits/credits.service.js';
import {
  type ChatMessage,
  type ChatModel,
  type LangchainModel,
  ModelError,
} from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import type { EffectiveConfig } from '../../core/tenancy/tenant-config.js';
import { UsageService } from '../../core/usage/usage.service.js';
import type { Agent } from '../agents/agent.js';
import type { Answer, AnswerEvent } from '../rag-query/answer-events.js';
import { answerFailure } from '../rag-query/answer-failure.js';
import { promptTooLong } from '../rag-query/answer-prompt.js';
import { RetrievalService } from '../retrieval/retrieval.service.js';
import { AgentAnswer, type AgentTask } from './agent-answer.js';
import { AgentEvidence } from './agent-evidence.js';
import { agentPrompt, budgetOf, roomForHistory } from './agent-prompt.js';
import { runAgent } from './agent-run.js';
import type { AgentEvent } from './chat-events.js';
import { newestOf } from './chat-history.js';
import { EventChannel } from './event-channel.js';

/** What an agent is asked. */
export interface AgentQuestion {
  kbId: string;
  agent: Agent;
  chat: ChatModel;
  /** Of the knowledge base. */
  config: EffectiveConfig;
  question: string;
  /** What was said before, the oldest first. */
  history: readonly ChatMessage[];
  /** Of the request, over the agent's. */
  temperature?: number | undefined;
  maxTokens?: number | undefined;
  search: AgentTask['search'];
}

/** Tokens of passages without which an agent cannot answer anything. */
const LEAST_PASSAGES = 500;

/** Answers of agents that choose for themselves what to search for. */
@Injectable()
export class AgentAnswers {
  private readonly logger = new Logger(AgentAnswers.name);

  constructor(
    private readonly retrieval: RetrievalService,
    private readonly credits: CreditsService,
    private readonly quotas: QuotasService,
    private readonly usage: UsageService,
    private readonly models: ModelsService,
  ) {}

  /**
   * Searches and answers, step by step; returns the whole. Closing the generator, or aborting the signal, stops the agent.
   * What fails once something was told of it is told as `error`.
   *
   * @throws Problem 402, 404, 422 `prompt_too_long`, 429 · ModelError: before the first event alone
   */
  async *stream(
    asked: AgentQuestion,
    signal: AbortSignal,
  ): AsyncGenerator<AgentEvent | AnswerEvent, Answer | null> {
    const { agent, chat, config, question } = asked;
    const history = newestOf(asked.history, roomForHistory(chat.contextTokens));
    const own = agent.systemPrompt ?? config.system_prompt;
    const wanted = asked.maxTokens ?? agent.maxTokens ?? config.llm_max_tokens;
    const { passages, answer: maxTokens } = budgetOf(
      chat.contextTokens,
      [agentPrompt('', own), question, ...history.map(({ content }) => content)],
      { maxTokens: wanted, maxSteps: agent.toolConfig.max_steps },
    );
    if (passages < LEAST_PASSAGES) throw promptTooLong(chat.contextTokens);
    const evidence = new AgentEvidence(passages, [question, own ?? '']);
    const stop = new AbortController();
    // Each of its calls and searches listens for it.
    setMaxListeners(0, stop.signal);
    const temperature = asked.temperature ?? agent.temperature ?? config.llm_temperature;
    const models = await chat.langchain({ temperature, maxTokens, signal: stop.signal });
    const rerank = await this.rerankerOf(asked);
    const abort = () => stop.abort(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    const events = new EventChannel<AgentEvent | AnswerEvent>();
    const { retrieval, credits, quotas, usage } = this;
    const answer = new AgentAnswer(
      { retrieval, credits, quotas, usage },
      {
        kbId: asked.kbId,
        agent,
        models,
        rerank,
        evidence,
        maxTokens,
        search: asked.search,
        signal: stop.signal,
        tell: event => events.push(event),
      },
    );
    const run = {
      model: (models[0] as LangchainModel).model,
      tools: agent.enabledTools,
      maxSteps: agent.toolConfig.max_steps,
      systemPrompt: agentPrompt(evidence.mark, own),
      history,
      question,
      signal: stop.signal,
    };
    const working = runAgent(run, answer).then(
      () => events.end(),
      (error: unknown) => events.fail(error),
    );
    let begun = false;
    try {
      for await (const event of events) {
        begun = true;
        yield event;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!begun) throw error;
      yield { type: 'error', error: answerFailure(error, this.logger), answer: answer.answer };
      return null;
    } finally {
      signal.removeEventListener('abort', abort);
      // Whoever takes no more wants no more to be done; what was used by then is still paid for.
      stop.abort(new Error('Nobody waits for this answer any more.'));
      await working;
    }
    const whole = answer.answer;
    yield { type: 'usage', usage: whole.usage };
    yield { type: 'done', answer: whole };
    return whole;
  }

  /** The name of what orders its findings anew: it has a price, which only counts where an answer may not cost more. */
  private async rerankerOf({ agent, config, search }: AgentQuestion): Promise<string | null> {
    if (agent.toolConfig.max_credits === null || !(search.rerank ?? config.enable_rerank)) return null;
    const choice = typeof search.rerank === 'string' ? search.rerank : config.rerank_model;
    const model = await this.models.rerank(choice).catch((error: unknown) => {
      // The search itself says so, or does without.
      if (error instanceof ModelError) return null;
      throw error;
    });
    return model?.name ?? null;
  }
}
