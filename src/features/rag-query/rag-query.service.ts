import { Injectable } from '@nestjs/common';
import { CreditsService } from '../../core/credits/credits.service.js';
import type { ChatCompletion, ChatMessage, ChatModel, ChatOptions } from '../../core/models/model.js';
import { ModelsService } from '../../core/models/models.service.js';
import { estimateTokens } from '../../foundation/extraction/token-estimate.js';
import { QuotasService } from '../../core/quotas/quotas.service.js';
import { FeaturesService } from '../../core/tenancy/features.service.js';
import { UsageService } from '../../core/usage/usage.service.js';
import { ANSWER_PASSAGES, termWeights } from '../retrieval/ranking.js';
import type { Passage } from '../retrieval/retrieval.repository.js';
import { type Retrieved, RetrievalService } from '../retrieval/retrieval.service.js';
import { type Candidate, NOT_FOUND, candidateSentences, extractiveAnswer } from './extractive-answer.js';
import { buildPrompt, passagesForPrompt, readAnswer } from './generated-answer.js';
import type { Citation, QueryRequest } from './rag-query.dto.js';

export interface Answer {
  answered: boolean;
  answer: string;
  citations: Citation[];
  kbId: string;
  passages: Passage[];
  /** Tokens, and micro-credits. */
  usage: { promptTokens: number; completionTokens: number; credits: number };
  model: string;
  /** Milliseconds. */
  latency: { retrieval: number; generation: number };
}

/** What both ways of answering rest on. */
interface Evidence {
  passages: Passage[];
  candidates: Candidate[];
  lexemes: string[][];
}

const EXTRACTIVE = 'extractive';

/** Answers with citations: quoted sentences, or what a chat model makes of the passages where one is set. */
@Injectable()
export class RagQueryService {
  constructor(
    private readonly retrieval: RetrievalService,
    private readonly models: ModelsService,
    private readonly features: FeaturesService,
    private readonly usage: UsageService,
    private readonly credits: CreditsService,
    private readonly quotas: QuotasService,
  ) {}

  /** @throws Problem 402, 404, 409 `embedding_model_changed`, 429 · ModelError */
  async ask(kbReference: string, request: QueryRequest, signal: AbortSignal): Promise<Answer> {
    // Around the answer, which is paid for by itself once its prompt is known: without it the search costs nothing either.
    const { result: answer, credits } = await this.credits.spend(
      { operation: 'query', lines: this.retrieval.costLines(request) },
      () => this.searchAndAnswer(kbReference, request, signal),
    );
    return { ...answer, usage: { ...answer.usage, credits: answer.usage.credits + credits } };
  }

  private async searchAndAnswer(
    kbReference: string,
    request: QueryRequest,
    signal: AbortSignal,
  ): Promise<Answer> {
    const started = performance.now();
    const chat = (await this.features.get('generated_answers')) ? this.models.chat() : null;
    const { retrieved, extended: evidence } = await this.retrieval.search(
      kbReference,
      request,
      signal,
      async (tx, { kb, result }): Promise<Evidence> => {
        const passages = chat
          ? passagesForPrompt(result.passages)
          : result.passages.slice(0, ANSWER_PASSAGES);
        const candidates = candidateSentences(passages);
        const lexemes = await this.retrieval.lexemes(
          tx,
          kb.id,
          candidates.map(({ quote }) => quote),
        );
        return { passages, candidates, lexemes };
      },
    );
    const found = performance.now();
    const generated = await this.answer(chat, request, retrieved, evidence as Evidence, signal);
    return {
      ...generated,
      kbId: retrieved.kb.id,
      passages: retrieved.result.passages,
      latency: { retrieval: found - started, generation: performance.now() - found },
    };
  }

  private async answer(
    chat: ChatModel | null,
    request: QueryRequest,
    { config, result, embeddingModel }: Retrieved,
    { passages, candidates, lexemes }: Evidence,
    signal: AbortSignal,
  ): Promise<Pick<Answer, 'answered' | 'answer' | 'citations' | 'usage' | 'model'>> {
    const usage = { promptTokens: 0, completionTokens: 0, credits: 0 };
    if (!chat)
      return { ...extractiveAnswer(result, candidates, lexemes, embeddingModel), usage, model: EXTRACTIVE };
    const model = config.llm_model ?? chat.name;
    if (passages.length === 0) return { answered: false, answer: NOT_FOUND, citations: [], usage, model };
    await this.quotas.requireLlmTokens();
    const prompt = buildPrompt(request.query, passages, request.system_prompt ?? config.system_prompt);
    const { completion, credits } = await this.complete(chat, prompt, {
      model,
      temperature: request.temperature ?? config.llm_temperature,
      maxTokens: request.max_tokens ?? config.llm_max_tokens,
      signal,
    });
    const { text, promptTokens, completionTokens } = completion;
    return {
      ...readAnswer(text, passages, candidates, lexemes, termWeights(result)),
      usage: { promptTokens, completionTokens, credits },
      model,
    };
  }

  /** Reserves the longest answer, and pays for what the model counts; where it counts nothing, for what is estimated. */
  private async complete(
    chat: ChatModel,
    prompt: ChatMessage[],
    options: ChatOptions & { model: string; maxTokens: number },
  ): Promise<{ completion: ChatCompletion; credits: number }> {
    const { model } = options;
    const promptSize = prompt.reduce((sum, { content }) => sum + estimateTokens(content), 0);
    const tokens = (input: number, output: number) => [
      { operation: 'input_tokens' as const, model, quantity: input },
      { operation: 'output_tokens' as const, model, quantity: output },
    ];
    const { result: completion, credits } = await this.credits.spend(
      { operation: 'chat', lines: tokens(promptSize, options.maxTokens) },
      async meter => {
        const completed = await chat.complete(prompt, options);
        const { text } = completed;
        const promptTokens = counted(completed.promptTokens, promptSize);
        const completionTokens = counted(completed.completionTokens, estimateTokens(text));
        meter.used(...tokens(promptTokens, completionTokens));
        this.usage.note({ model, inputTokens: promptTokens, outputTokens: completionTokens });
        await this.quotas.countLlmTokens(promptTokens + completionTokens);
        return { text, promptTokens, completionTokens };
      },
    );
    return { completion, credits };
  }
}

/** A model server may count nothing, or nonsense. */
const counted = (tokens: number, estimate: number): number =>
  Number.isSafeInteger(tokens) && tokens > 0 ? tokens : estimate;
