import { Injectable, Logger } from '@nestjs/common';
import { CreditsService } from '../../core/credits/credits.service.js';
import { type ChatModel, ModelError } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { type EffectiveConfig, effectiveConfig } from '../../core/tenancy/tenant-config.js';
import { TenantContext } from '../../core/tenancy/tenant-context.js';
import { TenantDatabase } from '../../core/tenancy/tenant-database.js';
import { TenantDirectory } from '../../core/tenancy/tenant-directory.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { Problem } from '../../foundation/http/problem.js';
import { ANSWER_PASSAGES } from '../retrieval/ranking.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import { type Retrieved, RetrievalService } from '../retrieval/retrieval.service.js';
import type { KeptAnswer } from './answer-cache.repository.js';
import { AnswerCacheService } from './answer-cache.service.js';
import { type Answer, type AnswerEvent, type AskRequest, EXTRACTIVE } from './answer-events.js';
import { answerFailure } from './answer-failure.js';
import { type AskedKb, AskedKbsRepository } from './asked-kbs.repository.js';
import { candidateSentences, extractiveAnswer } from './extractive-answer.js';
import { GeneratedAnswerService } from './generated-answer.service.js';
import { PaidChatService } from './paid-chat.service.js';
import {
  LONGEST_STANDALONE,
  joinedQuestion,
  readStandalone,
  standalonePrompt,
} from './standalone-question.js';

/** What is asked, of whom, and how. */
interface Plan {
  kbs: AskedKb[];
  ids: string[];
  /** What holds in the knowledge base; in several at once, in the tenant. */
  config: EffectiveConfig;
  /** Null: answers are quoted. */
  chat: ChatModel | null;
  json: boolean;
  /** Under which the answer is kept; null where it is not. */
  key: Buffer | null;
}

/** Answers with citations: quoted sentences, or what a chat model makes of the passages where one is set. */
@Injectable()
export class RagQueryService {
  private readonly logger = new Logger(RagQueryService.name);

  constructor(
    private readonly context: TenantContext,
    private readonly database: TenantDatabase,
    private readonly directory: TenantDirectory,
    private readonly features: FeaturesService,
    private readonly models: ModelsService,
    private readonly retrieval: RetrievalService,
    private readonly credits: CreditsService,
    private readonly usage: UsageService,
    private readonly askedKbs: AskedKbsRepository,
    private readonly cache: AnswerCacheService,
    private readonly paidChat: PaidChatService,
    private readonly generated: GeneratedAnswerService,
  ) {}

  /**
   * Answers from one or several knowledge bases, step by step; returns the whole. Whoever calls it has made sure that the
   * question may be asked in each of them. Closing the generator, or aborting the signal, stops the model.
   *
   * @param kbs ids or slugs, at least one; what is not there for the caller is a 404
   * @throws before the first event alone: Problem 402, 404, 409 `embedding_model_changed`, 422, 429 · ModelError; at any
   *   time the signal's reason
   */
  async *stream(
    kbs: readonly string[],
    request: AskRequest,
    signal: AbortSignal,
  ): AsyncGenerator<AnswerEvent, Answer> {
    const draft = newDraft();
    let begun = false;
    try {
      for await (const event of this.steps(kbs, request, signal, draft, true)) {
        begun = true;
        yield event;
      }
    } catch (error) {
      if (!begun || signal.aborted) throw error;
      yield { type: 'error', error: answerFailure(error, this.logger), answer: draft };
    }
    return draft;
  }

  /** The whole answer at once. @throws as {@link stream}, but at any time */
  async ask(kbs: readonly string[], request: AskRequest, signal: AbortSignal): Promise<Answer> {
    const draft = newDraft();
    const steps = this.steps(kbs, request, signal, draft, false);
    while (!(await steps.next()).done);
    return draft;
  }

  /** @param draft becomes the answer, step by step */
  private async *steps(
    references: readonly string[],
    request: AskRequest,
    signal: AbortSignal,
    draft: Answer,
    streamed: boolean,
  ): AsyncGenerator<AnswerEvent, void> {
    const started = performance.now();
    const plan = await this.plan(references, request);
    draft.model = plan.chat?.name ?? EXTRACTIVE;
    const kept = plan.key && (await this.cache.find(plan.key));
    if (kept) {
      yield* this.repeat(plan, kept, draft, started);
      return;
    }
    const spending = await this.credits.begin({
      operation: 'query',
      lines: await this.retrieval.costLines(request, plan.ids),
    });
    let paid = false;
    let rerankFailed = false;
    try {
      const question = await this.standalone(plan, request, signal, draft);
      const search = { ...request, query: question };
      const { retrieved, extended: lexemes = [] } = await this.retrieval.searchMany(
        plan.ids,
        search,
        signal,
        // A model gets to its first word while the words of the passages are looked at.
        async (tx, { result }) => (plan.chat ? [] : this.retrieval.lexemesOf(tx, quotable(result.passages))),
      );
      spending.used(...retrieved.lines);
      rerankFailed = retrieved.rerankFailed;
      draft.usage.credits += retrieved.credits;
      draft.passages = retrieved.result.passages;
      draft.latency.retrieval = performance.now() - started;
      if (plan.chat) yield* this.generate(plan, plan.chat, request, retrieved, draft, { signal, streamed });
      else yield* this.extract(plan, retrieved, lexemes, draft);
      draft.latency.generation = performance.now() - started - draft.latency.retrieval;
      draft.usage.credits += await spending.commit();
      paid = true;
    } finally {
      // What was said is paid for, also where nobody hears the end of it. Without it the search costs nothing either.
      if (!paid && draft.answer !== '')
        draft.usage.credits += await spending.commit().catch((error: Error) => {
          this.logger.warn(`An answer that ended early was not paid for: ${error.message}`);
          return 0;
        });
      else if (!paid) await spending.release('the operation failed');
    }
    // What a fallback said, or without the reranking that was wanted, is not the answer that is wanted the next time.
    const isWhole = draft.passages.length > 0 && draft.model === plan.chat?.name && !rerankFailed;
    const keeping = plan.key && isWhole ? this.cache.keep(plan.key, plan.kbs, keptOf(draft)) : null;
    try {
      yield { type: 'usage', usage: draft.usage };
      yield { type: 'done', answer: draft };
    } finally {
      // Nobody waits for it to hear the end of the answer; whoever has heard that asks again after it.
      await keeping;
    }
  }

  /** @throws Problem 404, 422 */
  private async plan(references: readonly string[], request: AskRequest): Promise<Plan> {
    const kbs = await this.database.run(tx => this.askedKbs.find(tx, references));
    const [first] = kbs ?? [];
    if (!kbs || !first) throw Problem.notFound('knowledge base');
    const ofTenant = (await this.directory.find(this.context.tenant.id))?.config ?? {};
    const config = kbs.length === 1 ? effectiveConfig(ofTenant, first.config) : effectiveConfig(ofTenant);
    const choice = request.model ?? request.behaviour?.model ?? config.llm_model;
    const chat = (await this.features.get('generated_answers')) ? await this.models.chat(choice) : null;
    const isCached =
      chat !== null && config.enable_llm_cache && !request.history?.length && !request.uncached;
    return {
      kbs,
      ids: kbs.map(({ id }) => id),
      config,
      chat,
      json: request.response_format === 'json',
      key: isCached
        ? this.cache.keyOf({ kbs, config, models: [chat.name, await this.models.version()], request })
        : null,
    };
  }

  /** What was answered before: the question alone is paid for. */
  private async *repeat(
    plan: Plan,
    kept: KeptAnswer,
    draft: Answer,
    started: number,
  ): AsyncGenerator<AnswerEvent, void> {
    if (plan.kbs.length === 1) this.usage.note({ kbId: plan.kbs[0]?.id });
    const { credits } = await this.credits.spend(
      { operation: 'query', lines: [{ operation: 'query', quantity: 1 }] },
      () => Promise.resolve(),
    );
    Object.assign(draft, kept, { cached: true });
    draft.usage.credits = credits;
    draft.latency.retrieval = performance.now() - started;
    yield { type: 'passages', passages: draft.passages };
    yield* told(draft);
    yield { type: 'usage', usage: draft.usage };
    yield { type: 'done', answer: draft };
  }

  /** The question as it can be searched for, without what was said before it. */
  private async standalone(
    { chat }: Plan,
    { query, history = [] }: AskRequest,
    signal: AbortSignal,
    draft: Answer,
  ): Promise<string> {
    if (history.length === 0) return query;
    const joined = joinedQuestion(query, history);
    if (!chat) return joined;
    const prompt = standalonePrompt(query, history, chat.contextTokens);
    const options = { temperature: 0, maxTokens: LONGEST_STANDALONE, whole: true, signal };
    const call = await this.paidChat.open(chat, prompt, options, draft.usage);
    try {
      let reply = '';
      for await (const delta of call.deltas()) reply += delta;
      return readStandalone(reply) ?? joined;
    } catch (error) {
      if (signal.aborted || !(error instanceof ModelError)) throw error;
      this.logger.warn(`A question was not put together with its conversation: ${error.message}`);
      return joined;
    }
  }

  private async *generate(
    plan: Plan,
    chat: ChatModel,
    request: AskRequest,
    { result }: Retrieved,
    draft: Answer,
    { signal, streamed }: { signal: AbortSignal; streamed: boolean },
  ): AsyncGenerator<AnswerEvent, void> {
    const { config, json } = plan;
    const { behaviour = {} } = request;
    const systemPrompt = request.system_prompt ?? behaviour.systemPrompt ?? config.system_prompt;
    yield* this.generated.answer(chat, draft, {
      question: request.query,
      result,
      history: request.history ?? [],
      systemPrompt,
      temperature: request.temperature ?? behaviour.temperature ?? config.llm_temperature,
      maxTokens: request.max_tokens ?? behaviour.maxTokens ?? config.llm_max_tokens,
      json,
      streamed,
      signal,
    });
  }

  private async *extract(
    { json }: Plan,
    { result, models }: Retrieved,
    lexemes: string[][],
    draft: Answer,
  ): AsyncGenerator<AnswerEvent, void> {
    yield { type: 'passages', passages: draft.passages };
    const candidates = candidateSentences(result.passages.slice(0, ANSWER_PASSAGES));
    const { answered, answer, citations } = extractiveAnswer(result, candidates, lexemes, models);
    Object.assign(draft, { answered, answer: json ? JSON.stringify({ answer }) : answer, citations });
    yield* told(draft);
  }
}

const newDraft = (): Answer => ({
  answered: false,
  answer: '',
  citations: [],
  passages: [],
  usage: { promptTokens: 0, completionTokens: 0, credits: 0 },
  model: EXTRACTIVE,
  latency: { retrieval: 0, generation: 0 },
  cached: false,
  removedCitations: 0,
});

/** Of an answer that is there as a whole. What says that there is none is no token of it. */
function* told({ answered, answer, citations }: Answer): Generator<AnswerEvent, void> {
  if (!answered) return;
  for (const citation of citations) yield { type: 'citation', citation };
  yield { type: 'token', text: answer };
}

const keptOf = ({ answered, answer, citations, passages, model, removedCitations }: Answer): KeptAnswer => ({
  answered,
  answer,
  citations,
  passages,
  model,
  removedCitations,
});

/** The sentences of those passages that may be quoted. */
const quotable = (passages: readonly Passage[]) =>
  candidateSentences(passages.slice(0, ANSWER_PASSAGES)).map(({ passage, quote }) => ({
    kbId: passage.kb_id,
    text: quote,
  }));
